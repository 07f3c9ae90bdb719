"""`maskbench data`: which data sets are here; `maskbench data fetch NAME ...`: get them."""

from pathlib import Path

from maskbench.cli.commands.common import aligned, arguments, size
from maskbench.common import identity
from maskbench.common.errors import UsageError, did_you_mean


def main(argv: list[str]) -> int:
    parser = arguments("data", "The data sets in the data folder, each file checked against its MD5.")
    parser.add_argument("words", nargs="*", metavar="fetch NAME", help="fetch the named data sets")
    parser.add_argument("--root", type=Path, default=Path(identity.data_dir()), help="data folder (MASKBENCH_DATA)")
    if (given := parser.read(argv)) is None:
        return 0
    if given.words and given.words[0] != "fetch":
        raise UsageError(f"maskbench data knows 'fetch NAME', or nothing for a list; not '{given.words[0]}'.")
    if given.words:
        get(given.words[1:], given.root)
    print(f"data folder: {given.root}")
    print(aligned(rows(given.root), ["data", "here", "from", "size", "damaged"], indent="  "))
    return 0


def get(names: list[str], root: Path) -> None:
    """Fetch each; the first that cannot be had ends it.

    Raises:
        UsageError: no name, an unknown one, or no way to get the files.
    """
    from maskbench.data.images import letters
    from maskbench.data.sources import find as sources
    from maskbench.data.sources.find_tables import fetch as table
    from maskbench.data.sources.folders import OWN
    from maskbench.data.sources.folders import fetch as own
    from maskbench.data.sources.known_tables import TABLES
    from maskbench.data.sources.sets import SETS, SYNTHETIC

    fetch = dict.fromkeys([*SETS, *SYNTHETIC], sources.fetch) | dict.fromkeys(TABLES, table)
    fetch |= dict.fromkeys(OWN, own) | {letters.NAME: letters.fetch}
    if not names:
        raise UsageError("maskbench data fetch needs a name, such as mnist or boston.")
    if strange := [name for name in names if name not in fetch]:
        hint = did_you_mean(strange[0], fetch)
        raise UsageError(f"There is no data set '{strange[0]}': take one of {', '.join(fetch)}.{hint}")
    for name in names:
        print(f"{name}: {fetch[name](name, root)}", flush=True)


def rows(root: Path) -> list[list]:
    """Name, whether it is complete, its source, its size and damaged files, of each data set."""
    from maskbench.data.images import letters
    from maskbench.data.sources import find as sources
    from maskbench.data.sources import find_tables as tables
    from maskbench.data.sources import folders

    known = [part for kind in (sources, letters, tables, folders) for part in kind.status(root)]
    return [
        [
            row["name"],
            "yes" if row["present"] else "no",
            row.get("source"),
            size(row["bytes"]) if row.get("bytes") else None,
            ", ".join(row.get("damaged") or []),
        ]
        for row in known
    ]
