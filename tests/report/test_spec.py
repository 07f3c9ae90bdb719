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
from maskbench.report.verdicts import RESTS

FOLDER = identity.conf_dir()
NAMES = sorted(spec.names([FOLDER]))
TABLES = {name: spec.load(name, [FOLDER]) for name in NAMES}
PARTS = [part for table in TABLES.values() for part in table.parts]
RUNS = sorted({words for part in PARTS for specs in part.runs.values() for words in specs.values()})
FIRST = {next(iter(next(iter(table.parts[0].runs.values())).values())) for table in TABLES.values()}


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=" ".join(words), marks=() if words in FIRST else pytest.mark.full) for words in RUNS]
)
def test_the_runs_of_a_table_pass_preflight(words: tuple[str, ...]) -> None:
    preflight.check([*words, "seed=0"], starts=False)


SEEDS = {"quick": 3, "hours": 2, "full": 1}  # at least


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_complete(name: str) -> None:
    assert "quick" in TABLES[name].budgets
    for budget in TABLES[name].budgets:
        table = TABLES[name].at(budget)
        assert len(table.seeds[budget]) >= SEEDS[budget]
        for row in table.rows:
            if (row.rules or budget == "hours") and all(budget in table.runs[q.run] for q in row.quantities):
                assert budget in row.rules, f"{row.id} has no rule for budget={budget}"
        assert {q.run for row in table.rows for q in row.quantities} == set(table.runs), "every run serves a row"
    assert (FOLDER / "table" / f"{name}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_says_on_what_it_rests(name: str) -> None:
    for part in TABLES[name].parts:
        rules = [rule for row in part.rows for rule in row.rules.values()]
        assert rules and all(rule.rests_on in RESTS for rule in rules)


# ---- mistakes

GOOD: dict[str, Any] = {
    "title": "T",
    "paper": "P",
    "seeds": [0, 1],
    "runs": {"a": ["method=supsup"], "b": {"quick": ["method=packnet"]}},
    "rows": [
        {"id": "x", "name": "X", "run": "a", "metric": "m", "rule": {"at_least": 1, "rests_on": "exact"}},
        {"id": "y", "name": "Y", "run": "b", "metric": "m", "minus": {"run": "a"},
         "rule": {"quick": {"above": "x", "rests_on": "row"}}},
    ],
}  # fmt: skip
SETTING = {"net": "lenet_300_100", "data": "mnist", "budget": {"epochs": 3}, "stages": 1, "place": "table 1", "words": "a value"}
PUBLISHED = {
    "paper": SETTING | {"value": 1, "read": "paper"},
    "files": SETTING | {"values": [1, 2], "read": "authors' files"},
    "code": SETTING | {"value": 1, "read": "authors' code in our setting"},
    "quoted": SETTING | {"value": 1, "read": "quoted", "by": "somebody"},
    "ours": SETTING | {"value": 1, "read": "ours, earlier"},
}
HOURS: dict[str, Any] = {
    "limit": 1.5,
    "differs": ["half of the width"],
    "title": "T on its own data",
    "seeds": [0, 1],
    "runs": {"c": ["method=supsup", "data=cifar10"]},
    "rows": [{"id": "x", "name": "X", "metric": "m", "published": "lab/paper", "rule": {"within": 1, "rests_on": "paper"}}],
}


def load(tmp_path: Path, told: Any) -> spec.Table:
    (tmp_path / "table").mkdir(exist_ok=True)
    (tmp_path / "published").mkdir(exist_ok=True)
    (tmp_path / "published" / "lab.yaml").write_text(yaml.safe_dump(PUBLISHED))
    (tmp_path / "table" / "mine.yaml").write_text(told if isinstance(told, str) else yaml.safe_dump(told))
    return spec.load("mine", [FOLDER, tmp_path])


def test_a_table_read(tmp_path: Path) -> None:
    table = load(tmp_path, GOOD)
    assert table.system == "mine" and table.seeds == {"quick": (0, 1), "full": (0, 1)}
    assert table.runs == {"a": {"quick": ("method=supsup",), "full": ("method=supsup",)}, "b": {"quick": ("method=packnet",)}}
    assert table.rows[1].minus == spec.Quantity("a", "m") and table.rows[1].unit == ""
    assert set(table.rows[0].rules) == {"quick", "full"} and set(table.rows[1].rules) == {"quick"}


def test_the_budget_of_hours_has_rows_of_its_own(tmp_path: Path) -> None:
    table = load(tmp_path, GOOD | {"hours": HOURS, "transform": "percent", "notes": ["of quick and full"]})
    assert table.budgets == ["quick", "full", "hours"] and table.at("quick") is table.at("full") is table
    hours = table.at("hours")
    assert (hours.name, hours.title, hours.paper, hours.system) == ("mine", "T on its own data", "P", "mine")
    assert hours.differs == ("half of the width",) and table.differs == ()
    assert {row.transform for row in hours.rows} == {"percent"} and {row.unit for row in hours.rows} == {"%"}
    other = load(tmp_path, GOOD | {"hours": HOURS | {"metric": "accuracy"}, "unit": "RMSE", "digits": 3}).at("hours")
    assert {(row.unit, row.digits) for row in other.rows} == {
        (row.unit, row.digits) for row in load(tmp_path, GOOD | {"hours": HOURS}).at("hours").rows
    }
    assert hours.limit == 1.5 and hours.seeds == {"hours": (0, 1)} and hours.notes == ()
    assert hours.runs == {"c": {"hours": ("method=supsup", "data=cifar10")}}, "the other budgets' runs are not among them"
    (row,) = hours.rows
    assert set(row.rules) == set(row.published) == {"hours"} and row.transform == "percent"
    assert all("hours" not in run for run in table.runs.values()) and all("hours" not in row.rules for row in table.rows)
    assert spec.beside([tmp_path]) == {"lab/paper": ["mine/x"]}


def test_a_table_without_the_budget_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="table mine has no budget=hours; it has quick, full."):
        load(tmp_path, GOOD).at("hours")


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("hours", "limit"), 3, "hours: limit=3 is no number of hours up to 2"),
        (("hours", "limit"), True, "limit=True is no number"),
        (("hours", "limts"), 2, "hours: the section: unknown key 'limts'. Did you mean 'limit'?"),
        (("hours",), {}, "hours: the section lacks limit"),
        (("hours", "differs"), "half of the width", "hours: differs is no list of sentences"),
        (("hours", "rows", 0, "rule"), None, "hours: row x: rule is no mapping"),
        (("hours", "rows", 0), {"id": "z", "name": "Z", "metric": "m"}, "hours: row z has no rule"),
        (("hours", "rows", 0, "run"), "a", "hours: row x: run=a is none of c"),
        (("hours", "runs", "c"), {"quick": []}, "hours: runs.c: unknown key 'quick'"),
        (("runs", "a"), {"hours": []}, "runs.a: unknown key 'hours'. This budget has a section of its own in the file"),
        (("rows", 0, "rule"), {"hours": {}}, "row x, rule: unknown key 'hours'. This budget has a section"),
        (("seeds",), {"quick": [0], "hours": [0]}, "seeds: unknown key 'hours'. This budget has a section"),
    ],
)
def test_a_mistake_about_hours_is_one_sentence_too(tmp_path: Path, place: tuple, value: Any, sentence: str) -> None:
    test_a_mistake_is_one_sentence_with_its_place(tmp_path, place, value, sentence)


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
        (("rows", 0, "rule"), {"within": 1, "rests_on": "paper"}, "within needs a published value"),
        (("rows", 0, "rule"), {"at_least": 1}, "row x, rule: rests_on=nothing is none of paper, authors_code, exact, row"),
        (("rows", 0, "rule"), {"at_least": 1, "rests_on": "paper"}, "rests_on=paper needs a published value read: paper or"),
        (("rows", 0, "rule"), {"at_least": 1, "rests_on": "row"}, "rests_on=row takes above, below, or a row with minus or over"),
        (("rows", 0, "rule"), {"above": "z", "rests_on": "row"}, "row x: no row has the id 'z'."),
        (("rows", 0, "rule"), {"at_lest": 1}, "unknown key 'at_lest'. Did you mean 'at_least'?"),
        (("rows", 0, "published"), {"value": 1}, "row x, published: unknown key 'value'"),
        (("rows", 0, "published"), "lab/papr", "no record lab/papr (FILE/NAME of conf/published). Did you mean 'lab/paper'?"),
        (("rows", 0, "published"), {"quick": "paper"}, "no record paper"),
        (("rows", 1, "id"), "x", "two rows have the id x"),
        (("rows", 1, "transform"), "error_percent", "error_percent is of one number"),
        (("runs", "a"), "method=supsup", "runs.a is not a list of overrides"),
        (("runs", "a"), {"slow": []}, "runs.a: unknown key 'slow'"),
        (("rows",), None, "not of the kind its key takes"),
        (("rows", 0, "digits"), None, "not of the kind its key takes"),
        (("rows", 0, "rule"), {"between": 1, "rests_on": "exact"}, "not of the kind its key takes"),
        (("seeds",), [], "seeds=[] is no list of whole numbers"),
        (("seeds",), [0.5], "seeds=[0.5] is no list"),
        (("seeds",), {"quik": [0]}, "seeds: unknown key 'quik'"),
        (("notes",), "a sentence", "notes is no list of sentences"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(tmp_path: Path, place: tuple, value: Any, sentence: str) -> None:
    told = copy.deepcopy(GOOD | {"hours": HOURS})
    node = told
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = value
    with pytest.raises(UsageError) as caught:
        load(tmp_path, told)
    assert sentence in str(caught.value) and "mine.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("beside", "rule", "sentence"),
    [
        (
            "quoted",
            {"at_least": 1, "rests_on": "paper"},
            "read: paper or authors' files; lab/quoted is read",
        ),
        (
            "ours",
            {"within": 1, "rests_on": "authors_code"},
            "in our setting; lab/ours is read: ours, earlier",
        ),
        ("paper", {"within": 1, "rests_on": "ours"}, "read: ours, earlier; lab/paper is read: paper"),
        (
            "paper",
            {"within": 1, "paired": "record", "rests_on": "paper"},
            "with `values`; lab/paper has one value",
        ),
        ("paper", {"within": 1, "rests_on": "paper"}, ""),
        ("files", {"within": 1, "rests_on": "paper"}, ""),
        ("files", {"within": 1, "paired": "record", "rests_on": "paper"}, ""),
        ("code", {"at_least": 1, "rests_on": "authors_code"}, ""),
        ("quoted", {"within": 1, "rests_on": "quoted"}, ""),
        ("ours", {"within": 1, "rests_on": "ours"}, ""),
        ("quoted", {"at_least": 1, "rests_on": "ours"}, ""),
    ],
)
def test_a_rule_rests_on_the_record_beside_it(tmp_path: Path, beside: str, rule: dict, sentence: str) -> None:
    told = copy.deepcopy(GOOD)
    told["rows"][0] |= {"published": f"lab/{beside}", "rule": rule}
    if not sentence:
        assert load(tmp_path, told).rows[0].rules["quick"].rests_on == rule["rests_on"]
        return
    with pytest.raises(UsageError) as caught:
        load(tmp_path, told)
    assert sentence in str(caught.value) and "mine.yaml: row x, rule:" in str(caught.value)


