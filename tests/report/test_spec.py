"""The shipped tables are complete and ready to run; a mistake in a table's file is one sentence that names the place."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from maskbench.cli import preflight
from maskbench.common import identity
from maskbench.common.errors import UsageError
from maskbench.report import spec

FOLDER = identity.conf_dir()
NAMES = sorted(spec.names([FOLDER]))
TABLES = {name: spec.load(name, [FOLDER]) for name in NAMES}
RUNS = sorted({words for table in TABLES.values() for specs in table.runs.values() for words in specs.values()})


@pytest.mark.parametrize("words", RUNS, ids=" ".join)
def test_the_runs_of_a_table_pass_preflight(words: tuple[str, ...]) -> None:
    preflight.check([*words, "seed=0"], starts=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_complete(name: str) -> None:
    table = TABLES[name]
    assert "quick" in table.budgets
    for budget in table.budgets:
        assert len(table.seeds[budget]) >= 3 or budget == "full"
        for row in table.rows:
            if row.rules and all(budget in table.runs[q.run] for q in row.quantities):
                assert budget in row.rules, f"{row.id} has no rule for budget={budget}"
    assert {q.run for row in table.rows for q in row.quantities} == set(table.runs), "every run serves a row"
    assert (FOLDER / "table" / f"{name}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_a_published_value_has_a_source_and_its_row_a_verdict_that_does_not_rest_on_memory(name: str) -> None:
    for row in TABLES[name].rows:
        for budget, published in row.published.items():
            assert published.source
            rule = row.rules.get(budget)
            assert rule is None or rule.within is None or rule.of is not None or published.status in ("confirmed", "ours")


# ---- mistakes

GOOD: dict[str, Any] = {
    "title": "T",
    "paper": "P",
    "seeds": [0, 1],
    "runs": {"a": ["method=supsup"], "b": {"quick": ["method=packnet"]}},
    "rows": [
        {"id": "x", "name": "X", "run": "a", "metric": "m", "rule": {"at_least": 1}},
        {"id": "y", "name": "Y", "run": "b", "metric": "m", "minus": {"run": "a"}, "rule": {"quick": {"above": "x"}}},
    ],
}


def load(tmp_path: Path, told: Any) -> spec.Table:
    (tmp_path / "table").mkdir(exist_ok=True)
    (tmp_path / "table" / "mine.yaml").write_text(told if isinstance(told, str) else yaml.safe_dump(told))
    return spec.load("mine", [FOLDER, tmp_path])


def test_a_table_read(tmp_path: Path) -> None:
    table = load(tmp_path, GOOD)
    assert table.system == "mine" and table.seeds == {"quick": (0, 1), "full": (0, 1)}
    assert table.runs == {"a": {"quick": ("method=supsup",), "full": ("method=supsup",)}, "b": {"quick": ("method=packnet",)}}
    assert table.rows[1].minus == spec.Quantity("a", "m") and table.rows[1].unit == ""
    assert set(table.rows[0].rules) == {"quick", "full"} and set(table.rows[1].rules) == {"quick"}


@pytest.mark.parametrize(
    ("transform", "more", "numbers", "value"),
    [
        ("none", {}, [0.25], 0.25),
        ("percent", {}, [0.25], 25.0),
        ("error_percent", {}, [0.25], 75.0),
        ("negate", {}, [0.25], -0.25),
        ("percent", {"minus": {"metric": "n"}}, [0.5, 0.25], 25.0),
        ("none", {"over": {"metric": "n"}}, [0.5, 0.25], 2.0),
    ],
)
def test_a_rows_value(tmp_path: Path, transform: str, more: dict, numbers: list[float], value: float) -> None:
    told = copy.deepcopy(GOOD)
    told["rows"][0] |= {"transform": transform} | more
    assert load(tmp_path, told).rows[0].value(numbers) == value


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("titel",), "T", "the table: unknown key 'titel'. Did you mean 'title'?"),
        (("rows", 0, "metrc"), "m", "row x: unknown key 'metrc'. Did you mean 'metric'?"),
        (("rows", 0, "run"), "c", "row x: run=c is none of a, b."),
        (("rows", 0, "transform"), "per cent", "transform=per cent is none of"),
        (("rows", 0, "rule"), {"within": 1}, "within needs a published value"),
        (("rows", 0, "rule"), {"above": "z"}, "row x: no row has the id 'z'."),
        (("rows", 0, "rule"), {"at_lest": 1}, "unknown key 'at_lest'. Did you mean 'at_least'?"),
        (("rows", 0, "published"), {"value": 1, "source": "s", "status": "sure"}, "status=sure is none of"),
        (("rows", 0, "published"), {"value": 1, "status": "ours"}, "published lacks source"),
        (("rows", 1, "id"), "x", "two rows have the id x"),
        (("rows", 1, "transform"), "error_percent", "error_percent is of one number"),
        (("runs", "a"), "method=supsup", "runs.a is not a list of overrides"),
        (("runs", "a"), {"slow": []}, "runs.a: unknown key 'slow'"),
        (("rows",), None, "not of the kind its key takes"),
        (("rows", 0, "digits"), None, "not of the kind its key takes"),
        (("rows", 0, "rule"), {"between": 1}, "not of the kind its key takes"),
        (("rows", 0, "published"), {"value": float("nan"), "source": "s", "status": "ours"}, "value=nan is no finite number"),
        (("seeds",), [], "seeds=[] is no list of whole numbers"),
        (("seeds",), [0.5], "seeds=[0.5] is no list"),
        (("seeds",), {"quik": [0]}, "seeds: unknown key 'quik'"),
        (("notes",), "a sentence", "notes is no list of sentences"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(tmp_path: Path, place: tuple, value: Any, sentence: str) -> None:
    told = copy.deepcopy(GOOD)
    node = told
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = value
    with pytest.raises(UsageError) as caught:
        load(tmp_path, told)
    assert sentence in str(caught.value) and "mine.yaml" in str(caught.value)


def test_a_verdict_may_not_rest_on_a_recalled_value(tmp_path: Path) -> None:
    told = copy.deepcopy(GOOD)
    told["rows"][0] |= {"published": {"value": 98.0, "source": "memory", "status": "unconfirmed"}, "rule": {"within": 1}}
    with pytest.raises(UsageError, match="within needs a published value that is confirmed or ours"):
        load(tmp_path, told)


def test_each_budget_may_have_its_published_value(tmp_path: Path) -> None:
    told = copy.deepcopy(GOOD)
    told["rows"][0]["published"] = {"full": {"value": 1, "source": "table 2", "status": "confirmed"}}
    assert set(load(tmp_path, told).rows[0].published) == {"full"}
    told["rows"][0]["rule"] = {"quick": {"within": 1}, "full": {"at_least": 0}}
    with pytest.raises(UsageError, match="within needs a published value"):
        load(tmp_path, told)


def test_broken_yaml_and_unknown_tables(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mine.yaml is no YAML"):
        load(tmp_path, "title: [")
    with pytest.raises(UsageError, match="no table 'lotery'. Did you mean 'lottery'?"):
        spec.load("lotery", [FOLDER])


def test_every_system_has_a_table() -> None:
    systems = {
        "lottery", "deconstructing", "edge_popup", "theory", "supsup", "packnet", "pac_net", "meta_ticket", "masksembles",
        "mc_dropout", "deep_ensembles",
    }  # fmt: skip
    assert systems <= {table.system for table in TABLES.values()}
