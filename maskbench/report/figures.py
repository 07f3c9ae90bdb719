"""Figures of finished runs: of one run, of several that differ in the seed only, or of several experiments on the same
data. Imports no torch.

What is drawn depends on what the records hold, not on names: curves of a pruning run, the accuracy matrix of a
continual one. A family is a module `figures_*` beside this one that says so: its FAMILY names which of the two it has,
`draw(runs, title) -> {name: figure}` of one experiment, `compare(groups, title) -> {name: figure}` of several. It gives
none where the records do not hold what it draws.
"""

import pkgutil
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import maskbench.report
from maskbench.common.identity import leaves
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
    """The modules whose FAMILY has `draw` or `compare`, in the order of their names."""
    names = sorted(modules.name for modules in pkgutil.iter_modules(maskbench.report.__path__))
    modules = [import_module(f"maskbench.report.{name}") for name in names if name.startswith("figures_")]
    return [family for family in modules if verb in getattr(family, "FAMILY", ())]


def save(runs: Sequence[Finished], folder: Path) -> list[Path]:
    """Draw into `folder`: NAME.png and NAME.svg for each figure, or in the look's formats, in order."""
    about = f"{headline(runs)}; {', '.join(run.name for run in runs)}"
    return style.save(draw(runs), folder, about.replace("\n", "; "), keys([runs]))


def save_comparison(groups: Sequence[Sequence[Finished]], folder: Path) -> list[Path]:
    """Draw experiments side by side into `folder`, as `save` does."""
    about = f"{headline_of(groups)}; {', '.join(run.name for group in groups for run in group)}"
    return style.save(compare(groups), folder, about.replace("\n", "; "), keys(groups))


def of_run(folder: Path, result: dict[str, Any]) -> dict[str, Path]:
    """Draw one run into its own directory; name -> PNG of each figure."""
    return {path.stem: path for path in save([read(folder, result)], folder) if path.suffix == ".png"}


def keys(groups: Sequence[Sequence[Finished]]) -> list[str]:
    """What finds the runs again: the key of each experiment."""
    return list(dict.fromkeys(f"key {run.result['key']}" for group in groups for run in group))


def names(runs: Sequence[Finished]) -> Iterator[str]:
    """What figures of these runs may name: config keys, methods, data sets and branches."""
    for run in runs:
        yield from dict(leaves(run.config))
        yield from (str(run.result[part]) for part in ("method", "data"))
        yield from (str(row[part]) for row in run.curves for part in ("branch", "data", "construction") if part in row)


def headline(runs: Sequence[Finished]) -> str:
    """Two lines: method and data; seeds, and where the data came from."""
    first, seeds = runs[0].result, sorted(run.result["seed"] for run in runs)
    seeds_text = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"
    if 1 < len(seeds) <= 5:
        seeds_text += f" ({', '.join(map(str, seeds))})"
    return f"{style.label(first['method'])} on {style.label(first['data'])}\n{seeds_text}, data source {first['source']}"


def headline_of(groups: Sequence[Sequence[Finished]]) -> str:
    """Two lines: how many experiments on which data; how many seeds each has, and where the data came from."""
    first, counts = groups[0][0].result, sorted({len(group) for group in groups})
    seeds_text = " to ".join(dict.fromkeys(str(count) for count in (counts[0], counts[-1])))
    seeds_text += " seed each" if counts == [1] else " seeds each"
    return f"{len(groups)} experiments on {style.label(first['data'])}\n{seeds_text}, data source {first['source']}"
