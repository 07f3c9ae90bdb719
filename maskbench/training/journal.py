"""What an interrupted run needs to go on bit for bit: which parts are done, and where inside a part the training stood.

A task is a deterministic program of parts (`part(name, work)`), a part of phases of training (`fit`). After an
interruption the program runs again: parts that are done return what they returned, the method gets the state it had
when the open part began, and within that part finished phases hand back their end state, the open one goes on from its
checkpoint. The method needs no code for this; its `learn` must only be deterministic between phases.

One file holds the open point (`checkpoint.pt`, replaced atomically); each done part's value has a file of its own.
All are tensors and plain containers, loaded with weights_only=True.
"""

import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskbench.common.errors import UsageError
from maskbench.common.files import anew, replace
from maskbench.common.streams import seeded

Value = dict[str, Any]


class Journal:
    """Args:
    folder: the run directory. method: what is restored when a part begins.
    seed: of the run; each part draws from the stream (seed, "step", name).
    every: seconds between writes of the open point; it may be lost work, never another result.
    history: has `position` and `rewind(position)`, so that rows written after the open point are taken back.

    Raises:
        UsageError: what an earlier attempt left cannot be read or does not fit the method.
    """

    def __init__(self, folder: Path, method: nn.Module, *, seed: int, every: float, history: Any, write: bool = True) -> None:
        self.folder = folder / "state"
        self.method, self.seed, self.every, self.history, self.write = method, seed, every, history, write
        self.on_part: Callable[[str, Value], None] = lambda name, value: None
        self.saved_at = time.monotonic()
        self.name = ""  # of the part under way
        self.tally = {"steps": 0, "cpu_seconds": 0.0}  # of training, by all attempts together; fit adds to it
        self.done: list[str] = []  # names of the parts behind us
        self.expected: int | None = None  # how many parts the task has, where it knows
        self.phases: list[tuple[dict, Any]] = []  # (end state, result) of the phases behind us in this part
        # from before the interruption: parts done, state at the open part's start, its finished phases, its open one
        self.known: int
        self.start: dict
        self.replay: list[tuple[dict, Any]]
        self.open: dict | None
        self._restore()

    # ---- for tasks

    def part(self, name: str, work: Callable[[], Value]) -> Value:
        """`work()`, or what it returned before the interruption. Names are unique within a run."""
        if name in self.done:
            raise ValueError(f"two parts of one run are called {name}")
        number, self.name = len(self.done), name
        known = number < self.known
        if known:
            value = read(self._value(number))
        else:
            with seeded(self.seed, "step", name):
                value = work()
            if self.write:
                self.folder.mkdir(exist_ok=True)
                replace(self._value(number), lambda path: torch.save(value, path))
            self.start, self.phases, self.replay = self._start(), [], []
        self.done.append(name)
        if not known and self.due():
            self.save()
        self.on_part(name, value)
        return value

    @property
    def resumed(self) -> str:
        """What was taken up from before, in words; empty for a new run."""
        if not (self.known or self.replay or self.open):
            return ""
        at = f", training at step {self.open['step']}" if self.open else ""
        return f"{self.known} parts of its task are done{at}"

    # ---- for fit

    def resume(self, method: nn.Module) -> tuple[Any, dict | None]:
        """(result, None) for a phase that ended before the interruption, with `method` set to its end state;
        (None, checkpoint) for the open one; (None, None) for a new one."""
        number = len(self.phases)
        if number < len(self.replay):
            state, result = self.replay[number]
            method.load_state_dict(state)
            self.phases.append((state, result))
            return result, None
        checkpoint, self.open = self.open, None
        if checkpoint is not None:
            method.load_state_dict(checkpoint["method"])
        return None, checkpoint

    def end_phase(self, method: nn.Module, result: Any) -> None:
        self.phases.append((snapshot(method), result))

    def due(self) -> bool:
        return self.write and time.monotonic() - self.saved_at >= self.every

    def save(self, phase: dict | None = None) -> None:
        """Write the open point: the part's start, its finished phases, and the open phase's checkpoint."""
        if not self.write:
            return
        self.folder.mkdir(exist_ok=True)
        self.history.flush()
        point = {
            "parts": len(self.done),
            "start": self.start,
            "phases": self.phases,
            "phase": phase,
            "history": self.history.position,
        }
        replace(self.folder / "checkpoint.pt", lambda path: torch.save(point, path))
        at = {"parts_done": len(self.done), "part": self.name, "phase": len(self.phases), "at": (phase or {}).get("step", 0)}
        replace(self.folder.parent / "state.json", lambda path: path.write_text(json.dumps(at, indent=1)))
        self.saved_at = time.monotonic()

    # ---- inside

    def _value(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.pt"

    def _start(self) -> dict:
        return {"method": snapshot(self.method), "tally": dict(self.tally)}

    def _restore(self) -> None:
        path = self.folder / "checkpoint.pt"
        if path.exists():
            point = read(path)
            self.known, self.start = point["parts"], point["start"]
            try:
                self.method.load_state_dict(self.start["method"])
            except RuntimeError as error:  # names or shapes, from another version of the code
                raise UsageError(f"{path} does not fit this version of the method; {anew(self.folder)}") from error
            self.tally = dict(self.start["tally"])
            self.replay, self.open = point["phases"], point["phase"]
            self.history.rewind(point["history"])
        else:
            self.known, self.start, self.replay, self.open = 0, self._start(), [], None
            self.history.rewind(0)


def snapshot(module: nn.Module) -> dict:
    """A state dict that later training does not write into."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def read(path: Path) -> Any:
    """What torch.save wrote.

    Raises:
        UsageError: the file is missing or damaged.
    """
    try:
        return torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, KeyError, ValueError, FileNotFoundError, pickle.UnpicklingError) as error:
        raise UsageError(f"{path} is damaged or missing, so the run cannot go on; {anew(path.parent)}") from error