def test_a_rule_paired_with_a_record_is_of_one_number(tmp_path: Path) -> None:
    told = copy.deepcopy(GOOD)
    told["rows"][0] |= {"published": "lab/files", "minus": {"metric": "n"}}
    told["rows"][0]["rule"] = {"within": 1, "paired": "record", "rests_on": "paper"}
    with pytest.raises(UsageError, match="paired=record is of one number"):
        load(tmp_path, told)


def test_each_budget_may_have_its_published_value(tmp_path: Path) -> None:
    told = copy.deepcopy(GOOD)
    told["rows"][0]["published"] = {"full": "lab/paper"}
    assert {budget: record.name for budget, record in load(tmp_path, told).rows[0].published.items()} == {"full": "lab/paper"}
    told["rows"][0]["rule"] = {"quick": {"within": 1, "rests_on": "paper"}, "full": {"at_least": 0, "rests_on": "paper"}}
    with pytest.raises(UsageError, match="within needs a published value"):
        load(tmp_path, told)


def test_a_record_knows_the_rows_it_stands_beside(tmp_path: Path) -> None:
    told = copy.deepcopy(GOOD)
    told["rows"][0]["published"] = told["rows"][1]["published"] = "lab/paper"
    load(tmp_path, told)
    assert spec.beside([tmp_path]) == {"lab/paper": ["mine/x", "mine/y"]}


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
