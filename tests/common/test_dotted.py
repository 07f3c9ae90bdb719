"""What a dotted path leads to, and what is said where it leads nowhere."""

import os.path
from pathlib import Path

import pytest

from maskbench.common import dotted


def test_a_path_leads_to_a_module_to_what_is_in_it_and_to_what_is_in_that() -> None:
    assert dotted.find("os.path") is os.path and dotted.find("os.path.join") is os.path.join
    assert dotted.find("pathlib.Path.cwd") == Path.cwd
    assert dotted.find("xml.dom.minidom.parse").__module__ == "xml.dom.minidom", "a module that its package does not import"


@pytest.mark.parametrize(
    ("path", "kind", "reason"),
    [
        ("no_such_module.rule", ModuleNotFoundError, "No module named 'no_such_module'"),
        ("os.nothing", AttributeError, "module 'os' has no attribute 'nothing'"),
        ("os.", AttributeError, "module 'os' has no attribute ''"),
        ("pathlib.Path.nothing", AttributeError, "type object 'Path' has no attribute 'nothing'"),
        ("", ValueError, "Empty module name"),
        ("broken.rule", RuntimeError, "first line"),
        ("wanting.rule", ModuleNotFoundError, "No module named 'nothing_of_that_name'"),
        ("silent.rule", KeyError, "KeyError"),
    ],
)
def test_where_it_leads_nowhere_the_reason_is_the_first_cause(
    path: str, kind: type, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('first line\\nsecond line')")
    (tmp_path / "wanting.py").write_text("import nothing_of_that_name")
    (tmp_path / "silent.py").write_text("raise KeyError()")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(dotted.Unfound) as told:
        dotted.find(path)
    assert type(told.value.cause) is kind and told.value.reason == reason
