"""Episodes: each is decided by seed, split and number alone; what is in one; sine waves of the exact protocol."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskbench.common.errors import UsageError
from maskbench.data.episodes import bank as banks
from maskbench.data.episodes.bank import Bank, ImageEpisodes, first
from maskbench.data.episodes.few_shot import few_shot
from maskbench.data.episodes.sinusoid import sinusoid
from maskbench.data.episodes.stages import EpisodeStage, scrambled, unit


def waves(**changes) -> EpisodeStage:
    (stage,) = sinusoid(
        **{"shots": 10, "queries": None, "test_queries": None, "test_shots": [5, 20], "val": 7, "test": 600,
           "root": Path("nowhere"), "seed": 0} | changes
    )  # fmt: skip
    return stage


def images(**changes) -> EpisodeStage:
    (stage,) = few_shot(
        **{"base": "synthetic", "size": 28, "ways": 5, "shots": 2, "queries": None, "test_queries": 15, "test_shots": [1],
           "cross": [], "rotations": True, "val": 7, "test": 60, "source": "auto", "root": Path("nowhere"), "seed": 0} | changes
    )  # fmt: skip
    return stage


@pytest.mark.parametrize("make", [waves, images])
def test_an_episode_is_the_same_whatever_it_is_drawn_with(make) -> None:
    train = make().train
    (x, own), y = train.feed().take(torch.tensor([3, 1_000_000, 5]))
    (again, own_again), y_again = make().train.pick(torch.tensor([5, 3]))
    assert torch.equal(x[[2, 0]], again) and torch.equal(own[[2, 0]], own_again) and torch.equal(y[[2, 0]], y_again)
    for other in (make(seed=1).train, make().val, make().test):
        assert not torch.equal(other.pick(torch.tensor([3]))[0].x[:, : x.shape[1]], x[:1])
    assert make().fingerprint == make().fingerprint != make(seed=1).fingerprint


@pytest.mark.parametrize("make", [waves, images])
def test_a_split_has_the_doors_of_a_split(make) -> None:
    test = make().test
    pieces = list(test.batches(1000, first=55))
    whole, y = test.tensors(first=55)
    assert [len(y) for _, y in pieces] == [16, 16, 16, 7]
    assert torch.equal(torch.cat([tasks.x for tasks, _ in pieces]), whole.x)
    assert torch.equal(torch.cat([y for _, y in pieces]), y)
    assert len(make().val) == 7 and len(make().train) > 70_000 * 25


def test_counters_give_uniform_independent_numbers() -> None:
    words = scrambled(np.arange(200_000, dtype=np.uint64))
    assert len(np.unique(words)) == len(words)
    u = unit(words)
    assert 0 <= u.min() and u.max() < 1
    assert abs(u.mean() - 0.5) < 4 * math.sqrt(1 / 12 / len(u)) and abs(u.var() - 1 / 12) < 0.001
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.01
    shares = np.histogram(u, 10, (0, 1))[0] / len(u)
    assert abs(shares - 0.1).max() < 0.004


# ---- sine waves


def test_waves_are_those_of_the_protocol() -> None:
    (x, own), y = waves().test.tensors(first=600)
    assert x.shape == (600, 20, 1) and own.shape == y.shape == (600, 10, 1) and x.dtype == y.dtype == torch.float32
    assert x.min() >= -5 and x.max() <= 5 and abs(x.mean()) < 0.15
    values = torch.cat([own, y], 1).squeeze(-1).double()
    basis = torch.stack([x.squeeze(-1).sin(), x.squeeze(-1).cos()], -1).double()
    solved = torch.linalg.lstsq(basis, values[..., None]).solution.squeeze(-1)  # A cos(phase), -A sin(phase)
    assert torch.allclose((basis * solved[:, None]).sum(-1), values, atol=1e-4)
    amplitude, phase = solved.norm(dim=1), torch.atan2(-solved[:, 1], solved[:, 0])
    assert amplitude.min() > 0.1 - 1e-3 and amplitude.max() < 5 + 1e-3 and abs(amplitude.mean() - 2.55) < 0.25
    assert phase.min() > -1e-2 and phase.max() < math.pi + 1e-2 and abs(phase.mean() - math.pi / 2) < 0.2


def test_answering_zero_costs_half_the_mean_square_of_the_amplitude() -> None:
    """E[A^2] / 2 = 4.25: the scale of the task, whatever the net."""
    (_, _), y = waves().test.tensors(first=600)
    assert y.square().mean() == pytest.approx(4.25, abs=0.6)


def test_further_lists_have_other_shots() -> None:
    further = waves().further
    assert {name: split.pick(torch.tensor([0]))[0].y.shape for name, split in further.items()} == {
        "5shot": (1, 5, 1),
        "20shot": (1, 20, 1),
    }


def test_an_oracle_is_told_amplitude_and_phase_of_the_same_waves() -> None:
    (plain, own), y = waves().test.tensors(first=50)
    (told, own_told), y_told = waves(oracle=True).test.tensors(first=50)
    assert waves(oracle=True).shape == (3,) and told.shape == (50, 20, 3) and told.dtype == torch.float32
    assert torch.equal(told[..., :1], plain) and torch.equal(own_told, own) and torch.equal(y_told, y)
    x, amplitude, phase = told.double().unbind(-1)
    assert (amplitude == amplitude[:, :1]).all() and (phase == phase[:, :1]).all(), "one task an episode"
    assert torch.allclose(amplitude * (x - phase).sin(), torch.cat([own, y], 1).squeeze(-1).double(), atol=1e-5)
    assert waves(oracle=True).fingerprint != waves().fingerprint == waves(oracle=False).fingerprint


# ---- images


@settings(max_examples=25, deadline=None)
@given(ways=st.integers(2, 6), shots=st.integers(1, 3), queries=st.integers(1, 4), seed=st.integers(0, 2**20))
def test_an_episode_has_its_ways_shots_and_queries_and_no_image_twice(ways: int, shots: int, queries: int, seed: int) -> None:
    counts = np.array([7, 9, 8, 20, 7, 7])
    owner = np.repeat(np.arange(6), counts)
    bank = Bank(torch.zeros(counts.sum(), 1, 4, 4, dtype=torch.uint8), counts, tuple("abcdef"))
    episodes = ImageEpisodes(bank=bank, ways=ways, count=9, shots=shots, queries=queries, stream=(seed, "test"))
    rows = episodes.rows(np.arange(9))
    assert rows.shape == (9, ways * (shots + queries))
    for row in rows:
        support, query = row[: ways * shots].reshape(ways, shots), row[ways * shots :].reshape(ways, queries)
        classes = owner[support[:, 0]]
        assert len(set(row)) == len(row) and len(set(classes)) == ways
        assert (owner[support] == classes[:, None]).all() and (owner[query] == classes[:, None]).all()


def test_labels_and_pixels() -> None:
    stage = images()
    (x, own), y = stage.train.pick(torch.arange(4))
    assert x.shape == (4, 20, 1, 28, 28) and 0 <= x.min() and x.max() <= 1
    assert own[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4] and torch.equal(own, y)
    rows = stage.train.rows(np.arange(4))
    assert torch.equal(x[2, 7], stage.train.bank.images[int(rows[2, 7])].float() / 255)
    (x, own), y = stage.test.pick(torch.arange(2))
    assert y.shape == (2, 75) and own.shape == (2, 10)
    assert stage.further["1shot"].pick(torch.arange(2))[0].y.shape == (2, 5)


def test_every_class_and_every_label_comes_as_often() -> None:
    episodes = images().test
    rows = episodes.rows(np.arange(3000))[:, ::2][:, :5]  # the first support image of each label
    classes = rows // 20
    counts = np.bincount(classes.ravel(), minlength=15)
    assert counts.min() > 800 and counts.max() < 1200
    assert abs(np.bincount(classes[:, 0], minlength=15) - 200).max() < 70


def test_training_test_and_validation_classes_are_apart_and_only_training_turns() -> None:
    stage = images()
    names = [set(split.bank.names) for split in (stage.train, stage.val, stage.test)]
    assert not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2])
    assert [len(n) for n in names] == [4 * 30, 12, 15] and len(images(rotations=False).train.bank.names) == 30
    bank = stage.train.bank
    assert torch.equal(bank.images[20 * 30 : 20 * 60], torch.rot90(bank.images[: 20 * 30], 1, (-2, -1)))


def test_lots_are_drawn_as_by_a_full_sort() -> None:
    lots = np.random.RandomState(0).rand(5, 3, 11)
    for count in (1, 4, 11):
        assert (first(lots, count) == lots.argsort(-1)[..., :count]).all()


def test_bank_of_colour_images_and_of_rare_classes() -> None:
    made = banks.bank({"a": np.zeros((3, 4, 4, 3), np.uint8), "b": np.ones((5, 4, 4, 3), np.uint8)})
    assert made.images.shape == (8, 3, 4, 4)
    kept = made.with_at_least(4)
    assert kept.names == ("b",) and kept.images.shape == (5, 3, 4, 4) and kept.images.min() == 1
    assert made.with_at_least(3) is made


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"ways": 13}, "has only 12 such classes"),
        ({"test_queries": 30}, "has only 0 such classes"),
        ({"base": "glyph82"}, "Did you mean 'glyph28'"),
        ({"base": "omniglot", "root": Path("nowhere")}, "put images_background"),
        ({"base": "omniglot", "source": "package"}, "data folder only"),
        ({"base": "glyph28", "size": 32}, "must be 28"),
        ({"base": "glyph28", "source": "npm"}, "not a source"),
    ],
)
def test_what_cannot_be_is_one_sentence(changes: dict, hint: str) -> None:
    with pytest.raises(UsageError, match=hint) as error:
        images(**changes)
    assert "\n" not in str(error.value)
