"""docs/deviations.md is what scripts/deviations.py makes of the presets as they are."""

import runpy
from pathlib import Path

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "deviations.py"))


def test_the_page_of_deviations_is_up_to_date() -> None:
    assert SCRIPT["PAGE"].read_text(encoding="utf-8") == SCRIPT["page"](), "python scripts/deviations.py writes it anew"
