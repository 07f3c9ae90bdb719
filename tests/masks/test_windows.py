"""A Cutter gives the cuts of a full selection, whatever came before, and mostly without making one."""

import copy
import math
import pickle
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones.mlp import MLP
from maskbench.masks import windows
from maskbench.methods.continual.supsup import SupSup
from maskbench.methods.prune.edge_popup import EdgePopup

SEEDS = st.integers(0, 2**31)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])
MOVES = st.lists(
    st.sampled_from(["still", "drift", "noise", "jump", "shrink", "grow", "grid", "equal", "zero", "negate", "infinite"]),
    min_size=1,
    max_size=12,
)


@pytest.fixture(autouse=True)
def windows_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are used however few values there are."""
    monkeypatch.setattr(windows, "SMALL", 1)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved(score: Tensor, move: str, g: torch.Generator) -> Tensor:
    """The scores after a step, or after what no step does."""
    noise = torch.randn(score.shape, generator=g).to(score.dtype)
    match move:
        case "drift":
            return score + 1e-3
        case "noise":
            return score + 1e-3 * noise
        case "jump":
            return 100 * noise
        case "shrink":
            return score * 1e-4
        case "grow":
            return score * 1e4
        case "grid":
            return (4 * noise).round() / 4
        case "equal":
            return torch.full_like(score, float(noise.flatten()[0]))
        case "zero":
            return score * 0.0 if bool(score.isfinite().all()) else torch.zeros_like(score)
        case "negate":
            return -score
        case "infinite":
            return score.where(noise > -1, math.inf).where(noise < 1, -math.inf)
    return score


def by_stable_sort(rank: Tensor, count: int) -> Tensor:
    mask = torch.ones(rank.numel(), dtype=torch.bool)
    mask[rank.flatten().sort(stable=True).indices[: rank.numel() - count]] = False
    return mask.reshape(rank.shape)


def full_selections(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills up with the counts that were cut by a full selection."""
    made = []

    def counted(score: Tensor, count: int, magnitude: bool = False) -> masks.Cut:
        made.append(count)
        return masks.cut(score, count, magnitude)

    monkeypatch.setattr(windows, "cut", counted)
    return made


# ---- the same cuts


@given(SEEDS, st.integers(1, 12), MOVES, DTYPES, st.booleans(), st.data())
def test_cuts_are_those_of_a_full_selection_whatever_came_before(
    seed: int, side: int, moves: list[str], dtype: torch.dtype, magnitude: bool, data: st.DataObject
) -> None:
    g, cutter = drawn(seed), masks.Cutter()
    score = torch.randn(side, side, generator=g).to(dtype)
    count = data.draw(st.integers(0, side * side))
    for move in moves:
        score = moved(score, move, g).nan_to_num(0.0, math.inf, -math.inf)
        before = score.clone()
        cut = cutter.cut(score, count, magnitude)
        assert cut == masks.cut(score, count, magnitude)
        assert cut == masks.Cutter().cut(score, count, magnitude), "one that remembers nothing"
        mask = masks.kept(score, cut, magnitude)
        assert torch.equal(mask, by_stable_sort(score.abs() if magnitude else score, count))
        assert torch.equal(score, before)


@given(SEEDS, st.data())
def test_one_cutter_takes_any_scores_in_turn(seed: int, data: st.DataObject) -> None:
    """Shapes, dtypes, layouts, counts and rankings alternate; a window made for one is only useless for the other."""
    g, cutter = drawn(seed), masks.Cutter()
    for _ in range(data.draw(st.integers(1, 8))):
        shape = data.draw(st.sampled_from([(1,), (7,), (5, 6), (2, 3, 4, 4)]))
        score = torch.randn(shape, generator=g).to(data.draw(DTYPES))
        if len(shape) == 4:
            score = score.contiguous(memory_format=torch.channels_last)
        count, magnitude = data.draw(st.integers(0, score.numel())), data.draw(st.booleans())
        assert cutter.cut(score, count, magnitude) == masks.cut(score, count, magnitude)


