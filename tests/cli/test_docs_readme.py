"""What the README says can be done can be: its commands pass preflight, its links and figures are there; and the scoreboard
is that of the tables there are."""

import re
import shlex
from pathlib import Path

import pytest

from maskbench.cli import main as cli
from maskbench.cli import preflight
from maskbench.common import identity
from maskbench.report import spec

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SCOREBOARD = (ROOT / "docs" / "scoreboard.md").read_text()
EXAMPLES = sorted(set(re.findall(r"(?:^    |`)(?:python -m )?maskbench ([a-z-][^#`\n]*[^#`\s])", README, re.MULTILINE)))
TABLES = spec.names([identity.conf_dir()])


def test_there_are_examples() -> None:
    assert len([line for line in EXAMPLES if "=" in line]) > 15


@pytest.mark.parametrize("line", [line for line in EXAMPLES if "..." not in line])
def test_an_example_could_start(line: str) -> None:
    words = shlex.split(line)
    if words[0] not in cli.COMMANDS:
        preflight.check(words, starts=False)


def test_links_and_figures_are_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]
    assert [link for link in links if not (ROOT / link).exists()] == []
    figures = {f"docs/figures/{path.name}" for path in (ROOT / "docs" / "figures").iterdir()}
    assert figures == {link for link in links if link.startswith("docs/figures/")}


def test_the_metrics_of_the_glossary_are_those_of_the_code() -> None:
    glossary = README.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    named = re.findall(r"`([a-z0-9_]+)[`/<]", "".join(re.findall(r"^\| (`[^|]+) \|", glossary, re.MULTILINE)))
    code = "".join(path.read_text() for path in (ROOT / "maskbench").rglob("*.py"))
    joined = {"accuracy_shifted", *(f"{stage}_{kind}" for stage in ("target", "source") for kind in ("accuracy", "rmse"))}
    known = joined | {*re.findall(r"['\"]([a-z0-9_]+)['\"/_]", code)}
    assert len(named) > 50 and [name for name in named if name.removesuffix("_") not in known] == []


@pytest.mark.parametrize("name", TABLES)
def test_the_scoreboard_has_every_row_of_every_table(name: str) -> None:
    table = spec.load(name, [identity.conf_dir()])
    _, title, section = SCOREBOARD.partition(f"\n## {table.title} (quick budget)\n")
    assert title
    told = re.findall(r"^\| ([^|]+) \| \d+ \|", section.partition("\n## ")[0], re.MULTILINE)
    asked = [row.name for row in table.rows if all("quick" in table.runs[quantity.run] for quantity in row.quantities)]
    assert told == asked


def test_the_scoreboards_rows_have_verdicts_on_three_seeds_at_least() -> None:
    rows = re.findall(r"^\| .* \| (\d+) \|.*\| (\w+) \|$", SCOREBOARD, re.MULTILINE)
    assert len(rows) > 80 and all(int(n) >= 3 for n, _ in rows) and {word for _, word in rows} <= {"holds", "fails"}
    assert re.search(r"^- Code: [0-9a-f]{10}\.$", SCOREBOARD, re.MULTILINE)
