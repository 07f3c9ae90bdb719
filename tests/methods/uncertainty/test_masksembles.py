"""Masksembles: masks by the formulas, in the state and the same in every process; its two ends; which mask meets whom."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.func import functional_call

from maskbench.backbones.conv import ConvNet, LeNet5
from maskbench.backbones.fold import FoldMLP
from maskbench.backbones.gate import gates_of
from maskbench.backbones.mlp import MLP
from maskbench.backbones.normed_mlp import NormedMLP
from maskbench.backbones.resnet import ResNet
from maskbench.common.errors import UsageError
from maskbench.methods.uncertainty import masksembles, overlap
from maskbench.methods.uncertainty.masksembles import Masksembles

IMAGE = (1, 28, 28)


def lenet(width: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    return LeNet5(IMAGE, 10, channels=[12, 20], widths=[24], width=width)


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return MLP((30,), 10, widths=[40, 20])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class Stage:
    """All that a prediction asks of one."""

    link = staticmethod(lambda outputs: outputs.softmax(-1))
    criterion = staticmethod(nn.functional.cross_entropy)


# ---- the masks


@given(st.integers(2, 60), st.integers(1, 8), st.floats(1, 50), st.integers(0, 1000))
def test_the_generator_always_ends_with_equal_masks_that_cover_every_unit(columns, members, scale, seed) -> None:
    drawn = overlap.repaired(columns, members, scale, rng(seed))
    assert drawn.shape == (members, columns) and drawn.dtype == bool
    assert drawn.any(0).all() and set(drawn.sum(1)) == {overlap.ones_of(columns, members, scale)}


@pytest.mark.parametrize(
    "columns, members, scale", [(16, 4, 3), (16, 4, 4), (16, 8, 6), (800, 8, 1.0), (1600, 8, 1.0), (6, 4, 2)]
)
def test_sizes_at_which_published_generators_fail_or_hang(columns: int, members: int, scale: float) -> None:
    assert overlap.repaired(columns, members, scale, rng()).shape == (members, columns)


@pytest.mark.parametrize("scale", [1.1, 1.5, 2, 3, 4, 6])
@pytest.mark.parametrize("members", [4, 8])
def test_overlap_and_share_follow_the_formulas(scale: float, members: int) -> None:
    drawn = overlap.repaired(500, members, scale, rng())
    assert overlap.mean_iou(drawn) == pytest.approx(1 / (2 * scale - 1), abs=0.02)
    assert drawn.mean() == pytest.approx(1 / (scale * (1 - (1 - 1 / scale) ** members)), abs=0.002)
    assert overlap.effective_scale(1 / (2 * scale - 1)) == pytest.approx(scale)


@pytest.mark.parametrize("members, scale, keep", [(4, 2, 0.533), (4, 4, 0.366), (8, 2, 0.502)])
def test_shares_of_the_specification(members: int, scale: float, keep: float) -> None:
    assert 1 / overlap.spread(members, scale) == pytest.approx(keep, abs=5e-4)
    assert overlap.width_factor(members, scale, "capacity_matched") == pytest.approx(1 / keep, abs=3e-3)
    assert overlap.width_factor(members, scale, "fixed") == 1


@pytest.mark.parametrize("scale, iou", [(1.1, 0.831), (1.5, 0.513), (2, 0.335), (3, 0.198), (4, 0.139), (6, 0.089)])
def test_the_original_generator_has_its_published_overlaps(scale: float, iou: float) -> None:
    drawn = [overlap.original(500, 4, scale, rng(seed)) for seed in range(3)]
    assert all(one.shape == (4, 500) and one.any(0).all() for one in drawn)
    assert np.mean([overlap.mean_iou(one) for one in drawn]) == pytest.approx(iou, abs=0.02)


def test_the_original_generator_refuses_and_fails_in_words() -> None:
    with pytest.raises(UsageError, match="refuses"):
        overlap.original(8, 4, 2, rng())
    with pytest.raises(UsageError, match="repaired"):
        overlap.original(10, 3, 6, rng())  # three masks of three ones cannot cover ten units


def test_ends_of_the_scale() -> None:
    assert overlap.repaired(50, 4, 1.0, rng()).all() and overlap.repaired(50, 1, 3.0, rng()).all()
    apart = overlap.repaired(48, 4, float("inf"), rng())
    assert (apart.sum(0) == 1).all() and overlap.mean_iou(apart) == 0 and overlap.effective_scale(0) == np.inf


# ---- the two ends of the method


@pytest.mark.parametrize("net", [lenet, mlp])
def test_scale_one_is_the_plain_net(net: Callable) -> None:
    plain, method = net(), Masksembles(net(), scale=1.0)
    x = torch.randn(5, *(IMAGE if net is lenet else (30,)))
    predictions = method.predict(x, Stage)
    assert torch.equal(predictions, plain(x).softmax(-1).expand(4, -1, -1))


@pytest.mark.parametrize("scale", [2.0, float("inf")])
def test_a_member_is_a_thin_net_of_its_own(scale: float) -> None:
    method, x = Masksembles(lenet(), scale=scale), torch.randn(5, *IMAGE)
    whole = method.predict(x, Stage)
    for number in range(4):
        state = method.subnetwork(number)
        channels = [state[f"convs.{i}.weight"].shape[0] for i in range(2)]
        thin = ConvNet(IMAGE, 10, channels=channels, pool_after=[0, 1], kernel=5, padding=[2, 0],
                       widths=[len(state["hidden.0.bias"])], bias=True, init="torch")  # fmt: skip
        thin.load_state_dict(state)
        torch.testing.assert_close(thin(x).softmax(-1), whole[number], rtol=0, atol=1e-5)


def test_disjoint_masks_train_as_separate_nets() -> None:
    """With no unit in common, the gradient of a member's weights is that of its thin net, and no member feels another."""
    torch.manual_seed(0)
    method = Masksembles(MLP((30,), 10, widths=[40]), members=4, scale=float("inf"))
    x, y = torch.randn(8, 30), torch.randint(10, (8,))
    nn.functional.cross_entropy(functional_call(method.net, method.member(1), (x,)), y).backward()
    kept = method.drawn["gates.0.gain"][1]
    grad = method.net.hidden[0].weight.grad
    thin = MLP((30,), 10, widths=[10])
    thin.load_state_dict(method.subnetwork(1))
    nn.functional.cross_entropy(thin(x), y).backward()
    assert not grad[~kept].any()
    torch.testing.assert_close(grad[kept], thin.hidden[0].weight.grad)


