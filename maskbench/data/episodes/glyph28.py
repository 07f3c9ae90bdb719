"""glyph28: letters of 21 scripts in the faces of the Noto fonts, a stand-in for Omniglot that is made here.

The fonts come as the Debian packages fonts-noto-core and fonts-noto-extra (SIL Open Font License), out of the data
folder or through `apt-get download`; where neither is to be had, the few scripts in matplotlib's own fonts stand in and
the record says `sample`. The images (glyphs.py) are kept in the data folder. Imports no torch before it is needed.
"""

import hashlib
import logging
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskbench.common.errors import UsageError, did_you_mean
from maskbench.common.files import replace
from maskbench.data.images import glyphs
from maskbench.data.sources import clients
from maskbench.data.sources.clients import Unavailable
from maskbench.data.sources.folder import locked, usable, workplace

log = logging.getLogger("maskbench")

PACKAGES, VERSION = ("fonts-noto-core", "fonts-noto-extra"), "20201225-1"
FONTS = Path("usr", "share", "fonts", "truetype", "noto")  # inside the packages
RECIPE = 1  # of glyphs.py; another number for other images


@dataclass(frozen=True)
class Make:
    """One make of the data: which fonts, how many faces a letter needs, and which scripts are whose.

    Scripts that look alike stand on one side: Latin, Greek, Cyrillic and Armenian share letters, Lao and Thai,
    Telugu and Kannada. `md5` is that of the images as they were made for the numbers of record.
    """

    least_faces: int
    splits: dict[str, tuple[str, ...]]
    md5: str


NOTO = Make(
    least_faces=glyphs.INSTANCES,
    splits={
        "train": ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "GEORGIAN", "ARABIC", "DEVANAGARI", "BENGALI", "GUJARATI",
                  "KHMER", "LAO", "THAI"),
        "val": ("SINHALA", "MALAYALAM", "GURMUKHI"),
        "test": ("ETHIOPIC", "HEBREW", "TAMIL", "TELUGU", "KANNADA", "MYANMAR"),
    },
    md5="274f0a3f42595a5aea1f7fe3bc83bd00",
)  # fmt: skip
MATPLOTLIB = Make(
    least_faces=4,
    splits={
        "train": ("LATIN", "GREEK", "COPTIC", "CYRILLIC", "ARMENIAN", "GEORGIAN", "ARABIC", "LISU"),
        "val": ("NKO", "OGHAM"),
        "test": ("HEBREW", "LAO", "CANADIAN", "TIFINAGH"),
    },
    md5="b865467cc68abd67276ceca75f793876",
)
MAKES = {"noto": NOTO, "matplotlib": MATPLOTLIB}
CHOICES = ("auto", "folder", "package", "sample")  # of `data.source`

Images = dict[str, dict[str, np.ndarray]]  # split -> class -> uint8 [instances, 28, 28]


class Glyph28:
    """What is known of the set before it is here, for locks and messages."""

    name, title, megabytes = "glyph28", "glyph28", 500


def load(root: Path, source: str = "auto") -> tuple[Images, str, str]:
    """(images, where the fonts came from, MD5 of the images), rendered first if need be; that takes a minute, once.

    Raises:
        UsageError: no such source, no way to get the fonts, or no room to write.
    """
    if source not in CHOICES:
        hint = did_you_mean(str(source), CHOICES)
        raise UsageError(f"data.source={source} is not a source of glyph28: take one of {', '.join(CHOICES)}.{hint}")
    root = Path(root).expanduser()
    with usable(Glyph28, root), locked(Glyph28, root):
        by_split, where = sample(root) if source == "sample" else noto(root, source)
    return by_split, where, digest(by_split)


def noto(root: Path, source: str) -> tuple[Images, str]:
    """The letters of the Noto fonts; with `auto`, where these cannot be had, those of matplotlib's."""
    if kept := read(cache(root, "noto")):
        return kept
    with workplace(Glyph28, root) as work:
        try:
            folder, where = fonts(root, work, source)
        except Unavailable as reason:
            if source != "auto":
                raise UsageError(nowhere(root, str(reason))) from None
            log.info(f"glyph28: no Noto fonts ({reason}).")
        else:
            log.info("glyph28: drawing letters from the Noto fonts, which takes a minute and is kept.")
            return keep(root, "noto", images("noto", glyphs.faces(folder)), where)
    return sample(root)


