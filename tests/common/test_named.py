"""Functions chosen by name or by dotted path: found, and called as those of ours are."""

import math
import os
from pathlib import Path

import pytest

from maskbench.common.errors import UsageError
from maskbench.common.named import named


def double(x: float) -> float:
    return 2 * x


OURS = {"double": double}


def test_a_name_or_the_dotted_path_of_a_function_with_as_many_arguments() -> None:
    assert named("method.rule", "double", OURS) is double
    assert named("method.rule", "math.sqrt", OURS) is math.sqrt


@pytest.mark.parametrize("path", ["os.getcwd", "math.dist", "math.pi"])
def test_what_cannot_be_called_as_ours_is_refused_when_it_is_chosen(path: str) -> None:
    with pytest.raises(UsageError, match=rf"method.rule={path} must be a function that is called as double\(x"):
        named("method.rule", path, OURS)


@pytest.mark.parametrize("path", ["doubel", "os.nothing", "no_such_module.rule", f"{os.__name__}."])
def test_what_is_not_there_is_refused_with_the_choices(path: str) -> None:
    with pytest.raises(UsageError, match="no method.rule .* Choices: double"):
        named("method.rule", path, OURS)


def test_a_module_that_fails_is_told_from_one_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="method.rule=failing.rule cannot be imported: division by zero"):
        named("method.rule", "failing.rule", OURS)