@given(SEEDS, st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(0, 9), MOVES, st.booleans(), st.data())
def test_joint_cuts_are_those_of_full_selections(
    seed: int, sizes: list[int], least: int, moves: list[str], magnitude: bool, data: st.DataObject
) -> None:
    g, cutter = drawn(seed), masks.Cutter()
    scores = [torch.randn(n, generator=g) for n in sizes]
    count = data.draw(st.integers(0, sum(sizes)))
    for move in moves:
        scores = [moved(score, move, g).nan_to_num(0.0, math.inf, -math.inf) for score in scores]
        assert cutter.cuts(scores, count, least, magnitude) == masks.cuts(scores, count, least, magnitude)


@given(SEEDS, st.integers(0, 24), st.integers(1, 24), DTYPES, st.booleans())
def test_nan_is_refused_wherever_it_stands(seed: int, place: int, count: int, dtype: torch.dtype, magnitude: bool) -> None:
    g, cutter = drawn(seed), masks.Cutter()
    score = torch.randn(25, generator=g).to(dtype)
    for _ in range(3):
        assert cutter.cut(score, count, magnitude) == masks.cut(score, count, magnitude)
        bad = score.clone()
        bad[place] = math.nan
        with pytest.raises(FloatingPointError, match="NaN.*optimizer.lr"):
            cutter.cut(bad, count, magnitude)
        with pytest.raises(FloatingPointError, match="NaN.*optimizer.lr"):
            masks.Cutter().cuts([score, bad], count, 1, magnitude)
        score = score + 1e-3


def test_a_count_that_is_not_there_is_refused() -> None:
    for count in (-1, 5):
        with pytest.raises(ValueError, match="of 4 weights"):
            masks.Cutter().cut(torch.zeros(4), count)


def test_numbers_at_the_end_of_their_range_have_windows_too() -> None:
    cutter = masks.Cutter()
    for factor in (1.0, 0.999, 1.0, -1.0, 1.0):
        score = torch.linspace(0.5, 1, 64) * torch.finfo(torch.float32).max * factor
        assert cutter.cut(score, 20) == masks.cut(score, 20)


def test_threads_may_share_a_cutter() -> None:
    cutter, wrong = masks.Cutter(), []

    def work(seed: int) -> None:
        g = drawn(seed)
        score = torch.randn(50 + seed, 40, generator=g)
        for _ in range(60):
            score += 1e-3 * torch.randn(score.shape, generator=g)
            if cutter.cut(score, 700, True) != masks.cut(score, 700, True):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- without full selections


