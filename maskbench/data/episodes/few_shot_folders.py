"""Few-shot data sets in the folders they are distributed as: which image is of which class, and which class trains.

Classes fall to train, val and test, in this order of preference: by folders of these names; by the set's own lists of
classes or images; by lists `splits/train.txt`, `val.txt`, `test.txt` of class names, which anyone can put there; and
where there is no list, at random, the same for everyone.
"""

import csv
import random
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskbench.common.errors import UsageError
from maskbench.common.streams import seed_for
from maskbench.data.episodes import omniglot
from maskbench.data.episodes.omniglot import Packed

SPLITS = ("train", "val", "test")
KINDS = {".png", ".jpg", ".jpeg", ".bmp"}
Files = dict[str, list[Path | Packed]]  # class -> its images


@dataclass(frozen=True)
class Layout:
    """How one data set lies in the data folder.

    Args:
        title: for messages. folder: below the data folder. wants: what must lie in it, in words.
        files: folder -> the images of each class.
        shares: how many classes train and validate, where no list says it; the rest are for the test.
        splits: folder -> the classes of each split, where the set has lists of its own.
        place: data folder -> the folder in which the set lies, where it may be another.
        classes: how many the whole set has, so that a part does not pass for it; 0: any number.
        grey, ink: whether images have one channel, and whether dark pixels are the figure, to be turned to light ones.
    """

    title: str
    folder: str
    wants: str
    files: Callable[[Path], Files]
    shares: tuple[int, int]
    splits: Callable[[Path], dict[str, list[str]]] = lambda folder: {}
    place: Callable[[Path], Path] | None = None
    classes: int = 0
    grey: bool = False
    ink: bool = False


def read(base: str, size: int, root: Path) -> dict[str, dict[str, np.ndarray]]:
    """split -> class -> uint8 [images, size, size] (grey) or [images, size, size, 3].

    Raises:
        UsageError: the folder or the files are not there, are a part of the set, or no class is left for a split.
    """
    layout = LAYOUTS[base]
    folder = place(layout, root)
    files = found(base, root)
    if not files and layout.classes and (here := omniglot.alphabets(layout.files(folder))):
        raise UsageError(
            f"{layout.title} is in {folder} as a part, {len(here)} of {omniglot.ALPHABETS} alphabets: take all or some of it "
            f"with data.alphabets='[{','.join(here)}]', or put {layout.wants} there."
        )
    if not files:
        raise UsageError(
            f"{layout.title} is not complete in {folder}: put {layout.wants} there, or the folders train, val and test with a "
            "folder of images for each class, or name another data folder with paths.data=FOLDER."
        )
    return images(files, size, layout)


def found(base: str, root: Path) -> dict[str, Files]:
    """split -> class -> its images; none where the set is not whole or a split has no class."""
    layout = LAYOUTS[base]
    folder = place(layout, root)
    files = by_split(folder, layout) if folder.is_dir() else {}
    return files if all(files.get(split) for split in SPLITS) else {}


def part(
    base: str, size: int, root: Path, wanted: Sequence[str]
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, list[str]]]:
    """What `read` gives of some alphabets only, split by alphabet; and the alphabets of each split.

    Raises:
        UsageError: the set has no alphabets, or one is not here.
    """
    layout = LAYOUTS[base]
    if not layout.classes:
        raise UsageError(f"data.alphabets is for data=omniglot, and {layout.title} has none: leave it null.")
    files = layout.files(place(layout, root))
    if not files:
        raise UsageError(f"{layout.title} is not in {place(layout, root)}: put {layout.wants} there, as folders or zips.")
    by_name = omniglot.chosen(wanted, omniglot.alphabets(files))
    own = {
        split: {letter: paths for name in names for letter, paths in files.items() if omniglot.alphabet(letter) == name}
        for split, names in by_name.items()
    }
    return images(own, size, layout), by_name


def images(files: dict[str, Files], size: int, layout: Layout) -> dict[str, dict[str, np.ndarray]]:
    """The images of each split and class."""
    return {
        split: {name: np.stack([image(path, size, layout) for path in paths]) for name, paths in files[split].items()}
        for split in SPLITS
    }


def place(layout: Layout, root: Path) -> Path:
    """The folder in which a set lies, or would have to."""
    return layout.place(root) if layout.place else root / layout.folder


def by_split(folder: Path, layout: Layout) -> dict[str, Files]:
    """split -> class -> its images, as far as they are there."""
    if all((folder / split).is_dir() for split in SPLITS):
        return {split: class_folders(folder / split) for split in SPLITS}
    files = layout.files(folder)
    if layout.classes not in (0, len(files)):
        return {}
    lists = layout.splits(folder) or text_lists(folder) or random_lists(layout, sorted(files))
    return {split: {name: files[name] for name in lists[split] if name in files} for split in SPLITS}


def random_lists(layout: Layout, names: list[str]) -> dict[str, list[str]]:
    """Classes of each split in a random order that depends on nothing but the data set."""
    random.Random(seed_for("few-shot split", layout.folder)).shuffle(names)
    train, val = layout.shares
    return {"train": names[:train], "val": names[train : train + val], "test": names[train + val :]}


