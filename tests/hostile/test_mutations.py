"""Values of a finished run's records put in one another's place at random: every command goes on with the runs that are sound."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

VALUES = (
    None, True, False, 0, -1, 7, 1 << 62, 10**30, 0.5, -0.0, 1e-320, 1e99, 1e300, float("nan"), float("inf"), -float("inf"),
    "", "a", "0", "nan", "../..", "os.system", "\0", "\x1b[2J", "\ud800", "=1+1", "<b>", "x" * 300,
    "${mb_call:os.system,x}", "a/b/c",
    [], [[]], [None], [1, "a"], [{}], [[1], [2, 3]], {}, {"a": None}, {"": {}}, {"_target_": "os.system"}, {"name": [1]},
)  # fmt: skip


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value inside."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places(node[key])


def mutate(run: Path, rng: random.Random) -> str:
    name = rng.choice(["run.json", "run.json", "result.json", "curves.json"])
    value = json.loads((run / name).read_text())
    told = name
    for _ in range(rng.choice([1, 1, 1, 3])):
        # by top key first: else nearly all would fall into the config
        top = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        inner = value[top] if isinstance(value[top], dict | list) else []
        container, key = rng.choice([(value, top), *places(inner)])
        if rng.random() < 0.2 and isinstance(container, dict):
            del container[key]
        elif rng.random() < 0.1 and isinstance(container, dict):
            container[rng.choice(["", "a.b", "\x1b", "0", "x" * 2000, "_target_"])] = container.pop(key)
        else:
            container[key] = rng.choice(VALUES)
        told += f" {top}/{key}"
        if not value:
            break
    (run / name).write_text(json.dumps(value))
    return told


def survive(numbers: range, foreign: Path, survives: Callable, call: Callable, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(foreign, kept)
    for number in numbers:
        shutil.rmtree(foreign)
        shutil.copytree(kept, foreign)
        told = mutate(foreign, random.Random(number))
        try:
            survives()
            status, out, err = call("rerun", foreign, "--dry") if number % 10 == 0 else (0, "", "")
            assert "Traceback" not in err and "TypeError" not in err and "KeyError" not in err, err
        except Exception as error:
            raise AssertionError(f"mutation {number}, {told}") from error


def test_twelve_mutations(foreign: Path, survives: Callable, call: Callable, tmp_path: Path) -> None:
    survive(range(12), foreign, survives, call, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("block", range(6))
def test_three_hundred_mutations(block: int, foreign: Path, survives: Callable, call: Callable, tmp_path: Path) -> None:
    survive(range(100 + 50 * block, 150 + 50 * block), foreign, survives, call, tmp_path)


@pytest.mark.full
def test_tables_survive_mutations(foreign: Path, survives: Callable, call: Callable, tmp_path: Path, config: dict) -> None:
    """A table reads run directories by the keys of its own commands."""
    conf = tmp_path / "conf" / "table"
    conf.mkdir(parents=True)
    words = ["method=packnet", "data=splitmnist"]
    table = {"title": "Tiny", "paper": "Nobody 2020, table 1", "seeds": {"quick": [0]}, "runs": {"a": {"quick": words}}}
    rows = [{"id": "a", "name": "A", "run": "a", "rule": {"at_least": 50, "rests_on": "ours"}}]
    (conf / "tiny.yaml").write_text(json.dumps(table | {"metric": "average_accuracy", "rows": rows}))
    kept = tmp_path / "kept"
    shutil.copytree(foreign, kept)
    _, out, err = call("table", "tiny", "--config-dir", "conf", "--dry")
    place = next((Path(line.split()[0]) for line in out.splitlines() if line.startswith("outputs/")), None)
    assert place is not None, out + err
    for number in range(60):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(kept, place)
        told = mutate(place, random.Random(number))
        for words in (
            ["table", "tiny", "--config-dir", "conf", "--dry"],
            ["table", "tiny", "--config-dir", "conf", "--only-print"],
        ):
            status, out, err = call(*words)
            assert status == 0, (told, words, err)