def test_a_residual_net_has_members_but_none_to_take_out() -> None:
    torch.manual_seed(0)
    method = Masksembles(ResNet((3, 8, 8), 10, blocks=[1, 1], base=16).eval())
    predictions = method.predict(torch.randn(3, 3, 8, 8), Stage)
    assert predictions.shape == (4, 3, 10) and not torch.equal(predictions[0], predictions[1])
    for normed in (method, Masksembles(NormedMLP((30,), 10, widths=[20, 20]))):
        with pytest.raises(UsageError, match="feed-forward"):
            normed.subnetwork(0)


def test_folds_share_their_masks() -> None:
    torch.manual_seed(0)
    method = Masksembles(FoldMLP((3, 6), 1, widths=[20]))
    index = torch.tensor([0, 1, 2, 3, 0])
    assert method.gains(index)["gates.0.gain"].shape == (5, 1, 20)
    x = torch.randn(5, 3, 6)
    each = functional_call(method.net, method.gains(index), (x,))
    for row, number in enumerate(index.tolist()):
        alone = functional_call(method.net, method.member(number), (x,))[row]
        torch.testing.assert_close(each[row], alone)


# ---- which mask meets whom


def test_chunks_are_consecutive_and_of_sizes_that_differ_by_one() -> None:
    for batch in (1, 3, 4, 9, 10, 11, 128):
        index = masksembles.chunk(batch, 4, torch.device("cpu"))
        assert index.bincount(minlength=4).max() - index.bincount(minlength=4).min() <= 1
        assert batch < 4 or (index.diff() >= 0).all()
    assert masksembles.chunk(8, 4, torch.device("cpu")).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_small_batches_train_every_mask(batch: int) -> None:
    torch.manual_seed(0)
    met = torch.cat([masksembles.chunk(batch, 4, torch.device("cpu")) for _ in range(400)]).bincount(minlength=4)
    assert (met > 60 * batch).all()


