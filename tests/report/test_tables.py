"""A table on records: ours, interval, difference, verdict; mixed cells refused; recalled values never printed; equal bytes."""

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import scipy.stats
import yaml

from maskbench.report import dots, published, runs, scoreboard, spec, statistics, style, tables
from maskbench.report.verdicts import RESTS, Rule
from maskbench.report.writers import latex, markdown

TOLD = {
    "title": "Tickets & masks",
    "paper": "Somebody 2020, table 1",
    "seeds": [0, 1, 2],
    "runs": {"a": ["method=supsup"], "b": ["method=packnet"]},
    "transform": "percent",
    "metric": "accuracy",
    "rows": [
        {"id": "a", "name": "A", "run": "a", "published": "lab/a", "rule": {"within": 5, "rests_on": "paper"}},
        {"id": "b", "name": "B", "run": "b", "published": "lab/b", "rule": {"at_most": 50, "rests_on": "quoted"}},
        {"id": "gap", "name": "A over B", "run": "a", "minus": {"run": "b"}, "published": "lab/gap",
         "rule": {"at_least": 5, "every_seed": True, "rests_on": "row"}},
        {"id": "order", "name": "A, against B", "run": "a", "rule": {"above": "b", "by": [5, 15], "rests_on": "row"}},
        {"id": "steps", "name": "steps", "run": "a", "metric": "steps", "over": {"run": "b"}, "transform": "none",
         "unit": "ratio", "rule": {"at_most": 1, "rests_on": "ours"}},
    ],
}  # fmt: skip
SETTING = {"net": "any", "data": "toy", "budget": {"batch_size": 128}, "stages": 1, "place": "table 1", "words": "accuracy"}
PUBLISHED = {
    "a": SETTING | {"value": 91.0, "read": "paper", "words": "accuracy of A"},
    "b": SETTING | {"value": 77.77, "read": "quoted", "by": "Other 2021", "words": "accuracy of B"},
    "gap": SETTING | {"value": 9.5, "read": "ours, earlier", "place": "a prototype"},
}
A, B = (0.90, 0.91, 0.92), (0.80, 0.82, 0.81)


@pytest.fixture
def table(tmp_path: Path) -> spec.Table:
    (tmp_path / "conf" / "table").mkdir(parents=True)
    (tmp_path / "conf" / "table" / "mine.yaml").write_text(yaml.safe_dump(TOLD))
    (tmp_path / "conf" / "published").mkdir()
    (tmp_path / "conf" / "published" / "lab.yaml").write_text(yaml.safe_dump(PUBLISHED))
    return spec.load("mine", [tmp_path / "conf"])


@pytest.fixture
def found(record: Callable) -> Callable:
    """`found(seed={...overrides of the record of a})`: runs a and b of seeds 0 to 2, as the table wants them."""

    def make(changes: dict[int, dict] | None = None, lacking: tuple[int, ...] = ()) -> dict:
        made: dict = {"a": {}, "b": {}}
        for seed in (0, 1, 2):
            more = (changes or {}).get(seed, {})
            a = record(seed, {"accuracy": A[seed], "steps": 10 + seed}, **more)
            b = record(seed, {"accuracy": B[seed], "steps": 20}, method="packnet", key="k2")
            made["a"][seed] = None if seed in lacking else runs.load(a)
            made["b"][seed] = runs.load(b)
        return made

    return make


def judge(table: spec.Table, found: dict, **options) -> dict[str, tables.Line]:
    judged = tables.judge(table, "quick", (0, 1, 2), found, **options)
    return {line.row.id: line for line in judged.lines}


def test_a_row_shows_mean_interval_difference_and_verdict(table: spec.Table, found: Callable) -> None:
    lines = judge(table, found())
    low, high = scipy.stats.t.interval(0.95, 2, 91.0, scipy.stats.sem([90, 91, 92]))
    assert tables.cells(lines["a"]) == [
        "A", "3", "91.00%", f"[{low:.2f}, {high:.2f}]", "91.0", "+0.00", "within 5 of the value beside it", "paper", "holds",
    ]  # fmt: skip
    assert tables.cells(lines["b"])[4:] == ["77.77 (quoted by Other 2021)", "+3.23", "at most 50", "quoted", "fails"]
    assert tables.cells(lines["gap"])[1:6] == ["3", "10.00 points", "[7.52, 12.48]", "9.5 (ours, earlier)", "+0.50"]
    assert tables.cells(lines["order"])[6] == "above “B” by 5 to 15, paired: 10.00"
    assert lines["steps"].mean.mean == pytest.approx((10 + 11 + 12) / 60)
    assert [line.verdict for line in lines.values()] == ["holds", "fails", "holds", "holds", "holds"]
    assert [tables.rests(line) for line in lines.values()] == ["paper", "quoted", "row", "row", "ours, earlier"]


