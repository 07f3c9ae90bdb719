"""Folders of images in a row, in the layout of PackNet's and Piggyback's data."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskbench.common.errors import UsageError
from maskbench.data.stage import in_order
from maskbench.data.streams.folders import folders

KEYS = {"labels": "shifted", "val": 0.25, "augment": False, "size": 8, "resize": 8, "normalize": "imagenet", "workers": 0,
        "root": "nowhere", "seed": 0}  # fmt: skip


def write(folder: Path, classes: list[str], test: str) -> str:
    draw = np.random.RandomState(len(classes))
    for part, count in (("train", 4), (test, 2)):
        for name in classes:
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(draw.randint(0, 256, (8, 8, 3)).astype(np.uint8)).save(folder / part / name / f"{i}.jpg")
    return str(folder)


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    return [write(tmp_path / "cubs", ["001.a", "002.b"], "test"), write(tmp_path / "imagenet", ["n01", "n02", "n03"], "val")]


@pytest.mark.parametrize(("labels", "outputs"), [("shifted", 3), ("kept", 5)])
def test_each_folder_is_a_stage_whose_test_part_is_called_test_or_val(two, labels, outputs):
    cubs, imagenet = in_order(folders(folders=two, **KEYS | {"labels": labels}))
    assert (cubs.name, cubs.outputs, imagenet.outputs) == ("cubs", outputs, outputs)
    assert [(len(s.train), len(s.val), len(s.test)) for s in (cubs, imagenet)] == [(6, 2, 4), (9, 3, 6)]
    assert imagenet.own == ((0, 1, 2) if labels == "shifted" else (2, 3, 4))
    assert cubs.classes == ("cubs 001.a", "cubs 002.b") and "test" in str(cubs.test.x[0]) and "val" in str(imagenet.test.x[0])
    x, y = imagenet.test.tensors()
    assert x.shape == (6, 3, 8, 8) and set(y.tolist()) == set(imagenet.own)
    assert set(cubs.origin.checksums) == {"cubs/train", "cubs/test", "imagenet/train", "imagenet/val"}


def test_a_folder_comes_again_with_further_images(two):
    made = folders(folders=two, **KEYS | {"val": 0.0}, visits=[0, 1, 0])
    assert [len(s.train) for s in made] == [4, 12, 4] and not set(made[0].train.rows.tolist()) & set(made[2].train.rows.tolist())


def test_folders_that_end_alike_are_named_in_full(tmp_path):
    alike = [write(tmp_path / one / "set", ["a", "b"], "test") for one in "xy"]
    assert [stage.name for stage in folders(folders=alike, **KEYS)] == alike


def test_folders_are_named_once_and_are_there(two, tmp_path):
    for bad, words in (([], "each once"), ([two[0]] * 2, "data.visits"), ([str(tmp_path / "x")], "put train/CLASS")):
        with pytest.raises(UsageError, match=words):
            folders(folders=bad, **KEYS)
