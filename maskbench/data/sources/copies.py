"""Copies of a known image set in other files than the published ones: images in a folder for each class, or numpy's npz.

copy_places.py says where one lies; what it holds is compared with what is known of the set (content.py). Imports no torch.
"""

import contextlib
import logging
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskbench.common.errors import UsageError
from maskbench.data.sources import content, kept
from maskbench.data.sources.content import Facts
from maskbench.data.sources.copy_places import IMAGES, NPZ, Place, locate
from maskbench.data.sources.folder import locked
from maskbench.data.sources.sets import Raw, Spec

log = logging.getLogger("maskbench")

CANONICAL, LOSSY, UNVERIFIED = "copy, canonical", "images, not lossless", "folder, unverified"  # sources of record
COMPRESSED = {"JPEG", "MPO", "WEBP"}  # formats whose pixels may not be those that were written


class Copy(NamedTuple):
    """The images of a copy as they will be used, and what it is.

    raw: its arrays. source: for the record. checksums: of its content. facts: its container and the order of its rows.
    """

    raw: Raw
    source: str
    checksums: dict[str, str]
    facts: dict[str, str]


class Part(NamedTuple):
    """The images of a part: x uint8 [rows, height, width, channels], y uint8 [rows], and what to call each row."""

    x: np.ndarray
    y: np.ndarray
    names: list[str]


# ---- public


def find(spec: Spec, root: Path) -> Copy | None:
    """The copy of a set in the data folder; None where there is none.

    Raises:
        UsageError: it is not what is known of the set, or a file cannot be read.
    """
    place = locate(spec, root)
    if place is None:
        return None
    if place.container == NPZ:
        return judged(spec, place, npz(spec.copies, place), compressed=False)
    file = kept.file(root, spec.name, place.files)
    if copy := restored(spec, place, kept.read(file)):
        return copy
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # nothing is kept in a folder that cannot be written
            stack.enter_context(locked(spec, root))
        if copy := restored(spec, place, kept.read(file)):  # another run read the images while this one waited
            return copy
        log.info(f"{spec.title}: reading {sum(map(len, place.files.values())):,} images in {place.folder}.")
        parts, compressed = pictures(spec, place)
        copy = judged(spec, place, parts, compressed)
        kept.write(file, arrays_of(copy))
    return copy


def glance(spec: Spec, root: Path) -> dict | None:
    """What a copy is without reading its images: container, folder, bytes, and its source where it was read before; None where
    there is none.

    Raises:
        UsageError: it cannot be a copy of the set.
    """
    if (place := locate(spec, root)) is None:
        return None
    known = kept.read(kept.file(root, spec.name, place.files), "source") if place.container == IMAGES else None
    size = sum(file.state[0] for files in place.files.values() for file in files)
    return {
        "container": place.container,
        "folder": place.folder,
        "bytes": size,
        "source": str(known["source"]) if known else None,
    }


# ---- what it holds


def npz(facts: Facts, place: Place) -> dict[str, Part]:
    """The parts out of npz files.

    Raises:
        UsageError: a file is damaged, lacks an array, or holds another shape or classes.
    """
    parts = {}
    for part, (file,) in place.files.items():
        try:
            with np.load(file.path, allow_pickle=False) as arrays:
                suffix = "" if "x" in arrays else f"_{part}"
                x, y = arrays[f"x{suffix}"], arrays[f"y{suffix}"].reshape(-1)
                names = arrays["classes"].tolist() if "classes" in arrays else list(facts.classes)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            raise UsageError(f"{file.path} is no npz with x and y of {facts.title}: replace it.") from None
        if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[3] not in (1, 3):
            x = x.transpose(0, 2, 3, 1)
        labels = [facts.labels.get(content.spelt(str(name)), -1) for name in names]
        if x.dtype != np.uint8 or x.ndim != 4 or len(x) != len(y):
            raise UsageError(
                f"{file.path} holds x of {' x '.join(map(str, x.shape))} {x.dtype} and {len(y)} labels, and not bytes "
                "[rows, height, width, channels] with a label each: replace it."
            )
        if y.dtype.kind not in "iu" or -1 in labels or not len(y) or y.min() < 0 or y.max() >= len(labels):
            raise UsageError(f"{file.path} has labels or classes that {facts.title} has not: replace it.")
        parts[part] = Part(x, np.array(labels, np.uint8)[y], [f"row {row} of {Path(file.path).name}" for row in range(len(x))])
    return parts


def pictures(spec: Spec, place: Place) -> tuple[dict[str, Part], bool]:
    """The parts out of image files, and whether any is of a format that loses.

    Raises:
        UsageError: a file is no image, or of another size.
    """
    from PIL import Image

    channels, height, width = spec.shape
    compressed, parts = False, {}
    for part, files in place.files.items():
        x = np.empty((len(files), height, width, channels), np.uint8)
        for row, file in enumerate(files):
            try:
                with Image.open(file.path) as image:
                    compressed |= image.format in COMPRESSED
                    pixels = np.asarray(image.convert("RGB"))
            except (OSError, SyntaxError, ValueError) as error:  # PIL's words for a broken PNG
                reason = str(error).splitlines()[0].split(" '")[0]
                raise UsageError(f"{file.path} is no image ({reason}): replace it or take it away.") from None
            if pixels.shape != x.shape[1:]:
                size = " x ".join(map(str, pixels.shape[:2]))
                raise UsageError(f"{file.path} is {size} pixels, and images of {spec.title} are {height} x {width}: replace it.")
            x[row] = pixels
        y = np.array([file.label for file in files], np.uint8)
        parts[part] = Part(x, y, [str(Path(file.path).relative_to(place.folder)) for file in files])
    return parts, compressed


# ---- what it is