def test_the_interval_of_a_share_ends_at_100_percent_and_that_is_said(table: spec.Table, record: Callable) -> None:
    runs_of = {name: {} for name in "ab"}
    for seed, (a, b) in enumerate(zip((0.97, 0.999, 1.0), (0.001, 0.0, 0.03), strict=True)):
        runs_of["a"][seed] = runs.load(record(seed, {"accuracy": a, "steps": 10}))
        runs_of["b"][seed] = runs.load(record(seed, {"accuracy": b, "steps": 20}, method="packnet", key="k2"))
    judged = tables.judge(table, "quick", (0, 1, 2), runs_of)
    lines = {line.row.id: line for line in judged.lines}
    assert 95 > lines["a"].mean.low > 90 and 99.9 < lines["a"].mean.high <= 100 and 0 <= lines["b"].mean.low < 0.1
    assert lines["gap"].mean.high == pytest.approx(statistics.mean([96.9, 99.9, 97.0]).high), "a difference is no share"
    assert lines["gap"].mean.high > 100
    assert "of shares that it would leave on the arcsine scale" in " ".join(tables.notes(judged, False))
    told = list(csv.DictReader(io.StringIO(tables.comma(judged))))
    assert all(0 <= float(row["low"]) <= float(row["high"]) <= 100 for row in told if row["id"] in ("a", "b"))


def test_a_row_whose_interval_straddles_its_bound_is_undecided(table: spec.Table, found: Callable) -> None:
    rules = {"quick": Rule.make({"within": 1, "rests_on": "paper"})}  # the interval is 2.48 to each side
    near = dataclasses.replace(table, rows=(dataclasses.replace(table.rows[0], rules=rules), *table.rows[1:]))
    there = found()
    judged = tables.judge(near, "quick", (0, 1, 2), there)
    assert judged.lines[0].verdict == "undecided" and tables.cells(judged.lines[0])[-1] == "undecided"
    assert tables.cells(tables.judge(near, "quick", (0, 1), there).lines[0])[-1] == "undecided (n=2)"
    board = scoreboard.scoreboard([judged])
    assert board.rows[0][2] == "3 of 5" and board.rows[0][-1] == "1 of 5 fail, 1 of 5 undecided"
    assert "mine, A: within 1 of the value beside it; undecided." in board.notes


def test_where_a_value_comes_from_stands_below_the_table(table: spec.Table, found: Callable) -> None:
    told = tables.sheet(tables.judge(table, "quick", (0, 1, 2), found())).notes
    assert "Published: accuracy of A (table 1)." in told
    assert "Quoted by Other 2021: accuracy of B (table 1)." in told
    assert "Ours, earlier: accuracy (a prototype)." in told


@pytest.mark.parametrize("part", ["net", "data", "budget", "stages"])
def test_a_value_of_another_setting_gives_no_difference_and_no_verdict(table: spec.Table, found: Callable, part: str) -> None:
    stands = table.rows[0].published["quick"]
    moved = dataclasses.replace(stands, setting={**stands.setting, part: published.UNNAMED})
    rows = [dataclasses.replace(row, published={"quick": moved}) for row in table.rows[:2]]
    rows[1] = dataclasses.replace(rows[1], rules=table.rows[3].rules | {"quick": Rule.make({"at_least": 80, "rests_on": "ours"})})
    other = dataclasses.replace(table, rows=(*rows, *table.rows[2:]))
    judged = tables.judge(other, "quick", (0, 1, 2), found())
    a, b = judged.lines[:2]
    assert a.difference is None and tables.cells(a)[4] == "91.0"
    assert tables.cells(a)[5].startswith(f"other setting: {part} ") and tables.cells(a)[5].endswith(", paper: not named")
    assert a.verdict == "other setting" and "the rule rests on a value of another setting" in a.reason
    assert b.difference is None and b.verdict == "undecided", "a rule that rests on something else is judged"
    assert dots.shown(a) is None, "a figure sets nothing beside ours that is of another setting"
    assert scoreboard.scoreboard([judged]).rows[0][-1] == "1 of 5 of other setting, 1 of 5 undecided"
    assert f"{part} " in list(csv.DictReader(io.StringIO(tables.comma(judged))))[0]["other_setting"]


