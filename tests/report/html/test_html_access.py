"""The page for everybody: axe-core finds nothing serious in light and dark, at a desk and at 400 pixels; all works by keyboard
alone; and so with 500 runs of real size."""

import importlib.util
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskbench.report import runs as records
from maskbench.report.html.page import page

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.full

NARROW, DESK = 400, 1440
LARGE = 2 * 10**6  # bytes of a page of 500 runs


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, which a Python package of the extra `dev` carries."""
    found = importlib.util.find_spec("axe_core_python")
    if found is None:
        pytest.skip("no axe-core: pip install axe-core-python (of the extra dev) brings it")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 500 runs as scripts/many_runs.py makes them: records, histories and masks of real size."""
    output = tmp_path_factory.mktemp("large") / "outputs"
    runpy.run_path(str(ROOT / "scripts" / "many_runs.py"))["fill"](output, 500)
    file = output / "report.html"
    file.write_text(page(records.read(output), "outputs"), encoding="utf-8")
    return file


def serious(tab: Any, axe: str) -> list[str]:
    """What axe-core finds serious or critical on the page as it stands."""
    tab.run(f"{axe};0")
    found = tab.run("""axe.run(document, { resultTypes: ['violations'] }).then((result) => result.violations.map((one) =>
        [one.impact, `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(' | ')}`]))""")
    return [told for impact, told in found if impact in ("serious", "critical")]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, DESK])
def test_axe_finds_nothing_serious(tab: Any, report: Path, axe: str, width: int, dark: bool) -> None:
    tab.look(width, dark=dark)
    tab.open(report)
    tab.draw_all()
    assert serious(tab, axe) == []
    assert tab.run("document.documentElement.scrollWidth") <= width
    for opener in ("#results button.open", "#all-runs button.open"):
        tab.click(opener)
        tab.draw_all()
        assert serious(tab, axe) == [], opener
    tab.press("Escape", 27)
    tab.wait("!document.getElementById('details').open")


def test_axe_does_find_what_is_wrong(tab: Any, report: Path, axe: str) -> None:
    tab.open(report)
    tab.run("document.querySelector('#words').parentNode.replaceWith(document.querySelector('#words'))")
    tab.run("document.querySelector('#words').placeholder = ''")
    assert any(found.startswith("label: ") for found in serious(tab, axe))


# ---- keyboard alone

STOPS = "a[href], button:not([disabled]), input, select:not([disabled]), summary, [tabindex='0']"


@pytest.fixture
def small(write: Callable, tmp_path: Path) -> Path:
    """A page of two groups of two seeds, with curves and a matrix."""
    for method in ("a", "b"):
        for seed in (0, 1):
            told = {"matrices": {"accuracy": [[0.9, None], [0.8, 0.7]]}, "history": {"part": [1.0, 0.5, 0.2]}}
            write(tmp_path / "outputs", method, seed, {"average_accuracy": 0.7 + 0.1 * seed, "ece": 0.1}, **told)
    file = tmp_path / "outputs" / "report.html"
    file.write_text(page(records.read(tmp_path / "outputs"), "outputs"), encoding="utf-8")
    return file


def test_tab_reaches_all_that_can_be_used_and_leaves_it_again(tab: Any, small: Path) -> None:
    tab.open(small)
    tab.draw_all()
    tab.settle()
    tab.run(f"""window.stops = [...document.querySelectorAll(`{STOPS}`)].filter((node) =>
        node.getClientRects().length && !node.closest('dialog'));
        window.met = new Set(); document.addEventListener('focusin', (event) => window.met.add(event.target)); 0""")
    count = tab.run("window.stops.length")
    assert count > 30
    for _ in range(count + 5):
        tab.press("Tab", 9)
    missed = tab.run("window.stops.filter((node) => !window.met.has(node)).map((node) => node.outerHTML.slice(0, 100))")
    assert missed == []


def test_a_reader_without_a_mouse_filters_sorts_reads_and_opens(tab: Any, small: Path) -> None:
    tab.open(small)
    tab.draw_all()
    tab.settle()

    def go(selector: str) -> None:
        """Tab until the focus is there."""
        for _ in range(200):
            if tab.run(f"document.activeElement.matches('{selector}')"):
                assert tab.run("document.activeElement.matches(':focus-visible')"), "the focus is seen"
                return
            tab.press("Tab", 9)
        raise AssertionError(f"Tab does not reach {selector}")

    go("#words")
    for letter in "b-toy":
        tab.call("Input.dispatchKeyEvent", type="char", text=letter)
    assert tab.wait("document.getElementById('count').textContent") == "2 of 4 runs"
    go("#results thead button")
    tab.press("Enter", 13)
    assert tab.run("document.querySelector('#results thead th').getAttribute('aria-sort')") == "ascending"
    go("#results button.open")
    tab.press("Enter", 13)
    tab.wait("document.getElementById('details').open")
    assert tab.run("document.getElementById('details').contains(document.activeElement)")
    tab.press("Escape", 27)
    tab.wait("!document.getElementById('details').open")
    assert tab.run("document.activeElement.matches('#results button.open')"), "back where it was"
    go("#plots svg")
    tab.press("ArrowRight", 39)
    assert tab.run("!document.getElementById('tip').hidden && document.getElementById('tip').textContent").startswith("b")
    go("#matrices input")
    tab.press("ArrowLeft", 37)
    assert tab.run("document.activeElement.getAttribute('aria-valuetext')") == "after learning stage 1: mean of the 1 seen 0.9000"


def test_several_columns_sort_together(tab: Any, report: Path) -> None:
    """Shift adds a column to those that sort; which comes second is written beside it."""
    tab.open(report)
    head = "[...document.querySelectorAll('#all-runs thead th')].find((one) => one.textContent === '{}')"
    tab.run(f"{head.format('method')}.querySelector('button').click()")
    press = "querySelector('button').dispatchEvent(new MouseEvent('click', { bubbles: true, shiftKey: true }))"
    tab.run(f"{head.format('seed')}.{press}")
    rows = tab.run(
        "[...document.querySelectorAll('#all-runs tbody tr')].map((row) => [row.cells[1].textContent, row.cells[4].textContent])"
    )
    assert rows == sorted(rows, key=lambda row: (row[0], -int(row[1])))
    assert tab.run(f"{head.format('seed')}.dataset.place") == "2"
    assert tab.run(f"{head.format('method')}.getAttribute('aria-sort')") == "ascending"


# ---- 500 runs


@pytest.mark.parametrize("width", [NARROW, DESK])
def test_a_page_of_500_runs_is_small_and_sound(tab: Any, large: Path, axe: str, width: int) -> None:
    assert large.stat().st_size < LARGE
    tab.look(width)
    tab.open(large)
    drawn = tab.run("document.querySelectorAll('.canvas svg').length")
    assert drawn <= 4, "what nobody has scrolled to waits"
    assert tab.run("document.getElementById('count').textContent") == "500 runs"
    tab.draw_all()
    assert tab.run("document.querySelectorAll('.canvas svg').length") > 20
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert {*tab.requests} == {large.resolve().as_uri()}
    assert serious(tab, axe) == []
