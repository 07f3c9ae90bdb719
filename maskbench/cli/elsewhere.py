"""What is said of jobs in other processes' hands. Imports nothing."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Lost:
    """In the place of a job's result: why there is none."""

    reason: str


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
