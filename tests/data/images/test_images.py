"""Images as stages: normalisation, splits that neither overlap nor lose anything, and one load per process."""

import pickle

import pytest
import torch

from maskbench.common.errors import UsageError
from maskbench.data.images import whole_sets as images
from maskbench.data.images.whole_sets import divide, load, whole
from maskbench.data.sources import find as sources
from maskbench.data.sources import sets


def build(root="nowhere", **changes):
    return whole(
        **{
            "base": "synthetic",
            "val": 200,
            "normalize": "standard",
            "source": "auto",
            "root": root,
            "seed": 0,
            **changes,
        }
    )


def test_shapes_types_and_normalisation():
    loaded = load("synthetic", "nowhere")
    assert loaded.train_x.shape == (2000, 1, 28, 28) and loaded.train_x.dtype == torch.float32
    assert loaded.train_y.dtype == torch.int64
    assert abs(loaded.train_x.mean()) < 1e-3 and abs(loaded.train_x.std() - 1) < 1e-3
    assert loaded.train_x.min() == loaded.black
    unit = load("synthetic", "nowhere", "unit")
    assert unit.train_x.min() == unit.black == 0 and unit.train_x.max() == 1
    raw = torch.from_numpy(sets.synthetic().test_x)
    assert torch.equal(unit.test_x[:, 0], raw / 255)


def test_a_process_loads_once(monkeypatch):
    first = load("synthetic", "nowhere")
    monkeypatch.setattr(sources, "find", None)
    assert load("synthetic", "nowhere", normalize="standard", source="auto") is first


def test_splits_are_disjoint_and_exhaustive():
    (stage,) = build()
    train, val = stage.train.rows, stage.val.rows
    assert len(val) == 200 and sorted(torch.cat([train, val]).tolist()) == list(range(2000))
    assert sorted(stage.test.rows.tolist()) == list(range(500))
    everything = load("synthetic", "nowhere")
    for split, y in (
        (stage.train, everything.train_y),
        (stage.val, everything.train_y),
        (stage.test, everything.test_y),
    ):
        assert torch.equal(split.y, y[split.rows])
    assert (stage.classes, stage.outputs, stage.shape, stage.total) == (tuple(range(10)), 10, (1, 28, 28), 1)


def test_the_first_rows_are_a_random_draw():
    (stage,) = build()
    for split in (stage.train, stage.val, stage.test):
        assert split.y[:50].unique().numel() == 10 and not torch.equal(split.rows, split.rows.sort().values)


def test_the_seed_alone_decides():
    a, again, other = build()[0], build()[0], build(seed=1)[0]
    assert torch.equal(a.val.rows, again.val.rows) and a.fingerprint == again.fingerprint
    assert not torch.equal(a.val.rows, other.val.rows) and a.fingerprint != other.fingerprint
    assert a.fingerprint != build(val=201)[0].fingerprint


def test_no_validation_images_is_allowed():
    (stage,) = build(val=0)
    assert len(stage.val) == 0 and len(stage.train) == 2000 and stage.val.tensors()[0].shape == (0, 1, 28, 28)


def test_a_small_stand_in_keeps_the_share_of_the_default():
    (stage,) = build(val=5000)
    assert len(stage.val) == 2000 * 5000 // 60_000


def test_validation_leaves_something_to_train_on():
    with pytest.raises(UsageError, match="data.val=60000 leaves nothing"):
        build(val=60_000)


def test_full_data_never_shrinks_the_validation_split():
    with pytest.raises(UsageError, match="leaves nothing"):
        images.validation(60_000, 60_000, "npm")


def test_wrong_names_are_refused():
    with pytest.raises(UsageError, match="'synthetic'"):
        build(base="synthetik")


def test_stages_can_be_pickled():
    (stage,) = build()
    back = pickle.loads(pickle.dumps(stage))
    assert back.fingerprint == stage.fingerprint and torch.equal(back.test.tensors()[0], stage.test.tensors()[0])


def test_synthetic_is_learnable_but_not_at_once():
    everything = divide(load("synthetic", "nowhere"), 0, 0)
    (x, y), (test_x, test_y) = everything.train.tensors(), everything.test.tensors()
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 100), torch.nn.ReLU(), torch.nn.Linear(100, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    accuracy = []
    for step in range(200):
        index = torch.arange(step * 128, (step + 1) * 128) % len(y)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[index]), y[index]).backward()
        optimizer.step()
        accuracy.append((net(test_x).argmax(1) == test_y).float().mean().item() if step in (4, 199) else None)
    assert accuracy[4] < 0.9 and accuracy[199] > 0.95
