"""What the README says can be done can be: its commands pass preflight, its links and figures are there; and the scoreboard
is that of the tables there are."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maskbench.cli import main as cli
from maskbench.cli import preflight
from maskbench.common import identity
from maskbench.report import scoreboard, spec
from maskbench.report.writers import Sheet, markdown

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
AROUND = {"VIRTUAL_ENV", "PYTHONPATH", "MAKELEVEL", "MAKEFLAGS", "MFLAGS"}  # what the tests themselves were started by
PAGES = {
    name: (ROOT / name).read_text()
    for name in (
        "README.md",
        "docs/gallery.md",
        "docs/python.md",
        "docs/metrics.md",
        "docs/data.md",
        "docs/gpu.md",
        "docs/scaling.md",
    )
}
BOARD = runpy.run_path(str(ROOT / "scripts" / "scoreboard.py"))
SCOREBOARD = "\n".join(page.read_text() for page in sorted((ROOT / "docs").glob("scoreboard_quick*.md"), reverse=True))
EXAMPLES = sorted(
    set(re.findall(r"(?:^    |`)(?:python -m )?maskbench ([a-z-][^#`\n]*[^#`\s])", "\n".join(PAGES.values()), re.MULTILINE))
)
TABLES = spec.names([identity.conf_dir()])


def test_there_are_examples() -> None:
    assert len([line for line in EXAMPLES if "=" in line]) >= 10


@pytest.mark.sample(8)
@pytest.mark.parametrize("line", [line for line in EXAMPLES if "..." not in line])
def test_an_example_could_start(line: str) -> None:
    words = shlex.split(line)
    if words[0] not in cli.COMMANDS:
        preflight.check(words, starts=False)


def test_links_and_figures_are_there() -> None:
    places = []
    for name, text in PAGES.items():
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
        places += [(ROOT / name).parent / link for link in links]
    assert [place for place in places if not place.exists()] == []
    figures = set((ROOT / "docs" / "figures").iterdir())
    assert figures <= {place.resolve() for place in places}


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.full
def test_a_newcomer_follows_the_first_lines_to_the_letter(tmp_path: Path) -> None:
    """`make run`, then the lines that say how to go on: in a fresh copy, nothing activated, a terminal of 80 columns."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))  # what `make` made here: making another takes minutes and gigabytes
    blocks = [block for block in re.split(r"\n(?=\S)|\n\n(?=\S)", README) if re.search(r"^    \S", block, re.MULTILINE)]
    lines = [re.split(r"\s+#", line.strip())[0] for block in blocks for line in block.splitlines() if line.startswith("    ")]
    first = [line for line in lines[: lines.index(". .venv/bin/activate") + 2] if line != "make test"]
    assert first[0] == "make run" and first[-1].startswith("python -m maskbench ")
    env = {name: value for name, value in os.environ.items() if name not in AROUND}
    env |= {
        "COLUMNS": "80",
        "PATH": os.pathsep.join(p for p in env["PATH"].split(os.pathsep) if p != str(Path(sys.prefix) / "bin")),
    }
    touch = ["touch", str(tmp_path / ".venv" / "ready")] if not (tmp_path / ".venv" / "ready").exists() else ["true"]
    subprocess.run(touch, check=True)
    done = subprocess.run(["bash", "-euc", "\n".join(first)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "average_accuracy" in done.stdout and len(list(tmp_path.glob("outputs/supsup-*/*/result.json"))) == 2
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_metrics_of_the_glossary_are_those_of_the_code() -> None:
    glossary = PAGES["docs/metrics.md"]
    named = re.findall(r"`([a-z0-9_]+)[`/<]", "".join(re.findall(r"^\| (`[^|]+) \|", glossary, re.MULTILINE)))
    code = "".join(path.read_text() for path in (ROOT / "maskbench").rglob("*.py"))
    joined = {"accuracy_shifted", *(f"{stage}_{kind}" for stage in ("target", "source") for kind in ("accuracy", "rmse"))}
    joined |= {f"early_stop_{kind}" for kind in ("accuracy", "rmse")}
    known = joined | {*re.findall(r"['\"]([a-z0-9_]+)['\"/_]", code)}
    assert len(named) > 50 and [name for name in named if name.removesuffix("_") not in known] == []


def test_the_scoreboard_sets_the_budgets_side_by_side_and_the_readme_begins_with_it() -> None:
    assert (ROOT / "docs" / "scoreboard.md").read_text() == BOARD["page"](), "python scripts/scoreboard.py writes it anew"
    assert README == BOARD["readme"]()
    first = re.search(r"(?:^\|.*\|\n)+", README, re.MULTILINE)[0].splitlines()
    assert first[0] == "| table | the papers' own data (`budget=hours`) | MNIST-scale (`budget=quick`) |"
    assert [line.split(" | ")[0].removeprefix("| ") for line in first[2:]] == sorted(TABLES)


@pytest.mark.full
def test_the_budgets_come_to_the_scoreboard_one_by_one(tmp_path: Path) -> None:
    """Each from a folder of its own: the other's half stays."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("before\n<!-- scoreboard -->\nformer\n<!-- /scoreboard -->\nafter\n")
    verdicts = {"quick": "2 of 9 fail, 1 of 9 undecided", "hours": "3 of 8 fail"}
    for budget, held, seeds in (("quick", "6 of 9", 3), ("hours", "5 of 8", 2)):
        rows = [["lottery", "lottery", held, "9 paper", str(seeds), verdicts[budget]]]
        board = Sheet(f"Scoreboard ({budget} budget)", scoreboard.HEAD, rows, legend=("a legend",))
        (tmp_path / budget).mkdir()
        (tmp_path / budget / f"{budget}.md").write_text(markdown(board) + "\n## A table\n\n| row |\n| --- |\n| lottery |\n")
        BOARD["main"](tmp_path / budget, tmp_path)
        other = "5 of 8 | 2 | 3 of 8 fail" if budget == "hours" else "not run |  | "
        line = f"| lottery | lottery | {other} | 6 of 9 | 3 | {verdicts['quick']} |\n"
        assert line in (tmp_path / "docs" / "scoreboard.md").read_text()
    assert (tmp_path / "docs" / "scoreboard_quick.md").read_text().startswith("# Scoreboard (quick budget)")
    only = Sheet("Scoreboard (quick budget)", scoreboard.HEAD, [["maml", "maml", "1 of 2", "2 row", "3", "1 of 2 undecided"]])
    (tmp_path / "maml").mkdir()
    board = tmp_path / "docs" / "scoreboard_quick.md"
    board.write_text(board.read_text() + "\nSince then these tables have other rows: maml, packnet.\n")
    (tmp_path / "maml" / "scoreboard-quick.md").write_text(markdown(only))
    BOARD["main"](tmp_path / "maml", tmp_path)
    assert "[scoreboard_quick_maml.md](scoreboard_quick_maml.md)" in (tmp_path / "docs" / "scoreboard.md").read_text()
    assert board.read_text().endswith("\nSince then these tables have other rows: packnet.\n")
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n") and readme.endswith("\nafter\n") and "former" not in readme
    lottery = "| lottery | 5 of 8 hold, 3 fail, 2 seeds | 6 of 9 hold, 2 fail, 1 undecided, 3 seeds |\n"
    assert lottery + "| maml | not run | 1 of 2 hold, 1 undecided, 3 seeds |\n" in readme
    BOARD["main"](tmp_path / "quick", tmp_path)
    assert not (tmp_path / "docs" / "scoreboard_quick_maml.md").exists(), "the page of all has its rows again"


@pytest.mark.parametrize("name", TABLES)
def test_the_scoreboard_has_every_row_of_every_table_or_says_that_it_changed_since(name: str) -> None:
    table = spec.load(name, [identity.conf_dir()]).at("quick")
    _, title, section = SCOREBOARD.partition(f"\n## {table.title} (quick budget)\n")
    changed = re.search(r"^Since then these tables have other rows: (.+)\.$", SCOREBOARD, re.MULTILINE)
    assert title or (changed and name in changed[1].split(", ")), "a new table is run, or is said to be missing"
    told = re.findall(r"^\| ((?:\\\||[^|])+) \| \d+ \|", section.partition("\n## ")[0], re.MULTILINE)
    told = [name.replace("\\|", "|") for name in told]
    asked = [row.name for row in table.rows if all("quick" in table.runs[quantity.run] for quantity in row.quantities)]
    assert (told != asked) == (name in changed[1].split(", ") if changed else False)


def test_the_scoreboards_rows_have_verdicts_on_three_seeds_at_least() -> None:
    rows = re.findall(r"^\| [^|]+ \| (\d+) \|.*\| (\w+) \|$", SCOREBOARD, re.MULTILINE)
    assert len(rows) > 80 and all(int(n) >= 3 for n, _ in rows) and {word for _, word in rows} <= {"holds", "fails", "undecided"}
    assert re.search(r"^- Code: [0-9a-f]{10}\.$", SCOREBOARD, re.MULTILINE)
