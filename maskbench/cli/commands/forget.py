"""`maskbench forget RUN stage=2`: a finished run's state without one of its stages, all others answering as before."""

from pathlib import Path

from maskbench.cli.commands.common import arguments, run_dir
from maskbench.cli.commands.export import recorded
from maskbench.common import identity
from maskbench.common.errors import UsageError

SHOWN = 8  # methods that a refusal names
ABOUT = """The state of a finished continual run without one stage: its mask, its head and the weights that it alone computes with
are gone, from a copy; the run's own files stay. Every other stage is asked about its whole test set before and after, and
must answer alike to the last bit, else nothing is written. forgotten.json holds the proof.

    maskbench forget RUN stage=2                                       by index (from 0) or name, as stage=4/5
    maskbench export RUN --weights RUN/forget/stage-2/weights.safetensors --stage 1

What later stages learnt when this one was there is left as it is: with supsup, piggyback, packnet
and exssnet nothing of it is in them."""


def main(argv: list[str]) -> int:
    parser = arguments("forget", ABOUT)
    parser.add_argument("run", metavar="RUN", help="the directory of a finished run")
    parser.add_argument("stage", metavar="stage=STAGE", help="the stage to forget: its index or name")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where the files go (RUN/forget/stage-INDEX)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the data sets (those of the record)")
    parser.add_argument("--trust", action="store_true", help="also make what the record names outside maskbench")
    if (given := parser.read(argv)) is None:
        return 0
    key, equals, named = given.stage.partition("=")
    if key != "stage" or not equals or not named:
        raise UsageError(f"maskbench forget: '{given.stage}' must be stage=STAGE, an index or a name, as stage=2.")
    from maskbench.runs import forgetting, read_back

    run = run_dir(given.run)
    saved = read_back.load(run, data=given.data, trust=given.trust)
    if not hasattr(saved.method, "forget"):
        raise UsageError(f"method={saved.config.method.name} cannot forget a stage; {able()} can.")
    stage = saved.stage(named, by="stage=")
    method, proof = forgetting.forget(saved, stage)
    folder = given.output or run / "forget" / f"stage-{stage.index}"
    lines = forgetting.write(method, proof, folder)
    recorded(run, folder)
    print(*lines, sep="\n")
    return 0


def able() -> str:
    """The methods that have the contract's member."""
    from maskbench.cli import parts
    from maskbench.tasks import fulfilment

    nodes = parts.methods([identity.conf_dir()])
    found = [name for name, node in nodes.items() if not fulfilment.lacking(str(node["_target_"]), ["forget"])]
    return f"method={', '.join(found[:SHOWN])}"
