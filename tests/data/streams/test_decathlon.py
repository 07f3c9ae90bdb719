"""The small decathlon: the given net's stage, then five sets in one shape, with few rows of each class."""

import numpy as np
import pytest
import torch

from maskbench.common.errors import UsageError
from maskbench.data.images import small
from maskbench.data.sources.sets import Raw
from maskbench.data.sources.small_sets import Pool
from maskbench.data.stage import Origin, in_order
from maskbench.data.streams import decathlon
from maskbench.data.streams.decathlon import ROWS, decathlon5

POOLS = {
    "faces": (40, 10, (11, 9)),
    "animals": (10, 100, (8, 8)),
    "emoji": (9, 85, (3, 16, 16)),
    "imagenet_samples": (20, 1, (3, 32, 32)),
}
SETS = list(ROWS)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    draw = np.random.RandomState(0)

    def pool(name, *_):
        classes, each, shape = POOLS[name]
        x = draw.randint(0, 256, (classes * each, *shape)).astype(np.uint8)
        return Pool(x, np.repeat(np.arange(classes), each), tuple(map(str, range(classes)))), Origin(name, "pip", {"file": name})

    def file(name, *_):
        y = [np.repeat(np.arange(10), count).astype(np.uint8) for count in (50, 110)]
        return Raw(
            *(part for labels in y for part in (draw.randint(0, 256, (len(labels), 28, 28)).astype(np.uint8), labels))
        ), Origin(name, "npm")

    for module in (small, decathlon):
        monkeypatch.setattr(module, "pool_of", pool)
    monkeypatch.setattr(decathlon.sources, "find", file)


def made(**changes):
    keys = {"sets": SETS, "given": True, "size": 16, "normalize": "unit", "source": "auto", "root": "nowhere", "seed": 0}
    return in_order(decathlon5(**keys | changes))


def test_the_given_nets_stage_comes_first_and_trains_nothing():
    first, *sets = made()
    assert (first.name, first.given, first.outputs, first.shape) == ("imagenet", True, 1000, (3, 32, 32))
    assert len(first.train) == len(first.val) == 0 and len(first.test) == 20
    assert [s.name for s in sets] == SETS and not any(s.given for s in sets) and {s.total for s in (first, *sets)} == {6}
    assert set(first.origin.checksums) >= {"imagenet_samples/file", "faces/file", "emoji/file"}


def test_each_set_has_its_rows_its_classes_and_one_shape():
    for stage in made()[1:]:
        train, test = ROWS[stage.name]
        assert stage.train.y.bincount().tolist() == [train] * stage.outputs and len(stage.val) == 0
        assert stage.test.y.bincount().tolist() == [test] * stage.outputs
        assert stage.shape == tuple(stage.train.tensors(first=2)[0].shape[1:]) == (3, 16, 16)
    assert [stage.outputs for stage in made()] == [1000, 40, 10, 10, 10, 9]
    assert [len(stage.train) for stage in made()[1:]] == [200, 400, 400, 400, 450]


def test_sets_may_be_left_out_and_the_given_stage_too():
    assert [s.name for s in made(sets=["emoji", "faces"])] == ["imagenet", "emoji", "faces"]
    assert [(s.index, s.name) for s in made(sets=["mnist"], given=False)] == [(0, "mnist")]
    for bad in ([], ["mnist", "mnist"]):
        with pytest.raises(UsageError, match="each once"):
            made(sets=bad)


@pytest.mark.parametrize("seed", [0, 1])
def test_samples_are_looked_at_and_compared_apart_unless_one_says(seed):
    keys = {"normalize": "unit", "source": "auto", "root": "nowhere", "seed": seed}
    (apart,), (both,) = (decathlon.imagenet_samples(held_out=held, **keys) for held in (True, False))
    assert both.train is both.test and len(both.test) == 20
    assert len(apart.train) == len(apart.test) == 10 and apart.given and apart.samples
    seen, compared = set(apart.train.rows.tolist()), set(apart.test.rows.tolist())
    assert seen | compared == set(range(20))
    assert torch.equal(apart.test.y, both.test.y[apart.test.rows]) and apart.test.tensors()[0].shape == (10, 3, 32, 32)
