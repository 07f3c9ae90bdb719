"""Which code computes a run: what counts, what cannot matter, and that it is the same however the process began."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskbench.common import closure

SUPSUP = {
    "method": {"_target_": "maskbench.methods.continual.supsup.SupSup"},
    "data": {"_target_": "maskbench.data.images.split.split"},
    "backbone": {"_target_": "maskbench.backbones.mlp.MLP"},
    "task": {"_target_": "maskbench.tasks.continual.run"},
    "optimizer": {"_target_": "torch.optim.Adam"},
    "logger": {"_target_": "maskbench.runs.loggers.wandb_logger"},
}
LAB = (
    '"""Mine."""\nfrom maskbench.methods.dense import Dense\nfrom helper import SCALE\n\n\nclass Mine(Dense):\n    size = SCALE\n'
)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder with two modules."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lab.py").write_text(LAB)
    (tmp_path / "helper.py").write_text("SCALE = 1\n")
    yield tmp_path


def own(config: dict) -> dict[str, str]:
    return {name: code for name, code in closure.of(config).modules.items() if not name.startswith("maskbench.")}


def test_a_run_is_computed_by_what_it_imports_and_by_nothing_else() -> None:
    modules = closure.of(SUPSUP).modules
    for name in ("methods.continual.supsup", "masks.cuts", "backbones.mlp", "data.stage", "training.fit", "tasks.continual"):
        assert f"maskbench.{name}" in modules
    assert {"maskbench.common.streams", "maskbench.runs.assemble", "maskbench.runs.build"} <= set(modules)
    for name in ("methods.continual.packnet", "tasks.prune", "runs.console", "runs.loggers", "report.tables", "cli.main"):
        assert f"maskbench.{name}" not in modules
    assert not [name for name in modules if not name.startswith("maskbench.")]


def test_an_old_name_of_a_module_is_the_module() -> None:
    old = SUPSUP | {"method": {"_target_": "maskbench.methods.supsup.SupSup"}}
    assert "maskbench.methods.continual.supsup" in closure.of(old).modules


def test_the_users_modules_count_with_what_they_import_of_the_users_folder(lab: Path) -> None:
    target = {"method": {"_target_": "lab.Mine", "of": [{"_target_": "torch.optim.Adam"}], "rule": "no_such.module"}}
    before = own(target)
    assert sorted(before) == ["helper", "lab"] and "maskbench.methods.dense" in closure.of(target).modules
    (lab / "helper.py").write_text("SCALE = 1000\n")
    assert closure.changed(before, own(target)) == ["helper"]


def test_a_function_named_by_its_path_counts(lab: Path) -> None:
    assert "helper" in own({"method": {"inference": ["helper.rule"]}})


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (LAB + "# a remark\n", True),
        (LAB.replace('"""Mine."""', '"""Yours."""'), True),
        (LAB.replace("    size", "    '''What it is.'''\n\n    size"), True),
        (LAB.replace("size = SCALE", "size = (\n        SCALE\n    )"), True),
        (LAB + "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nothing\n", False),  # the first line is code
        (LAB.replace("size = SCALE", "size = 2 * SCALE"), False),
        (LAB.replace("size = SCALE", "size = SCALE or None"), False),
        (LAB + "x = 1.0\n", False),
    ],
)
def test_only_what_the_program_does_counts(text: str, same: bool, lab: Path) -> None:
    before = own({"method": {"_target_": "lab.Mine"}})
    (lab / "lab.py").write_text(text)
    assert (own({"method": {"_target_": "lab.Mine"}}) == before) is same


def test_imports_inside_functions_and_packages_of_the_users_own(lab: Path) -> None:
    (lab / "kit").mkdir()
    (lab / "kit" / "__init__.py").write_text("")
    (lab / "kit" / "deep.py").write_text("from . import near\nfrom .near import x\n")
    (lab / "kit" / "near.py").write_text("x = 1\n")
    (lab / "lab.py").write_text("def late():\n    import kit.deep\n")
    assert sorted(own({"method": {"_target_": "lab.late"}})) == ["kit", "kit.deep", "kit.near", "lab"]


def test_a_module_that_is_held_counts_as_it_was_imported(lab: Path) -> None:
    target = {"method": {"_target_": "lab.Mine"}}
    before = closure.of(target)
    closure.hold(before)
    (lab / "lab.py").write_text(LAB + "x = 1\n")
    assert closure.of(target) == before


def test_a_file_that_is_no_python_has_a_hash_too(lab: Path) -> None:
    (lab / "lab.py").write_text("def (:\n")
    assert list(own({"method": {"_target_": "lab.Mine"}})) == ["lab"]


def test_fresh_and_full_processes_agree_and_no_torch_is_imported() -> None:
    code = f"import sys\nfrom maskbench.common import closure\nprint(closure.of({SUPSUP!r}).closure, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import maskbench.runs.assemble  # noqa: F401 - everything a run imports

    assert done.stdout.split() == [closure.of(SUPSUP).closure, "False"]


def test_sources_are_read_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again where a file is not what it was."""
    source = tmp_path / "mine.py"
    source.write_text("import torch\nrate = 0.1\n")
    monkeypatch.setattr(closure, "SETTLED", -(10**18))
    monkeypatch.setattr(closure, "_read", {})
    first = closure._source(source)
    kept = json.loads(json.dumps(closure.learnt()))
    monkeypatch.setattr(closure, "_read", {})
    parsed: list[bytes] = []
    parse = closure._parsed
    monkeypatch.setattr(closure, "_parsed", lambda content, stamp: parsed.append(content) or parse(content, stamp))
    closure.recall(kept)
    assert closure._source(source) == first and parsed == []
    source.write_text("import torch\nrate = 0.2\n")
    os.utime(source, ns=(1, 1))  # another time, even where the file system's clock has not gone on
    assert closure._source(source).hash != first.hash and len(parsed) == 1
