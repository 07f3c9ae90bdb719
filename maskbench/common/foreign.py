"""What others wrote, taken without trust: JSON of bounded depth, text that is safe to print, and what is left out, said. Files
themselves are read by files.py. Imports nothing heavy.
"""

import json
import math
import re
import sys
from typing import Any

MB = 1 << 20
DEPTH = 32  # mappings and lists inside each other
TEXT, NAME = 100_000, 1_000  # characters of a value, of a name
WHOLE = 1 << 63  # what JSON may hold is longer than what can be added up and drawn
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def parse(data: bytes | str) -> Any:
    """The value that JSON text holds.

    Raises:
        ValueError: it is no JSON, or nested deeper than can be read.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def plain(value: Any, depth: int = DEPTH) -> Any:
    """A value out of JSON whose texts can be written as UTF-8.

    Raises:
        ValueError: it is nested deeper than `depth`, or a text or a whole number is longer than any of ours.
    """
    if isinstance(value, str):
        return _text(value, TEXT)
    if isinstance(value, dict | list) and depth == 0:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        return {_text(name, NAME): plain(part, depth - 1) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part, depth - 1) for part in value]
    if isinstance(value, int) and abs(value) >= WHOLE:
        raise ValueError("a whole number of more than 64 bits")
    return value


def _text(text: str, most: int) -> str:
    if len(text) > most:
        raise ValueError(f"a text of {len(text)} characters")
    return text if text.isascii() else text.encode(errors="surrogatepass").decode(errors="replace")


def finite(value: Any) -> bool:
    """Whether it is a number, and neither infinite nor NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def printable(text: object) -> str:
    """Text without signs that steer a terminal or turn the direction of writing: they are spelled, as `\\x1b`."""
    text = str(text)
    if text.isascii() and text.isprintable():  # most are: told ten times sooner
        return text
    return UNSAFE.sub(lambda sign: sign[0].encode("unicode_escape").decode(), text)


def say(text: str) -> None:
    """One line on standard error: what of a stranger's was left out, and why."""
    print(f"maskbench: {printable(text)}", file=sys.stderr)


def skip(place: object, reason: object) -> None:
    """Say that a run, or a file of one, is left out, and why."""
    say(f"{place} is skipped: {reason}")


def printable_lines(text: str) -> str:
    """`printable`, line by line."""
    return "\n".join(map(printable, text.split("\n")))