def text_lists(folder: Path, *below: str) -> dict[str, list[str]]:
    """Class names out of `splits/train.txt` and its fellows; none where one is missing."""
    paths = {split: folder.joinpath("splits", *below, f"{split}.txt") for split in SPLITS}
    if not all(path.is_file() for path in paths.values()):
        return {}
    return {split: path.read_text().split("\n") for split, path in paths.items()}


def image(path: Path | Packed, size: int, layout: Layout) -> np.ndarray:
    """uint8 [size, size] (grey) or [size, size, 3].

    Raises:
        UsageError: the file is no image.
    """
    from PIL import Image

    try:
        with path.open("rb") as file, Image.open(file) as opened:
            small = opened.convert("L" if layout.grey else "RGB").resize((size, size), Image.Resampling.BOX)
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{path} is no image ({error}): replace it or take it away") from None
    pixels = np.asarray(small, np.uint8)
    return 255 - pixels if layout.ink else pixels


# ---- which image is of which class


def class_folders(folder: Path) -> Files:
    """A folder of images for each class."""
    below = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    by_name = {path.name: sorted(file for file in path.iterdir() if file.suffix.lower() in KINDS) for path in below}
    return {name: files for name, files in by_name.items() if files}


def ravi(folder: Path) -> Files:
    """mini-ImageNet: one folder `images`, and train.csv, val.csv, test.csv with a row filename,label for each image."""
    by_class: Files = {}
    for split in SPLITS:
        for filename, label in csv_rows(folder / f"{split}.csv"):
            by_class.setdefault(label, []).append(folder / "images" / filename)
    return by_class


def ravi_splits(folder: Path) -> dict[str, list[str]]:
    """The classes of each split, out of the same csv files; none where one is missing."""
    lists = {split: list(dict.fromkeys(label for _, label in csv_rows(folder / f"{split}.csv"))) for split in SPLITS}
    return lists if all(lists.values()) else {}


def csv_rows(path: Path) -> list[tuple[str, str]]:
    """(file name, class) of each row; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [(row["filename"], row["label"]) for row in csv.DictReader(file)]


def variants(folder: Path) -> Files:
    """FGVC-Aircraft: data/images, and data/images_variant_*.txt with lines `image variant`."""
    by_class: Files = {}
    for part in ("train", "val", "test"):
        listed = folder / "data" / f"images_variant_{part}.txt"
        for line in listed.read_text().splitlines() if listed.is_file() else []:
            number, _, variant = line.partition(" ")
            by_class.setdefault(variant, []).append(folder / "data" / "images" / f"{number}.jpg")
    return by_class


def flowers(folder: Path) -> Files:
    """VGG-Flower: jpg/image_00001.jpg and so on, and imagelabels.mat with the class of each in order."""
    labels = folder / "imagelabels.mat"
    if not labels.is_file():
        return {}
    from scipy.io import loadmat

    by_class: Files = {}
    for number, label in enumerate(loadmat(labels)["labels"].ravel(), start=1):
        by_class.setdefault(f"{label:03d}", []).append(folder / "jpg" / f"image_{number:05d}.jpg")
    return by_class


LAYOUTS = {
    "omniglot": Layout(
        title="Omniglot",
        folder="omniglot-py",  # as torchvision lays it out
        place=omniglot.place,
        wants="images_background and images_evaluation",
        files=omniglot.letters,
        classes=omniglot.LETTERS,
        shares=(1100, 100),  # 1,200 train in MAML, of which 100 validate here; 423 test
        grey=True,
        ink=True,
    ),
    "cifar_fs": Layout(
        title="CIFAR-FS",
        folder="cifar100",
        wants="data with a folder of images for each class, and splits/bertinetto with train.txt, val.txt and test.txt",
        files=lambda folder: class_folders(folder / "data"),
        splits=lambda folder: text_lists(folder, "bertinetto"),
        shares=(64, 16),
    ),
    "mini_imagenet": Layout(
        title="mini-ImageNet",
        folder="mini-imagenet",
        wants="images, train.csv, val.csv and test.csv",
        files=ravi,
        splits=ravi_splits,
        shares=(64, 16),
    ),
    "cub": Layout(
        title="CUB-200-2011",
        folder="CUB_200_2011",
        wants="images with a folder for each class",
        files=lambda folder: class_folders(folder / "images"),
        shares=(100, 50),
    ),
    "cars": Layout(
        title="Cars",
        folder="cars",
        wants="images with a folder for each class",
        files=lambda folder: class_folders(folder / "images"),
        shares=(98, 49),
    ),
    "aircraft": Layout(
        title="FGVC-Aircraft",
        folder="fgvc-aircraft-2013b",
        wants="data with images and images_variant_train.txt, images_variant_val.txt and images_variant_test.txt",
        files=variants,
        shares=(50, 25),
    ),
    "vgg_flower": Layout(
        title="VGG-Flower",
        folder="flowers-102",
        wants="jpg and imagelabels.mat",
        files=flowers,
        shares=(51, 26),
    ),
}