# ---- division by division


def divided(table: spec.Table, record: Callable, runs_: dict[int, list], rule: dict) -> tables.Line:
    """A row on runs whose results have a table of divisions, held to the record of four."""
    there = {}
    for seed, values in runs_.items():
        place = record(seed, {"rmse": sum(values) / len(values)}, key="folds")
        result = json.loads((place / "result.json").read_text())
        result["table"] = [{"fold": i, "rmse": value} for i, value in reversed(list(enumerate(values)))]
        (place / "result.json").write_text(json.dumps(result))
        there[seed] = runs.load(place)
    first = spec.Quantity("a", "rmse")
    row = dataclasses.replace(table.rows[0], first=first, transform="none", rules={"quick": Rule.make(rule)})
    row = dataclasses.replace(row, published={"quick": FOLDS})
    return tables.judge(dataclasses.replace(table, rows=(row,)), "quick", list(runs_), {"a": there}).lines[0]


FOLDS = published.Record(
    name="lab/folds", value=3.0, text="3", values=(3.0, 2.0, 4.0, 3.0), setting=dict.fromkeys(published.SETTING, "any"),
    place="files", read=published.FILES, by="", words="RMSE",
)  # fmt: skip
PAIRED = {"within": 0.25, "paired": "record", "rests_on": "paper"}


def test_divisions_are_compared_one_by_one_with_the_record(table: spec.Table, record: Callable) -> None:
    """Divisions differ by 1 and more, runs from the record by 0.1: alone in pairs that is seen."""
    line = divided(table, record, {0: [3.1, 2.1, 4.0, 3.0], 1: [3.3, 2.1, 4.2, 3.0]}, PAIRED)
    assert line.gaps == pytest.approx([0.2, 0.1, 0.1, 0.0]) and line.verdict == "holds"
    assert tables.cells(line)[4:7] == ["3", "+0.10", "within 0.25 of the value beside it, division by division: 0.10"]
    assert divided(table, record, {2: [3.9, 2.9, 4.9, 3.9]}, PAIRED).verdict == "fails"
    assert divided(table, record, {3: [3.5, 1.6, 4.6, 2.9]}, PAIRED).verdict == "undecided"
    assert divided(table, record, {4: [3.5, 1.6, 4.6, 2.9]}, {"within": 0.25, "rests_on": "paper"}).verdict == "holds", "one seed"


def test_other_divisions_than_the_records_give_no_verdict(table: spec.Table, record: Callable) -> None:
    line = divided(table, record, {0: [3.1, 2.1]}, PAIRED)
    assert line.verdict == "incomplete" and line.reason == "not every run has rmse of 4 divisions"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source": "sample"}, "data sources npm and sample"),
        ({"commit": "decade" * 7}, "commits c0ffeec0ff and decadedeca"),
        ({"dirty": True}, "commits c0ffeec0ff and c0ffeec0ff+"),
        ({"config": {"budget": {"epochs": 5, "batch_size": 128}}}, "budgets epochs=3 batch_size=128 and epochs=5 batch_size=128"),
        ({"attempts": [{"code": "c0ffeec0ff"}, {"code": "beef"}]}, "commits c0ffeec0ff and beef"),
    ],
    ids=["source", "commit", "dirty", "budget", "taken up under another commit"],
)
def test_a_mixed_cell_is_refused_with_the_reason(table: spec.Table, found: Callable, change: dict, reason: str) -> None:
    runs_there = found({2: change})
    lines = judge(table, runs_there)
    assert lines["a"].verdict == "refused" and reason in lines["a"].reason
    assert lines["gap"].verdict == "refused", "a pair needs both sides"
    assert lines["b"].verdict == "fails", "B alone is of one piece"
    assert tables.cells(lines["a"])[2:4] == ["", ""], "nothing is averaged"
    told = markdown(tables.sheet(tables.judge(table, "quick", (0, 1, 2), runs_there)))
    assert reason in told and "mixed=redo" in told
    allowed = tables.judge(table, "quick", (0, 1, 2), runs_there, mixed=True)
    assert allowed.lines[0].verdict == "holds" and "mixed=allow" in markdown(tables.sheet(allowed))


