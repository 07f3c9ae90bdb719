"""Layouts of few-shot data sets on small made-up files: which image is of which class, and which class is for what."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from maskbench.common.errors import UsageError
from maskbench.data.episodes import few_shot_folders as folders
from maskbench.data.episodes.few_shot import few_shot


def write(path: Path, value: int, size: int = 9, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size, size), value if mode == "L" else (value, 0, 255 - value)).save(path)


def omniglot(root: Path) -> None:
    for part, alphabets in (("images_background", "ab"), ("images_evaluation", "cd")):
        for a in alphabets:
            for letter in range(1, 6):
                for i in range(4):
                    write(root / "omniglot-py" / part / a / f"character{letter:02d}" / f"{i}.png", 255, mode="L")


def class_folders(root: Path, below: str, classes: int = 12, images: int = 4) -> None:
    for c in range(classes):
        for i in range(images):
            write(root / below / f"{c:03d}.kind" / f"{i}.jpg", 20 * c)


def cifar_fs(root: Path) -> None:
    class_folders(root, "cifar100/data")
    lists = root / "cifar100" / "splits" / "bertinetto"
    lists.mkdir(parents=True)
    for split, own in (("train", range(6)), ("val", range(6, 9)), ("test", range(9, 12))):
        (lists / f"{split}.txt").write_text("".join(f"{c:03d}.kind\n" for c in own))


def mini_imagenet(root: Path) -> None:
    folder = root / "mini-imagenet"
    for split, own in (("train", range(6)), ("val", range(6, 9)), ("test", range(9, 12))):
        rows = [(f"n{c:02d}_{i}.jpg", f"n{c:02d}") for c in own for i in range(4)]
        for name, label in rows:
            write(folder / "images" / name, 20 * int(label[1:]))
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("filename", "label"), *rows])


def aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    for part, start in (("train", 0), ("val", 100), ("test", 200)):
        lines = [(f"{start + 10 * c + i:07d}", f"A{c} 3/4") for c in range(9) for i in range(2)]
        for number, _ in lines:
            write(data / "images" / f"{number}.jpg", 100)
        (data / f"images_variant_{part}.txt").write_text("\n".join(f"{n} {v}" for n, v in lines))


def vgg_flower(root: Path) -> None:
    labels = np.repeat(np.arange(1, 13), 4)
    for number in range(1, 49):
        write(root / "flowers-102" / "jpg" / f"image_{number:05d}.jpg", 100)
    savemat(root / "flowers-102" / "imagelabels.mat", {"labels": labels[None]})


def cub(root: Path) -> None:
    class_folders(root, "CUB_200_2011/images")


def cars(root: Path) -> None:
    class_folders(root, "cars/images")


MAKERS = {f.__name__: f for f in (omniglot, cifar_fs, mini_imagenet, aircraft, vgg_flower, cub, cars)}


@pytest.fixture
def small_shares(monkeypatch) -> None:
    """A third of the classes trains and a sixth validates, as there are so few here; and Omniglot is whole with 20 letters."""
    from dataclasses import replace

    small = {name: replace(layout, shares=(4, 2)) for name, layout in folders.LAYOUTS.items()}
    small["omniglot"] = replace(small["omniglot"], classes=20)
    monkeypatch.setattr(folders, "LAYOUTS", small)


@pytest.mark.parametrize("name", MAKERS)
def test_layouts_are_read(name: str, tmp_path: Path, small_shares) -> None:
    MAKERS[name](tmp_path)
    by_split = folders.read(name, 6, tmp_path)
    classes = [set(by_split[split]) for split in ("train", "val", "test")]
    assert all(len(own) >= 1 for own in classes)
    assert len(set.union(*classes)) == sum(map(len, classes)), "no class is in two splits"
    expected = {"omniglot": 20, "aircraft": 9}.get(name, 12)
    assert sum(map(len, classes)) == expected
    for own in by_split.values():
        for images in own.values():
            assert images.dtype == np.uint8 and images.shape[1:3] == (6, 6)
            assert images.shape[0] == (6 if name == "aircraft" else 4)
            assert images.ndim == (3 if name == "omniglot" else 4)
    again = folders.read(name, 6, tmp_path)
    assert [list(again[split]) for split in again] == [list(by_split[split]) for split in by_split]


def test_lists_of_the_set_itself_say_what_trains(tmp_path: Path) -> None:
    cifar_fs(tmp_path)
    by_split = folders.read("cifar_fs", 6, tmp_path)
    assert list(by_split["val"]) == ["006.kind", "007.kind", "008.kind"]
    assert abs(by_split["val"]["007.kind"][0, 0, 0].astype(int) - [140, 0, 115]).max() <= 3


def test_folders_named_train_val_and_test_win(tmp_path: Path) -> None:
    cub(tmp_path)
    for split in ("train", "val", "test"):
        class_folders(tmp_path, f"CUB_200_2011/{split}", classes=2)
        for old in (tmp_path / "CUB_200_2011" / split).iterdir():
            old.rename(old.with_name(f"{split} {old.name}"))
    assert list(folders.read("cub", 6, tmp_path)["test"]) == ["test 000.kind", "test 001.kind"]


def test_anyone_can_put_lists_there(tmp_path: Path) -> None:
    cub(tmp_path)
    lists = tmp_path / "CUB_200_2011" / "splits"
    lists.mkdir()
    for split, c in (("train", 3), ("val", 1), ("test", 2)):
        (lists / f"{split}.txt").write_text(f"{c:03d}.kind\n")
    assert {split: list(own) for split, own in folders.read("cub", 6, tmp_path).items()} == {
        "train": ["003.kind"], "val": ["001.kind"], "test": ["002.kind"],
    }  # fmt: skip


def test_drawn_letters_of_omniglot_are_light_on_dark(tmp_path: Path, small_shares) -> None:
    omniglot(tmp_path)  # white pages
    assert all((images == 0).all() for own in folders.read("omniglot", 6, tmp_path).values() for images in own.values())


def test_what_lacks_or_is_broken_is_one_sentence(tmp_path: Path, small_shares) -> None:
    for name in folders.LAYOUTS:
        with pytest.raises(UsageError, match="put ") as error:
            folders.read(name, 6, tmp_path)
        assert "\n" not in str(error.value)
    cub(tmp_path)
    (tmp_path / "CUB_200_2011/images/000.kind/0.jpg").write_bytes(b"no image")
    with pytest.raises(UsageError, match="is no image"):
        folders.read("cub", 6, tmp_path)


def test_another_domain_is_a_further_list(tmp_path: Path, small_shares) -> None:
    cifar_fs(tmp_path)
    aircraft(tmp_path)
    (stage,) = few_shot(
        base="cifar_fs", size=8, ways=2, shots=1, queries=None, test_queries=1, test_shots=[], cross=["aircraft"],
        rotations=False, val=3, test=5, source="auto", root=tmp_path, seed=0,
    )  # fmt: skip
    assert set(stage.further) == {"aircraft"} and stage.origin.source == "folder"
    assert set(stage.origin.checksums) == {"cifar_fs", "aircraft"}
    assert stage.further["aircraft"].bank.names != stage.test.bank.names and stage.shape == (3, 8, 8)
