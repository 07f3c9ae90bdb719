"""Sets of texts that packages carry: fortunes. Imports no torch.

- fortunes: quotations by subject, of the Debian package of that name (fortune-mod 1.99.1, free by Debian's guidelines): one file
  a subject. Quotations of 6 to 40 words; who said it, below the text, is left out, since it may tell the subject.

Files are checked against their MD5 each time they are read.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskbench.data.sources import small_sets
from maskbench.data.sources.clients import debian_archive, unpacked
from maskbench.data.sources.small_sets import Pool, Small

if TYPE_CHECKING:
    from maskbench.data.stage import Origin

SUBJECTS = ("computers", "education", "food", "law", "love", "politics", "science", "sports", "startrek", "work")
WORDS = (6, 40)  # of a quotation, least and most
AUTHOR = "\n\t\t-- "  # begins the line below a quotation that says whose it is


def debian(work: Path) -> Path:
    """The files out of Debian's package."""
    unpacked(debian_archive("fortunes", work), work)
    return work / "files" / "usr" / "share" / "games" / "fortunes"


def fortunes(files: dict[str, bytes]) -> Pool:
    """The quotations as texts; of equal ones the first."""
    x, y, seen = [], [], set()
    for label, subject in enumerate(SUBJECTS):
        for part in files[subject].decode(errors="replace").split("\n%\n"):
            text = " ".join(part.partition(AUTHOR)[0].split())
            if WORDS[0] <= len(text.split()) <= WORDS[1] and text not in seen:
                seen.add(text)
                x.append(text)
                y.append(label)
    return Pool(np.array(x, dtype=object), np.array(y), SUBJECTS)


TEXTS = {
    "fortunes": Small(
        name="fortunes",
        title="fortunes",
        place="fortunes",
        dataset="",
        parse=fortunes,
        md5={
            "computers": "d5f19647f924b7a243c11a6dd1420ebd",
            "education": "5b6991e34fdfbb18e48aa24f09cf39c8",
            "food": "3c6dbd6eddbc17a8d113d7a58f6e433b",
            "law": "f932dc72c5212f16e57a2c382bb82af2",
            "love": "17b72c752d9881c127ed7d73c27d7fc1",
            "politics": "4e30eeee18c3cd112aa7f3dfaf8c483e",
            "science": "8f2eab053e7d93e12c187bccf9d07edb",
            "sports": "2f843e5aaf0e970cbfa04b18ff04d1e9",
            "startrek": "ac068c1f7fc860956e1030774964b2b4",
            "work": "3ca4b40555380b1c5d873ac273c08fa9",
        },
        megabytes=10,
        package="debian",
        client=debian,
        licence="the collection: BSD, in Debian's main; quotations by many authors",
    )
}


def find(name: str, root: Path, source: str = "auto") -> "tuple[Pool, Origin]":
    """The texts of a set and where they came from, fetched first if need be.

    Raises:
        UsageError: no way to get the files, or no room to write them.
    """
    return small_sets.found(TEXTS[name], root, source)


def fetch(name: str, root: Path) -> str:
    """Make sure the files of a set are in the folder, good; where they came from."""
    return find(name, root)[1].source


def status(root: Path) -> list[dict]:
    """What of these sets lies in the data folder: rows like those of find.status."""
    return small_sets.rows(TEXTS, root)
