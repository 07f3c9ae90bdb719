"""Every preset composes, passes preflight, and opens with a lab note: what, paper or setting, command, what to expect."""

from pathlib import Path

import pytest

from maskbench.cli import preflight
from maskbench.common import identity

FOLDER = Path(__file__).parents[2] / "conf" / "experiment"
PRESETS = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.glob("*/*.yaml"))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_ready_to_run(preset: str, compose) -> None:
    cfg = compose(f"experiment={preset}")
    preflight.check_config(cfg)
    assert (cfg.budget.steps is None) != (cfg.budget.epochs is None)
    assert identity.key(cfg)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_opens_with_its_lab_note(preset: str) -> None:
    head = [line for line in (FOLDER / f"{preset}.yaml").read_text().splitlines() if line.startswith("#")]
    note = "\n".join(head)
    assert head[0] == "# @package _global_"
    assert f"experiment={preset}" in note, "the command"
    assert "Expect" in note or "Not run here" in note, "the number to expect, or that it is not known here"
    assert any(unit in note for unit in ("Seconds", "Minutes", "Hours", "Days")), "the time it takes"
