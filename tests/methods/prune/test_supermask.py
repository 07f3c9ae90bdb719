"""Learned supermasks: logits move, weights do not, a sample is one mask per look, rescaling goes by the mask used."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.func import functional_call

from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.methods.dense import Dense
from maskbench.methods.prune.supermask import Supermask
from maskbench.training import evaluate

TINY = ("method=supermask", "task=uncertainty", "data.base=synthetic", "backbone.widths=[24,12]", "budget.steps=30")
SHORT = (*TINY, "method.samples=4")


def net() -> nn.Module:
    torch.manual_seed(0)
    return MLP((1, 8, 8), 10, widths=[16, 12], bias=False)


def spread(method: Supermask) -> Supermask:
    """Logits that differ from weight to weight."""
    for logit in method.trainable_parameters():
        nn.init.normal_(logit)
    return method


# ---- the run as a whole


@pytest.mark.parametrize("rescale", [False, True])
def test_only_logits_move(rescale: bool, build: Callable) -> None:
    bench = build(*SHORT, f"method.rescale={rescale}")
    before = {name: w.clone() for name, w in bench.method.net.state_dict().items()}
    bench.go()
    assert all(torch.equal(w, before[name]) for name, w in bench.method.net.state_dict().items())
    assert all(logit.any() for logit in bench.method.trainable_parameters())
    facts = bench.method.extra_metrics()
    expected = torch.cat([bench.method.logit(name).sigmoid().flatten() for name in bench.method.w]).double().mean().item()
    assert facts["density"] == pytest.approx(expected)
    assert facts["density_sampled"] == pytest.approx(expected, abs=0.02)
    threshold = torch.cat([m.flatten() for m in bench.method.masks().values()]).double().mean().item()
    assert facts["density_threshold"] == pytest.approx(threshold)
    for name in bench.method.w:
        assert torch.equal(bench.method.masks()[f"0/{name}"], bench.method.logit(name) > 0)


@pytest.mark.parametrize("rescale", [False, True])
def test_the_ticket_answers_like_the_threshold_mask(rescale: bool, build: Callable, tmp_path: Path) -> None:
    bench = build(*SHORT, f"method.rescale={rescale}")
    assert bench.method.ticket() == {}
    bench.go()
    stage = bench.stages[0]
    save_file(bench.method.ticket(), tmp_path / "ticket.safetensors")
    dense = Dense(build(*TINY, "seed=5", folder="b").method.net, init=f"ticket:{tmp_path / 'ticket.safetensors'}")
    found, _ = evaluate.members(dense, stage, stage.test, 100)
    wanted, _ = evaluate.members(bench.method, stage, stage.test, 100, mode="threshold")
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


# ---- samples


def test_a_sample_is_one_mask_for_all_batches_of_a_look(build: Callable) -> None:
    bench = build(*SHORT).go()
    stage = bench.stages[0]
    bench.method.eval()
    x, _ = stage.test.tensors(first=50)
    whole = bench.method.predict(x, stage)
    assert whole.shape == (4, 50, 10)
    parts = torch.cat([bench.method.predict(part, stage) for part in x.split(7)], 1)
    torch.testing.assert_close(whole, parts)
    assert not torch.equal(whole[0], whole[1])
    for i in range(4):
        own = bench.method.masked({name: m.float() for name, m in bench.method.sample(i).items()})
        assert torch.equal(whole[i], functional_call(bench.method.net, own, (x,)).softmax(-1))


def test_samples_have_their_probabilities_and_another_seed_has_others() -> None:
    method = spread(Supermask(net(), samples=400))
    mean = torch.stack([method.sample(i)["hidden.0.weight"] for i in range(400)]).double().mean(0)
    p = method.logit("hidden.0.weight").detach().sigmoid().double()
    z = (mean - p) / (p * (1 - p) / 400).sqrt()
    assert z.abs().max() < 5 and z.square().mean().item() == pytest.approx(1, abs=0.15)
    other = Supermask(net())
    other.load_state_dict(method.state_dict() | {"stream": method.stream + 1})
    assert not torch.equal(other.sample(0)["hidden.0.weight"], method.sample(0)["hidden.0.weight"])


def test_testing_draws_nothing_from_the_training_stream() -> None:
    method = spread(Supermask(net()))
    state = torch.get_rng_state()
    method.sample(0)
    assert torch.equal(state, torch.get_rng_state())


# ---- one forward and backward, by hand


@pytest.mark.parametrize("rescale", [False, True])
def test_gradients_are_those_of_the_formula(rescale: bool, build: Callable) -> None:
    """Against b + p - stopgrad(p), rescaled inside the graph, in float64 with the same draw."""
    torch.manual_seed(1)
    method = spread(Supermask(net().double(), rescale=rescale).double())
    x, g = torch.randn(8, 1, 8, 8).double(), torch.randn(8, 10).double()
    torch.manual_seed(2)
    found = method.logits(x, stage=Unfinished)
    (found * g).sum().backward()

    torch.manual_seed(2)
    logits = {name: method.logit(name).detach().clone().requires_grad_() for name in method.w}
    used = {}
    for name, w in method.w.items():
        p = logits[name].sigmoid()
        m = (torch.rand_like(p) < p).double() + p - p.detach()
        used[name] = w * m * (m.numel() / m.sum() if rescale else 1.0)
    wanted = functional_call(method.net, used, (x,))
    (wanted * g).sum().backward()
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    for name in method.w:
        torch.testing.assert_close(method.logit(name).grad, logits[name].grad, rtol=1e-9, atol=1e-12)


class Unfinished:
    index = 0


def test_an_empty_mask_is_not_divided_by() -> None:
    method = Supermask(net(), start=-200.0, rescale=True)
    method.eval()
    assert method.logits(torch.ones(2, 1, 8, 8), Unfinished).tolist() == [[0.0] * 10] * 2


# ---- knobs


def test_constant_weights_are_the_layers_deviation_with_the_weights_signs() -> None:
    drawn = {name: p.detach().clone() for name, p in net().named_parameters()}
    for name, w in Supermask(net(), constant=True).w.items():
        torch.testing.assert_close(w.detach(), drawn[name].sign() * drawn[name].std(correction=0))


def test_start_sets_the_first_density() -> None:
    assert Supermask(net(), start=0.0).extra_metrics()["density"] == 0.5
    assert Supermask(net(), start=-2.0).extra_metrics()["density"] == pytest.approx(torch.tensor(-2.0).sigmoid().item())


def test_no_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="method.samples=0 "):
        Supermask(net(), samples=0)
