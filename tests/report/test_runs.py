"""Runs read back: what each says about itself, filters, frames, the code that ran, and what does not belong together."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from maskbench.common import closure, provenance
from maskbench.common.errors import UsageError
from maskbench.report import filters, groups, runs
from maskbench.report.compare import comparison
from maskbench.report.mixing import blend, outdated
from maskbench.runs.record import Record


def test_a_run_answers_by_name(record: Callable) -> None:
    run = runs.load(record(3, {"accuracy": 0.5, "forgetting": None, "matrix": [[1]]}))
    asked = ("method", "data", "task", "seed", "key", "status", "source", "budget.epochs", "accuracy", "optimizer.lr", "code")
    assert [run.value(key) for key in asked] == [
        "supsup", "toy", "continual", 3, "k1", "finished", "npm", 3, 0.5, None, "c0ffeec0ff",
    ]  # fmt: skip
    assert run.metrics == {"accuracy": 0.5, "forgetting": None} and run.objective == 0.5
    assert run.budget == "epochs=3 batch_size=128" and run.name == "supsup-toy/s3-k1"


def test_unfinished_and_damaged_records_are_read_too(record: Callable, tmp_path: Path) -> None:
    broken = record(0, {"accuracy": 0.5}, status="failed")
    assert runs.load(broken).status == "failed" and runs.load(broken).metrics == {}
    (broken / "run.json").write_text("{")
    assert runs.load(broken).seed is None and runs.load(broken).method is None
    assert runs.state(tmp_path / "nowhere") == "new"
    with pytest.raises(UsageError, match="there is no folder"):
        runs.read(tmp_path / "nowhere")


def test_a_measure_that_got_another_name_is_read_under_it(record: Callable[..., Path]) -> None:
    run = runs.load(record(0, {"certificate": 0.1, "bound_width": 40.0}))
    assert run.metrics == {"certificate": 0.1, "typical_width": 40.0}


@pytest.mark.parametrize("file, text", [("run.json", '{"config": "config.yaml"}'), ("result.json", '{"metrics": [1, 2]}')])
def test_foreign_files_are_no_records(record: Callable, file: str, text: str) -> None:
    folder = record(0, {"accuracy": 0.5})
    (folder / file).write_text(text)
    run = runs.load(folder)
    assert run.value("optimizer.lr") is None and run.metrics in ({}, {"accuracy": 0.5}) and run.budget is not None


def test_files_of_one_name_are_equal_or_the_cell_is_refused(record: Callable, tmp_path: Path) -> None:
    """Also where both came from a place of one name, such as two of the user's folders."""
    record(0, {"rmse": 1.0}, source="folder", checksums={"data.txt": "aa"})
    record(1, {"rmse": 2.0}, source="folder", checksums={"data.txt": "bb"})
    assert groups.cell(runs.read(tmp_path / "outputs"), "rmse").refused == ["different contents of data.txt"]
    for seed in (2, 3):  # data drawn by seed has contents of its own for each
        record(seed, {"rmse": 1.0}, data="pendulum", source="generated", checksums={"draw": str(seed)})
    assert not groups.cell([run for run in runs.read(tmp_path / "outputs") if run.data == "pendulum"], "rmse").refused


def test_rows_that_a_seed_draws_from_files_are_compared_seed_by_seed(record: Callable, tmp_path: Path) -> None:
    def drawn(seed: int, rows: str, key: str) -> None:
        record(seed, {"accuracy": 0.5}, source="pip", checksums={"faces.npz": "aa", "faces/rows": rows}, key=key)

    drawn(0, "bb", "a")
    drawn(1, "cc", "a")
    assert not blend(runs.read(tmp_path / "outputs"))
    drawn(1, "dd", "b")
    assert blend(runs.read(tmp_path / "outputs")) == ["different contents of faces/rows"]


def test_copies_of_a_set_are_one_data_set_and_published_files_and_lossy_ones_are_others(record: Callable, tmp_path: Path) -> None:
    sums = {"train content": "aa", "test content": "bb", "order": "sorted by class and hash"}
    record(0, {"accuracy": 0.5}, source="copy, canonical", checksums=sums)
    record(1, {"accuracy": 0.5}, source="copy, canonical", checksums=sums)
    record(2, {"accuracy": 0.5}, source="folder", checksums={"data_batch_1": "cc"})
    record(3, {"accuracy": 0.5}, source="images, not lossless", checksums=sums | {"train content": "dd"})
    one, other, published, lossy = (runs.load(path) for path in sorted((tmp_path / "outputs").glob("*/*")))
    assert not blend([one, other])
    assert blend([one, published]) == ["data sources copy, canonical and folder"]
    assert blend([one, lossy]) == ["data sources copy, canonical and images, not lossless"]


def test_what_is_no_number_is_left_out(record: Callable, tmp_path: Path) -> None:
    record(0, {"nll": float("nan")})
    record(1, {"nll": 0.5})
    assert groups.cell(runs.read(tmp_path / "outputs"), "nll").values == [0.5]


