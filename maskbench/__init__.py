"""maskbench: one experiment runner for research on masks in neural networks."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskbench.saved import Saved

__version__ = "0.1.0"


def load(run: str, *, data: str | None = None) -> "Saved":
    """The trained method and the data of a finished run's directory (maskbench/saved.py)."""
    from maskbench.saved import load  # brings torch, which the command line does without

    return load(run, data=data)
