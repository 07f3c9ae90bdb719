"""Letters A to J drawn from matplotlib's fonts, as MNIST draws digits: unknown classes of a similar look. Imports no torch.

A stand-in for notMNIST (recipe of deep_ensembles, section 5): 22 fonts, 22 to 30 pixels, moved by up to 2 pixels and
turned by up to 15 degrees, white on black.
"""

import zipfile
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from maskbench.common.errors import UsageError
from maskbench.common.files import replace
from maskbench.data.sources.folder import md5

NAME = "glyphs_aj"
LETTERS = "ABCDEFGHIJ"
COUNT = 10_000
SEED = 20170612  # of the one draw that all runs share
SIZE, CANVAS = 28, 48  # pixels; the canvas leaves room to turn a letter before it is cut out
SHAPE = (SIZE, SIZE)
DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)  # what a file that is not whole raises
FONTS = (
    *(f"DejaVu{kind}" for kind in ("Sans", "Sans-Bold", "Sans-BoldOblique", "Sans-Oblique", "SansMono", "SansMono-Bold",
                                   "SansMono-BoldOblique", "SansMono-Oblique", "Serif", "Serif-Bold", "Serif-BoldItalic",
                                   "Serif-Italic")),
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralBolIta", "STIXGeneralItalic",
    "cmb10", "cmmi10", "cmr10", "cmss10", "cmti10", "cmtt10",
)  # fmt: skip


def glyphs(root: Path) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """10,000 images [n, 28, 28] and letters [n] (0 is A), uint8, and their checksum by what drew them.

    The same images wherever fonts and drawing library are the same; kept in the data folder if it can be written.

    Raises:
        UsageError: matplotlib's fonts are not there.
    """
    by, file = drawn_by(), kept_in(root)
    try:
        x, y = kept(file)
    except DAMAGE:
        x, y = rendered()
        keep(file, x, y)
    return x, y, {f"{NAME} ({by})": md5(x.tobytes() + y.tobytes())}


def fetch(name: str, root: Path) -> str:
    """Make sure the images are in the folder; what drew them."""
    glyphs(root)
    return drawn_by()


def status(root: Path) -> list[dict]:
    """What lies in the data folder: a row like those of sources.status."""
    file, damaged = kept_in(root), []
    try:
        here = bool(kept(file))
    except DAMAGE:
        here, damaged = False, [file.name] if file.is_file() else []
    size = file.stat().st_size if file.is_file() else 0
    source = drawn_by() if here else None
    return [{"name": NAME, "present": here, "source": source, "bytes": size, "folder": str(file.parent), "damaged": damaged}]


def drawn_by() -> str:
    """The versions that decide every pixel."""
    return f"matplotlib {version('matplotlib')}, pillow {version('pillow')}"


def kept_in(root: Path) -> Path:
    """The file in the data folder that keeps the images."""
    return Path(root).expanduser() / NAME / f"{drawn_by().replace(', ', '-').replace(' ', '-')}.npz"


def kept(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and letters of a file, checked by zip's own checksums; one of DAMAGE if they are not there whole."""
    with np.load(file) as content:
        return content["x"], content["y"]


def keep(file: Path, x: np.ndarray, y: np.ndarray) -> None:
    """Write the images, or leave it where the folder cannot be written."""

    def write(path: Path) -> None:
        with open(path, "wb") as stream:
            np.savez_compressed(stream, x=x, y=y)

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace(file, write)
    except OSError:
        return  # it is rendered again next time: seconds


def rendered(count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    """As many of each letter, in random order."""
    from PIL import Image

    draw = np.random.RandomState(SEED)  # its stream is frozen across versions of numpy
    y = draw.permutation(np.arange(count) % len(LETTERS)).astype(np.uint8)
    faces, sizes = draw.randint(len(FONTS), size=count), draw.randint(22, 31, count)
    shifts, angles = draw.randint(-2, 3, (count, 2)), draw.uniform(-15, 15, count)
    x = np.empty((count, SIZE, SIZE), np.uint8)
    for i in range(count):
        turned = letter(LETTERS[y[i]], FONTS[faces[i]], int(sizes[i])).rotate(angles[i], Image.Resampling.BILINEAR)
        top, left = (CANVAS - SIZE) // 2 + shifts[i]
        x[i] = np.asarray(turned)[top : top + SIZE, left : left + SIZE]
    return x, y


@cache
def letter(text: str, face: str, size: int):
    """The letter with the middle of its ink in the middle of the canvas, an 8-bit grey image."""
    from PIL import Image, ImageDraw

    font = typeface(face, size)
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (CANVAS, CANVAS))
    place = (CANVAS - left - right) // 2, (CANVAS - top - bottom) // 2
    ImageDraw.Draw(image).text(place, text, fill=255, font=font)
    return image


@cache
def typeface(face: str, size: int):
    from PIL import ImageFont

    package = find_spec("matplotlib").submodule_search_locations[0]
    file = Path(package, "mpl-data", "fonts", "ttf", f"{face}.ttf")
    try:
        return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)
    except OSError:
        raise UsageError(f"{file} is missing, which {NAME} is drawn from: install matplotlib again.") from None
