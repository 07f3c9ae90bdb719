"""Small sets: rows drawn alike for each class, near images on one side, files read as they are published."""

import io
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskbench.common.errors import UsageError
from maskbench.data.images import small
from maskbench.data.images.small import balanced, distances
from maskbench.data.sources import small_sets
from maskbench.data.sources.folder import md5
from maskbench.data.sources.small_sets import FACE, Pool
from maskbench.data.stage import Origin

KEYS = {"base": "faces", "train": 5, "test": 3, "val": 0.2, "size": None, "normalize": "standard", "source": "auto",
        "root": "nowhere", "seed": 0}  # fmt: skip


def pool(classes=4, each=10, shape=(12, 10)) -> Pool:
    draw = np.random.RandomState(0)
    x = draw.randint(0, 256, (classes * each, *shape)).astype(np.uint8)
    return Pool(x, np.repeat(np.arange(classes), each), tuple("abcdefgh"[:classes]))


@pytest.fixture
def stage(monkeypatch):
    def make(**changes):
        content = pool()
        monkeypatch.setattr(
            small, "pool_of", lambda *_: (content, Origin("toy", "folder", {"file": "md5"}, facts={"licence": "free"}))
        )
        (made,) = small.small(**KEYS | changes)
        return made

    return make


# ---- which rows


def test_every_class_has_as_many_rows_and_none_is_on_both_sides(stage):
    made = stage()
    assert (len(made.train), len(made.val), len(made.test)) == (16, 4, 12) and made.classes == tuple("abcd")
    y = torch.cat([made.train.y, made.val.y])
    assert y.bincount().tolist() == [5] * 4 and made.test.y.bincount().tolist() == [3] * 4
    rows = {part: {x.numpy().tobytes() for x in getattr(made, part).tensors()[0]} for part in ("train", "val", "test")}
    assert not rows["test"] & (rows["train"] | rows["val"])
    assert (made.shape, made.outputs, made.origin.facts) == ((1, 12, 10), 4, {"licence": "free"})


def test_the_seed_draws_the_rows_and_a_smaller_sample_is_part_of_a_larger(stage):
    assert stage().fingerprint == stage().fingerprint
    few, many = (stage(train=n, val=0.0, normalize="unit") for n in (2, 7))
    tests = [made.test.tensors()[0][made.test.y.argsort(stable=True)] for made in (few, many)]
    assert torch.equal(*tests), "what tests is drawn first"
    first, more = ({x.numpy().tobytes() for x in made.train.tensors()[0]} for made in (few, many))
    assert first < more
    other = stage(seed=1, normalize="unit").test.tensors()[0]
    assert {x.numpy().tobytes() for x in other} != {x.numpy().tobytes() for x in few.test.tensors()[0]}
    assert stage(seed=1).origin.checksums["rows"] != stage().origin.checksums["rows"] != few.origin.checksums["rows"]