def judged(spec: Spec, place: Place, parts: Mapping[str, Part], compressed: bool) -> Copy:
    """The copy as what it is: canonical, not lossless, or unverified where nothing is known to verify it by.

    Raises:
        UsageError: it is none of them; says how many images differ, or of which class there are too many or too few.
    """
    facts = spec.copies
    hashed = {part: content.digests(part, facts.classes, own.x, own.y) for part, own in parts.items()}
    sums = {part: content.content(own) for part, own in hashed.items()}
    about = {"container": place.container}
    if facts.content and sums == dict(facts.content):
        about["order"] = "sorted by class and hash"
        rows = {part: content.order(parts[part].y, own) for part, own in hashed.items()}
        return Copy(raw(parts, rows), CANONICAL, checksums(sums, about), about)
    uneven = miscounted(facts, parts)
    if (facts.content and not compressed) or (uneven and not facts.content):
        raise UsageError(refusal(spec, place, parts, hashed, uneven))
    if uneven:
        raise UsageError(f"{spec.title} in {place.folder} is not complete, {uneven}: put in what is missing, or take it away.")
    about["order"] = "sorted by class and name" if place.container == IMAGES else "as in the file"
    rows = {part: np.arange(len(own.y)) for part, own in parts.items()}
    copy = Copy(raw(parts, rows), LOSSY if compressed else UNVERIFIED, checksums(sums, about), about)
    warn(spec, place, copy.source)
    return copy


def checksums(sums: Mapping[str, str], about: Mapping[str, str]) -> dict[str, str]:
    """What two runs must have in common to have had the same images in the same order."""
    return {f"{part} content": value for part, value in sums.items()} | {"order": about["order"]}


def raw(parts: Mapping[str, Part], rows: Mapping[str, np.ndarray]) -> Raw:
    """Arrays [rows, channels, height, width] and labels, in the order of `rows`."""
    arrays = [(np.ascontiguousarray(own.x[rows[part]].transpose(0, 3, 1, 2)), own.y[rows[part]]) for part, own in parts.items()]
    return Raw(*(array for pair in arrays for array in pair))


def miscounted(facts: Facts, parts: Mapping[str, Part]) -> str:
    """The classes of which there are too many or too few images, in words; empty where there are none."""
    wrong = []
    for part, own in parts.items():
        found = np.bincount(own.y, minlength=len(facts.classes)).tolist()
        pairs = zip(facts.classes, found, facts.counts[part], strict=True)
        wrong += [f"{part}/{name} has {n:,} of {right:,} images" for name, n, right in pairs if n != right]
    return listed(wrong)


def refusal(
    spec: Spec, place: Place, parts: Mapping[str, Part], hashed: Mapping[str, content.Digests], uneven: str
) -> str:  # fmt: skip
    """Why a copy is refused, and the way out."""
    facts, start = spec.copies, f"{spec.title} in {place.folder} ({place.container}) is not the published set"
    mend = f"replace what differs, or take {place.folder.name} away"
    if not facts.hashes:
        return f"{start}: {uneven}; {mend}."
    known = facts.known()
    rows = content.changed(hashed, known)
    strangers = sum(map(len, rows.values()))
    missing = len(known) - (sum(len(own.y) for own in parts.values()) - strangers)
    differ = max(strangers, missing, 1)  # of an image in 300, the kept bytes of its hash hide a change
    names = [f"{parts[part].names[row]}" for part, own in rows.items() for row in own]
    which = f" ({listed(names)})" if names else ""
    counts = f"; {uneven}" if uneven else ""
    if differ > facts.images // 2:
        counts += "; so many differ where images were compressed, resized or given to other classes"
    return f"{start}: {differ:,} of {facts.images:,} images {'differs' if differ == 1 else 'differ'}{which}{counts}: {mend}."


def listed(names: list[str], told: int = 3) -> str:
    """The first few names."""
    more = f" and {len(names) - told:,} more" if len(names) > told else ""
    return ", ".join(names[:told]) + more


def warn(spec: Spec, place: Place, source: str) -> None:
    """Say loudly that results with this copy are none with the published set."""
    what = {
        LOSSY: "images compressed WITH LOSS, whose pixels are not those of the published set",
        UNVERIFIED: "a copy of which only the counts are checked, as no hash of its content is known",
    }
    if source in what:
        log.warning(f"{spec.title}: using {place.folder}, {what[source]}. Tables do not mix these results with those of the set.")


# ---- what is kept of an earlier reading


def arrays_of(copy: Copy) -> dict[str, np.ndarray]:
    """What is kept of a copy."""
    told = {"source": copy.source, **{f"sum {k}": v for k, v in copy.checksums.items()}}
    told |= {f"fact {k}": v for k, v in copy.facts.items()}
    return copy.raw._asdict() | {name: np.array(value) for name, value in told.items()}


def restored(spec: Spec, place: Place, arrays: Mapping[str, np.ndarray] | None) -> Copy | None:
    """The copy that was kept; None if nothing was, or not what is known of the set today."""
    if not arrays:
        return None
    told = {name: str(value) for name, value in arrays.items() if name not in Raw._fields}
    sums = {name.removeprefix("sum "): value for name, value in told.items() if name.startswith("sum ")}
    about = {name.removeprefix("fact "): value for name, value in told.items() if name.startswith("fact ")}
    held = Raw(*(arrays[name] for name in Raw._fields))
    for part, x, y in (("train", held.train_x, held.train_y), ("test", held.test_x, held.test_y)):
        actual = content.content(content.digests(part, spec.copies.classes, x.transpose(0, 2, 3, 1), y))
        fits = told["source"] != CANONICAL or spec.copies.content.get(part) == actual
        if sums.get(f"{part} content") != actual or not fits:
            return None
    warn(spec, place, told["source"])
    return Copy(held, told["source"], sums, about)
