"""Where regression tables come from: a folder in the published layout of the UCI benchmark, or a package that carries them.

The layout (of the repositories of 1502.05336 and 1506.02142): data.txt, index_features.txt, index_target.txt and, for
each division, index_train_<i>.txt and index_test_<i>.txt. Values are checked each time they are read. Imports no torch.
"""

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from maskbench.common.errors import UsageError, did_you_mean
from maskbench.data.sources.clients import Unavailable
from maskbench.data.sources.folder import install, locked, notes, usable, workplace
from maskbench.data.sources.known_tables import PUBLISHED, TABLES, Division, Table, checksum, divide, hashed

if TYPE_CHECKING:
    from maskbench.data.stage import Origin

log = logging.getLogger("maskbench")

CHOICES = ("auto", "folder", "package")  # of `data.source`


class TableData(NamedTuple):
    """A table: x [rows, features], y [rows, values], float64; the rows that train and test in each division; its origin."""

    x: np.ndarray
    y: np.ndarray
    divisions: list[Division]
    origin: "Origin"


# ---- public


def find(name: str, root: Path, source: str = "auto") -> TableData:
    """The table `name`: one that is known, or a folder in the published layout, in the data folder or anywhere.

    `source` is `auto` (the folder, then packages), `folder` or `package`; what a package gave is kept in the folder.

    Raises:
        UsageError: no such table or source, no way to get it, or a file that does not fit.
    """
    root = Path(root).expanduser()
    if source not in CHOICES:
        raise UsageError(f"data.source={source} is not a source: take {', '.join(CHOICES[:-1])} or {CHOICES[-1]}.")
    if name not in TABLES:
        return own(name, root)
    table = TABLES[name]
    with usable(table, root):
        place = obtain(table, root, source)
    return read(place, table.title, table, notes(place).get("data.txt", "folder"))


def fetch(name: str, root: Path) -> str:
    """Make sure a known table is in the folder, good; where it came from."""
    return find(name, root).origin.source


def status(root: Path) -> list[dict]:
    """What of the known tables lies in the data folder: rows like those of sources.status."""
    return [_row(table, Path(root).expanduser()) for table in TABLES.values()]


def _row(table: Table, root: Path) -> dict:
    place = folder(table, root)
    file = place / "data.txt"
    try:
        good = file.is_file() and bool(read(place, table.title, table, ""))
    except UsageError:
        good = False
    return {
        "name": table.name,
        "present": good,
        "source": notes(place).get("data.txt", "folder") if good else None,
        "bytes": file.stat().st_size if file.is_file() else 0,
        "folder": str(place),
        "damaged": ["data.txt"] if file.is_file() and not good else [],
    }


# ---- the folder


def folder(table: Table, root: Path) -> Path:
    """Where the table's data.txt lies, or has to lie: the published repositories put it one folder down."""
    place = root / table.place
    return place if (place / "data.txt").is_file() else place / "data"


def obtain(table: Table, root: Path, source: str) -> Path:
    """The folder that holds the table, fetched from a package first if need be."""
    place = folder(table, root)
    if (place / "data.txt").is_file():
        if source == "folder" or not table.values or intact(place, table):
            return place
        log.warning(f"{table.title}: {place / 'data.txt'} does not hold its published values, fetching it again.")
    if source == "folder" or not table.packages:
        raise UsageError(nowhere(table, place, []))
    reasons = []
    with locked(table, root):
        if intact(place, table):  # another run fetched it while this one waited
            return place
        for kind, client in table.packages:
            with workplace(table, root) as work:
                try:
                    cells = client(work)
                    if checksum(cells) != table.values:
                        raise Unavailable("it carries another table than the one known here")
                except (Unavailable, ImportError) as reason:
                    reasons.append(f"{kind}: {reason}")
                    continue
                install(written(cells), kind, place, work)
            log.info(f"{table.title}: taken from {kind} into {place}.")
            return place
    raise UsageError(nowhere(table, place, reasons))


def written(cells: np.ndarray) -> dict[str, bytes]:
    """The files of the published layout; reading them gives the same bits."""
    lines = io.BytesIO()
    np.savetxt(lines, cells, fmt="%.17g")
    features = "".join(f"{i}\n" for i in range(cells.shape[1] - 1))
    return {"index_features.txt": features.encode(), "index_target.txt": f"{cells.shape[1] - 1}\n".encode(),
            "data.txt": lines.getvalue()}  # fmt: skip


