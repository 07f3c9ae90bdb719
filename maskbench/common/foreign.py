"""Files that others wrote, read without trusting them: regular files of a bounded length, JSON of bounded depth, text that is
safe to print. Imports nothing heavy.
"""

import json
import math
import re
import stat
import sys
from pathlib import Path
from typing import Any

MB = 1 << 20
LENGTH = 64 * MB  # bytes of a record; those of real runs have thousands
DEPTH = 32  # mappings and lists inside each other
TEXT, NAME = 100_000, 1_000  # characters of a value, of a name
WHOLE = 1 << 63  # what JSON may hold is longer than what can be added up and drawn
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def content(path: Path, most: int = LENGTH) -> bytes:
    """The bytes of a regular file; a device or a pipe, which may never end, is not opened.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is longer than `most` bytes.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path.name} is no regular file")
    if status.st_size > most:
        raise ValueError(f"{path.name} is longer than {most // MB} MB")
    return path.read_bytes()


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
    return UNSAFE.sub(lambda sign: sign[0].encode("unicode_escape").decode(), str(text))


def say(text: str) -> None:
    """One line on standard error: what of a stranger's was left out, and why."""
    print(f"maskbench: {printable(text)}", file=sys.stderr)


def printable_lines(text: str) -> str:
    """`printable`, line by line."""
    return "\n".join(map(printable, text.split("\n")))
