"""The manual: every link and picture is there, pages say what `maskbench list` does, the tutorial runs, a browser shows it."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
MADE_BY_PROGRAMS = ("scoreboard", "deviations")  # what their names begin with
LONG = 14  # words in a row that two pages may not share
NEEDED = ("sphinx", "furo", "myst_nb", "sphinx_copybutton")
LAYERS = 2  # of the tutorial's net that have masks
CHECK = """import json as _json
forgets = [values(method, "forgetting") for method in ("packnet", "finetune")]
facts = {"runs": len(found), "forgets": forgets, "accuracy": accuracy, "masks": len(kept), "panels": len(first)}
print("CHECK", _json.dumps(facts))
"""
manual = pytest.mark.skipif(not all(map(find_spec, NEEDED)), reason="pip install 'maskbench[docs]'")


# ---- what is written by hand


def prose(path: Path) -> list[str]:
    """The words of a page, without its code, tables and links' places."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in text.splitlines() if not line.startswith(("    ", "|", "#"))]
    return re.findall(r"[\w'-]+", re.sub(r"\]\([^)]*\)", "]", " ".join(lines)).lower())


def test_no_two_pages_say_the_same() -> None:
    said: dict[tuple[str, ...], str] = {}
    twice = []
    for path in WRITTEN:
        if path.name.startswith(MADE_BY_PROGRAMS):
            continue
        words = prose(path)
        for row in {tuple(words[i : i + LONG]) for i in range(len(words) - LONG + 1)}:
            if said.setdefault(row, path.name) != path.name:
                twice.append(f"{said[row]} and {path.name}: {' '.join(row)}")
    assert twice == []


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = re.findall(r"^([a-z_/]+)$", (DOCS / "index.md").read_text(), re.MULTILINE)
    own = {path.stem for path in [*DOCS.glob("*.md"), *DOCS.glob("*.ipynb")]} - {"index"}
    assert own == {name for name in listed if "/" not in name} and len(listed) == len(set(listed))


def heading_marks(path: Path) -> set[str]:
    """The fragments that headings of a page can be linked by, as GitHub and the manual spell them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower().replace("`", "")).replace(" ", "-") for title in titles}


def test_links_between_pages_lead_somewhere() -> None:
    lost = []
    for path in WRITTEN:
        text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        for place in re.findall(r"\]\(([^)\s]+)\)", text):
            file, _, mark = place.partition("#")
            if place.startswith("http") or file.startswith("generated/"):
                continue
            there = (path.parent / file).resolve() if file else path
            if not there.exists() or (mark and there.suffix == ".md" and mark not in heading_marks(there)):
                lost.append(f"{path.name}: {place}")
    assert lost == []


# ---- what is built


class Found(HTMLParser):
    """Names that a page can be linked by, and the places it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.marks: set[str] = set()
        self.places: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (tag == "a" and name == "name"):
                self.marks.add(value or "")
            elif name in ("href", "src") and value:
                self.places.append(value)


def build(out: Path, *more: str) -> Path:
    """The manual as `make docs` makes it: a warning is a mistake. The notebook has a test of its own."""
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-D", "nb_execution_mode=off", *more]
    done = subprocess.run(
        [*words, "-d", str(out / "trees"), str(DOCS), str(out / "html")], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("manual"))


@manual
@pytest.mark.full
def test_every_link_of_the_built_pages_leads_somewhere(built: Path) -> None:
    pages = {path: Found(path.read_text()) for path in built.rglob("*.html")}
    assert len(pages) > 90
    lost = []
    for path, page in pages.items():
        for place in page.places:
            parts = urlsplit(place)
            if parts.scheme in ("http", "https", "mailto", "data") or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            marks = pages[there].marks if there in pages else None
            if not there.exists() or (parts.fragment and marks is not None and unquote(parts.fragment) not in marks):
                lost.append(f"{path.relative_to(built)}: {place}")
    assert lost == []


def lines_of(page: Path) -> Iterator[str]:
    yield from re.sub(r"<[^>]+>", " ", page.read_text()).splitlines()


@manual
@pytest.mark.full
def test_a_methods_page_has_its_knobs_presets_and_figures(built: Path) -> None:
    from maskbench.cli import command_line
    from maskbench.common import identity

    folder = built / "generated" / "methods"
    for name in command_line.choices([identity.conf_dir()], "method"):
        assert f"conf/method/{name}.yaml" in (folder / f"{name}.html").read_text()
    text = (folder / "rigl.html").read_text()
    assert "optimiser steps between two moves of the mask" in text and "as of SET" not in text
    text = (folder / "lottery.html").read_text()
    assert "experiment=lottery/mnist_quick" in text and "lottery_mnist_quick.png" in text and "expect: at 21.1 %" in text
    text = (built / "generated" / "config.html").read_text()
    assert "budget.batch_size" in text and "the same command" not in text
    assert json.loads((built / "result.schema.json").read_text())["title"]


@manual
@pytest.mark.full
def test_the_tutorial_runs_and_comes_to_its_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    earlier = [os.path.abspath(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *earlier]))

    notebook = nbformat.read(DOCS / "tutorial.ipynb", as_version=4)
    assert [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs] == [], "outputs are made, not kept"
    notebook.cells.append(nbformat.v4.new_code_cell(CHECK))
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(out.get("text", "") for out in notebook.cells[-1].outputs)
    facts = json.loads(said.partition("CHECK ")[2])
    assert facts["runs"] == 6 and facts["panels"] == 5 and facts["masks"] == 5 * LAYERS
    packnet, finetune = facts["forgets"]
    assert max(packnet) == 0 < min(finetune)
    matrix = json.loads(next(tmp_path.glob("outputs/packnet-*/s0-*/result.json")).read_text())["matrices"]["accuracy"]
    assert abs(facts["accuracy"] - matrix[-1][0]) < 1e-6
    made = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert len([out for out in made if "image/png" in out.get("data", {})]) == 2


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing goes to the terminal."""


@pytest.fixture
def served(built: Path) -> Iterator[str]:
    """The address of the built pages on this machine: a search reads the pages it finds, which browsers refuse of files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=built)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@manual
@pytest.mark.full
def test_a_browser_shows_the_pages_and_finds_words_in_them(served: str, tmp_path: Path) -> None:
    """The theme's and the search's scripts run without a complaint."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    browser = os.environ.get("MASKBENCH_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("no Chromium: install Debian's package chromium, or name a browser in MASKBENCH_CHROMIUM")

    def shown(address: str) -> str:
        words = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        words += ["--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom", f"{served}/{address}"]
        done = subprocess.run(words, capture_output=True, text=True)
        complaints = [line for line in done.stderr.splitlines() if ":CONSOLE" in line and "favicon" not in line]
        assert done.returncode == 0 and complaints == []
        return done.stdout

    page = shown("generated/methods/rigl.html")
    assert 'data-theme="auto"' in page and "method.distribution" in page
    assert "generated/methods/hopsupsup.html" in shown("search.html?q=hopsupsup")
