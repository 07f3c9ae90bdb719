"""Split images: every class and every image falls to exactly one stage."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskbench.common.errors import UsageError
from maskbench.data.images.split import split
from maskbench.data.images.whole_sets import load


def build(**changes):
    return split(
        **{
            "base": "synthetic", "stages": 5, "labels": "shifted", "order": "consecutive", "val": 200,
            "normalize": "standard", "source": "auto", "root": "nowhere", "seed": 0, **changes,
        }
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    stages=st.sampled_from([1, 2, 5, 10]),
    labels=st.sampled_from(["shifted", "kept"]),
    order=st.sampled_from(["consecutive", "random"]),
    val=st.integers(0, 1999),
    seed=st.integers(0, 2**31),
)
def test_stages_divide_classes_and_images(stages, labels, order, val, seed):
    made = build(stages=stages, labels=labels, order=order, val=val, seed=seed)
    everything = load("synthetic", "nowhere")
    assert sorted(c for stage in made for c in stage.classes) == list(range(10))
    rows = torch.cat([split.rows for stage in made for split in (stage.train, stage.val)])
    assert sorted(rows.tolist()) == list(range(2000))
    assert sum(len(stage.val) for stage in made) == val
    assert sorted(torch.cat([stage.test.rows for stage in made]).tolist()) == list(range(500))
    for i, stage in enumerate(made):
        assert (stage.index, stage.total, len(stage.classes)) == (i, stages, 10 // stages)
        assert stage.outputs == (10 // stages if labels == "shifted" else 10)
        own = torch.tensor(stage.classes) if labels == "shifted" else torch.arange(10)
        assert torch.equal(own[stage.train.y], everything.train_y[stage.train.rows])
        assert torch.equal(own[stage.val.y], everything.train_y[stage.val.rows])
        assert torch.equal(own[stage.test.y], everything.test_y[stage.test.rows])


def test_the_default_is_0_1_then_2_3():
    made = build()
    assert [stage.name for stage in made] == ["0/1", "2/3", "4/5", "6/7", "8/9"]
    assert made[3].classes == (6, 7) and set(made[3].train.y.tolist()) == {0, 1}
    assert set(build(labels="kept")[3].train.y.tolist()) == {6, 7}


def dealt(order, seed):
    return [stage.classes for stage in build(order=order, seed=seed)]


def test_random_order_follows_the_seed():
    assert dealt("random", 3) == dealt("random", 3) != dealt("random", 4)
    assert dealt("consecutive", 3) == dealt("consecutive", 4)
    assert dealt(3, 0) == dealt(3, 1) == dealt("random", 3), "a seed of its own, whatever the run's"


@pytest.mark.parametrize("stages", [3, 20, 4])
def test_an_uneven_number_of_stages_names_what_works(stages):
    with pytest.raises(UsageError, match=f"data.stages={stages} .*1, 2, 5 or 10"):
        build(stages=stages)


def test_fingerprints_tell_stages_and_labels_apart():
    prints = [stage.fingerprint for labels in ("shifted", "kept") for stage in build(labels=labels)]
    assert len(set(prints[:5])) == 5 and len(set(prints)) == 9  # 0/1 is labelled 0 and 1 either way
    assert prints[:5] == [stage.fingerprint for stage in build()]


def test_stages_share_the_images_and_can_be_pickled():
    made = build()
    assert len({stage.train.x.data_ptr() for stage in made}) == 1
    back = pickle.loads(pickle.dumps(made[2]))
    assert torch.equal(back.train.tensors()[0], made[2].train.tensors()[0])
