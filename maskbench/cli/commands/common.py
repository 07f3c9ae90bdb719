"""What the sub-commands share: arguments, aligned text, the run directory that was named."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from maskbench.common.errors import UsageError, did_you_mean
from maskbench.report.filters import Filter, parse_filter
from maskbench.report.writers import Sheet, aligned, latex, markdown, text

__all__ = ["Arguments", "aligned", "arguments", "forms", "run_dir", "size", "sorted_words", "text", "typeset"]


class Arguments(argparse.ArgumentParser):
    """A parser whose mistakes are one sentence instead of a usage text."""

    def error(self, message: str) -> NoReturn:
        flags = [flag for action in self._actions for flag in action.option_strings]
        near = ""
        if (word := message.removeprefix("unrecognized arguments: ")) != message:
            message, near = f"no option {word}", did_you_mean(word.split()[0].partition("=")[0], flags)
        raise UsageError(f"{self.prog.removeprefix('maskbench ')}: {message}.{near} {self.prog} --help has all of them.")

    def read(self, argv: Sequence[str]) -> argparse.Namespace | None:
        """The arguments, flags anywhere; None when only help was asked for, which is printed then."""
        try:
            return self.parse_intermixed_args(argv)
        except SystemExit:
            return None


def arguments(command: str, about: str) -> Arguments:
    raw = argparse.RawDescriptionHelpFormatter  # keeps the lines of a longer text
    return Arguments(prog=f"maskbench {command}", description=about, allow_abbrev=False, formatter_class=raw)


def forms(parser: Arguments, csv: str = "CSV in full precision") -> argparse._MutuallyExclusiveGroup:
    """Offer the forms a table can be written in, at most one of them; `csv` says what that one holds."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help=csv)
    form.add_argument("--markdown", action="store_true", help="a Markdown table")
    form.add_argument("--latex", action="store_true", help="a LaTeX table (booktabs)")
    return form


def typeset(sheet: Sheet, given: argparse.Namespace) -> bool:
    """Write the sheet as Markdown or LaTeX where that was asked for; whether it was."""
    if given.markdown or given.latex:
        sys.stdout.write(markdown(sheet) if given.markdown else latex(sheet))
    return given.markdown or given.latex


def sorted_words(words: Sequence[str], names: Sequence[str]) -> tuple[dict[str, list[str]], list[Filter]]:
    """The options among KEY=VALUE words, which are called `names`, and the filters.

    Raises:
        UsageError: a word is neither, or mixed= is not allow.
    """
    options, filters = {}, []
    for word in words:
        key, equals, values = word.partition("=")
        if equals and key in names:
            options[key] = [value for value in values.split(",") if value]
        else:
            filters.append(parse_filter(word))
    if options.get("mixed", ["allow"]) != ["allow"]:
        raise UsageError(f"mixed={','.join(options['mixed'])}: the only choice is mixed=allow.")
    return options, filters


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
