"""Omniglot in folders and zips, whole and in part: alphabets, their splits, and that no part passes for the whole."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskbench.cli.commands import data as command
from maskbench.common.errors import UsageError
from maskbench.data.episodes import few_shot as episodes
from maskbench.data.episodes import few_shot_folders as folders
from maskbench.data.episodes import omniglot
from maskbench.data.episodes.few_shot import few_shot

SETS = {
    "images_background": ("Greek", "Latin", "Korean"),
    "images_evaluation": ("Tengwar", "Avesta"),
    "images_background_small1": ("Greek", "Latin"),
    "images_background_small2": ("Latin", "Tagalog", "Sanskrit"),
}
LETTERS, DRAWERS = 5, 4


def page(alphabet: str, letter: int, drawer: int) -> bytes:
    """A white page with one black dot, whose place tells the three."""
    image = np.full((12, 12), 255, np.uint8)
    image[2 * letter, len(alphabet)] = image[drawer, 0] = 0
    out = io.BytesIO()
    Image.fromarray(image).convert("1").save(out, "PNG")
    return out.getvalue()


def pack(folder: Path, *parts: str, zipped: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        files = {
            f"{part}/{alphabet}/character{letter + 1:02d}/{letter:02d}{drawer:02d}.png": page(alphabet, letter, drawer)
            for alphabet in SETS[part]
            for letter in range(LETTERS)
            for drawer in range(DRAWERS)
        }
        if zipped:
            with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
                for name in reversed(files):
                    archive.writestr(name, files[name])
        else:
            for name, content in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    """The whole set has the 25 letters of background and evaluation."""
    layout = replace(folders.LAYOUTS["omniglot"], shares=(8, 4), classes=25)
    monkeypatch.setitem(folders.LAYOUTS, "omniglot", layout)
    monkeypatch.setattr(omniglot, "LETTERS", 25)
    episodes.load.cache_clear()


def stage(root: Path, **changes):
    keys = {"ways": 2, "shots": 1, "queries": 1, "test_queries": 1, "test_shots": [], "cross": [], "rotations": True, "val": 3}
    keys |= {"test": 5, "source": "auto", "seed": 0, "size": 12, "base": "omniglot", "root": root}
    (made,) = few_shot(**keys | changes)
    return made


def alphabets(bank) -> list[str]:
    return list(dict.fromkeys(name.partition("/")[0] for name in bank.names))


def test_zips_are_as_good_as_folders(tmp_path):
    whole = "images_background", "images_evaluation"
    pack(tmp_path / "a/omniglot-py", *whole, zipped=False)
    pack(tmp_path / "b/omniglot", *whole)
    pack(tmp_path / "c", *whole)
    one, *others = (stage(tmp_path / place) for place in "abc")
    assert one.origin.source == "folder" and one.origin.facts == {} and len(one.train.bank.names) == 4 * 8
    for other in others:
        assert other.fingerprint == one.fingerprint and other.classes == one.classes


def test_a_part_is_refused_as_the_whole_and_named(tmp_path):
    pack(tmp_path / "omniglot", "images_background_small1", "images_background_small2")
    with pytest.raises(UsageError) as error:
        stage(tmp_path)
    text = str(error.value)
    assert "4 of 50 alphabets" in text and "data.alphabets='[Greek,Latin,Sanskrit,Tagalog]'" in text and "\n" not in text
    row = next(row for row in command.rows(tmp_path) if row[0] == "omniglot")
    assert row[1:3] == ["yes", "folder, 4 of 50 alphabets"]
    assert "  alphabets: Greek, Latin, Sanskrit, Tagalog" in list(command.details(["omniglot"], tmp_path))


def test_an_alphabet_in_two_parts_counts_once(tmp_path):
    pack(tmp_path / "omniglot", "images_background_small1", "images_background_small2")
    found = omniglot.letters(tmp_path / "omniglot")
    assert len(found) == 4 * LETTERS and {len(files) for files in found.values()} == {DRAWERS}


def test_named_alphabets_are_split_by_alphabet_and_recorded(tmp_path):
    pack(tmp_path / "omniglot", "images_background_small1", "images_background_small2")
    made = stage(tmp_path, alphabets=["Tagalog", "Latin", "Greek", "Sanskrit"])
    banks = {split: getattr(made, split).bank for split in ("train", "val", "test")}
    assert {split: alphabets(bank) for split, bank in banks.items()} == {
        "train": ["Tagalog", "Latin"], "val": ["Greek"], "test": ["Sanskrit"],
    }  # fmt: skip
    assert len(banks["train"].names) == 4 * 2 * LETTERS and len(banks["test"].names) == LETTERS  # turned while training only
    assert made.origin.source == "folder, 4 of 50 alphabets"
    assert made.origin.facts["alphabets"] == {"train": ["Tagalog", "Latin"], "val": ["Greek"], "test": ["Sanskrit"]}
    assert stage(tmp_path, alphabets=["Latin", "Tagalog", "Greek", "Sanskrit"]).fingerprint != made.fingerprint


def test_a_part_of_the_whole_is_the_same_part(tmp_path):
    names = ["Latin", "Greek", "Korean"]
    pack(tmp_path / "a/omniglot", "images_background", zipped=False)
    pack(tmp_path / "b/omniglot", "images_background", "images_evaluation")
    assert stage(tmp_path / "a", alphabets=names).fingerprint == stage(tmp_path / "b", alphabets=names).fingerprint


@pytest.mark.parametrize(("count", "sizes"), [(3, (1, 1, 1)), (8, (5, 1, 2)), (30, (20, 3, 7))])
def test_how_many_alphabets_train(count, sizes):
    names = [f"alphabet {i}" for i in range(count)]
    by_split = omniglot.chosen(names, names)
    assert tuple(map(len, by_split.values())) == sizes and sum(by_split.values(), []) == names


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["Greek", "Latim", "Sanskrit"], "Did you mean 'Latin'"),
        (["Greek", "Latin"], "three or more"),
        (["Greek", "Latin", "Greek"], "three or more different"),
        ([], "three or more"),
    ],
)
def test_alphabets_that_do_not_serve_are_one_sentence(tmp_path, names, words):
    pack(tmp_path / "omniglot", "images_background_small1", "images_background_small2")
    with pytest.raises(UsageError, match=words):
        stage(tmp_path, alphabets=names)


def test_other_data_have_no_alphabets(tmp_path):
    for base in ("synthetic", "cub"):
        with pytest.raises(UsageError, match="data.alphabets is for data=omniglot"):
            stage(tmp_path, base=base, alphabets=["Greek", "Latin", "Korean"])


def test_damaged_zips_are_named(tmp_path):
    folder = pack(tmp_path / "omniglot", "images_background")
    content = bytearray((folder / "images_background.zip").read_bytes())
    content[200] ^= 255  # inside one drawing or its header
    (folder / "images_background_small2.zip").write_bytes(b"<html>")
    with pytest.raises(UsageError, match="small2.zip is damaged"):
        stage(tmp_path, alphabets=["Latin", "Greek", "Korean"])
    (folder / "images_background_small2.zip").unlink()
    (tmp_path / "other/omniglot").mkdir(parents=True)
    (tmp_path / "other/omniglot/images_background.zip").write_bytes(bytes(content))
    with pytest.raises(UsageError, match=r"images_background.zip/.*\.png is no image"):
        stage(tmp_path / "other", alphabets=["Latin", "Greek", "Korean"])
