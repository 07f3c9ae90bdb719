"""docs/scoreboard.md and the README's first table, made anew from what `maskbench table` wrote for each budget.

    python scripts/scoreboard.py [outputs/tables/all]
    python scripts/scoreboard.py outputs/tables/NAME

Of the first folder the pages that are there (quick.md, hours.md) become docs/scoreboard_quick.md and docs/scoreboard_hours.md; a
budget without one keeps the page it has in docs, so that budgets may be run on different days and machines. Of a table's own
folder its scoreboard becomes docs/scoreboard_quick_NAME.md: a table that is new, or whose rows are, need not wait for all.
"""

import re
import sys
from dataclasses import replace
from pathlib import Path

from maskbench.common import identity
from maskbench.report import spec
from maskbench.report.scoreboard import BESIDE, NOT_RUN, overview, summary
from maskbench.report.writers import markdown

ROOT = Path(__file__).resolve().parents[1]
MISSING = re.compile(r"^(Since then these tables have other rows: )(.+)\.$", re.MULTILINE)
PLACE = re.compile(r"(<!-- scoreboard -->\n).*(<!-- /scoreboard -->)", re.DOTALL)  # in the README


def main(made: Path, root: Path = ROOT) -> None:
    """Bring the pages of `made` to the docs below `root`, and what shows them side by side up to date."""
    for budget in BESIDE:
        if (new := made / f"scoreboard-{budget}.md").exists():
            (root / "docs" / f"scoreboard_{budget}_{made.name}.md").write_text(new.read_text())
            no_longer_missing(root / "docs" / f"scoreboard_{budget}.md", made.name)
        elif (new := made / f"{budget}.md").exists():
            for old in places(root, budget):
                old.unlink()
            (root / "docs" / f"scoreboard_{budget}.md").write_text(new.read_text())
    texts = {"docs/scoreboard.md": page(root), "README.md": readme(root)}
    for name, text in texts.items():
        (root / name).write_text(text)


def no_longer_missing(board: Path, name: str) -> None:
    """Take a table that has a page of its own from those of which the page of all tables says that their rows are others now."""
    if board.exists() and (line := MISSING.search(text := board.read_text())):
        names = [other for other in line[2].split(", ") if other != name]
        board.write_text(text.replace(line[0], f"{line[1]}{', '.join(names)}." if names else "").rstrip() + "\n")


def places(root: Path, budget: str) -> list[Path]:
    """The pages that have a budget's rows: that of all tables, then those of single ones that were run since."""
    docs = root / "docs"
    return [*docs.glob(f"scoreboard_{budget}.md"), *sorted(docs.glob(f"scoreboard_{budget}_*.md"))]


def pages(root: Path) -> dict[str, list[str]]:
    return {budget: [place.read_text() for place in found] for budget in BESIDE if (found := places(root, budget))}


def tables() -> list[spec.Table]:
    folders = [identity.conf_dir()]
    return [spec.load(name, folders) for name in spec.names(folders)]


def page(root: Path = ROOT) -> str:
    """docs/scoreboard.md."""
    there, notes = pages(root), []
    for budget, name in BESIDE.items():
        links = ", ".join(f"[{place.name}]({place.name})" for place in places(root, budget))
        command = f"`python -m maskbench table all budget={budget}`"
        where = f"every row, its rule and the runs behind it: {links}" if links else NOT_RUN
        notes.append(f"{name[0].upper()}{name[1:]}: {command}; {where}.")
    notes.append("This page is written by `python scripts/scoreboard.py`, after either.")
    return markdown(replace(overview(tables(), there), notes=notes))


def readme(root: Path = ROOT) -> str:
    """The README, with its table of now."""
    table = markdown(summary(tables(), pages(root)))
    return PLACE.sub(lambda found: found[1] + table + found[2], (root / "README.md").read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/tables/all"))