def test_filters_and_frames(record: Callable, tmp_path: Path) -> None:
    for seed in (0, 1):
        record(seed, {"accuracy": 0.5 + seed / 10, "accuracy/a": 0.1})
    record(0, {"accuracy": 0.9}, method="packnet", key="k2", dirty=True)
    output = tmp_path / "outputs"
    assert [run.name for run in runs.read(output)] == ["packnet-toy/s0-k2", "supsup-toy/s0-k1", "supsup-toy/s1-k1"]
    found = runs.read(output, [filters.parse_filter("method=supsup"), filters.parse_filter("seed=1,2")])
    assert [run.seed for run in found] == [1]
    wide = runs.wide(runs.read(output), ["accuracy/a"], ["budget.epochs"])
    assert [row["accuracy/a"] for row in wide] == [None, 0.1, 0.1] and wide[0]["budget.epochs"] == 3
    tidy = runs.tidy(found)
    assert [(row["metric"], row["value"]) for row in tidy] == [("accuracy", 0.6), ("accuracy/a", 0.1)]
    assert runs.chosen_metrics(runs.read(output), ["*/a"]) == ["accuracy/a"]


@pytest.mark.parametrize(
    "text, passes",
    [
        ("lr=5e-2", True), ("lr=0.050,1", True), ("lr=5", False), ("drop=[0.1,0.2]", True), ("drop=[0.2, 1e-1],[.1, 2e-1]", True),
        ("drop=[0.1]", False), ("keep=true", True), ("keep=1", False), ("steps=10.0", True), ("steps=null", False),
        ("free=null", True), ("key=12e4567890", True), ("key=13e4567890", False), ("code=2.5", True), ("code='2.5'", True),
    ],
)  # fmt: skip
def test_filters_compare_values_and_not_their_spelling(text: str, passes: bool) -> None:
    config = {"lr": 0.05, "drop": [0.1, 0.2], "keep": True, "steps": 10, "free": None, "seed": 1}
    run = runs.Run(Path("s1"), {"key": "12e4567890", "config": config, "attempts": [{"code": "2.5"}]}, {})
    assert bool(filters.passing([run], [filters.parse_filter(text)])) == passes


def test_filters_that_cannot_be_read_or_name_nothing_are_refused(record: Callable, tmp_path: Path) -> None:
    record(0, {"accuracy": 0.5})
    for text in ("drop=[0.1", "method", "method=", "=3"):
        with pytest.raises(UsageError, match="cannot read|is no filter"):
            filters.parse_filter(text)
    for key, near in {
        "budget.epoch": "budget.epochs",
        "epochs": "budget.epochs",
        "metod": "method",
        "acuracy": "accuracy",
    }.items():
        with pytest.raises(UsageError, match=f"no run here has '{key}'. Did you mean '{near}'"):
            runs.read(tmp_path / "outputs", [filters.parse_filter(f"{key}=3")])
    assert filters.passing([], [filters.parse_filter("metod=3")]) == []


def test_the_code_of_a_run_is_its_commit_and_what_was_not_committed(record: Callable) -> None:
    clean, dirty = record(0, {"a": 1.0}), record(1, {"a": 1.0}, dirty=True)
    (dirty / "uncommitted.patch").write_text("+ a line")
    (clean / "uncommitted.patch").write_text("of an earlier attempt")
    assert runs.load(clean).codes == ("c0ffeec0ff",)
    (code,) = runs.load(dirty).codes
    assert code == provenance.code({"commit": "c0ffee" * 7, "dirty": True}, "+ a line") and code.startswith("c0ffeec0ff+")
    assert provenance.code({"commit": None, "maskbench": "1.2"}, "") == "maskbench 1.2"
    assert provenance.code({"commit": "c" * 40, "dirty": True}, "a") != provenance.code({"commit": "c" * 40, "dirty": True}, "b")


def coded(**modules: str) -> dict:
    return {"closure": "".join(modules.values()), "modules": {f"maskbench.{name}": code for name, code in modules.items()}}


def test_runs_belong_together_when_the_modules_they_share_are_equal(record: Callable, tmp_path: Path) -> None:
    """Whatever the commit; and a method's own modules are no reason against another method."""
    one = replace(runs.load(record(0, {"a": 1})), about={"code": coded(fit="1", supsup="1"), "commit": "a" * 40})
    other = replace(one, about={"code": coded(fit="1", packnet="1"), "commit": "b" * 40})
    changed = replace(one, about={"code": coded(fit="2", packnet="1"), "commit": "a" * 40})
    before = replace(one, about={"commit": "a" * 40})
    assert blend([one, other]) == [] == blend([one, before])
    assert blend([one, other, changed]) == ["versions of maskbench.fit"]
    assert blend([other, before]) == ["commits bbbbbbbbbb and aaaaaaaaaa"]
    attempts = [{"code": "1"}, {"code": "2", "resumed": True}]
    mixed = replace(one, about=one.about | {"attempts": attempts})
    assert blend([mixed]) == [f"in {one.name} the codes 1 and 2"] and mixed.freshness == "mixed"
    anew = replace(one, about=one.about | {"attempts": [{"code": "1"}, {"code": "2", "resumed": False}]})
    assert anew.codes == ("2",)


