"""Several data sets in a row: one shape for all, labels of their own, and where the files of each came from."""

import numpy as np
import pytest
import torch
from PIL import Image

from maskbench.common.errors import UsageError
from maskbench.data.images.scale import Scale
from maskbench.data.images.shaping import measured, shaped
from maskbench.data.images.whole_sets import load
from maskbench.data.stage import in_order
from maskbench.data.streams import sets
from maskbench.data.streams.sets import common_shape, stream

MADE = {"labels": "shifted", "size": None, "val": 0.1, "normalize": "standard", "source": "auto", "root": "nowhere", "seed": 0}


def made(*names, **keys):
    return in_order(stream(**MADE | {"sets": list(names)} | keys))


@pytest.mark.parametrize(("labels", "outputs"), [("shifted", 10), ("kept", 20)])
def test_each_set_is_a_stage_with_all_its_classes(labels, outputs):
    stages = made("synthetic", "synthetic_other", labels=labels)
    assert [s.name for s in stages] == ["synthetic", "synthetic_other"] and {s.outputs for s in stages} == {outputs}
    assert [(len(s.train), len(s.val), len(s.test)) for s in stages] == [(1800, 200, 500)] * 2
    first, second = stages
    assert second.own == (tuple(range(10)) if labels == "shifted" else tuple(range(10, 20)))
    assert set(second.train.y.tolist()) == set(second.test.y.tolist()) == set(second.own)
    plain = load("synthetic", "nowhere")
    assert torch.equal(first.train.tensors()[0], plain.train_x[first.train.rows])
    assert torch.equal(first.train.y, plain.train_y[first.train.rows])
    assert first.label_space != second.label_space and second.classes[0] == "synthetic_other 0"


def test_the_record_says_where_every_set_came_from():
    first, second = made("synthetic", "synthetic_other")
    assert first.origin == second.origin and first.origin.name == "synthetic + synthetic_other"
    assert {name.partition("/")[0] for name in first.origin.checksums} == {"synthetic", "synthetic_other"}
    assert first.fingerprint != second.fingerprint != made("synthetic", "synthetic_other", seed=1)[1].fingerprint


def test_grey_images_are_repeated_and_all_are_brought_to_one_size():
    grey, colour = made("synthetic", "synthetic_cifar10", size=16, normalize="unit")
    assert grey.shape == colour.shape == (3, 16, 16)
    x = grey.train.tensors(first=3)[0]
    assert torch.equal(x[:, 0], x[:, 1]) and torch.equal(x[:, 0], x[:, 2])
    raw = (load("synthetic", "nowhere", "unit").train_x[grey.train.rows[0]][0] * 255).round().byte().numpy()
    expected = np.asarray(Image.fromarray(raw).resize((16, 16), Image.Resampling.BICUBIC))
    assert torch.equal((x[0, 0] * 255).round().byte(), torch.from_numpy(expected.copy()))


def test_images_of_several_sizes_ask_for_one():
    with pytest.raises(UsageError, match=r"28 x 28 \(synthetic\) and 32 x 32 \(synthetic_cifar10\): say with data.size=PIXELS"):
        made("synthetic", "synthetic_cifar10")
    assert common_shape(["mnist", "glyph28"], None) == (1, 28, 28) and common_shape(["mnist", "svhn"], 32) == (3, 32, 32)


@pytest.mark.parametrize("names", [("synthetic", "synthetic"), ("synthetic", "mnits")])
def test_sets_that_are_not_there_or_there_twice_are_refused(names):
    with pytest.raises(UsageError, match="data.sets names"):
        made(*names)


def test_letters_train_and_test_on_instances_of_their_own(monkeypatch):
    images = {f"S:{i}": np.full((20, 28, 28), i, np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None] for i in (0, 100)}
    monkeypatch.setattr(
        sets.glyph28, "load", lambda root, source: ({"train": {"S:0": images["S:0"]}, "test": images}, "made", "md5")
    )
    sets._load.cache_clear()
    (stage,) = made("glyph28", val=0.0, normalize="unit")
    assert (stage.outputs, len(stage.train), len(stage.test)) == (3, 42, 18)
    pixels = {part: (getattr(stage, part).tensors()[0][:, 0, 0, 0] * 255).round() for part in ("train", "test")}
    of = {part: set(pixels[part][getattr(stage, part).y == 2].tolist()) for part in pixels}
    assert of["train"] | of["test"] == set(range(100, 120)) and not of["train"] & of["test"]
    sets._load.cache_clear()


def test_a_measured_scale_is_that_of_the_pixels():
    x = torch.randint(256, (50, 3, 4, 4), dtype=torch.uint8)
    scale, pixels = measured(x), x.double() / 255
    assert torch.allclose(torch.tensor(scale.mean).double(), pixels.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(torch.tensor(scale.deviation).double(), pixels.std((0, 2, 3), unbiased=False), atol=1e-4)
    assert isinstance(scale, Scale)


def test_images_of_the_right_shape_are_left_alone():
    x = np.random.RandomState(0).randint(0, 256, (4, 3, 8, 8)).astype(np.uint8)
    assert shaped(x, (3, 8, 8)) is x


def test_a_run_over_sets_of_several_shapes(build):
    words = "method=packnet", "data=stream", "data.sets=[synthetic,synthetic_cifar10]", "data.size=8", "data.visits=[0,1,0]"
    bench = build(*words, "backbone.widths=[12]", "budget.steps=null", "budget.epochs=[1,2,1]", "budget.batch_size=128").go()
    assert len(bench.stages) == 3 and bench.metrics["logit_drift"] == 0.0
    lengths = [bench.fit.length(len(stage.train), 1.0, stage.index) for stage in bench.stages]
    assert lengths == [8, 30, 8]
