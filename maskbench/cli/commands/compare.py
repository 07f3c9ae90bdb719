"""`maskbench compare A B`: two methods or settings, paired over their seeds: difference, interval, effect, wins."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from maskbench.cli.commands.common import aligned, arguments, forms, sorted_words, text, typeset
from maskbench.common import identity
from maskbench.common.errors import UsageError
from maskbench.common.foreign import printable
from maskbench.report import runs as records
from maskbench.report.filters import Filter, parse_filter, passing
from maskbench.report.runs import Run

ABOUT = """A minus B over the seeds both have: mean difference, Student's t interval, effect d_z, wins, sign test.

A and B: a filter such as method=supsup, several in one word ("method=supsup optimizer.lr=0.1"), a run directory, or a
folder of runs. Further words: filters for both, metrics=NAME,... (default: the objective), mixed=allow to pair runs
whose data sources or commits differ. A wins where it is better: with less of an error, a loss or a cost, with more of the
rest."""


def main(argv: list[str]) -> int:
    parser = arguments("compare", ABOUT)
    parser.add_argument("a", metavar="A", help="filters or a folder")
    parser.add_argument("b", metavar="B", help="filters or a folder")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="filters for both, metrics=, mixed=")
    parser.add_argument("--output", type=Path, default=Path("outputs"), help="folder of the runs (paths.output)")
    forms(parser)
    if (given := parser.read(argv)) is None:
        return 0
    from maskbench.report.compare import HEAD, comparison, row, seeds_table
    from maskbench.report.writers import Sheet, comma_separated

    options, filters = sorted_words(given.words, ("metrics", "mixed"))
    sides = [side(word, given.output, filters) for word in (given.a, given.b)]
    found = comparison(*sides, names=(given.a, given.b), metrics=options.get("metrics", []), mixed="mixed" in options)
    if given.csv:
        sys.stdout.write(comma_separated(HEAD, [row(one) for one in found.metrics]))
        return 0
    shown = [[text(value) for value in row(one)] for one in found.metrics]
    sheet = Sheet(f"A = {given.a}, B = {given.b}", HEAD, shown, "l" + "r" * (len(HEAD) - 1), found.notes)
    if typeset(sheet, given):
        return 0
    print(printable(sheet.title))
    rows, wide = [row(one) for one in found.metrics], HEAD.index("A iqm")
    print(aligned([one[:wide] for one in rows], HEAD[:wide]))
    print()
    print(aligned([[one[0], *one[wide:]] for one in rows], ["interquartile means", *HEAD[wide:]]))
    print()
    print(aligned(*seeds_table(found)))
    print(*map(printable, found.notes), sep="\n", end="\n" if found.notes else "")
    return 0


def side(word: str, output: Path, filters: Sequence[Filter]) -> list[Run]:
    """The finished runs that A or B names.

    Raises:
        UsageError: there is none.
    """
    path = Path(word).expanduser()
    if "=" not in word and not path.exists() and (identity.conf_dir() / "method" / f"{word}.yaml").is_file():
        raise UsageError(f"'{word}' is a method: write method={word}. A word without = is a folder of runs.")
    if "=" not in word or path.exists():
        from maskbench.cli.commands.figure import finished

        found = passing(records.undamaged(map(records.load, finished(word))), filters)
    else:
        own = [parse_filter(part) for part in shlex.split(word)]
        found = [run for run in records.read(output, [*own, *filters]) if run.status == "finished"]
    if not found:
        raise UsageError(f"no finished run is {word}; maskbench results lists what there is.")
    return found
