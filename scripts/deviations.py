"""Write docs/deviations.md: in what each preset that cites a paper differs from it, as the preset itself says (`differs`)."""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "deviations.md"
HEAD = """# Where our experiments differ from their papers

Made by `python scripts/deviations.py` from `differs` of the presets in [conf/experiment](../conf/experiment).
"""


def page(folder: Path = ROOT / "conf" / "experiment") -> str:
    """The page: a section a paper's folder, an entry a preset that cites a paper."""
    parts = [HEAD]
    for room in sorted(path for path in folder.iterdir() if path.is_dir()):
        entries = [entry for file in sorted(room.glob("*.yaml")) if (entry := deviations(file))]
        parts += [f"## {room.name}\n", *entries] if entries else []
    return "\n".join(parts)


def deviations(file: Path) -> str:
    """One preset: its name, paper and place, and a line for each deviation; empty where it cites no paper."""
    note = yaml.safe_load(file.read_text(encoding="utf-8")).get("experiment") or {}
    if not note.get("paper"):
        return ""
    lines = [f"- {text}" for text in note.get("differs") or ["nothing is known to differ"]]
    return "\n".join([f"### {file.parent.name}/{file.stem}\n", f"arXiv {note['paper']}, {note['place']}.\n", *lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
