"""A cache of phases of training that several runs have in common: results in a folder, under the hash of what decides them.

A method marks a phase as shared by naming the module that holds all the phase reads and writes (the backbone of a plain
training; itself, if its own loss is at work). The key is a hash of that module's state before the phase and of everything
else that decides the bits: the stage's fingerprint, the streams of randomness, optimiser, schedule, budget, the code,
PyTorch and the processor. So a run that takes a phase from here has the bits it would have trained.

Each entry is a folder: state.safetensors, the module's state after the phase; about.json, written last, with the SHA-256
of the state, what decided it, the rows of the history, the cost, and who trained it. Entries may be deleted at any time.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock, Timeout
from safetensors.torch import load, save
from torch import Tensor, nn

from maskbench.common import closure, provenance
from maskbench.common.files import glance, make_folder, replace
from maskbench.training.journal import snapshot

log = logging.getLogger("maskbench")

RESULT = ("curve", "steps", "cpu_seconds")  # of a phase
LOOP = ("maskbench.training.fit",)


class Training(Protocol):
    """What the cache reads and does of a phase under way (loop.py)."""

    fit: Any  # its journal names the part of the run
    phase: Any  # its description
    rows: list[Any]  # of the history, as they were written

    def run(self, checkpoint: Any) -> dict[str, Any]: ...
    def write(self, step: int, values: dict[str, float]) -> None: ...


class PhaseCache:
    """The folder of finished phases that runs share.

    Args:
        folder: of the entries.
        run: the run directory, recorded as the one who trained what it puts here.
        config: what of the run's config decides how a phase trains, as plain containers.
    """

    def __init__(self, folder: Path, run: Path, config: Mapping[str, Any]) -> None:
        self.folder, self.run, self.config = folder, run, dict(config)

    def once(self, training: Training, module: nn.Module) -> dict[str, Any]:
        """The result of the phase: taken from here, with its history, or trained now and left here for others.

        `shared` in it says which entry the phase is, and who trained it (None: this run).
        """
        decided_by = self.decided_by(training, module)
        key = hashlib.sha256(json.dumps(decided_by, sort_keys=True).encode()).hexdigest()[:32]
        with self.locked(key):
            entry = self.get(key, module)
            if entry:
                training.phase.method.train()
                for step, values in entry["rows"]:
                    training.write(step, values)
                result = {name: entry[name] for name in RESULT}
            else:
                result = training.run(None)
                self.put(key, module, decided_by=decided_by, rows=training.rows, **result)
        trained_by = entry["trained_by"] if entry else None
        part, name = training.fit.journal.name, training.phase.name
        return result | {"shared": {"part": part, "phase": name, "key": key, "trained_by": trained_by}}

    def decided_by(self, training: Training, module: nn.Module) -> dict[str, Any]:
        """All that decides what the phase makes of `module`."""
        phase = training.phase
        stage, moving = phase.stage, {id(p) for p in phase.method.trainable_parameters()}
        return {
            "config": self.config,
            "module": f"{type(module).__module__}.{type(module).__qualname__}",
            "state": digest(module.state_dict()),
            "movable": [name for name, tensor in module.state_dict(keep_vars=True).items() if id(tensor) in moving],
            "stage": [stage.fingerprint, stage.index, stage.outputs, named(stage.criterion), named(stage.link)],
            "streams": [list(phase.stream), list(phase.order)],
            "steps": [phase.begin, phase.total, phase.lr, phase.orders],
            "callbacks": sorted(phase.callbacks_at_steps[0]) if phase.callbacks_at_steps else [],
            "code": self.code(type(module).__module__, getattr(stage.criterion, "__module__", "")),
            "torch": torch.__version__,
            "processor": provenance.cpu_model(),
        }

    def code(self, *names: str) -> str:
        """The hash of the modules that train: the loop, the config's optimiser and schedule, and those named, wherever they lie.

        Not of tasks, of methods and of how data are made, whose content the stage's fingerprint has.
        """
        return closure.reached([*LOOP, *closure.names(self.config), *filter(None, names)]).closure

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Inside, no other run is at work on this entry; a lock that dies with its process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another run trains what this one needs too (%s): waiting for it", key)
            lock.acquire(poll_interval=0.2)
        try:
            yield
        finally:
            lock.release()

    def get(self, key: str, module: nn.Module) -> dict[str, Any] | None:
        """Bring `module` to the state of the entry and return the rest of it; None if there is no entry that is whole."""
        place = self.folder / key
        about = glance(place / "about.json")
        if not about:
            return None
        try:
            content = (place / "state.safetensors").read_bytes()
        except OSError:
            content = b""
        if hashlib.sha256(content).hexdigest() != about.get("sha256"):
            log.warning("the shared phase %s is damaged: it is trained again", place)
            return None
        module.load_state_dict(load(content))
        return about

    def put(self, key: str, module: nn.Module, **about: Any) -> None:
        """Write the entry: the module's state as it is now, and what is to be said about it (JSON)."""
        place = self.folder / key
        make_folder(place)
        content = save(snapshot(module))
        replace(place / "state.safetensors", lambda path: path.write_bytes(content))
        about = {"sha256": hashlib.sha256(content).hexdigest(), "trained_by": str(self.run)} | about
        replace(place / "about.json", lambda path: path.write_text(json.dumps(about, indent=1)))


def named(function: Callable) -> str:
    """Where a function is defined; a partial one also says its arguments."""
    if hasattr(function, "func"):
        return f"{named(function.func)} {function.args} {function.keywords}"
    return f"{function.__module__}.{function.__qualname__}"


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors: names, types, shapes and values."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