def test_a_result_is_stale_when_its_modules_changed(record: Callable) -> None:
    run = runs.load(record(0, {"a": 1}))
    assert run.freshness == "", "a record without modules"
    present = closure.of(run.config)
    fresh = replace(run, about=run.about | {"code": present.record})
    assert fresh.freshness == "fresh" and list(outdated([run, fresh])) == []
    modules = dict(present.modules) | {"maskbench.training.fit": "old", "maskbench.training.gone": "old"}
    stale = replace(run, about=run.about | {"code": {"closure": "beef", "modules": modules}})
    assert stale.freshness == stale.value("freshness") == "stale"
    (sentence,) = outdated([fresh, stale])
    assert sentence == f"stale, as maskbench.training.fit, maskbench.training.gone changed since: {run.name}."
    assert str(stale.code_now) == ("maskbench.training.fit, maskbench.training.gone changed since 2020-01-01 (commit c0ffeec0ff)")


def test_every_attempt_records_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is taken up after a change was made by both."""
    for commit in ("a" * 40, "b" * 40, "b" * 40):
        monkeypatch.setattr(provenance, "diff", lambda: "")
        one = Record(tmp_path / "run")
        one.acquire()
        one.open({"commit": commit, "dirty": False}, fresh=False)
        (tmp_path / "run" / "state").mkdir(exist_ok=True)
        (tmp_path / "run" / "state" / "checkpoint.pt").touch()
        one.fail("interrupted")
        one.release()
    assert runs.load(tmp_path / "run").codes == ("a" * 10, "b" * 10)
    assert blend([runs.load(tmp_path / "run")]) == ["commits aaaaaaaaaa and bbbbbbbbbb"]


@pytest.mark.parametrize(
    "section, key, value, said",
    [
        ("trainer", "precision", "bf16-mixed", "precisions 32-true and bf16-mixed"),
        ("trainer", "memory_format", "channels_last", "orders of memory contiguous and channels_last"),
        ("loop", "compile", True, "loop.compile false and true"),
    ],
)
def test_a_cell_has_one_arithmetic(section: str, key: str, value: object, said: str, record: Callable, tmp_path: Path) -> None:
    """A run without the key, or with null, is of the usual one; two that say the same belong together."""
    folders = [record(0, {"accuracy": 0.5}), record(1, {"accuracy": 0.7}, config={section: {"log_every": 50, key: None}})]
    folders += [record(seed, {"accuracy": 0.9}, key="k2", config={section: {key: value}}) for seed in (2, 3)]
    usual, other = [runs.load(folder) for folder in folders[:2]], [runs.load(folder) for folder in folders[2:]]
    assert blend(usual) == [] == blend(other)
    assert blend([*usual, *other]) == [said]
    mixed = groups.cell([*usual, *other], "accuracy")
    assert mixed.mean is None and mixed.refused == [said]
    with pytest.raises(UsageError, match=said):
        comparison([usual[0], other[1]], [usual[0], other[1]], names=("A", "B"), metrics=["accuracy"], mixed=False)


def test_groups_leave_out_undefined_numbers_and_keep_numeric_order(record: Callable, tmp_path: Path) -> None:
    for seed, value in ((0, 0.5), (2, None), (10, 0.7)):
        record(seed, {"accuracy": value})
    found = runs.read(tmp_path / "outputs")
    assert list(groups.split(found, ["seed"])) == [("0",), ("2",), ("10",)]
    cell = groups.cell(found, "accuracy")
    assert cell.n == 2 and cell.mean.mean == pytest.approx(0.6)
    assert groups.cell(found, "nothing").mean is None


def test_strata_may_differ_in_budget_and_data_sets_in_source_but_not_in_commit(record: Callable, tmp_path: Path) -> None:
    other = {"config": {"budget": {"steps": 5}}}
    record(0, {"accuracy": 0.5})
    record(0, {"accuracy": 0.7}, data="game", key="k2", source="debian", **other)
    found = runs.read(tmp_path / "outputs")
    assert groups.cell(found, "accuracy").refused == [
        "budgets steps=5 and epochs=3 batch_size=128",
        "data sources debian and npm",
    ]
    cell = groups.cell(found, "accuracy", strata="data")
    assert not cell.refused and cell.iqm == pytest.approx(0.6)
    record(1, {"accuracy": 0.7}, commit="decade" * 7)
    assert groups.cell(runs.read(tmp_path / "outputs"), "accuracy", strata="data").refused
