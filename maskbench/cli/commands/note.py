"""`maskbench note RUN "text"`: a remark, or tags, for a run that is there already; its own files stay as they are."""

from maskbench.cli.commands.common import arguments, run_dir
from maskbench.common.checksums import check
from maskbench.common.errors import UsageError
from maskbench.common.foreign import printable
from maskbench.report import remarks
from maskbench.report.remarks import Note
from maskbench.report.runs import state
from maskbench.runs.record import Record, now

ABOUT = """Add a remark to a run, as a file of its own (RUN/notes/) that maskbench verify holds to its SHA-256 like all others of
a finished run. maskbench show RUN prints it, maskbench results shows it beside the run, and tags=NAME finds it.

    maskbench note outputs/supsup-splitmnist/s0-781c9d15df "the seed of the talk" --tags talk,final"""


def main(argv: list[str]) -> int:
    parser = arguments("note", ABOUT)
    parser.add_argument("run", metavar="RUN", help="the directory of a run")
    parser.add_argument("text", nargs="?", default="", help="the remark")
    parser.add_argument("--tags", default="", metavar="TAG,...", help="words to find it by")
    if (given := parser.read(argv)) is None:
        return 0
    tags = tuple(dict.fromkeys(tag.strip() for tag in given.tags.split(",") if tag.strip()))
    if not (given.text.strip() or tags):
        raise UsageError('maskbench note: there is nothing to add; write maskbench note RUN "text", or --tags NAME.')
    run = run_dir(given.run)
    if state(run) == "running":
        raise UsageError(f"{given.run} is at work; add the note when it is over.")
    check(run, "run.json", "result.json")
    record = Record(run)
    record.acquire(wait=False)
    try:
        path = remarks.add(run, Note(now(), given.text.strip(), tags))
    finally:
        record.release()
    print(printable(path))
    return 0
