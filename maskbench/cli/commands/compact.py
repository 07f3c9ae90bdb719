"""`maskbench compact RUN`: the trained net of a run as a smaller dense one of the same outputs, with plain source."""

from pathlib import Path
from typing import TYPE_CHECKING

from maskbench.cli.commands.common import aligned, arguments
from maskbench.cli.commands.export import place, recorded, taken, which

if TYPE_CHECKING:
    from maskbench.backbones.compact.smaller import Compacted

ABOUT = """The trained net of a finished run without the units that do nothing: those that no input reaches, whose constant goes
into the next bias, and those that nobody reads. What is written answers as the run does, held to it on test inputs first:
net.py, a module that needs nothing but torch, and net.safetensors, its state dict.

Channels of a residual sum stay, and whatever else mixes units in another way than a layer."""


def main(argv: list[str]) -> int:
    parser = arguments("compact", ABOUT)
    parser.add_argument("run", metavar="RUN", help="the directory of a finished run")
    which(parser)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where the files go (RUN/compact, of each stage apart)")
    if (given := parser.read(argv)) is None:
        return 0
    from maskbench.backbones.compact.smaller import compact
    from maskbench.runs import exports

    run, saved, made = taken(given)
    small = compact(made.net, made.x)
    config, folder = saved.config, place(run, given, "compact")
    about = f"method={config.method.name} on data={config.data.name}, seed {config.seed}: made smaller by maskbench compact."
    lines = exports.write_compact(made, small, about, folder)
    recorded(run, folder)
    print(table(small), *lines, sep="\n")
    return 0


def table(small: "Compacted") -> str:
    """Each layer before and after, and all of them."""
    rows = []
    for layer in small.layers:
        sizes = (arrow(*pair) for pair in zip(layer.before, layer.after, strict=True))
        rows.append([layer.name, *sizes, f"its units stay: {layer.mixed}" if layer.mixed else ""])
    head = aligned(rows, ["layer", "units", "inputs", ""]) if rows else ""
    totals = f"weights {arrow(*small.weights)}, biases {arrow(*small.biases)}"
    if small.weights[0] == small.weights[1]:
        totals += f"; there is nothing to leave out{beside(small.whole)}"
    return f"{head}\n{totals}".strip()


def arrow(before: int, after: int) -> str:
    return f"{before:,}" if before == after else f"{before:,} -> {after:,}"


def beside(whole: list[str]) -> str:
    return f" ({', '.join(whole[:4])} mix units in another way than a layer)" if whole else ""
