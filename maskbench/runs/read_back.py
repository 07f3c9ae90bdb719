"""A finished run taken up in Python: the trained method and the data it was trained on, as they were when the run ended."""

from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from maskbench.data.stage import Stage
from maskbench.runs import loaded
from maskbench.runs.assemble import Run
from maskbench.runs.loaded import Saved
from maskbench.training.method import Method

__all__ = ["Saved", "load", "untrained"]


def load(run: str | Path, *, data: str | Path | None = None, trust: bool = False, weights: str | Path | None = None) -> Saved:
    """The method and the stages of a run directory. In a new process its predictions are those of the run, bit for bit
    (on one machine, with the run's number of threads, which is set).

    data: the folder of data sets, where it is no longer the one in the record (`paths.data`).
    trust: also make and call what the record names outside maskbench, which may be anything.
    weights: another state than the one the run ended with: a file that maskbench forget wrote.

    Raises:
        UsageError: there is no finished run, its record is damaged or asks for what is no part of maskbench, its files do not
            fit this code, or the data cannot be had.
    """
    folder = Path(run).expanduser()
    return loaded.load(folder, partial(made, folder, filled=True), data=data, trust=trust, weights=weights)


def untrained(folder: Path, *, trust: bool = False, way: str) -> Saved:
    """The method and the stages of a run directory as the run began; `way` is how to insist on a record that asks for code
    outside maskbench.

    Raises:
        UsageError: as of `load`.
    """
    found = loaded.told(folder, trust, way)
    with loaded.fitting(folder):
        return loaded.unfilled(found, partial(made, folder, filled=False), None)


def made(folder: Path, cfg: DictConfig, filled: bool) -> tuple[Method, list[Stage]]:
    """The method and the stages of a config; `filled`: its first values are left alone, since all come from elsewhere."""
    parts = Run(cfg, folder)
    stages = parts.stages()
    return parts.method(stages, filled), stages
