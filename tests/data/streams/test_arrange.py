"""Stages that come again and stages that mix: no image is lost, none is trained twice, and labels still say their classes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskbench.common.errors import UsageError
from maskbench.data.images.permuted import permuted
from maskbench.data.images.rotated import rotated
from maskbench.data.images.split import split
from maskbench.data.images.whole_sets import load
from maskbench.data.stage import Split, in_order
from maskbench.data.streams.arrange import in_a_row
from maskbench.data.streams.mixed import Mixed, join, take

MADE = {"base": "synthetic", "val": 200, "normalize": "standard", "source": "auto", "root": "nowhere", "seed": 0}


def stages(**keys):
    return in_order(split(**MADE | {"stages": 5, "labels": "kept"} | keys))


def trained(made) -> list[int]:
    return sorted(row for stage in made for row in stage.train.rows.tolist())


# ---- unequal stages


@pytest.mark.parametrize("labels", ["shifted", "kept"])
def test_unequal_stages_share_a_head_as_wide_as_the_largest_asks(labels):
    lists = [[8, 3], [1], [5, 0, 9, 2, 4, 6, 7]]
    made, everything = stages(stages=None, split=lists, labels=labels), load("synthetic", "nowhere")
    assert [stage.classes for stage in made] == [tuple(group) for group in lists] and made[0].name == "8/3"
    assert {stage.outputs for stage in made} == {7 if labels == "shifted" else 10}
    assert [stage.own for stage in made][:2] == ([(0, 1), (0,)] if labels == "shifted" else [(3, 8), (1,)])
    for stage in made:
        told = torch.tensor(stage.classes) if labels == "shifted" else torch.arange(10)
        assert torch.equal(told[stage.train.y], everything.train_y[stage.train.rows])
        assert set(stage.train.y.tolist()) == set(stage.own) == set(stage.test.y.tolist())
    assert trained(made) == trained(stages())


def test_classes_that_no_stage_has_are_left_out():
    made, everything = stages(stages=None, split=[[8], [3, 1]], rest="drop"), load("synthetic", "nowhere")
    assert set(everything.train_y[trained(made)].tolist()) == {1, 3, 8} and made[0].outputs == 10
    assert made[-1].seen == (1, 3, 8)


# ---- stages that come again


@given(visits=st.one_of(st.integers(1, 4), st.lists(st.integers(0, 4), max_size=6).map(lambda more: [0, 1, 2, 3, 4, *more])))
def test_the_visits_of_a_stage_share_its_training_images_and_its_tests(visits):
    plain, made = stages(), stages(visits=visits)
    order = list(range(5)) * visits if isinstance(visits, int) else visits
    assert [(s.index, s.total) for s in made] == [(i, len(order)) for i in range(len(order))]
    assert trained(made) == trained(plain), "each image is trained once"
    for place, (number, stage) in enumerate(zip(order, made, strict=True)):
        assert torch.equal(stage.test.rows, plain[number].test.rows) and torch.equal(stage.val.rows, plain[number].val.rows)
        assert stage.classes == plain[number].classes and stage.first_visit == order.index(number)
        assert (stage.repeats is None) == (number not in order[:place])
    shares = [len(stage.train) for number, stage in zip(order, made, strict=True) if number == order[-1]]
    assert max(shares) - min(shares) <= 1
    assert len({stage.name for stage in made}) == len(made), "parts of a run are named by their stages"


def test_a_stage_needs_as_many_images_as_visits():
    with pytest.raises(UsageError, match="has stage 0 2000 times"):
        stages(visits=2000)


# ---- stages that mix


@pytest.mark.parametrize("blur", [0.05, 0.3, 0.5])
def test_neighbours_exchange_a_share_and_no_image_is_lost(blur):
    plain, made = stages(), stages(blur=blur)
    assert trained(made) == trained(plain) and [len(s.train) for s in made] == [len(s.train) for s in plain]
    y = load("synthetic", "nowhere").train_y
    for i, stage in enumerate(made):
        assert torch.equal(stage.train.y, y[stage.train.rows]), "a label says its class, wherever the image went"
        assert torch.equal(stage.test.rows, plain[i].test.rows) and set(stage.test.y.tolist()) <= set(stage.own)
        assert {*stage.train.y.tolist(), *stage.classes} == set(stage.own), "what a loss over the stage's own outputs needs"
        foreign = [c for c in stage.own if c not in stage.classes]
        assert all(abs(c // 2 - i) == 1 for c in foreign)
        if i:
            came = sum(c in plain[i - 1].classes for c in stage.train.y.tolist())
            assert came == int(blur * min(len(plain[i].train), len(plain[i - 1].train)))
    assert [s.fingerprint for s in made] == [s.fingerprint for s in stages(blur=blur)]
    assert made[1].fingerprint != stages(blur=blur, seed=1)[1].fingerprint


def test_the_first_rows_of_a_mixed_stage_are_a_fair_sample():
    first = stages(blur=0.4)[0].train.y[:100]
    assert 20 < int((first >= 2).sum()) < 60


def test_permutations_that_mix_keep_each_image_under_its_own():
    keys = MADE | {"stages": 3, "legacy": False}
    plain, (first, *_, last) = permuted(**keys), permuted(**keys, blur=0.2)
    train = first.train
    assert isinstance(train, Mixed) and first.labels == () and len(train) == len(plain[0].train)
    x, y = train.tensors()
    count = int(0.2 * len(train))
    sources = torch.cat([plain[0].train.tensors()[0][: len(train) - count], plain[1].train.tensors()[0][:count]])
    assert torch.equal(x, sources[train.order]) and last.fingerprint != plain[-1].fingerprint
    for size in (7, 1000):
        parts = [torch.cat(each) for each in zip(*train.batches(size, first=300), strict=True)]
        assert torch.equal(parts[0], x[:300]) and torch.equal(parts[1], y[:300])
    index = torch.tensor([5, 0, 5, 99])
    assert torch.equal(train.pick(index)[0], x[index]) and torch.equal(train.feed().take(index)[1], y[index])
    assert torch.equal((train + first.val).tensors()[0][: len(x)], x)
    assert torch.equal((first.val + train).tensors()[0][-len(x) :], x)


@pytest.mark.parametrize(("keys", "words"), [({"blur": 0.6}, "take 0.5 or less"), ({"blur": 1e-6}, "exchanges no image"),
                                             ({"blur": 0.1, "labels": "shifted"}, "take data.labels=kept")])  # fmt: skip
def test_what_cannot_mix_is_refused(keys, words):
    with pytest.raises(UsageError, match=words):
        stages(**keys)


def test_visits_come_before_blur():
    made = rotated(**MADE | {"val": 0}, stages=2, degrees=30.0, visits=2, blur=0.1)
    assert [s.repeats for s in made] == [None, None, 0, 1] and [len(s.train) for s in made] == [1000] * 4


# ---- small pieces


def test_rows_are_taken_and_joined_in_one_tensor_where_they_lie_in_one():
    x = torch.arange(12.0).view(6, 2)
    one, other = Split(x, torch.arange(3), torch.tensor([5, 0, 2])), Split(x, torch.arange(6))
    assert take(one, torch.tensor([2, 0])).rows.tolist() == [2, 5] and take(other, torch.tensor([4])).y.tolist() == [4]
    both = join((one, other), torch.arange(9).flip(0))
    assert isinstance(both, Split) and both.rows.tolist() == [5, 4, 3, 2, 1, 0, 2, 0, 5]
    elsewhere = join((one, Split(x.clone(), torch.arange(6))), torch.arange(9).flip(0))
    assert isinstance(elsewhere, Mixed) and torch.equal(elsewhere.tensors()[0], both.tensors()[0])
    assert torch.equal(take(elsewhere, torch.tensor([1, 1])).tensors()[0], both.tensors()[0][[1, 1]])


@pytest.mark.parametrize(("labels", "outputs", "own"), [("shifted", 4, (0, 1)), ("kept", 6, (4, 5))])
def test_stages_in_a_row_share_outputs_or_have_their_own(labels, outputs, own):
    x = torch.zeros(4, 2)
    big = replace(stages()[0], outputs=4, **{part: Split(x, torch.arange(4)) for part in ("train", "val", "test")})
    small = replace(stages()[1], outputs=2, **{part: Split(x, torch.arange(4) % 2) for part in ("train", "val", "test")})
    first, second = in_a_row([big, small], labels)
    assert (first.outputs, second.outputs) == (outputs, outputs) and (first.own, second.own) == ((0, 1, 2, 3), own)
    assert set(second.train.y.tolist()) == set(second.test.y.tolist()) == set(own) and (second.index, second.total) == (1, 2)


# ---- a whole run

WORDS = (
    "method=packnet", "data=permutedmnist", "data.base=synthetic", "data.stages=2", "data.visits=[0,1,0]", "data.blur=0.2",
    "backbone.widths=[12]", "budget.steps=8", "budget.epochs=null", "loop.block=2",
)  # fmt: skip


def test_an_interrupted_run_over_stages_that_mix_goes_on_bit_for_bit(build, relay, same):
    whole, halted = build(*WORDS, folder="whole").go(), relay(*WORDS, folder="halted", halts=[3, 7])
    same(whole, halted)
    assert isinstance(whole.stages[0].train, Mixed) and whole.metrics["logit_drift"] == 0.0
