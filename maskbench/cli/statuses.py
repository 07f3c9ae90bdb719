"""Exit statuses of the program, and its word on standard error. Imports nothing heavy: every command begins with it."""

import sys

from maskbench.common.foreign import printable

DONE, FAILED, USER, INTERRUPTED = 0, 1, 2, 130


def complain(text: str) -> None:
    for line in text.splitlines():
        print(f"maskbench: {printable(line)}", file=sys.stderr)
