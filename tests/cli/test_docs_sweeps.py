"""The examples of docs/sweeps.md pass preflight, and W&B's example names what there is."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from maskbench.cli import command_line, preflight

DOCS = Path(__file__).resolve().parents[2] / "docs"
LINES = re.findall(r"^    python -m maskbench ((?:-m |sweep=).*?)(?: +#.*)?$", (DOCS / "sweeps.md").read_text(), re.MULTILINE)


@pytest.mark.sample(4)
@pytest.mark.parametrize("line", [line for line in LINES if "optuna" not in line])
def test_an_example_is_a_sweep_that_could_start(line: str) -> None:
    command = preflight.check(shlex.split(line), starts=False)
    assert command.multirun and len(list(command_line.jobs(command))) > 1


def test_the_page_has_examples() -> None:
    assert len(LINES) >= 4


def test_every_value_of_the_wandb_example_is_one_a_run_takes() -> None:
    told = yaml.safe_load((DOCS / "wandb_sweep.yaml").read_text())
    assert told["command"][1:] == ["maskbench", "${args_no_hyphens}"]
    words = []
    for key, about in told["parameters"].items():
        values = about.get("values") or [about.get("value", about.get("min"))]
        words.append(f"{key}={','.join(map(str, values))}")
    preflight.check(["-m", *words], starts=False)
