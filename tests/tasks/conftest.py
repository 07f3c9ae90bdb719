"""What tests of several tasks begin with."""

from collections.abc import Callable
from dataclasses import replace

import pytest


@pytest.fixture
def judged(build: Callable) -> Callable:
    """`judged(*overrides, **parts)`: a finished run whose stage has these parts in the place of its own."""

    def go(*overrides: str, **parts: object):
        bench = build(*overrides, folder="-".join(sorted(parts)) or "run")
        bench.stages = [replace(bench.stages[0], **parts)]
        return bench.go()

    return go
