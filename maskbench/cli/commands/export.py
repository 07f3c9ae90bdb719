"""`maskbench export RUN`: the trained net of a run, its masks applied, as a file that needs no maskbench."""

from pathlib import Path
from typing import TYPE_CHECKING

from maskbench.cli.commands.common import Arguments, arguments, run_dir
from maskbench.common.checksums import renew

if TYPE_CHECKING:
    import argparse

    from maskbench.runs.plain import Plain
    from maskbench.runs.read_back import Saved

FORMS = ("safetensors", "torch", "onnx", "torch-pruned", "24")
ABOUT = """The trained net of a finished run as a file, masks applied: what is pruned is 0. It is read back from what is to be
written and held to the run's own answers on test inputs first; how far it is from them is printed.

safetensors, torch   the plain state dict, by the backbone's names; masks beside it, a bit a weight
torch-pruned         as torch.nn.utils.prune has it: weight_orig and weight_mask
onnx                 for onnxruntime and others, any number of rows
24                   2:4 sparse weights compressed: values and places (masks/semi_structured.py)"""


def main(argv: list[str]) -> int:
    parser = arguments("export", ABOUT)
    parser.add_argument("run", metavar="RUN", help="the directory of a finished run")
    parser.add_argument("--format", choices=FORMS, default=FORMS[0], help=f"({FORMS[0]})")
    which(parser)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where the files go (RUN/export, of each stage apart)")
    if (given := parser.read(argv)) is None:
        return 0
    from maskbench.runs import exports

    exports.FORMS[given.format].need()
    run, _, made = taken(given)
    folder = place(run, given, "export")
    lines = exports.write(made, given.format, folder)
    recorded(run, folder)
    print(*lines, sep="\n")
    return 0


def which(parser: Arguments) -> None:
    """The arguments that choose a run's net."""
    parser.add_argument("--stage", help="index or name of the stage whose net is meant, where a run has several")
    parser.add_argument("--member", type=int, help="number of the member that is meant, where several answer")
    parser.add_argument("--mode", default="", help="one of the method's ways to answer, where it has several (as standard)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a state that maskbench forget wrote (the run's own)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the data sets (those of the record)")
    parser.add_argument("--trust", action="store_true", help="also make what the record names outside maskbench")


def taken(given: "argparse.Namespace") -> "tuple[Path, Saved, Plain]":
    """(its directory, the run, the net that was chosen)."""
    from maskbench.runs import read_back

    run = run_dir(given.run)
    saved = read_back.load(run, data=given.data, trust=given.trust, weights=given.weights)
    return run, saved, saved.plain(given.stage, member=given.member, mode=given.mode)


def place(run: Path, given: "argparse.Namespace", name: str) -> Path:
    """Where files go: where the user says, or into the run, those of each stage and member apart."""
    chosen = {"stage": given.stage, "member": given.member, "mode": given.mode or None}
    parts = [f"{key}-{str(value).replace('/', '-')}" for key, value in chosen.items() if value is not None]
    return given.output or Path(run, name, *parts)


def recorded(run: Path, folder: Path) -> None:
    """Take up what was written into the run's own directory among its files."""
    if folder.resolve().is_relative_to(run.resolve()):
        renew(run.resolve(), [path for path in folder.resolve().iterdir() if path.is_file() and not path.name.startswith(".")])