def sample(root: Path) -> tuple[Images, str]:
    """The letters of matplotlib's own fonts, the last resort."""
    log.warning(
        "glyph28: using only the few scripts in MATPLOTLIB'S FONTS. Their results do not compare with those on the Noto fonts."
    )
    kept = read(cache(root, "matplotlib"))
    return kept or keep(root, "matplotlib", images("matplotlib", matplotlib_faces()), "sample")


# ---- fonts


def fonts(root: Path, work: Path, source: str) -> tuple[Path, str]:
    """(folder of the font files, `folder` or `debian`): the packages out of the data folder, else downloaded."""
    own = [root / Glyph28.name / f"{package}_{VERSION}_all.deb" for package in PACKAGES]
    if all(path.is_file() for path in own):
        for path in own:
            clients.unpacked(path, work)
        return work / "files" / FONTS, "folder"
    if source == "folder":
        raise Unavailable("they are not in the data folder")
    for package in PACKAGES:
        place = work / package
        place.mkdir()
        archive = clients.debian_archive(package, place)
        if f"_{VERSION}_" not in archive.name:
            raise Unavailable(f"Debian has {archive.name}, and other versions draw other letters")
        clients.unpacked(archive, work)
    return work / "files" / FONTS, "debian"


def matplotlib_faces() -> list[glyphs.Face]:
    """The fonts that come with matplotlib."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return [face for pattern in ("DejaVu*.ttf", "STIXGeneral*.ttf") for face in glyphs.faces(folder, pattern)]


def nowhere(root: Path, reason: str) -> str:
    """No fonts could be had: why, and what to put where."""
    files = " and ".join(f"{package}_{VERSION}_all.deb" for package in PACKAGES)
    return (
        f"The Noto fonts for glyph28 could not be had ({reason}): put Debian's {files} into {root / Glyph28.name}, or take "
        "data.source=sample, the scripts in matplotlib's fonts."
    )


# ---- rendered and kept


def images(make: str, faces: Sequence[glyphs.Face]) -> Images:
    """All images of a make; a letter that looks like one of an earlier script of its split is left out."""
    splits = MAKES[make].splits
    scripts = [script for own in splits.values() for script in own]
    classes = glyphs.letters(faces, scripts, MAKES[make].least_faces)
    kept = {split: glyphs.without_doubles(classes.get(script, []) for script in own) for split, own in splits.items()}
    return {split: {letter.name: glyphs.instances(letter) for letter in own} for split, own in kept.items()}


def digest(by_split: Images) -> str:
    """MD5 of the names and the pixels, in order."""
    total = hashlib.md5(usedforsecurity=False)
    for split, classes in by_split.items():
        for name, own in classes.items():
            total.update(f"{split} {name} ".encode() + own.tobytes())
    return total.hexdigest()


def cache(root: Path, make: str) -> Path:
    """The file that keeps a make's images."""
    version = f"-{VERSION}" if make == "noto" else ""
    return root / Glyph28.name / f"{make}{version}-recipe{RECIPE}.npz"


def keep(root: Path, make: str, by_split: Images, where: str) -> tuple[Images, str]:
    """Write the images beside their source; say so where they are not those of record."""
    if (known := MAKES[make].md5) and digest(by_split) != known:
        log.warning(
            "glyph28: these letters are not drawn bit for bit as those of record (another FreeType or Pillow, most likely); "
            "numbers may differ a little."
        )
    path = cache(root, make)
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {f"{split}|{name}": own for split, classes in by_split.items() for name, own in classes.items()}
    arrays = {
        "names": np.array(list(parts)),
        "images": np.stack(list(parts.values())),
        "source": np.array(where),
        "md5": np.array(digest(by_split)),
    }

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)

    replace(path, write)
    return by_split, where


def read(path: Path) -> tuple[Images, str] | None:
    """What `keep` wrote; None if it is not there or damaged."""
    try:
        with np.load(path) as file:
            names, stacked, where = file["names"].tolist(), file["images"], str(file["source"])
            expected = str(file["md5"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, EOFError):
        log.warning(f"glyph28: {path} is damaged, drawing the letters again.")
        return None
    by_split: Images = {}
    for name, own in zip(names, stacked, strict=True):
        split, _, letter = name.partition("|")
        by_split.setdefault(split, {})[letter] = own
    if digest(by_split) != expected:
        log.warning(f"glyph28: {path} is damaged, drawing the letters again.")
        return None
    return by_split, where
