"""Loggers apart from the user's settings, and what a user would see of what they say."""

import logging
import os
from collections.abc import Callable

import pytest


@pytest.fixture(autouse=True)
def no_wandb_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def ours(caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
    """Records a user would see: W&B's own go to its files, though pytest shows them."""
    return lambda: [record for record in caplog.records if not record.name.startswith("wandb")]


@pytest.fixture
def calls() -> dict[str, tuple]:
    """Every verb of a logger, with values such as a run gives."""
    return {
        "log": ({"x": 1.0}, 1),
        "summary": ({},),
        "table": ("t", []),
        "image": ("i", "x.png"),
        "artifact": ("x", "masks"),
        "finish": (0,),
    }
