"""A logger may fail; the run may not, and hears of it once."""

import logging
from collections.abc import Callable

import pytest

from maskbench.runs import loggers


class Broken:
    """A backend whose verbs all raise."""

    def __init__(self, error: BaseException) -> None:
        self.about = {}
        self.error = error
        self.finished = 0

    def __getattr__(self, verb: str):
        def fail(*_: object) -> None:
            self.finished += verb == "finish"
            raise self.error

        return fail


VERBS = ("log", "summary", "table", "image", "artifact", "finish")


@pytest.mark.parametrize("verb", VERBS)
def test_a_failing_logger_warns_once_and_falls_silent(verb: str, calls: dict, ours: Callable) -> None:
    backend = Broken(ValueError("two\nlines"))
    logger = loggers.FailSafeLogger(backend, {"kind": "broken"})
    getattr(logger, verb)(*calls[verb])
    for other, values in calls.items():
        getattr(logger, other)(*values)
    (record,) = ours()
    assert (record.name, record.levelno) == ("maskbench", logging.WARNING)
    assert record.getMessage() == ("logger=broken stopped recording (ValueError: two lines); the run goes on without it")
    assert backend.finished == 1
    assert logger.about["failed"] == "ValueError: two lines"


def test_an_interrupt_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        loggers.FailSafeLogger(Broken(KeyboardInterrupt()), {"kind": "broken"}).log({}, 0)
