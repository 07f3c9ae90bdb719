"""docs/scoreboard.md and the README's first table, made anew from what `maskbench table all` wrote for each budget.

    python scripts/scoreboard.py [outputs/tables/all]

Of that folder the pages that are there (quick.md, hours.md) become docs/scoreboard_quick.md and docs/scoreboard_hours.md; a
budget without one keeps the page it has in docs, so that budgets may be run on different days and machines.
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
PLACE = re.compile(r"(<!-- scoreboard -->\n).*(<!-- /scoreboard -->)", re.DOTALL)  # in the README


def main(made: Path, root: Path = ROOT) -> None:
    """Bring the pages of `made` to the docs below `root`, and what shows them side by side up to date."""
    for budget, place in places(root).items():
        if (new := made / f"{budget}.md").exists():
            place.write_text(new.read_text())
    texts = {"docs/scoreboard.md": page(root), "README.md": readme(root)}
    for name, text in texts.items():
        (root / name).write_text(text)


def places(root: Path) -> dict[str, Path]:
    """Of each budget the page that has its rows."""
    return {budget: root / "docs" / f"scoreboard_{budget}.md" for budget in BESIDE}


def pages(root: Path) -> dict[str, str]:
    return {budget: place.read_text() for budget, place in places(root).items() if place.exists()}


def tables() -> list[spec.Table]:
    folders = [identity.conf_dir()]
    return [spec.load(name, folders) for name in spec.names(folders)]


def page(root: Path = ROOT) -> str:
    """docs/scoreboard.md."""
    there, notes = pages(root), []
    for budget, name in BESIDE.items():
        file = places(root)[budget].name
        where = f"every row, its rule and the runs behind it: [{file}]({file})"
        command = f"`python -m maskbench table all budget={budget}`"
        notes.append(f"{name[0].upper()}{name[1:]}: {command}; {where if budget in there else NOT_RUN}.")
    notes.append("This page is written by `python scripts/scoreboard.py`, after either.")
    return markdown(replace(overview(tables(), there), notes=notes))


def readme(root: Path = ROOT) -> str:
    """The README, with its table of now."""
    table = markdown(summary(tables(), pages(root)))
    return PLACE.sub(lambda found: found[1] + table + found[2], (root / "README.md").read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/tables/all"))
