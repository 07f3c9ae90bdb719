"""Figures of finished runs: of one run, of several that differ in the seed only, or of several experiments on the same
data. Imports no torch.

What is drawn depends on what the records hold, not on names: curves of a pruning run, the accuracy matrix of a
continual one. Each module `figures_*` beside this one is a family: `draw(runs, title) -> {name: figure}` of one
experiment, `compare(groups, title) -> {name: figure}` of several, or both. It gives none where the records do not hold
what it draws.
"""

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import maskbench.report
from maskbench.report import style
from maskbench.report.finished import Finished, read

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(runs: Sequence[Finished]) -> dict[str, "Figure"]:
    """All figures by name, averaged over `runs`, which must answer one question with different seeds."""
    title, figures = headline(runs), {}
    with style.styled():
        for family in families("draw"):
            figures |= family.draw(runs, title)
    return figures


def compare(groups: Sequence[Sequence[Finished]]) -> dict[str, "Figure"]:
    """Figures that set experiments on the same data side by side, by name; each group is one experiment's runs."""
    title, figures = headline_of(groups), {}
    with style.styled():
        for family in families("compare"):
            figures |= family.compare(groups, title)
    return figures


def families(verb: str) -> list[ModuleType]:
    """The modules that `draw` or `compare`, in the order of their names."""
    names = sorted(modules.name for modules in pkgutil.iter_modules(maskbench.report.__path__))
    modules = [import_module(f"maskbench.report.{name}") for name in names if name.startswith("figures_")]
    return [family for family in modules if hasattr(family, verb)]


def save(runs: Sequence[Finished], folder: Path) -> list[Path]:
    """Draw into `folder`: NAME.png and NAME.svg for each figure, in order."""
    return style.save(draw(runs), folder, f"{headline(runs)}; {', '.join(run.name for run in runs)}".replace("\n", "; "))


def save_comparison(groups: Sequence[Sequence[Finished]], folder: Path) -> list[Path]:
    """Draw experiments side by side into `folder`: NAME.png and NAME.svg for each figure, in order."""
    about = f"{headline_of(groups)}; {', '.join(run.name for group in groups for run in group)}"
    return style.save(compare(groups), folder, about.replace("\n", "; "))


def of_run(folder: Path, result: dict[str, Any]) -> dict[str, Path]:
    """Draw one run into its own directory; name -> PNG of each figure."""
    return {path.stem: path for path in save([read(folder, result)], folder) if path.suffix == ".png"}


def headline(runs: Sequence[Finished]) -> str:
    """Two lines: method and data; seeds, where the data came from, and the key that finds the runs."""
    first, seeds = runs[0].result, sorted(run.result["seed"] for run in runs)
    seeds_text = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"
    if 1 < len(seeds) <= 5:
        seeds_text += f" ({', '.join(map(str, seeds))})"
    return f"{first['method']} on {first['data']}\n{seeds_text}, data source {first['source']}, key {first['key']}"


def headline_of(groups: Sequence[Sequence[Finished]]) -> str:
    """Two lines: how many experiments on which data; how many seeds each has, and where the data came from."""
    first, counts = groups[0][0].result, sorted({len(group) for group in groups})
    seeds_text = " to ".join(dict.fromkeys(str(count) for count in (counts[0], counts[-1])))
    seeds_text += " seed each" if counts == [1] else " seeds each"
    return f"{len(groups)} experiments on {first['data']}\n{seeds_text}, data source {first['source']}"
