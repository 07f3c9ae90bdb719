"""Characters of the world's scripts as 28x28 images, drawn from font files: the recipe of glyph28. No torch.

A class is a letter, an instance is that letter in one face under a small random distortion. Every random draw comes from
the letter's own name, so a letter's images do not depend on which others are drawn, or in what order.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskbench.common.streams import seed_for

SIZE, BODY, INK = 28, 20, 72  # pixels: of an image; of the letter's longest side in it; at which a face is drawn
FINER = 4  # supersampling
ROTATION, SHEAR, SCALE, SHIFT = 12.0, 0.15, (0.85, 1.1), 1.5  # degrees, share, factor, pixels
INSTANCES = 20
LEAST, MOST = 8, 60  # classes of a script: fewer leave it out; more are not taken
NEAR = 3.0  # L2 between images on the scale 0 to 1, below which two letters count as one shape
NOT_LETTERS = ("UI", "Mono", "Display", "Symbols", "Math", "Music", "Emoji")  # parts of names of families left out


@dataclass(frozen=True)
class Face:
    """A font file."""

    family: str
    style: str
    path: Path


@dataclass(frozen=True)
class Letter:
    """A class: a script (first word of the character's Unicode name) and a code point, with the faces that have it."""

    script: str
    code: int
    faces: tuple[Face, ...]

    @property
    def name(self) -> str:
        return f"{self.script}:{self.code:04X}"

    @property
    def regular(self) -> Face:
        """The face by which letters are compared: the first family's Regular."""
        return next((face for face in self.faces if face.style == "Regular"), self.faces[0])


def faces(folder: Path, pattern: str = "*.ttf") -> list[Face]:
    """The faces in a folder of `Family-Style.ttf` files, in the order of their names."""
    named = [(*path.stem.partition("-")[::2], path) for path in sorted(folder.glob(pattern))]
    all_faces = [Face(family, style or "Regular", path) for family, style, path in named]
    return [face for face in all_faces if not any(word in face.family for word in NOT_LETTERS)]


def letters(faces: Sequence[Face], scripts: Sequence[str], least_faces: int) -> dict[str, list[Letter]]:
    """The classes of each script that has enough of them, in code-point order, look-alikes within a script left out.

    A letter counts for all faces of a family whose Regular has it, and is a class if these are at least `least_faces`.
    """
    have: dict[int, list[Face]] = {}
    for family in dict.fromkeys(face.family for face in faces):
        members = [face for face in faces if face.family == family]
        regular = next((face for face in members if face.style == "Regular"), members[0])
        for code in codes(regular):
            have.setdefault(code, []).extend(members)
    classes: dict[str, list[Letter]] = {script: [] for script in scripts}
    for code in sorted(have):
        script = script_of(chr(code))
        if script in classes and len(have[code]) >= least_faces:
            classes[script].append(Letter(script, code, tuple(have[code])))
    kept = {script: distinct(own)[:MOST] for script, own in classes.items()}
    return {script: own for script, own in kept.items() if len(own) >= LEAST}


def script_of(character: str) -> str | None:
    """The script of a letter (category Lo, Ll or Lu) that is its own compatibility decomposition; None for all else."""
    if unicodedata.category(character) not in ("Lo", "Ll", "Lu") or unicodedata.normalize("NFKD", character) != character:
        return None
    return unicodedata.name(character, "").split(" ")[0] or None


def codes(face: Face) -> list[int]:
    """Code points that a face has a glyph for."""
    from fontTools.ttLib import TTFont

    with TTFont(face.path, lazy=True) as font:
        return sorted(font.getBestCmap() or {})


def distinct(classes: Iterable[Letter], taken: Sequence[np.ndarray] = ()) -> list[Letter]:
    """Those whose plain image is at least NEAR from that of every one before and from those `taken`; blank ones go too."""
    kept, seen = [], [image.ravel() for image in taken]
    for letter in classes:
        image = plain(letter).ravel()
        if image.any() and (not seen or np.square(np.stack(seen) - image).sum(1).min() >= NEAR**2):
            kept.append(letter)
            seen.append(image)
    return kept


def without_doubles(classes: Iterable[list[Letter]]) -> list[Letter]:
    """The letters of several scripts as one list, without those that look like one of an earlier script."""
    kept: list[Letter] = []
    for own in classes:
        kept += distinct(own, [plain(letter) for letter in kept])
    return kept


# ---- rendering


def plain(letter: Letter) -> np.ndarray:
    """The letter in its regular face without distortion, [28, 28], 0 to 1."""
    key = (letter.regular.path, letter.code)
    if key not in _plain:
        _plain[key] = placed(ink(letter.regular, letter.code), BODY, np.eye(2), (0.0, 0.0)).astype(np.float32) / 255
    return _plain[key]


_plain: dict[tuple[Path, int], np.ndarray] = {}


def instances(letter: Letter, count: int = INSTANCES) -> np.ndarray:
    """uint8 [count, 28, 28]: faces in turn over the families, each under a distortion of its own."""
    draw = np.random.RandomState(seed_for("glyph28", letter.name) % 2**32)  # its stream is frozen across versions of numpy
    return np.stack([distorted(ink(face, letter.code), draw) for face in alternating(letter.faces, count, draw)])


def alternating(some: Sequence[Face], count: int, draw: np.random.RandomState) -> Iterator[Face]:
    """`count` faces: families in a random order, one face of each in turn, its faces in a random order, over again if need be."""
    families = {family: [f for f in some if f.family == family] for family in dict.fromkeys(f.family for f in some)}
    piles = [[own[i] for i in draw.permutation(len(own))] for own in families.values()]
    piles = [piles[i] for i in draw.permutation(len(piles))]
    once = [pile[turn] for turn in range(max(map(len, piles))) for pile in piles if turn < len(pile)]
    return (once[i % len(once)] for i in range(count))


def distorted(ink: np.ndarray, draw: np.random.RandomState) -> np.ndarray:
    """The letter under a random rotation, shear, scale and shift; uint8 [28, 28]."""
    angle, shear = np.deg2rad(draw.uniform(-ROTATION, ROTATION)), draw.uniform(-SHEAR, SHEAR)
    scale, shift = draw.uniform(*SCALE), draw.uniform(-SHIFT, SHIFT, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return placed(ink, BODY * scale, turn @ np.array([[1.0, shear], [0.0, 1.0]]), tuple(shift))


def placed(ink: np.ndarray, side: float, linear: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """Ink [height, width] with its longest side `side` pixels long, turned by `linear`, in the middle of 28x28; uint8."""
    from PIL import Image

    if not ink.size:
        return np.zeros((SIZE, SIZE), np.uint8)
    back = np.linalg.inv(linear * (side * FINER / max(ink.shape)))  # from the image's pixels to the ink's
    middle = np.array([ink.shape[1], ink.shape[0]]) / 2 - back @ ((SIZE / 2 + np.array(shift)) * FINER)
    data = (*back[0], middle[0], *back[1], middle[1])
    fine = Image.fromarray(ink).transform((SIZE * FINER,) * 2, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    cells = np.asarray(fine, np.uint32).reshape(SIZE, FINER, SIZE, FINER).sum((1, 3))
    return ((cells + FINER * FINER // 2) // (FINER * FINER)).astype(np.uint8)


def ink(face: Face, code: int) -> np.ndarray:
    """The character in a face at 72 pixels, cropped to its ink with one pixel of air, uint8 [height, width]; 0 x 0 if blank."""
    mask, (width, height) = _rendered(face.path, code)
    pixels = np.frombuffer(mask, np.uint8).reshape(height, width)
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if not len(rows):
        return np.zeros((0, 0), np.uint8)
    return np.pad(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)


def _rendered(path: Path, code: int) -> tuple[bytes, tuple[int, int]]:
    from PIL import ImageFont

    if path not in _fonts:
        _fonts[path] = ImageFont.truetype(str(path), INK, layout_engine=ImageFont.Layout.BASIC)
    mask = _fonts[path].getmask(chr(code), mode="L")
    return bytes(mask), mask.size


_fonts: dict[Path, object] = {}
