"""What the sub-commands share: arguments, aligned text, the run directory that was named."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from maskbench.errors import UsageError
from maskbench.report.writers import aligned, text

__all__ = ["Arguments", "aligned", "arguments", "run_dir", "size", "text"]


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
    raw = argparse.RawDescriptionHelpFormatter  # keeps the lines of a longer text
    return Arguments(prog=f"maskbench {command}", description=about, allow_abbrev=False, formatter_class=raw)


def size(count: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


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
