"""WSN: what moves by which gradient, what stages own, and that no optimiser reaches it."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskbench import masks
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.masks.owners import MOST
from maskbench.methods.continual.hat import HAT
from maskbench.methods.continual.packnet import PackNet
from maskbench.methods.continual.wsn import WSN
from maskbench.training import evaluate

TINY = (
    "method=wsn", "data.base=synthetic", "backbone.widths=[40,24]", "budget.steps=20", "budget.batch_size=64", "task.probe=50",
    "optimizer.lr=0.01",
)  # fmt: skip


class Watched:
    """A fit that keeps what WSN looks like before and after every phase."""

    def __init__(self, fit: Callable) -> None:
        self.fit, self.stages = fit, []

    def __getattr__(self, name: str):
        return getattr(self.fit, name)

    def __call__(self, method: WSN, stage, **phase) -> None:
        before = look(method)
        self.fit(method, stage, **phase)
        method.eval()
        self.stages.append((before, look(method), evaluate.logits(method, stage, stage.test, 50)))


def look(method: WSN) -> dict[str, dict[str, Tensor]]:
    return {
        "free": {name: method.owners.free(name) for name in method.trunk},
        "moving": {name: w.detach().clone() for name, w in method.trunk.items()},
        "scores": {name: method.score(name).detach().clone() for name in method.trunk},
        "kept": {name: method.owners.kept[name].clone() for name in method.trunk},
    }


@pytest.fixture(params=["kept", "redrawn"])
def learnt(request: pytest.FixtureRequest, build: Callable):
    """(bench, what was seen before and after each stage's training) of a finished run."""
    bench = build(*TINY, f"method.scores={request.param}", "method.keep=0.3")
    watched = Watched(bench.fit)
    return bench.go(learner=watched), watched.stages


def small(**knobs) -> WSN:
    torch.manual_seed(0)
    return WSN(MLP((1, 4, 4), 3, widths=[8], bias=False), **knobs)


def at(index: int, total: int = 3) -> SimpleNamespace:
    own_head = {"outputs": None, "given": False}
    return SimpleNamespace(index=index, total=total, criterion=F.cross_entropy, name=str(index), own_head=own_head)


NAME = "hidden.0.weight"


def test_every_score_has_a_gradient_and_a_weight_only_where_it_is_selected_and_free() -> None:
    method = small(keep=0.5)
    method.heads.open(0, method.net.head)
    method.owners.open(method.trunk, 0, refill=lambda w: w)
    owned = torch.rand(method.trunk[NAME].shape) < 0.4
    method.owners.alive[NAME].copy_(owned)
    method.owners.claim(method.trunk, 0)
    method.owners.alive[NAME].copy_(method.owners.free(NAME))
    method.trunk[NAME].data[owned] = 7.0  # what moves where a weight is owned has no part in anything
    w, s = torch.where(owned, method.owners.kept[NAME], method.trunk[NAME].detach()), method.score(NAME)
    m = s.detach().abs() >= s.detach().abs().flatten().topk(method.count[NAME]).values.min()
    effective = method.effective_weights(torch.zeros(1), at(1))[NAME] if method.heads.open(1, method.net.head) is None else None
    torch.testing.assert_close(effective.detach(), w * m)
    g = torch.randn_like(w)
    to_weight, to_score = torch.autograd.grad(effective, [method.trunk[NAME], s], g)
    torch.testing.assert_close(to_weight, g * m * ~owned)
    torch.testing.assert_close(to_score, g * w * s.detach().sign())
    assert bool(to_score[~m].abs().gt(0).all())


def test_each_stage_selects_exactly_so_many_and_only_what_is_owned_by_then(learnt) -> None:
    method, used = learnt[0].method, 0
    for stage in range(5):
        for name, m in method.bank.read(stage).items():
            owner = method.owners.owner[name]
            assert int(m.sum()) == method.count[name] == masks.kept_count(0.3, m.numel())
            assert bool((owner[m] > 0).all()) and int(owner[m].max()) <= stage + 1
            assert bool(m[owner == stage + 1].all()), "what a stage owns it selects"
        owned = sum(int(((o := method.owners.owner[name]) > 0).sum() - (o > stage + 1).sum()) for name in method.trunk)
        assert owned >= used
        used = owned
    nested = [torch.equal(method.bank.read(4)[name], method.owners.mask(name, 4)) for name in method.trunk]
    assert not any(nested), "unlike PackNet's, a mask is a choice among what is owned"


def test_masks_are_those_of_the_final_scores_and_answers_are_those_of_the_end_of_training(learnt) -> None:
    bench, seen = learnt
    for stage, (_, after, logits) in zip(bench.stages, seen, strict=True):
        for name, m in bench.method.bank.read(stage.index).items():
            cut = masks.cut(after["scores"][name], bench.method.count[name], magnitude=True)
            assert torch.equal(m, masks.kept(after["scores"][name], cut, magnitude=True))
        assert torch.equal(evaluate.logits(bench.method, stage, stage.test, 50), logits)


def test_free_weights_go_on_from_where_they_are_and_so_do_scores_unless_redrawn(learnt) -> None:
    bench, seen = learnt
    for (_, ended, _), (began, _, _) in zip(seen, seen[1:], strict=False):
        for name in bench.method.trunk:
            assert torch.equal(ended["moving"][name], began["moving"][name])
            assert torch.equal(ended["scores"][name], began["scores"][name]) != bench.method.redraws


def test_values_once_owned_never_change(learnt) -> None:
    _, seen = learnt
    for before, after, _ in seen:
        for name, free in before["free"].items():
            assert torch.equal(before["kept"][name][~free], after["kept"][name][~free])


def test_numbers_of_the_record(learnt) -> None:
    bench, _ = learnt
    method, metrics = bench.method, bench.metrics
    assert metrics["free"] == pytest.approx(method.owners.share_free()) and metrics["used"] == 1 - metrics["free"]
    last, before = method.bank.read(4), {name: method.owners.mask(name, 3) for name in method.trunk}
    both = sum(int((last[name] & before[name]).sum()) for name in last)
    assert metrics["reuse"] == both / sum(method.count.values())
    assert metrics["mask_bytes/packed"] == 5 * method.bank.bytes() and metrics["logit_drift"] == 0.0
    own = method.heads.bytes * 5
    assert method.memory_after(bench.stages[4]) == method.memory()["shared"] + own + min(
        metrics["mask_bytes/packed"], metrics["mask_bytes/huffman"]
    )


@pytest.mark.parametrize("scores", ["kept", "redrawn"])
def test_one_optimiser_with_decay_and_all_its_moments_moves_nothing_that_is_owned(scores: str) -> None:
    """AdamW 1e-2 carried over all stages, over weights and scores: by masked gradients alone this drifts."""
    method, x = small(keep=0.3, scores=scores), torch.randn(64, 1, 4, 4)
    optimizer = torch.optim.AdamW([*method.trunk.values(), *method.scores.parameters()], lr=0.05, weight_decay=0.01)

    def fit(method: WSN, stage) -> None:
        y = (x.flatten(1)[:, stage.index : stage.index + 3]).argmax(1)
        for _ in range(15):
            optimizer.zero_grad(set_to_none=False)
            method.loss((x, y), stage).backward()
            optimizer.step()

    answers, moved = [], []
    for stage in map(at, range(3)):
        before = method.trunk[NAME].detach().clone()
        owned = ~method.owners.free(NAME)
        method.learn(stage, fit)
        moved.append(int((method.trunk[NAME] != before)[owned].sum()))
        with torch.no_grad():
            answers.append(method.logits(x, stage))
            assert all(torch.equal(method.logits(x, at(k)), answer) for k, answer in enumerate(answers))
    assert moved[0] == 0 and moved[1] > 0, "the optimiser does move what it has there; nobody reads it"


def test_what_grows_with_stages_is_bits_and_heads() -> None:
    """250 stages must fit: no copy of the weights or the scores for each."""
    method = small(keep=0.5)
    sizes = []
    for stage in map(at, range(3)):
        method.learn(stage, lambda method, stage: None)
        sizes.append(sum(value.numel() * value.element_size() for value in method.state_dict().values()))
    row = 8  # the stage's number
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] == method.bank.bytes() + method.heads.bytes + row


