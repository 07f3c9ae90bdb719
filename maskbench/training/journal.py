"""What an interrupted run needs to go on bit for bit: which of its parts are done, and where inside a part training stood.

A task is a deterministic program of parts (`part(name, work)`), a part is one of phases of training (`fit`). After an
interruption the program runs again. Parts that are done return what they returned; the method gets the state it had when the
part under way began; within that part, finished phases hand back their end state, and the one under way goes on from its
checkpoint. The method needs no code for this; its `learn` must only be deterministic between phases.

One file holds the checkpoint (`checkpoint.pt`, replaced atomically); the value of each part that is done has a file of its
own. All are tensors and plain containers, loaded with weights_only=True, behind a line with their SHA-256. What a checkpoint
points at, the rows of the history and the values of parts, is on the disk before it is; a checkpoint that cannot be written
is passed over with a warning, and training goes on.
"""

import io
import json
import logging
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskbench.common.checksums import seal, unseal
from maskbench.common.errors import UsageError
from maskbench.common.files import Damaged, Unreadable, anew, make_folder, replace
from maskbench.common.streams import seeded

log = logging.getLogger("maskbench")

Value = dict[str, Any]


class Journal:
    """The memory of a run that may be interrupted.

    Args:
        folder: the run directory.
        method: what is restored when a part begins.
        seed: of the run; each part draws from the stream (seed, "step", name).
        every: seconds between checkpoints: an interruption costs at most their work, and never changes a result.
        history: `flush()` brings its rows to the disk, `position` says how far they go and `sha256` what they are, and
            `rewind(position, sha256)` takes back the rows that were written after a checkpoint.
        write: whether anything is written; of several processes, one does.

    Attributes:
        name: of the part under way.
        done: names of the parts that are done.
        expected: how many parts the task has, where it says so.
        phases: (end state, result) of the finished phases of the part under way.
        tally: of training, by all attempts together: steps, cpu_seconds; `fit` adds to it.
        on_part: called with the name and value of each part, done before or now.

    Raises:
        UsageError: what an earlier attempt left cannot be read or does not fit the method.
    """

    def __init__(self, folder: Path, method: nn.Module, *, seed: int, every: float, history: Any, write: bool = True) -> None:
        self.folder = folder / "state"
        self.method, self.seed, self.every, self.history, self.write = method, seed, every, history, write
        self.on_part: Callable[[str, Value], None] = lambda name, value: None
        self.saved_at = time.monotonic()
        self.name = ""
        self.tally = {"steps": 0, "cpu_seconds": 0.0}
        self.done: list[str] = []
        self.expected: int | None = None
        self.phases: list[tuple[dict, Any]] = []
        self.values: dict[int, Value] = {}  # of parts that are done and not on the disk yet
        self.failing = False  # whether the last checkpoint could not be written
        # from before the interruption: how many parts were done, the method and tally when the next began, its finished
        # phases, and the checkpoint of its phase under way
        self.parts_before: int
        self.start: dict
        self.phases_before: list[tuple[dict, Any]]
        self.phase_before: dict | None
        self._restore()

    # ---- for tasks

    def part(self, name: str, work: Callable[[], Value]) -> Value:
        """`work()`, or what it returned before the interruption. Names are unique within a run."""
        if name in self.done:
            raise ValueError(f"two parts of one run are called {name}")
        number, self.name = len(self.done), name
        done_before = number < self.parts_before
        if done_before:
            value = read(self._value(number))
        else:
            with seeded(self.seed, "step", name):
                value = work()
            if self.write:
                self.values[number] = value
                self._trying(self._write_values)
            self.start, self.phases, self.phases_before = self._start(), [], []
        self.done.append(name)
        if not done_before and self.due():
            self.save()
        self.on_part(name, value)
        return value

    @property
    def resumed(self) -> str:
        """What was taken up from an earlier attempt, in words; empty for a new run."""
        if not (self.parts_before or self.phases_before or self.phase_before):
            return ""
        at = f", training at step {self.phase_before['step']}" if self.phase_before else ""
        return f"{self.parts_before} parts of its task are done{at}"

    # ---- for fit

    def resume(self, method: nn.Module) -> tuple[Any, dict | None]:
        """(result, None) for a phase that was finished before the interruption, with `method` set to its end state;
        (None, checkpoint) for the one under way then, with `method` as it stood; (None, None) for a new one."""
        number = len(self.phases)
        if number < len(self.phases_before):
            state, result = self.phases_before[number]
            method.load_state_dict(state)
            self.phases.append((state, result))
            return result, None
        checkpoint, self.phase_before = self.phase_before, None
        if checkpoint is not None:
            method.load_state_dict(checkpoint["method"])
        return None, checkpoint

    def end_phase(self, method: nn.Module, result: Any) -> None:
        """Keep the end of a phase for the next checkpoint."""
        self.phases.append((snapshot(method), result))

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self.write and time.monotonic() - self.saved_at >= self.every

    def save(self, phase: dict | None = None) -> None:
        """Write the checkpoint: the start of the part under way, its finished phases, and `phase`, the one under way."""
        if self.write:
            self._trying(lambda: self._save(phase))
            self.saved_at = time.monotonic()

    # ---- inside

    def _trying(self, write: Callable[[], None]) -> None:
        """Write something that only an interruption would need; failing to is a warning, said once until it works again."""
        try:
            write()
        except OSError as error:
            if not self.failing:
                reason = (error.strerror or str(error)).lower()
                log.warning("no checkpoint in %s (%s): training goes on, an interruption would cost more", self.folder, reason)
            self.failing = True
        else:
            if self.failing:
                log.info("checkpoints are written again")
            self.failing = False

    def _save(self, phase: dict | None) -> None:
        self._write_values()
        self.history.flush()
        checkpoint = {
            "parts": len(self.done),
            "start": self.start,
            "phases": self.phases,
            "phase": phase,
            "history": self.history.position,
            "history_sha256": self.history.sha256,
        }
        write(self.folder / "checkpoint.pt", checkpoint)
        at = {"parts_done": len(self.done), "part": self.name, "phase": len(self.phases), "at": (phase or {}).get("step", 0)}
        replace(self.folder.parent / "state.json", lambda path: path.write_text(json.dumps(at, indent=1)))

    def _write_values(self) -> None:
        for number in list(self.values):
            write(self._value(number), self.values[number])
            del self.values[number]

    def _value(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.pt"

    def _start(self) -> dict:
        return {"method": snapshot(self.method), "tally": dict(self.tally)}

    def _restore(self) -> None:
        path = self.folder / "checkpoint.pt"
        if path.exists():
            checkpoint = read(path)
            self.parts_before, self.start = checkpoint["parts"], checkpoint["start"]
            try:
                self.method.load_state_dict(self.start["method"])
            except RuntimeError as error:  # names or shapes, from another version of the code
                raise UsageError(f"{path} does not fit this version of the method; {anew(self.folder)}") from error
            self.tally = dict(self.start["tally"])
            self.phases_before, self.phase_before = checkpoint["phases"], checkpoint["phase"]
            self.history.rewind(checkpoint["history"], checkpoint.get("history_sha256"))
        else:
            self.parts_before, self.start, self.phases_before, self.phase_before = 0, self._start(), [], None
            self.history.rewind(0)


def snapshot(module: nn.Module) -> dict:
    """A state dict that later training does not write into."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def generator_states() -> list[Tensor]:
    """States of torch's global generators: the CPU's first, then one per CUDA device."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]


def set_generators(states: list[Tensor]) -> None:
    """Bring torch's global generators to what `generator_states` gave."""
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])


def write(path: Path, value: Any) -> None:
    """Keep tensors and plain containers in a file; in memory first, as torch hides which error the disk gave."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    make_folder(path.parent)
    replace(path, lambda temporary: temporary.write_bytes(seal(buffer.getvalue())))


def read(path: Path) -> Any:
    """What `write` wrote.

    Raises:
        UsageError: the file is missing, damaged or cannot be read.
    """
    try:
        return torch.load(io.BytesIO(unseal(path)), weights_only=True)
    except Unreadable:
        raise
    except (Damaged, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise UsageError(f"{path} is damaged or missing, so the run cannot go on; {anew(path.parent)}") from error