@given(st.integers(0, 50))
def test_what_nearly_equals_a_test_image_does_not_train(seed):
    content = pool(classes=2, each=12)
    twins = np.concatenate([content.x, content.x[:, :, ::-1] // 2 * 2, content.x // 4 * 4])  # mirrored, and a little darker
    three = Pool(twins, np.tile(content.y, 3), content.classes)
    trained, tested = balanced(three, None, 3, np.random.default_rng(seed), 10.0)
    assert not set(trained % len(content.x)) & set(tested % len(content.x)), "neither an image nor its twins"
    apart, _ = balanced(three, None, 3, np.random.default_rng(seed), None)
    assert len(apart) == len(twins) - 6 > len(trained)
    assert distances(three.x, three.x[tested])[trained].min() >= 10


def test_distances_are_those_to_the_nearest_or_its_mirror_image():
    x = np.zeros((3, 2, 2), np.uint8)
    x[1, :, 0], x[2] = 8, 10
    assert distances(x, x[1:2]).tolist() == pytest.approx([np.sqrt(32), 0, np.sqrt(52)], abs=1e-3)
    assert distances(x[1:2, :, ::-1].copy(), x[1:2]).tolist() == [0]


def test_more_rows_than_there_are_are_refused(stage):
    with pytest.raises(UsageError, match="data.train=8 asks for more .* beside 3 that test, 7 are left to train"):
        stage(train=8)
    assert len(stage(train=None, val=0.0).train) == 28


def test_images_are_resized_on_demand(stage):
    assert stage(size=6).shape == (1, 6, 6)


# ---- files


def test_photographs_with_line_ends_of_windows_are_mended():
    pixels = np.random.RandomState(1).randint(0, 40, (112, 92)).cumsum(0).clip(0, 255).astype(np.uint8)
    pixels[3, 4:8], pixels[60, 7] = 10, 10
    content = FACE + pixels.tobytes()
    assert small_sets.mended(content) == small_sets.mended(content.replace(b"\n", b"\r\n")) == pixels.tobytes()


def test_a_pair_that_was_there_before_is_told_by_the_image():
    smooth = np.tile(np.linspace(0, 250, 92).astype(np.uint8), (112, 1)) // 2 * 2 + 1  # odd: no pixel of 10
    for row, column in ((5, 5), (20, 40), (90, 60)):
        smooth[row, column] = 10
    smooth[70, 30:32] = 13, 10
    lone = (FACE + smooth.tobytes()).replace(b"\r\n", b"PAIR").replace(b"\n", b"\r\n").replace(b"PAIR", b"\r\n")
    assert small_sets.mended(lone) == smooth.tobytes()


def test_faces_lie_one_after_another():
    photographs = [FACE + bytes([i % 9 + 20]) * 92 * 112 for i in range(400)]
    photographs[7] = photographs[7].replace(b"\n", b"\r\n")
    made = small_sets.faces({"orl_faces.pgm": b"".join(photographs)})
    assert made.x.shape == (400, 112, 92) and made.y.tolist() == [i // 10 for i in range(400)]
    assert made.x[:, 50, 50].tolist() == [i % 9 + 20 for i in range(400)]


def test_equal_animals_count_once_and_no_pickle_runs_code():
    x, y = np.random.RandomState(0).randint(0, 256, (6, 28, 28)).astype(np.uint8), np.arange(6)
    x[4] = x[1]
    made = small_sets.animals({"animal_data_version_3": pickle.dumps(x), "animal_label_version_3": pickle.dumps(y)})
    assert made.y.tolist() == [0, 1, 2, 3, 5] and np.array_equal(made.x, x[[0, 1, 2, 3, 5]])

    class Evil:
        def __reduce__(self):
            return eval, ("1/0",)

    with pytest.raises(pickle.UnpicklingError, match="has no place"):
        small_sets.animals({"animal_data_version_3": pickle.dumps(Evil()), "animal_label_version_3": pickle.dumps(y)})


def png(colour) -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def test_emoji_lie_on_white_in_the_order_of_their_list():
    colours = [(255, 0, 0, 255), (0, 0, 255, 0), (0, 255, 0, 255), (255, 0, 0, 255)]  # the second is transparent: white
    categories = ["Symbols", "Flags", "Component", "Objects", "Food & Drink"]
    listed = json.dumps([{"category": c, "image": "x.png"} for c in categories]).encode()
    files = [png(c) for c in colours]
    assert list(small_sets.drawings(b"".join(files))) == files
    made = small_sets.emoji({"emoji.json": listed, "google_64.png": b"".join(files)})
    assert [small_sets.CATEGORIES[i] for i in made.y] == ["Symbols", "Flags", "Objects"], (
        "no Component, and of equal ones the first"
    )
    assert made.x[:, :, 9, 9].tolist() == [[255, 0, 0], [255, 255, 255], [0, 255, 0]]


def test_files_are_checked_and_named(tmp_path):
    (tmp_path / "animals").mkdir()
    for file in small_sets.SMALL["animals"].md5:
        (tmp_path / "animals" / file).write_bytes(b"something else")
    with pytest.raises(UsageError, match=f"is damaged .MD5 {md5(b'something else')}"):
        small_sets.find("animals", tmp_path, "folder")
    with pytest.raises(UsageError, match="put orl_faces.pgm there"):
        small_sets.find("faces", tmp_path, "folder")
    rows = {row["name"]: row for row in small_sets.status(tmp_path)}
    assert not rows["animals"]["present"] and len(rows["animals"]["damaged"]) == 2 and rows["emoji"]["damaged"] == []
    with pytest.raises(UsageError, match="has no torchvision"):
        small_sets.find("faces", tmp_path, "torchvision")


@pytest.mark.network
@pytest.mark.parametrize(("name", "images", "classes"), [("faces", 400, 40), ("animals", 9716, 10), ("emoji", 1892, 9),
                                                          ("imagenet_samples", 20, 1000)])  # fmt: skip
def test_the_real_packages(tmp_path, name, images, classes):
    made, origin = small_sets.find(name, tmp_path, "package")
    assert len(made.x) == len(made.y) == images and len(made.classes) == classes and origin.facts["licence"]
    assert small_sets.find(name, tmp_path, "folder")[1].source == origin.source