def test_bytes_of_lenet_300_100() -> None:
    net = MLP((1, 28, 28), 2, widths=[300, 100], bias=False)
    assert WSN(net).memory() == {"shared": 1_060_800, "stage": 33_150 + 800}


@pytest.mark.parametrize("bias, moved", [("none", 0), ("first", 1), ("per_stage", 3)])
def test_biases_move_in_the_stages_their_policy_says(bias: str, moved: int) -> None:
    torch.manual_seed(0)
    method, changed = WSN(MLP((1, 4, 4), 3, widths=[8]), bias=bias), set()
    assert method.unmasked.biases == ["hidden.0.bias"]

    def fit(method: WSN, stage) -> None:
        for p in method.trainable_parameters():
            if p is method.net.get_parameter("hidden.0.bias"):
                changed.add(stage.index)
                p.data += 1

    for stage in map(at, range(3)):
        method.learn(stage, fit)
    assert changed == set(range(moved))
    kept = [method.effective_weights(torch.zeros(1), at(k)).get("hidden.0.bias") for k in range(3)]
    assert all((value is not None) == (bias == "per_stage") for value in kept)
    if bias == "per_stage":
        torch.testing.assert_close(kept[2], kept[0] + 2)


@pytest.mark.parametrize("norm, still", [("first", [False, True]), ("per_stage", [False, False]), ("given", [True, True])])
def test_norm_statistics_stand_still_where_the_policy_says(norm: str, still: list[bool]) -> None:
    net = torch.nn.Sequential()
    net.add_module("conv", torch.nn.Conv2d(2, 3, 3))
    net.add_module("norm", torch.nn.BatchNorm2d(3))
    net.add_module("flat", torch.nn.Flatten())
    net.add_module("head", torch.nn.Linear(12, 2))
    method, x = WSN(net, norm=norm), torch.randn(4, 2, 4, 4) + 3
    for stage, stands in enumerate(still):
        method.stage = stage
        before = net.norm.running_mean.clone()
        method.train().net(x)
        assert torch.equal(net.norm.running_mean, before) == stands


def test_a_layer_that_would_keep_nothing_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"method.keep=0.005 keeps less than one of the 128 weights of hidden.0: take at least 1/128"
    ):
        small(keep=0.005)
    assert small(keep=1 / 128).count == {NAME: 1}


@pytest.mark.parametrize("knobs", [{"keep": 0.0}, {"keep": 1.1}, {"scores": "fresh"}, {"norm": "none"}, {"bias": "all"}], ids=str)
def test_unknown_values_are_refused(knobs: dict) -> None:
    with pytest.raises(UsageError, match=f"method.{next(iter(knobs))}="):
        small(**knobs)


def test_more_stages_than_owners_are_refused() -> None:
    assert WSN.most_stages == PackNet.most_stages == HAT.most_stages == MOST, "what the command line knows"
    with pytest.raises(UsageError, match="data.stages=255 is too many for WSN"):
        small().learn(at(0, total=255), lambda method, stage: None)
