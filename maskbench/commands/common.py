"""What the sub-commands share: arguments, aligned text, runs on disk."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from maskbench.errors import UsageError
from maskbench.files import read_json


class Arguments(argparse.ArgumentParser):
    """A parser whose mistakes are one sentence instead of a usage text."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}; see {self.prog} --help.")

    def read(self, argv: Sequence[str]) -> argparse.Namespace | None:
        """The arguments, flags anywhere; None when only help was asked for, which is printed then."""
        try:
            return self.parse_intermixed_args(argv)
        except SystemExit:
            return None


def arguments(command: str, about: str) -> Arguments:
    return Arguments(prog=f"maskbench {command}", description=about, allow_abbrev=False)


def aligned(rows: Sequence[Sequence[object]], head: Sequence[str] = (), indent: str = "") -> str:
    """Rows as columns of text with two spaces between them, columns of numbers to the right."""
    texts = [[*map(text, row)] for row in rows]
    lines = [[*head], *texts] if head else texts
    if not lines:
        return ""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [bool(rows) and all(_numeric(row[i]) for row in rows) for i in range(len(widths))]
    cells = [[c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)] for line in lines]
    return "\n".join((indent + "  ".join(line)).rstrip() for line in cells)


def text(value: object) -> str:
    """A value as a table shows it: four significant places after the point, a dash for what is undefined."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3g}"
    return str(value)


def _numeric(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def size(count: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def state(run: Path) -> str:
    """new, finished, failed, interrupted or running of a run directory.

    A run that was killed could not write so; it is told from one at work by the lock, which dies with its process.
    """
    if read_json(run / "result.json").get("status") == "finished":
        return "finished"
    if not (run / "run.json").exists():
        return "new"
    told = read_json(run / "run.json").get("status")
    if told == "running":
        return "running" if _locked(run / ".lock") else "interrupted"
    return told if told == "failed" else "interrupted"


def _locked(path: Path) -> bool:
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def runs(output: Path) -> Iterator[Path]:
    """The run directories below `output`, in order of their names."""
    yield from sorted(path.parent for path in output.glob("*/*/run.json"))


def run_dir(given: str) -> Path:
    """The run directory that was named.

    Raises:
        UsageError: there is no record.
    """
    path = Path(given).expanduser()
    path = path.parent if path.is_file() else path
    if not any((path / name).is_file() for name in ("run.json", "result.json")):
        raise UsageError(f"{given} is no run directory (it holds no run.json); maskbench results lists them.")
    return path
