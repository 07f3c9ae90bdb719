"""`maskbench data`: which data sets are here; `maskbench data NAME ...`: what they hold; `... data fetch NAME ...`: get them."""

from collections.abc import Iterator
from pathlib import Path

from maskbench.cli.commands.common import aligned, arguments, size
from maskbench.common import identity
from maskbench.common.errors import UsageError, did_you_mean


def main(argv: list[str]) -> int:
    parser = arguments("data", "The data sets in the data folder, each file checked against its MD5.")
    parser.add_argument(
        "words", nargs="*", metavar="[fetch] NAME", help="read the named data sets and say what they hold; fetch: get them"
    )
    parser.add_argument("--root", type=Path, default=Path(identity.data_dir()), help="data folder (MASKBENCH_DATA)")
    if (given := parser.read(argv)) is None:
        return 0
    if given.words and given.words[0] != "fetch":
        for line in details(given.words, given.root):
            print(line, flush=True)
        return 0
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
    from maskbench.data.sources import small_sets, texts
    from maskbench.data.sources.find_tables import fetch as table
    from maskbench.data.sources.folders import OWN
    from maskbench.data.sources.folders import fetch as own
    from maskbench.data.sources.known_tables import TABLES
    from maskbench.data.sources.sets import SETS, SYNTHETIC

    fetch = dict.fromkeys([*SETS, *SYNTHETIC], sources.fetch) | dict.fromkeys(TABLES, table)
    fetch |= dict.fromkeys(texts.TEXTS, texts.fetch)
    fetch |= dict.fromkeys(small_sets.SMALL, small_sets.fetch) | dict.fromkeys(OWN, own) | {letters.NAME: letters.fetch}
    if not names:
        raise UsageError("maskbench data fetch needs a name, such as mnist or boston.")
    if strange := [name for name in names if name not in fetch]:
        hint = did_you_mean(strange[0], fetch)
        raise UsageError(f"There is no data set '{strange[0]}': take one of {', '.join(fetch)}.{hint}")
    for name in names:
        print(f"{name}: {fetch[name](name, root)}", flush=True)


def rows(root: Path) -> list[list]:
    """Name, whether it is complete, its source, its size and damaged files, of each data set."""
    return [
        [
            row["name"],
            "yes" if row["present"] else "no",
            row.get("source"),
            size(row["bytes"]) if row.get("bytes") else None,
            ", ".join(row.get("damaged") or []),
        ]
        for row in known(root)
    ]


def known(root: Path) -> list[dict]:
    """What every data set says of itself without reading its images."""
    from maskbench.data.episodes import cifar_fs, omniglot
    from maskbench.data.images import letters
    from maskbench.data.sources import find as sources
    from maskbench.data.sources import find_tables as tables
    from maskbench.data.sources import folders, small_sets, texts

    found = [row for kind in (sources, small_sets, texts, letters, tables, folders, omniglot) for row in kind.status(root)]
    return found + cifar_fs.status(root, next(row for row in found if row["name"] == "cifar100"))


def details(names: list[str], root: Path) -> Iterator[str]:
    """What each of these sets holds, read and checked: a line for its name, and one for each fact, indented.

    Raises:
        UsageError: there is no such set, it is not here, or it does not hold what it should.
    """
    from maskbench.data.sources import find as sources
    from maskbench.data.sources import find_tables as tables
    from maskbench.data.sources.known_tables import TABLES
    from maskbench.data.sources.sets import SETS

    here = {row["name"]: row for row in known(root)}
    if strange := [name for name in names if name not in here]:
        made = [path.stem for path in (identity.conf_dir() / "data").glob("*.yaml")]
        if strange[0] in made:
            raise UsageError(
                f"data={strange[0]} is made of other sets and has no files of its own: maskbench list data {strange[0]}."
            )
        hint = did_you_mean(strange[0], ["fetch", *here])
        raise UsageError(
            f"maskbench data knows no '{strange[0]}': 'fetch NAME' gets a data set, NAME says what one holds, nothing lists them."
            f"{hint}"
        )
    for name in names:
        if name in SETS:
            raw, origin = sources.find(name, root, "folder")
            parts = {"train": raw.train_y, "test": raw.test_y}
            facts = {part: f"{len(y):,} images of {len(set(y.tolist()))} classes" for part, y in parts.items()}
        elif name in TABLES:
            data = tables.find(name, root, "folder")
            origin, facts = data.origin, {"rows": f"{len(data.x):,}, {len(data.divisions)} divisions"}
        else:
            yield from told(name, here[name]["source"] or "not here", here[name]["folder"], here[name].get("facts", {}))
            continue
        yield from told(name, origin.source, here[name]["folder"], facts | origin.facts | origin.checksums)


def told(name: str, source: str, folder: str, facts: dict[str, object]) -> Iterator[str]:
    """The lines of one set."""
    yield f"{name}: {source}"
    yield from (f"  {what}: {value}" for what, value in ({"folder": folder} | facts).items())