def test_equal_files_are_one_source_whatever_way_they_came(table: spec.Table, found: Callable) -> None:
    sums = {"checksums": {"train": "abc"}}
    lines = judge(table, found({0: sums, 1: sums, 2: sums | {"source": "folder"}}))
    assert lines["a"].verdict == "holds"


def test_a_record_in_another_runs_directory_is_refused(table: spec.Table, found: Callable, tmp_path: Path) -> None:
    there = found()
    place = there["a"][2].folder
    place.rename(place.with_name("s2-k9"))
    there["a"][2] = runs.load(place.with_name("s2-k9"))
    line = judge(table, there, mixed=True)["a"]
    assert line.verdict == "refused" and "the record of another run (seed 2, key k1)" in line.reason


def test_a_missing_run_or_an_undefined_number_gives_no_verdict(table: spec.Table, found: Callable) -> None:
    lines = judge(table, found(lacking=(1,)))
    assert lines["a"].verdict == lines["gap"].verdict == "incomplete" and lines["a"].reason == "seed 1: no finished run"
    assert tables.cells(lines["a"])[1] == "2" and lines["b"].verdict == "fails"
    assert judge(table, {"a": {}, "b": {}})["steps"].reason == "seed 0, 1, 2: no finished run"


def test_a_number_that_is_undefined_is_told_by_its_name(table: spec.Table, record: Callable) -> None:
    there = {name: {s: runs.load(record(s, {"accuracy": 0.5, "steps": None}, key=name)) for s in (0, 1, 2)} for name in "ab"}
    line = judge(table, there)["steps"]
    assert line.verdict == "incomplete" and line.reason == "seed 0, 1, 2: steps is undefined"


def test_a_row_without_a_rule_is_shown_and_not_counted(table: spec.Table, found: Callable) -> None:
    bare = dataclasses.replace(table, rows=(*table.rows[:1], dataclasses.replace(table.rows[1], rules={}), *table.rows[2:]))
    judged = tables.judge(bare, "quick", (0, 1, 2), found())
    assert tables.cells(judged.lines[1])[2:] == ["81.00%", "[78.52, 83.48]", "77.77 (quoted by Other 2021)", "+3.23", "", "", ""]
    assert scoreboard.scoreboard([judged]).rows[0][2:] == ["4 of 4", "1 paper, 2 row, 1 ours, earlier", "3", "holds"]


def test_the_scoreboard_says_above_its_tables_what_their_words_mean(table: spec.Table, found: Callable) -> None:
    board = scoreboard.scoreboard([tables.judge(table, "quick", (0, 1, 2), found())])
    above, _, below = markdown(board).partition("\n| system |")
    words = {*tables.HEAD[1:], *scoreboard.HEAD[2:], "holds", "fails", "undecided", "incomplete", "refused", "other setting"}
    words |= {"quoted by", *(short for short, _ in RESTS.values())} - {"paper"}
    assert [word for word in words if not re.search(rf"\b{word}\b", above, re.IGNORECASE)] == []
    assert "| mine | mine |" in below and "wide and may reach" not in latex(board)


def test_two_seeds_give_a_verdict_that_says_so(table: spec.Table, found: Callable) -> None:
    judged = tables.judge(table, "quick", (0, 1), found())
    assert tables.cells(judged.lines[2])[-1] == "holds (n=2)" and not judged.lines[2].backed
    assert "0 of 1 systems have a verdict on 3 seeds or more" in markdown(scoreboard.scoreboard([judged]))


def test_the_csv_has_every_number_in_full(table: spec.Table, found: Callable) -> None:
    rows = list(csv.DictReader(io.StringIO(tables.comma(tables.judge(table, "quick", (0, 1, 2), found())))))
    assert [row["id"] for row in rows] == ["a", "b", "gap", "order", "steps"]
    assert [float(v) for v in rows[0]["values"].split()] == [100 * v for v in A] and rows[0]["seeds"] == "0 1 2"
    assert float(rows[3]["paired_mean"]) == pytest.approx(10.0) and rows[0]["paired_mean"] == ""
    assert [rows[1][of] for of in ("published", "published_read", "rests_on")] == ["77.77", "quoted", "quoted"]