def nowhere(table: Table, place: Path, reasons: list[str]) -> str:
    """No source could serve: why each failed, and what to put where."""
    tried = f" and could not be fetched ({'; '.join(reasons)})" if reasons else ""
    return (
        f"{table.title} is not in {place}{tried}: put data.txt there, with index_features.txt and index_target.txt as "
        "published beside it, or name another data folder with paths.data=FOLDER."
    )


def intact(place: Path, table: Table) -> bool:
    """Whether the folder holds the values that are known."""
    try:
        return checksum(numbers(place / "data.txt")) == table.values
    except UsageError:
        return False


def own(name: str, root: Path) -> TableData:
    """A user's folder in the published layout."""
    here = [root / PUBLISHED / name, root / name]
    for place in (inner for outer in here for inner in (outer, outer / "data")):
        if (place / "data.txt").is_file():
            return read(place, name, None, "folder")
    hint = did_you_mean(name, TABLES)
    raise UsageError(f"There is no table '{name}': put data.txt into {here[0]}, or take one of {', '.join(TABLES)}.{hint}")


def read(place: Path, title: str, table: Table | None, source: str) -> TableData:
    """The table in a folder.

    Raises:
        UsageError: a file is missing, holds no numbers, or does not fit the others or what is known of the table.
    """
    from maskbench.data.stage import Origin  # imports torch, so not before it is needed

    cells = numbers(place / "data.txt")
    if not np.isfinite(cells).all():
        raise UsageError(f"{place / 'data.txt'} holds cells that are no number: fill them or leave their rows out.")
    if table and len(cells) != table.rows:
        raise UsageError(f"{place / 'data.txt'} has {len(cells)} rows and {title} has {table.rows}: replace it.")
    if table and table.values and checksum(cells) != table.values:
        raise UsageError(f"{place / 'data.txt'} does not hold the published values of {title}: replace it or delete it.")
    target = places(place / "index_target.txt", cells.shape[1], [cells.shape[1] - 1])
    others = [column for column in range(cells.shape[1]) if column not in target]
    features = places(place / "index_features.txt", cells.shape[1], others)
    given = list(published(place, len(cells)))
    divisions = given or (table.divide() if table else divide(len(cells), 20))
    if table and hashed(divisions) != table.dealt:
        raise UsageError(f"the index files in {place} are not the published divisions of {title}: replace or delete them.")
    sums = {f"{title} values": checksum(cells), f"{title} divisions": hashed(divisions)}
    return TableData(cells[:, features], cells[:, target], divisions, Origin(title, source, sums))


def numbers(file: Path) -> np.ndarray:
    """The cells of a text file, [rows, columns], separated by blanks or commas."""
    try:
        text = file.read_text()
        return np.loadtxt(io.StringIO(text.replace(",", " ")), ndmin=2)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is no table of numbers ({str(error).splitlines()[0]}): replace it.") from None


def places(file: Path, columns: int, otherwise: list[int]) -> list[int]:
    """The column or row numbers a file lists; `otherwise` if there is no such file."""
    if not file.is_file():
        return otherwise
    listed = numbers(file).flatten().astype(int).tolist()
    if not listed or min(listed) < 0 or max(listed) >= columns:
        raise UsageError(f"{file} points outside of data.txt, which has 0 to {columns - 1}: replace it.")
    return listed


def published(place: Path, rows: int) -> Iterator[Division]:
    """The divisions that index files list, from 0 on.

    Raises:
        UsageError: a row both trains and tests.
    """
    for i in range(len(list(place.glob("index_train_*.txt")))):
        pair = [place / f"index_{part}_{i}.txt" for part in ("train", "test")]
        if missing := next((file for file in pair if not file.is_file()), None):
            raise UsageError(f"{missing} is missing beside the other index files: put it there, or delete them all.")
        train, test = (np.array(places(file, rows, [])) for file in pair)
        if len(np.intersect1d(train, test)):
            raise UsageError(f"{pair[0]} and {pair[1]} share rows, so test rows would train: replace them.")
        yield train, test
