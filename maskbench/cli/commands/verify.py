"""`maskbench verify [RUN or FOLDER ...]`: whether every file of runs is what they wrote, by the SHA-256 they left."""

from collections.abc import Iterator
from pathlib import Path

from maskbench.cli.commands.common import arguments
from maskbench.common import checksums
from maskbench.common.errors import UsageError
from maskbench.common.files import Unusable, read_json

ABOUT = """Compare every file of runs with the SHA-256 that was recorded when they finished (files.json), and what an interrupted
run would resume from with its own. Each fault is a line that names the file. Exit status 1 where there is a fault.

Passed over: logs, .hydra and the lock, which later commands write again."""


def main(argv: list[str]) -> int:
    parser = arguments("verify", ABOUT)
    parser.add_argument("places", nargs="*", type=Path, default=[Path("outputs")], metavar="RUN or FOLDER", help="(outputs)")
    if (given := parser.read(argv)) is None:
        return 0
    runs = list(dict.fromkeys(run for place in given.places or [Path("outputs")] for run in below(place.expanduser())))
    whole, unrecorded, faulty = 0, 0, 0
    for run in runs:
        faults, recorded = judged(run)
        for fault in faults:
            print(fault)
        faulty += bool(faults)
        unrecorded += not (faults or recorded)
        whole += recorded and not faults
    also = f", {unrecorded} not recorded (older, or not finished)" if unrecorded else ""
    print(f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {whole} as written, {faulty} with faults{also}")
    return 1 if faulty else 0


def below(place: Path) -> list[Path]:
    """The run directories at or below a folder.

    Raises:
        UsageError: there are none.
    """
    marks = ("run.json", "result.json", checksums.NAME)
    if any((place / name).exists() for name in marks):
        return [place]
    found = sorted({path.parent for name in marks for path in place.rglob(name)}) if place.is_dir() else []
    if not found:
        raise UsageError(f"there is no run at or below {place}; maskbench results --output FOLDER lists what there is.")
    return found


def judged(run: Path) -> tuple[list[str], bool]:
    """(what is wrong with the run's files, one sentence each; whether there was anything recorded to hold them against)."""
    faults, listed = [], {}
    try:
        listed = checksums.recorded(run) if (run / "result.json").exists() or (run / checksums.NAME).exists() else {}
        if not (run / "result.json").exists() and (run / "state").is_dir():
            listed = {}  # of an attempt that goes on: the list is written anew when it ends
    except Unusable as error:
        faults.append(str(error))
    faults += [text for name, one in listed.items() if (text := checksums.fault(run, name, one))]
    sealed = [*sealed_faults(run)]
    if not listed and not faults:
        faults += records(run)
    return faults + [text for text in sealed if text], bool(listed or sealed)


def records(run: Path) -> Iterator[str]:
    """Where nothing was recorded: records that are no JSON."""
    for name in ("run.json", "result.json", "state.json"):
        try:
            read_json(run / name)
        except Unusable as error:
            yield str(error)


def sealed_faults(run: Path) -> Iterator[str]:
    """For each file that the run would resume from, what is wrong with it, or nothing."""
    for path in sorted((run / "state").glob("*.pt")):
        try:
            checksums.unseal(path)
            yield ""
        except Unusable as error:
            yield str(error)