def test_every_number_can_be_traced_to_run_directories(table: spec.Table, found: Callable) -> None:
    told = markdown(tables.sheet(tables.judge(table, "quick", (0, 1, 2), found())))
    assert "a (method=supsup): supsup-toy/s0-k1, supsup-toy/s1-k1, supsup-toy/s2-k1; data from npm; code c0ffeec0ff." in told
    assert "Machine: Zuse 3, 2 cores, one thread a run." in told


def test_the_same_runs_give_the_same_bytes(table: spec.Table, found: Callable, tmp_path: Path) -> None:
    judged = tables.judge(table, "quick", (0, 1, 2), found())
    texts = [markdown(tables.sheet(judged)) + tables.comma(judged) + latex(tables.sheet(judged)) for _ in range(2)]
    assert texts[0] == texts[1]
    pictures = [style.save({"quick": dots.draw(judged)}, tmp_path / name, "t") for name in ("one", "two")]
    assert [path.suffix for path in pictures[0]] == [".png", ".svg"]
    assert [a.read_bytes() for a in pictures[0]] == [b.read_bytes() for b in pictures[1]]


def test_the_figure_shows_ours_each_seed_and_the_published(table: spec.Table, found: Callable) -> None:
    figure = dots.draw(tables.judge(table, "quick", (0, 1, 2), found()))
    panels = figure.axes
    assert [panel.get_xlabel() for panel in panels] == ["%", "points", "ratio"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["A", "B", "A, against B"]
    drawn = {float(x) for line in panels[0].get_lines() for x in line.get_xdata()}
    assert {90.0, 91.0, 92.0, 77.77} <= {round(x, 9) for x in drawn}


def test_without_runs_there_are_only_published_values_to_draw(table: spec.Table) -> None:
    figure = dots.draw(tables.judge(table, "quick", (0,), {}))
    assert [panel.get_xlabel() for panel in figure.axes] == ["%", "points"]
    bare = dataclasses.replace(table, rows=table.rows[-1:])
    assert dots.draw(tables.judge(bare, "quick", (0,), {})) is None


@pytest.mark.parametrize(
    ("value", "digits", "sign", "text"),
    [
        (97.6, 2, "", "97.60"),
        (0.00123, 2, "", "0.0012"),
        (0.0, 2, "", "0.00"),
        (-1e-15, 2, "+", "+0.00"),
        (-0.004, 2, "+", "-0.004"),
        (3.0, 0, "+", "+3"),
    ],
)
def test_no_number_is_hidden_by_its_decimals(value: float, digits: int, sign: str, text: str) -> None:
    assert tables.shown(value, digits, sign) == text


def test_latex_escapes_what_tex_would_read() -> None:
    from maskbench.report.writers import escape

    assert escape("50 % of a_b & c # {x} ~ ^ \\") == (
        r"50 \% of a\_b \& c \# \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )


def test_latex_is_a_booktabs_table(table: spec.Table, found: Callable) -> None:
    text = latex(tables.sheet(tables.judge(table, "quick", (0, 1, 2), found())), "mine")
    assert r"\caption{Tickets \& masks (quick budget)}" in text and r"\label{tab:mine}" in text
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    assert len(body) == 5 and all(line.replace(r"\&", "").count("&") == 8 and line.endswith(r"\\") for line in body)


def test_the_scoreboard(table: spec.Table, found: Callable) -> None:
    judged = tables.judge(table, "quick", (0, 1, 2), found())
    board = scoreboard.scoreboard([judged])
    assert board.rows == [["mine", "mine", "4 of 5", "1 paper, 2 row, 1 quoted, 1 ours, earlier", "3", "1 of 5 fail"]]
    assert "1 of 1 systems have a verdict on 3 seeds or more." in board.notes
    assert "mine, B: at most 50; it does not hold." in board.notes
    assert markdown(board).splitlines()[2] == (
        "- Of 5 rows with a rule, 1 on the paper's value in its own setting (1 hold), "
        "0 on the authors' code in our setting (0 hold), 0 on a theorem or an exact count (0 hold), "
        "2 on another row, a comparison that the paper claims (2 hold), "
        "1 on a value of the paper as others quote it (0 hold) and 1 on what we measured earlier, which is weak (1 hold)."
    )
