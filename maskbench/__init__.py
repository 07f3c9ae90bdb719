"""maskbench: one experiment runner for research on masks in neural networks."""

from typing import TYPE_CHECKING

from maskbench.common import moved

if TYPE_CHECKING:
    from maskbench.runs.read_back import Saved

__version__ = "0.1.0"

moved.keep_old_names()


def load(run: str, *, data: str | None = None, trust: bool = False, weights: str | None = None) -> "Saved":
    """The trained method and the data of a finished run's directory (maskbench/runs/read_back.py)."""
    from maskbench.runs.read_back import load  # brings torch, which the command line does without

    return load(run, data=data, trust=trust, weights=weights)
