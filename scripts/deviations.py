"""Write docs/deviations.md: in what each preset that cites a paper, and each table's budget of hours, differs from it, as they
themselves say (`differs`)."""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "deviations.md"
HEAD = """# Where our experiments differ from their papers

Made by `python scripts/deviations.py` from `differs` of the presets in [conf/experiment](../conf/experiment) and of the
budget of hours in [conf/table](../conf/table), which stands at the end.
"""


def page(folder: Path = ROOT / "conf" / "experiment", tables: Path = ROOT / "conf" / "table") -> str:
    """The page: a section a paper's folder, an entry a preset that cites a paper; and a section of the tables."""
    parts = [HEAD]
    for room in sorted(path for path in folder.iterdir() if path.is_dir()):
        entries = [entry for file in sorted(room.glob("*.yaml")) if (entry := deviations(file))]
        parts += [f"## {room.name}\n", *entries] if entries else []
    entries = [entry for file in sorted(tables.glob("*.yaml")) if (entry := of_hours(file))]
    return "\n".join([*parts, *(["## Tables, budget of hours\n", *entries] if entries else [])])


def of_hours(file: Path) -> str:
    """A table's budget of hours; empty where it has none."""
    table = yaml.safe_load(file.read_text(encoding="utf-8"))
    if "hours" not in table:
        return ""
    lines = [f"- {text}" for text in table["hours"]["differs"]]
    return "\n".join([f"### {file.stem} budget=hours\n", f"{table['paper']}.\n", *lines, ""])


def deviations(file: Path) -> str:
    """One preset: its name, paper and place, and a line for each deviation; empty where it cites no paper. Of a paper that is on
    no arXiv the place says which it is."""
    note = yaml.safe_load(file.read_text(encoding="utf-8")).get("experiment") or {}
    if not (note.get("paper") or note.get("differs")):
        return ""
    cited = f"arXiv {note['paper']}, {note['place']}" if note.get("paper") else note["place"]
    lines = [f"- {text}" for text in note.get("differs") or ["nothing is known to differ"]]
    return "\n".join([f"### {file.parent.name}/{file.stem}\n", f"{cited}.\n", *lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