@pytest.mark.parametrize("magnitude", [True, False])
def test_scores_that_move_little_are_hardly_ever_ranked_in_full(magnitude: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made, g, cutter = full_selections(monkeypatch), drawn(0), masks.Cutter()
    score = torch.empty(100, 100).uniform_(-1, 1, generator=g)
    for _ in range(200):
        score += 1e-4 * torch.randn(score.shape, generator=g)
        cutter.cut(score, 3000, magnitude)
    assert len(made) <= 4


def test_after_a_jump_a_window_is_soon_narrow_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made, g, cutter = full_selections(monkeypatch), drawn(0), masks.Cutter()
    for size in (1.0, 1e-3, 1e3):
        score = size * torch.rand(10_000, generator=g)
        for _ in range(30):
            score += 1e-4 * size * torch.randn(score.shape, generator=g)
            cutter.cut(score, 5000)
        value, reach = cutter.last
        assert reach < 0.02 * value
    assert len(made) <= 9


def test_scores_ranked_twice_leave_the_window_as_it_is() -> None:
    cutter, score = masks.Cutter(), torch.rand(1000, generator=drawn(0))
    for _ in range(3):
        cutter.cut(score, 500)
        score = score + 1e-5
    last = cutter.last
    for _ in range(50):
        cutter.cut(score - 1e-5, 500)
    assert cutter.last[1] == last[1]


# ---- no part of a state


def net() -> nn.Module:
    torch.manual_seed(0)
    return MLP((1, 8, 8), 10, widths=[16, 12], bias=False, init="signed_constant")


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_training_has_the_bits_of_full_selections(scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a fresh method goes on in the middle, and where the method is copied or pickled on the way."""
    x, y = torch.randn(32, 1, 8, 8, generator=drawn(1)), torch.randint(10, (32,), generator=drawn(2))

    def trained(again: bool) -> dict[str, Tensor]:
        torch.manual_seed(3)
        method = EdgePopup(net(), keep=0.3, scope=scope, min_keep=5)
        for step in range(30):
            optimizer = torch.optim.SGD(method.trainable_parameters(), lr=0.5)
            if again and step % 10 == 5:
                fresh = EdgePopup(net(), keep=0.3, scope=scope, min_keep=5)
                fresh.load_state_dict(method.state_dict())
                method = (fresh, copy.deepcopy(method), pickle.loads(pickle.dumps(method)))[step // 10]
                optimizer = torch.optim.SGD(method.trainable_parameters(), lr=0.5)
            logits = torch.func.functional_call(method.net, method.effective_weights(x, Lesson), (x,))
            nn.functional.cross_entropy(logits, y).backward()
            optimizer.step()
            optimizer.zero_grad()
        return method.state_dict()

    windowed, resumed = trained(False), trained(True)
    monkeypatch.setattr(masks.Cutter, "cut", lambda self, *args, **more: masks.cut(*args, **more))
    full = trained(False)
    assert full.keys() == windowed.keys() == resumed.keys()
    for name, value in full.items():
        assert torch.equal(value, windowed[name]) and torch.equal(value, resumed[name]), name


class Lesson:
    index = 0


def test_what_is_remembered_is_not_in_a_state() -> None:
    for method in (EdgePopup(net()), SupSup(net(), density_scale=1.0)):
        before = list(method.state_dict())
        for cutter in method.cutters.values():
            cutter.cut(torch.rand(8), 4)
        assert list(method.state_dict()) == before
        assert not any("cutter" in name for name in before)


# ---- on other devices


@given(SEEDS, st.data(), st.booleans(), DTYPES)
def test_a_cut_of_tensors_keeps_the_same(seed: int, data: st.DataObject, magnitude: bool, dtype: torch.dtype) -> None:
    g = drawn(seed)
    score = moved(torch.randn(5, 6, generator=g), data.draw(st.sampled_from(["still", "grid", "equal", "zero"])), g).to(dtype)
    count = data.draw(st.integers(0, 30))
    there, here = windows.cut_there(score, count, magnitude), masks.cut(score, count, magnitude)
    assert torch.equal(masks.kept(score, there, magnitude), masks.kept(score, here, magnitude))
    w = torch.randn(5, 6, generator=g).to(dtype)
    for c in (there, here):
        leaf, weight = score.clone().requires_grad_(), w.clone().requires_grad_()
        out = masks.top_share(weight, leaf, c, magnitude)
        out.backward(w + 1)
        if c is there:
            first = out.detach(), leaf.grad, weight.grad
    assert all(torch.equal(a, b) for a, b in zip(first, (out, leaf.grad, weight.grad), strict=True))


@given(SEEDS, st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(0, 9), st.booleans(), st.data())
def test_joint_cuts_of_tensors_keep_the_same(
    seed: int, sizes: list[int], least: int, magnitude: bool, data: st.DataObject
) -> None:
    scores = [torch.randint(-3, 4, (n,), generator=drawn(seed + i)).float() for i, n in enumerate(sizes)]
    count = data.draw(st.integers(0, sum(sizes)))
    there = masks.cuts(scores, count, least, magnitude, by=[windows.cut_there] * (len(sizes) + 1))
    for score, a, b in zip(scores, there, masks.cuts(scores, count, least, magnitude), strict=True):
        assert torch.equal(masks.kept(score, a, magnitude), masks.kept(score, b, magnitude))


@pytest.mark.parametrize("knobs", [{}, {"scope": "global"}, {"scope": "global", "min_keep": 9}, {"score_map": "identity"}])
@pytest.mark.parametrize("keep", [0.3, 1.0])
def test_a_step_on_an_accelerator_asks_it_for_no_number(keep: float, knobs: dict) -> None:
    """A tensor on the device meta has no values: whatever waits for one raises."""
    method = EdgePopup(net(), keep=keep, **knobs)
    scores = {name: torch.empty(w.shape, device="meta", requires_grad=True) for name, w in method.w.items()}
    for name, cut in method.cuts(scores).items():
        out = masks.top_share(torch.empty_like(scores[name]), scores[name], cut, method.magnitude)
        out.sum().backward()
        assert scores[name].grad.shape == out.shape
    with pytest.raises(RuntimeError, match="meta"):
        masks.cut(scores[name], 3)
