"""Figures for papers: sizes at the printed width, fonts inside, nothing cut, one colour a method; options refused early."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskbench.cli import main as program
from maskbench.cli.commands import figure as command
from maskbench.report import figures, fitting, look, palette, style
from maskbench.report.look import Look

PAPER = Look.read(style="paper", width="column", formats="pdf")
REFUSED = {
    "--format jpg": "--format jpg is none of pdf, svg, png.",
    "--format pdf,": "--format '' is none of pdf, svg, png.",
    "--style papr": "--style papr is none of paper, talk, screen. Did you mean 'paper'?",
    "--width 9": "--width 9 is none of column, text, or a length such as 9cm, 3.25in or 240pt.",
    "--width 9km": "--width 9km is none of column, text, or a length such as 9cm, 3.25in or 240pt.",
    "--width 1cm": "--width 1cm is not between 1.5in and 40in.",
    "--labels scale": '--labels scale is not KEY=TEXT, such as method.scale="mask scale".',
    "--labels scale=": '--labels scale= is not KEY=TEXT, such as method.scale="mask scale".',
    "--interval iqr": "--interval iqr is none of t, minmax, sd.",
}


# ---- figures as a page has them


def accuracies(_: Path) -> Any:
    """A curve with a band near 100 % and a legend of long names."""
    figure, (panel,) = style.canvas("Tickets on MNIST\n3 seeds", width=style.COLUMN, height=2.9)
    y = 100 * np.array([[0.970, 0.985, 0.999, 1.0], [0.960, 0.990, 1.0, 1.0], [0.981, 0.981, 0.996, 1.0]])
    for i, (name, kind) in enumerate(style.line_styles(["ticket", "reinit", "a_control_of_quite_long_name", "random"]).items()):
        style.band(panel, np.arange(4), y - 0.1 * i * (y < 99), most=100, label=name, **kind)
    panel.set_ylabel("test accuracy (%)")
    panel.set_xlabel("a setting that is named at more length than a column is wide at this size")
    style.legend(figure, [panel], 3)
    return figure


def matrix(_: Path) -> Any:
    """A heat map of twelve stages with their numbers."""
    from maskbench.report import figures_continual

    r = np.tril(np.full((12, 12), 0.93)) + np.triu(np.full((12, 12), np.nan), 1)
    return figures_continual.heat_map(100 * r[None], [f"t{i}" for i in range(12)], "supsup on toy")


def bytes_stored(_: Path) -> Any:
    """Two panels on logarithmic axes."""
    figure, panels = style.canvas("2 experiments", columns=2, width=style.PAGE, height=3.6)
    for panel in panels:
        panel.plot([2e3, 4e6], [90, 99.9], label="supsup", marker="o", linestyle="")
        panel.set_xscale("log")
        panel.set_xlabel("bytes stored for all stages")
        panel.set_ylabel("average accuracy, stage given (%)")
    style.legend(figure, panels, 3, entry=1.7)
    return figure


def saved(make: Callable, folder: Path, own: Look = PAPER) -> tuple[Any, Path]:
    """The figure and its first file."""
    with own.used():
        with style.styled():
            figure = make(folder)
        (path, *_) = style.save({"figure": figure}, folder, "about", ["key k1"])
    return figure, path


def boxes(figure: Any) -> list[tuple[str, Any]]:
    """What is written where, of texts that do not stand inside a heat map."""
    found = []
    for text in fitting.texts(figure):
        if text.axes is None or text not in text.axes.texts:
            found.append((text.get_text(), text.get_window_extent()))
    return [(words, box) for words, box in found if box.width > 0]


@pytest.mark.sample(1)
@pytest.mark.parametrize("make", [accuracies, matrix, bytes_stored])
def test_a_pdf_at_column_width(make: Callable, tmp_path: Path, printed: Callable) -> None:
    figure, path = saved(make, tmp_path)
    pdf, page = path.read_bytes(), printed(path)
    assert page.width == pytest.approx(3.5 * 72, abs=0.5)
    assert page.embedded and all(page.embedded.values())
    assert min(page.sizes) >= 6 and max(page.sizes) == 8
    assert b"/Keywords (key k1)" in pdf and b"CreationDate" not in pdf
    whole = figure.bbox
    shown = [(words, box) for words, box in boxes(figure) if words.strip()]
    for words, box in shown:
        inside = box.x0 >= -2 and box.x1 <= whole.x1 + 2 and box.y0 >= -2 and box.y1 <= whole.y1 + 2
        assert inside or tick_outside(figure, words), f"{words!r} is cut"
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            (low, high), kind = sorted(axis.get_view_interval()), axis.get_scale()
            if "(%)" in axis.get_label_text() and kind == "linear":
                assert low >= 0 and high <= 100


def tick_outside(figure: Any, words: str) -> bool:
    """Whether a text is of a tick beyond the axis, which is not drawn."""
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if tick.label1.get_text() == words and not low <= tick.get_loc() <= high:
                    return True
    return False


def test_shares_are_never_drawn_beyond_100_percent(tmp_path: Path) -> None:
    figure, _ = saved(accuracies, tmp_path)
    (panel,) = figure.axes
    assert panel.get_ylim()[1] <= 100
    for one in panel.collections:
        assert one.get_paths()[0].vertices[:, 1].max() <= 100
    assert len(figure.legends) == 1 and "95 % interval of 3 seeds" in figure.legends[0].get_title().get_text()


def test_panels_that_have_no_room_beside_each_other_stand_below_each_other() -> None:
    with PAPER.used(), style.styled():
        figure, panels = style.canvas("t", columns=3, width=style.PAGE, height=2.6)
        figure.draw_without_rendering()
    tops = [panel.get_position().y1 for panel in panels]
    assert tops == sorted(tops, reverse=True) and len(set(tops)) == 3 and figure.get_figwidth() == 3.5
    wide = Look.read(style="paper", width="text")
    with wide.used(), style.styled():
        figure, panels = style.canvas("t", columns=3, width=style.PAGE, height=2.6)
    assert len({panel.get_subplotspec().rowspan.start for panel in panels}) == 1 and figure.get_figheight() == 2.6


def test_a_title_can_be_left_out_and_the_key_is_in_the_file(tmp_path: Path) -> None:
    from PIL import Image

    figure, _ = saved(bytes_stored, tmp_path / "with")
    bare, path = saved(bytes_stored, tmp_path / "bare", Look.read(width="9cm", title=False, formats="png,svg"))
    assert figure.get_suptitle() and not bare.get_suptitle()
    assert bare.get_figwidth() == pytest.approx(9 / 2.54)
    with Image.open(path) as image:
        assert image.text == {"Description": "about", "Keywords": "key k1"}
    assert "key k1" in path.with_suffix(".svg").read_text()


@pytest.mark.parametrize(
    ("text", "inches"), [("column", 3.5), ("text", 7), ("9cm", 9 / 2.54), ("3.25in", 3.25), ("84mm", 84 / 25.4), ("252pt", 3.5)]
)
def test_widths(text: str, inches: float) -> None:
    assert Look.read(width=text, style="paper").width == pytest.approx(inches)


def test_a_talk_is_larger_in_everything_and_papers_have_the_intervals_of_tables() -> None:
    talk = Look.read(style="talk", width="text")
    assert talk.width == 12 and talk.style.least >= 10 and talk.points(7) == pytest.approx(12)
    assert (talk.interval, PAPER.interval, Look().interval) == ("t", "t", "minmax")
    assert Look.read(style="paper", interval="sd").interval == "sd"


# ---- figures of runs

RUNS = {  # by the figures that they must leave
    "accuracy density inputs": ["method=lottery", "data.base=synthetic", "task.levels=2", "backbone.widths=[16]"],
    "stages per_stage matrix": ["method=supsup", "data=splitmnist", "data.base=synthetic", "backbone.widths=[16]"],
    "reliability confidence members": ["method=masksembles", "data=mnist", "data.base=synthetic", "backbone=lenet_300_100"],
}


@pytest.mark.full
@pytest.mark.parametrize("names", RUNS)
def test_figures_of_a_run_are_what_a_journal_takes(names: str, cli: Callable, tmp_path: Path, printed: Callable) -> None:
    short = ["budget.epochs=null", "budget.steps=10", "logger=none"]
    done = cli(*RUNS[names], *short)
    assert done.returncode == 0, done.stderr
    (run,) = (path.parent for path in tmp_path.glob("outputs/*/*/result.json"))
    done = cli("figure", str(run), "--style", "paper", "--width", "column", "--format", "pdf", "--output", "printed")
    assert done.returncode == 0, done.stderr
    pages = {path.stem: printed(path) for path in tmp_path.glob("printed/*.pdf")}
    assert set(names.split()) <= set(pages)
    for name, page in pages.items():
        assert page.width == pytest.approx(252, abs=0.5), name
        assert page.embedded and all(page.embedded.values()), name
        assert min(page.sizes) >= 6, name


def test_a_font_that_is_named_only_is_seen(tmp_path: Path, printed: Callable) -> None:
    """The fonts of every reader of PDFs are named in the file and not in it: what the checks above must refuse."""
    import matplotlib
    from matplotlib.figure import Figure

    bare = Figure(figsize=(2, 1))
    bare.text(0.1, 0.5, "a text", fontsize=5)
    with matplotlib.rc_context({"pdf.use14corefonts": True}):
        bare.savefig(tmp_path / "bare.pdf")
    page = printed(tmp_path / "bare.pdf")
    assert page.embedded and not any(page.embedded.values()) and page.sizes == [5.0] and page.width == 144


# ---- colours


def test_a_method_has_one_colour_in_every_figure() -> None:
    few = palette.line_styles(["hat", "supsup"], ["hat", "supsup"])
    many = palette.line_styles(["packnet", "mine", "supsup", "wsn", "hat"], ["packnet", "mine", "supsup", "wsn", "hat"])
    assert few["hat"] == many["hat"] and few["supsup"] == many["supsup"]
    assert len({tuple(kind.values()) for kind in many.values()}) == 5
    again = palette.line_styles(["mine", "packnet"], ["mine", "packnet"])
    assert again["mine"] == many["mine"], "also one that the palette does not know"


def test_experiments_of_one_method_share_its_colour_beside_another() -> None:
    kinds = palette.line_styles(["supsup keep=0.1", "supsup keep=0.5", "psp"], ["supsup", "supsup", "psp"])
    first, second, other = kinds.values()
    assert first["color"] == second["color"] != other["color"] and first["linestyle"] != second["linestyle"]
    alone = palette.line_styles(["keep=0.1", "keep=0.5"], ["supsup", "supsup"])
    assert len({kind["color"] for kind in alone.values()}) == 2


@pytest.mark.parametrize("family", palette.FAMILIES)
def test_no_two_methods_that_are_compared_look_alike(family: str) -> None:
    kinds = palette.line_styles(family.split(), family.split())
    assert len({tuple(kind.values()) for kind in kinds.values()}) == len(kinds)
    first = list(kinds.values())[: len(palette.COLOURS)]
    assert len({kind["color"] for kind in first}) == len(first)


# ---- the command


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_wrong_is_refused_in_a_sentence_before_a_run_is_read(words: str, capsys: pytest.CaptureFixture) -> None:
    status = program.main(["figure", "nowhere", *words.split(" ", 1)])
    told = capsys.readouterr()
    assert (status, told.out) == (2, "") and told.err.count("\n") == 1 and REFUSED[words] in told.err


def test_a_wrong_option_costs_no_matplotlib(tmp_path: Path) -> None:
    code = (
        "import sys; from maskbench.cli import main\n"
        "assert main.main(['figure', 'nowhere', '--width', '9']) == 2\n"
        "assert not {'torch', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])


def test_labels_stand_for_keys_and_names_that_are_there(tmp_path: Path) -> None:
    run = figures.Finished(tmp_path, {"method": "supsup", "data": "toy"}, [], {"method": {"scale": 2.0}})
    own = Look.read(labels=["method.scale=mask scale", "supsup=SupSup"])
    own.known(figures.names([run]))
    assert (own.label("method.scale"), own.label("supsup"), own.label("toy")) == ("mask scale", "SupSup", "toy")
    with pytest.raises(command.UsageError, match="'method.scal'. Did you mean 'method.scale'?"):
        Look.read(labels=["method.scal=x"]).known(figures.names([run]))
    with own.used():
        assert figures.headline_of([[named(tmp_path, "supsup")], [named(tmp_path, "psp")]]).startswith("2 experiments on toy")
        assert look.current() is own
    assert look.current() is look.AS_RUNS_LEAVE_THEM


def named(folder: Path, method: str) -> figures.Finished:
    return figures.Finished(folder, {"method": method, "data": "toy", "seed": 0, "source": "npm", "key": "k"}, [], {})


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e3, "1k"), (2e4, "20k"), (1e6, "1M"), (5e9, "5G"), (0.01, "0.01"), (1, "1"), (2e-7, "2e-7"), (1e12, "1e12")],
)
def test_powers_of_ten_without_exponents_in_small_print(value: float, text: str) -> None:
    assert fitting.power(value) == text
