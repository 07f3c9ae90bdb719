"""Published values as records: what a record must say, and in what a run's setting is another than its."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from maskbench.cli import command_line
from maskbench.common import identity
from maskbench.common.errors import UsageError
from maskbench.report import published, runs, spec
from maskbench.report.runs import Run

FOLDER = identity.conf_dir()
RECORDS = published.load([FOLDER])
TABLES = {name: spec.load(name, [FOLDER]) for name in spec.names([FOLDER])}
GOOD: dict[str, Any] = {
    "value": 91.0,
    "net": "lenet_300_100",
    "data": "toy",
    "budget": {"epochs": 3, "batch_size": 128},
    "stages": 10,
    "place": "table 1",
    "read": "paper",
    "words": "accuracy after 10 stages",
}


def load(tmp_path: Path, told: Any) -> dict[str, published.Record]:
    (tmp_path / "published").mkdir(exist_ok=True)
    (tmp_path / "published" / "mine.yaml").write_text(told if isinstance(told, str) else yaml.safe_dump(told))
    return published.load([tmp_path])


def one(tmp_path: Path, **changes: Any) -> published.Record:
    entry = {key: value for key, value in (GOOD | changes).items() if value is not None}
    return load(tmp_path, {"a": entry})["mine/a"]


def test_a_value_keeps_the_decimals_it_is_written_with(tmp_path: Path) -> None:
    text = yaml.safe_dump({"a": {k: v for k, v in GOOD.items() if k != "value"}})
    for written in ("86", "98.0", "2.80", "-2.46", ".5"):
        record = load(tmp_path, text + f"  value: {written}\n")["mine/a"]
        assert record.value == float(written) and float(record.text) == float(written)
        assert len(record.text.partition(".")[2]) == len(written.partition(".")[2])


def test_several_values_are_printed_as_their_mean(tmp_path: Path) -> None:
    record = one(tmp_path, value=None, values=[2.0, 3.0, 3.5])
    assert record.values == (2.0, 3.0, 3.5) and record.value == pytest.approx(8.5 / 3) and record.text == "2.833"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sourse": "x"}, "unknown key 'sourse'"),
        ({"place": None}, "lacks place"),
        ({"net": None}, "lacks net"),
        ({"stages": None}, "lacks stages"),
        ({"value": None}, "takes one of value and values"),
        ({"values": [1.0]}, "takes one of value and values"),
        ({"value": None, "values": []}, "values is no list of numbers"),
        ({"value": "many"}, "'many' is no finite number"),
        ({"value": float("nan")}, "is no finite number"),
        ({"read": "memory"}, "read=memory is none of paper, authors' files"),
        ({"read": "quoted"}, "`by` says who quotes a value"),
        ({"by": "somebody"}, "`by` says who quotes a value"),
        ({"words": "one " * 16}, "words are more than 15"),
        ({"stages": "ten"}, "stages=ten is neither a whole number nor `not named` nor `any`"),
        ({"budget": "3 epochs"}, "budget=3 epochs is neither keys of a budget"),
        ({"net": 3}, "net=3 is neither a name"),
    ],
)
def test_a_mistake_names_the_file_and_the_record(tmp_path: Path, changes: dict, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        one(tmp_path, **changes)
    assert sentence in str(caught.value) and "mine.yaml: a:" in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    for text, sentence in (("a: [", "is no YAML"), ("- a", "no mapping of names"), ("a: 3", "a: is no mapping")):
        with pytest.raises(UsageError, match=sentence):
            load(tmp_path, text)


# ---- the setting


@pytest.fixture
def run(record: Callable) -> Run:
    """A run of lenet_300_100 on ten stages of toy data, 3 epochs of batches of 128."""
    config = {"backbone": {"name": "lenet_300_100", "widths": [300, 100]}, "data": {"name": "toy", "stages": 10, "shots": 1}}
    return runs.load(record(0, {"accuracy": 0.9}, config=config))


def test_every_part_of_the_setting_is_checked(tmp_path: Path, run: Run) -> None:
    """A record whose every part but one agrees is of another setting by that part: no key of a record goes unread."""
    assert published.other_setting(one(tmp_path), [run]) == []
    for part, value, words in (
        ("net", "fc1024", "net lenet_300_100, paper: fc1024"),
        ("net", "not named", "net lenet_300_100, paper: not named"),
        ("net", {"widths": [500]}, "net widths=[300,100], paper: widths=[500]"),
        ("data", "mnist", "data toy, paper: mnist"),
        ("data", {"name": "toy", "shots": 5}, "data toy shots=1, paper: toy shots=5"),
        ("stages", 250, "stages 10, paper: 250"),
        ("stages", "not named", "stages 10, paper: not named"),
        ("budget", {"epochs": 55}, "budget epochs=3 batch_size=128, paper: epochs=55"),
        ("budget", {"batch_size": 32}, "budget epochs=3 batch_size=128, paper: batch_size=32"),
        ("budget", {"steps": 50000}, "budget epochs=3 batch_size=128, paper: steps=50000"),
        ("budget", "not named", "budget epochs=3 batch_size=128, paper: not named"),
    ):
        assert published.other_setting(one(tmp_path, **{part: value}), [run]) == [words]


def test_what_cannot_matter_is_not_compared_and_what_is_known_is_all_that_is(tmp_path: Path, run: Run) -> None:
    assert published.other_setting(one(tmp_path, **dict.fromkeys(published.SETTING, "any")), [run]) == []
    known = one(tmp_path, net={"widths": [300, 100]}, data={"shots": 1}, budget={"batch_size": 128})
    assert published.other_setting(known, [run]) == []


def test_all_runs_are_compared_and_it_is_said_whose_value_it_is(tmp_path: Path, run: Run, record: Callable) -> None:
    config = {"backbone": {"name": "fc1024"}, "data": {"name": "toy", "stages": 10}}
    other = runs.load(record(1, {"accuracy": 0.9}, config=config))
    code = one(tmp_path, read="authors' code in our setting")
    assert published.other_setting(code, [run, other]) == ["net fc1024, authors' code: lenet_300_100"]


def test_a_run_without_a_number_of_stages_has_those_it_recorded(record: Callable) -> None:
    bare = runs.load(record(0, {"accuracy": 0.9}))
    assert published.stages(bare) == 1
    pair = Run(bare.folder, bare.about | {"data": {"fingerprints": ["a", "b"]}}, bare.result)
    assert published.stages(pair) == 2


# ---- those of the project


@cache
def composed(*words: str) -> Run:
    """What a run of these words will say of its setting."""
    config = identity.plain(command_line.parse(list(words)).compose(list(words)), without={"hydra"})
    stages = 2 if "pair" in config["data"]["gives"] else 1
    return Run(Path("a") / "b", {"config": config, "data": {"fingerprints": ["x"] * stages}}, {})


@pytest.mark.full
@pytest.mark.parametrize("name", TABLES)
def test_no_rule_rests_on_a_value_of_another_setting_and_none_on_less_than_stands_beside_it(name: str) -> None:
    """The best reference there is: a rule may be ours where the paper's or the authors' value is of another setting alone."""
    wrong = []
    for table, row in ((part, row) for part in TABLES[name].parts for row in part.rows):
        for budget, record in row.published.items():
            rule = row.rules.get(budget)
            if rule is None or not all(budget in table.runs[q.run] for q in row.quantities):
                continue
            there = published.other_setting(record, [composed(*table.runs[q.run][budget]) for q in row.quantities])
            rests = rule.within is not None or rule.rests_on in spec.SUPPORT
            better = record.read in spec.SUPPORT["paper"] + spec.SUPPORT["authors_code"] and rule.rests_on == "ours"
            if (there and rests) or (better and not there):
                wrong.append((row.id, budget, rule.rests_on, record.read, there))
    assert wrong == []


def test_what_we_measured_earlier_is_there_for_a_row_alone() -> None:
    """What others published or their code gave is listed, row or none."""
    beside = spec.beside([FOLDER])
    assert [name for name, record in RECORDS.items() if record.read == published.EARLIER and name not in beside] == []


def test_the_values_that_were_read_are_there_and_those_by_memory_are_not() -> None:
    known = {name: record.text for name, record in RECORDS.items()}
    assert known["deconstructing/same_sign_constant"] == "86"
    assert {"79.3", "86.3", "96.4"}.isdisjoint(known[name] for name in known if name.startswith("deconstructing/"))
    quoted = {record.text for record in RECORDS.values() if record.read == published.QUOTED}
    assert quoted >= {"40", "98.0", "66.0", "72.5", "76.5", "98.7", "99.9", "95.8", "98.9", "48.70", "63.11"}
    supsup = {record.text for name, record in RECORDS.items() if name.startswith("supsup/") and record.read == published.PAPER}
    assert supsup >= {"94.91", "33.88", "29.31", "24.5", "92.55", "10222.81", "89.58", "88.68", "86.37", "81.50", "102.23"}


def test_supsups_value_of_an_unnamed_net_stands_beside_the_wide_net_alone() -> None:
    table = TABLES["supsup"]
    rows = [row for row in table.rows if "supsup/permuted_250_gnu" in [record.name for record in row.published.values()]]
    assert [row.id for row in rows] == ["wide"] and not rows[0].rules
    there = published.other_setting(rows[0].published["full"], [composed(*table.runs["wide"]["full"])])
    assert there == ["net fc1024, paper: not named"]
