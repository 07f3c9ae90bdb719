"""A logger that cannot hurt the run, what it asks of its backend, and how values become plain ones."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger("maskbench")


class Backend(Protocol):
    """What a logger must offer; every verb may raise."""

    about: dict[str, Any]

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...
    def summary(self, values: Mapping[str, Any]) -> None: ...
    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None: ...
    def image(self, name: str, path: Path) -> None: ...
    def artifact(self, path: Path, kind: str) -> None: ...
    def finish(self, exit_code: int) -> None: ...


class FailSafeLogger:
    """A logger that cannot hurt the run. Call `finish` in a `finally`; after it, and after a failure, calls do nothing.

    Attributes:
        about: plain values for the record: `kind`, and what finds the logger's data again; `failed` after a failure.
    """

    def __init__(self, backend: Backend | None, about: dict[str, Any]) -> None:
        self._backend = backend
        self.about = about

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One row of the history. `step` never falls within an attempt at a run; a resumed run may go back."""
        self._call("log", metrics, step)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final values of the run; a later call adds to an earlier one."""
        self._call("summary", values)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows as dicts; columns are the union of their keys in order of appearance."""
        self._call("table", name, rows)

    def image(self, name: str, path: str | Path) -> None:
        """An image file, such as a figure in the run directory."""
        self._call("image", name, Path(path))

    def artifact(self, path: str | Path, kind: str) -> None:
        """A file or folder that belongs to the result, such as `masks`; it is referred to, not copied."""
        self._call("artifact", Path(path), kind)

    def finish(self, exit_code: int = 0) -> None:
        """Write out what is left and close; a second call does nothing."""
        self._call("finish", exit_code)
        self._backend = None

    def _call(self, verb: str, *values: Any) -> None:
        if self._backend is None:
            return
        try:
            getattr(self._backend, verb)(*values)
        except Exception as error:
            backend, self._backend = self._backend, None
            self.about["failed"] = one_line(error)
            log.warning("logger=%s stopped recording (%s); the run goes on without it", self.about["kind"], one_line(error))
            if verb != "finish":
                with suppress(Exception):
                    backend.finish(1)


class Loggers:
    """Several loggers (`logger=[wandb,csv]`) as one: each gets every call, and one that fails leaves the others alone.

    Attributes:
        about: that of each, under its kind.
    """

    def __init__(self, loggers: Sequence[FailSafeLogger]) -> None:
        self._loggers = list(loggers)
        self.about = {"kind": ", ".join(one.about["kind"] for one in loggers)} | {one.about["kind"]: one.about for one in loggers}

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for one in self._loggers:
            one.log(metrics, step)

    def summary(self, values: Mapping[str, Any]) -> None:
        for one in self._loggers:
            one.summary(values)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        for one in self._loggers:
            one.table(name, rows)

    def image(self, name: str, path: str | Path) -> None:
        for one in self._loggers:
            one.image(name, path)

    def artifact(self, path: str | Path, kind: str) -> None:
        for one in self._loggers:
            one.artifact(path, kind)

    def finish(self, exit_code: int = 0) -> None:
        for one in self._loggers:
            one.finish(exit_code)


def opened(make: Callable[[], Backend], about: dict[str, Any]) -> FailSafeLogger:
    try:
        return FailSafeLogger(make(), about)
    except Exception as error:
        about["failed"] = one_line(error)
        log.warning("logger=%s could not start (%s); the run goes on without it", about["kind"], one_line(error))
        return FailSafeLogger(None, about)


def plain(value: Any) -> Any:
    """Any config tree or value as dicts, lists and JSON scalars; what is none of these becomes its text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in value]
    if getattr(value, "ndim", None) == 0:  # a number of numpy or torch
        return value.item()
    return str(value)


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def safe(name: str) -> str:
    """`name` with what is not a letter, digit or one of `_.-` as a dash."""
    return re.sub(r"[^\w.-]", "-", name)


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