@pytest.mark.parametrize("batch", [1, 3, 9, 10])
@pytest.mark.parametrize("assign", ["chunk", "random", "all"])
def test_any_batch_trains_and_one_index_holds_for_all_layers(assign: str, batch: int) -> None:
    method = Masksembles(mlp(), assign=assign)
    x, y = torch.randn(batch, 30), torch.randint(10, (batch,))
    torch.manual_seed(1)
    loss = method.loss((x, y), Stage)
    torch.manual_seed(1)
    index = masksembles.ASSIGN[assign](batch, 4, torch.device("cpu"))
    rows = torch.arange(batch).repeat(len(index) // batch)
    logits = torch.stack(
        [functional_call(method.net, method.member(int(m)), (x[r : r + 1],))[0] for m, r in zip(index, rows, strict=True)]
    )
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, y[rows]))
    loss.backward()
    assert all(p.grad is not None for p in method.net.parameters())


def test_all_is_the_mean_over_members() -> None:
    method, x, y = Masksembles(mlp(), assign="all"), torch.randn(6, 30), torch.randint(10, (6,))
    each = [nn.functional.cross_entropy(functional_call(method.net, method.member(m), (x,)), y) for m in range(4)]
    torch.testing.assert_close(method.loss((x, y), Stage), torch.stack(each).mean())


@pytest.mark.parametrize("size", [1, 7, 128])
def test_predictions_do_not_depend_on_the_batch(size: int) -> None:
    method, x = Masksembles(lenet()).eval(), torch.randn(128, *IMAGE)
    with torch.no_grad():
        parts = torch.cat([method.predict(part, Stage) for part in x.split(size)], 1)
        torch.testing.assert_close(parts, method.predict(x, Stage), rtol=1e-5, atol=1e-6)


# ---- what is remembered


def test_masks_are_in_the_state_and_load_into_a_method_of_other_masks(tmp_path: Path) -> None:
    method = Masksembles(lenet())
    torch.manual_seed(9)
    other = Masksembles(LeNet5(IMAGE, 10, channels=[12, 20], widths=[24]))
    assert other.fingerprints() != method.fingerprints()
    save_file(method.state_dict(), tmp_path / "state.safetensors")
    other.load_state_dict(load_file(tmp_path / "state.safetensors"))
    x = torch.randn(3, *IMAGE)
    assert torch.equal(other.predict(x, Stage), method.predict(x, Stage))
    assert (other.extra_metrics(), other.fingerprints()) == (method.extra_metrics(), method.fingerprints()) and all(
        torch.equal(m, other.masks()[n]) for n, m in method.masks().items()
    )
    assert all(m.dtype == torch.bool for m in method.masks().values()) and len(method.masks()) == 4 * len(gates_of(method.net))


def test_masks_are_a_stream_of_their_own(compose: Callable) -> None:
    """How much the backbone drew before leaves the masks alone; the run's seed does not."""

    def masks_of(*words: str) -> str:
        from maskbench.runs.assemble import Run

        cfg = compose("method=masksembles", "data.base=synthetic", "data.ood=[]", *words)
        run = Run(cfg, Path(cfg.paths.output))
        return run.method(run.stages()).fingerprints()["masks_sha256"]

    assert masks_of() == masks_of("backbone.init=kaiming_normal") == masks_of("backbone.bias=false") != masks_of("seed=1")


def test_facts_are_the_masks_own() -> None:
    method = Masksembles(lenet(10.0), scale=2.0)
    facts = method.extra_metrics()
    assert facts["mask_iou"] == pytest.approx(1 / 3, abs=0.03) and facts["scale_effective"] == pytest.approx(2, abs=0.15)
    assert facts["mask_keep"] == pytest.approx(0.533, abs=0.01) and facts["width_factor"] == pytest.approx(1 / facts["mask_keep"])
    assert "mask_iou" not in Masksembles(lenet(), members=1).extra_metrics()


def test_a_matched_net_is_wider_by_the_config(compose: Callable) -> None:
    assert compose("method=masksembles").backbone.width == 1
    assert compose("method=masksembles", "method.width=capacity_matched").backbone.width == pytest.approx(1.875)


@pytest.mark.parametrize(
    "knobs, words",
    [
        ({"members": 0}, "members"),
        ({"scale": 0.5}, "scale"),
        ({"assign": "chunks"}, "assign"),
        ({"generator": "other"}, "generator"),
        ({"width": "wide"}, "width"),
    ],
)
def test_wrong_knobs_are_refused_in_words(knobs: dict, words: str) -> None:
    with pytest.raises(UsageError, match=f"method.{words}="):
        Masksembles(mlp(), **knobs)


def test_a_net_without_gates_is_refused() -> None:
    with pytest.raises(UsageError, match="gates"):
        Masksembles(nn.Linear(3, 2))
