"""SupSup: what the paper says exactly. The net is never trained, a mask is [score >= 0], the stage is a gradient."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from maskbench.backbones.conv import ConvK
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.methods.continual import superposition, supsup
from maskbench.methods.continual.supsup import SupSup

SHAPE, OUTPUTS, CLASSES = (1, 8, 8), 20, 5


@pytest.fixture
def double() -> Iterator[None]:
    """Everything in float64, so that only the algebra can differ."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def dense_net() -> nn.Module:
    return MLP(SHAPE, OUTPUTS, widths=[16, 12], bias=False, init="signed_constant")


def conv_net() -> nn.Module:
    return ConvK(SHAPE, OUTPUTS, channels=[3, 4], widths=[10], bias=False, init="signed_constant")


def with_masks(make: Callable[[], nn.Module], stages: int, seed: int = 0) -> SupSup:
    torch.manual_seed(seed)
    method = SupSup(make())
    method.classes.fill_(CLASSES)
    for stage in range(stages):
        method.book.write(stage, {name: torch.rand(w.shape) < 0.5 for name, w in method.w.items()})
    return method


def entropy_of(p: Tensor) -> Tensor:
    """H in nats, by its definition."""
    return -(p * p.log()).sum(-1)


def naive(method: SupSup, images: Tensor, objective: str) -> Tensor:
    """d objective / d alpha at 1/k by autograd through explicit coefficients and float masks; [stages]."""
    stages = method.book.stages
    alpha = torch.full((len(stages),), 1 / len(stages), requires_grad=True)
    dense = {name: torch.stack([method.book.read(t)[name] for t in stages]).to(w) for name, w in method.w.items()}
    weights = {name: w.detach() * torch.einsum("t,t...->...", alpha, dense[name]) for name, w in method.w.items()}
    logits = torch.func.functional_call(method.net, weights, (images,))
    if objective == "H":
        value = entropy_of(logits.softmax(-1)).mean()
    else:
        blocked = torch.where(torch.arange(OUTPUTS) < CLASSES, logits.detach(), logits)
        value = blocked.exp().sum(-1).log().mean()
    return torch.autograd.grad(value, alpha)[0]


# ---- finding the stage


@pytest.mark.parametrize("make", [dense_net, conv_net])
@pytest.mark.parametrize("objective", ["H", "G"])
@pytest.mark.parametrize("stages", [1, 2, 7, 40])
def test_one_shot_is_the_gradient_with_respect_to_alpha(
    make: Callable, objective: str, stages: int, double: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = with_masks(make, stages)
    monkeypatch.setattr(superposition, "NUMBERS", 2 * sum(w.numel() for w in method.w.values()))  # two groups at a time
    groups = torch.randn(5, 3, *SHAPE)
    rule = {"H": supsup.entropy, "G": supsup.superfluous}[objective]
    found = method.one_shot(groups, rule)
    wanted = torch.stack([naive(method, images, objective) for images in groups])
    assert found.shape == (5, stages)
    assert ((found - wanted).abs().max() / wanted.abs().max()).item() < 1e-12


@pytest.mark.parametrize("objective", ["H", "G"])
def test_one_shot_in_single_precision(objective: str) -> None:
    method = with_masks(dense_net, 10)
    groups = torch.randn(4, 8, *SHAPE)
    found = method.one_shot(groups, {"H": supsup.entropy, "G": supsup.superfluous}[objective]).double()
    exact = with_masks(dense_net, 10).double()
    torch.set_default_dtype(torch.float64)
    try:
        wanted = torch.stack([naive(exact, images.double(), objective) for images in groups])
    finally:
        torch.set_default_dtype(torch.float32)
    assert ((found - wanted).abs().max() / wanted.abs().max()).item() < 1e-5


@pytest.mark.parametrize("make", [dense_net, conv_net])
def test_brute_force_is_the_objective_under_each_mask(make: Callable, double: None) -> None:
    method = with_masks(make, 6)
    groups = torch.randn(4, 3, *SHAPE)
    for rule, value in {
        supsup.entropy: lambda p: entropy_of(p),
        supsup.superfluous_share: lambda p: p[..., CLASSES:].sum(-1).log(),
    }.items():
        wanted = torch.empty(4, 6)
        for g, images in enumerate(groups):
            for t in range(6):
                weights = {name: w * method.book.read(t)[name] for name, w in method.w.items()}
                logits = torch.func.functional_call(method.net, weights, (images,))
                wanted[g, t] = value(logits.softmax(-1)).mean()
        torch.testing.assert_close(method.brute_force(groups, rule), wanted, rtol=1e-10, atol=1e-12)


def test_the_gradient_of_g_is_p_on_superfluous_outputs_and_0_on_real_ones(double: None) -> None:
    logits = torch.randn(9, OUTPUTS, requires_grad=True)
    supsup.superfluous(logits, CLASSES).sum().backward()
    assert torch.equal(logits.grad[:, :CLASSES], torch.zeros(9, CLASSES))
    torch.testing.assert_close(logits.grad[:, CLASSES:], logits.detach().softmax(-1)[:, CLASSES:], rtol=1e-12, atol=0)


def test_lemma_1_the_training_loss_has_the_same_gradient_on_superfluous_outputs(double: None) -> None:
    logits, y = torch.randn(9, OUTPUTS), torch.arange(9) % CLASSES
    gradients = []
    for loss in (
        lambda z: nn.functional.cross_entropy(z, y, reduction="sum"),
        lambda z: supsup.superfluous(z, CLASSES).sum(),
    ):
        z = logits.clone().requires_grad_()
        loss(z).backward()
        gradients.append(z.grad[:, CLASSES:])
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=0)


def test_the_gradient_of_h_is_that_of_the_paper(double: None) -> None:
    """dH/dy_v = -p_v (log p_v + H)."""
    logits = torch.randn(9, OUTPUTS, requires_grad=True)
    h = supsup.entropy(logits, CLASSES)
    h.sum().backward()
    p = logits.detach().softmax(-1)
    torch.testing.assert_close(h, entropy_of(p))
    torch.testing.assert_close(logits.grad, -p * (p.log() + entropy_of(p)[:, None]), rtol=1e-10, atol=1e-14)


def test_the_answer_is_the_index_of_the_stage_not_its_place_in_the_book() -> None:
    torch.manual_seed(0)
    method = SupSup(dense_net(), inference=list(supsup.RULES))
    method.classes.fill_(CLASSES)
    for stage in (3, 1):
        method.book.write(stage, {name: torch.rand(w.shape) < 0.5 for name, w in method.w.items()})
    groups = torch.randn(50, 1, *SHAPE)
    for rule in supsup.RULES:
        search, objective = supsup.RULES[rule]
        wanted = [(3, 1)[place] for place in search(method, groups, objective).argmin(-1).tolist()]
        assert method.infer(groups, rule).tolist() == wanted


def test_groups_are_judged_apart() -> None:
    method, groups = with_masks(dense_net, 4), torch.randn(6, 2, *SHAPE)
    for search, objective in supsup.RULES.values():
        together = search(method, groups, objective)
        alone = torch.cat([search(method, group[None], objective) for group in groups])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_finding_works_without_gradients_around_it_and_leaves_none() -> None:
    method, groups = with_masks(dense_net, 3), torch.randn(2, 1, *SHAPE)
    with torch.no_grad():
        inside = method.infer(groups, "one_shot_H")
    assert torch.equal(inside, method.infer(groups, "one_shot_H"))
    assert all(p.grad is None for p in method.parameters())


def test_an_unknown_rule_is_the_users_to_mend() -> None:
    with pytest.raises(UsageError, match="method.inference=.*Did you mean 'one_shot_H'"):
        SupSup(dense_net(), inference=["one_shot_h"])


# ---- binary search, budgets, transfer


def naive_slopes(method: SupSup, images: Tensor, rows: list[int]) -> Tensor:
    """d H / d alpha over the stages in `rows` alone, at 1 / len(rows), by autograd through explicit coefficients."""
    alpha = torch.full((len(rows),), 1 / len(rows), requires_grad=True)
    dense = {n: torch.stack([method.book.read(t)[n] for t in rows]).to(w) for n, w in method.w.items()}
    weights = {n: w.detach() * torch.einsum("t,t...->...", alpha, dense[n]) for n, w in method.w.items()}
    logits = torch.func.functional_call(method.net, weights, (images,))
    return torch.autograd.grad(entropy_of(logits.softmax(-1)).mean(), alpha)[0]


@pytest.mark.parametrize("at_once", [1, 3, 100])  # groups: whichever have kept the same masks are asked together
@pytest.mark.parametrize("stages", [1, 2, 5, 8, 13])
def test_binary_search_halves_by_the_gradient_until_one_is_left(
    stages: int, at_once: int, double: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = with_masks(dense_net, stages, seed=stages)
    monkeypatch.setattr(superposition, "NUMBERS", at_once * sum(w.numel() for w in method.w.values()))
    groups = torch.randn(7, 4, *SHAPE)
    left = method.binary(groups, supsup.entropy)
    for images, row in zip(groups, left, strict=True):
        rows, rounds = list(range(stages)), 0
        while len(rows) > 1:
            order = naive_slopes(method, images, rows).argsort(stable=True)
            rows, rounds = sorted(rows[i] for i in order[: -(-len(rows) // 2)]), rounds + 1
        assert row.isfinite().nonzero().flatten().tolist() == rows
        assert rounds == (stages - 1).bit_length()


def test_decisions_do_not_depend_on_which_groups_are_asked_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """In single precision, where sums of another order round differently: the stages named are the same ones."""
    method, groups = with_masks(dense_net, 20), torch.randn(12, 5, *SHAPE)
    together = {rule: method.infer(groups, rule) for rule in supsup.RULES}
    monkeypatch.setattr(superposition, "NUMBERS", 1)
    for rule, found in together.items():
        assert torch.equal(method.infer(groups, rule), found), rule
        assert torch.equal(torch.cat([method.infer(group[None], rule) for group in groups]), found), rule
    assert all(len(found.unique()) > 1 for found in together.values())


def test_density_budgets_are_those_of_the_code() -> None:
    """k_l = min(1/2, c (out + in) / (out in h w)), and n - floor((1 - k_l) n) weights stay, exactly."""
    torch.manual_seed(0)
    method = SupSup(conv_net(), density_scale=2.0)
    for score in method.scores.values():
        nn.init.normal_(score)
    for name, w in method.w.items():
        out, into = w.shape[:2]
        share = min(0.5, 2.0 * (out + into) / w.numel())
        assert int(method.mask(name).sum()) == w.numel() - int((1 - share) * w.numel())
        kept = method.score(name).abs()[method.mask(name)]
        assert kept.min() >= method.score(name).abs()[~method.mask(name)].max()


def test_bytes_of_a_stage_are_bits_or_sparse_columns_whichever_are_fewer() -> None:
    """LeNet-300-100 with 100 outputs: 34,400 bytes at one bit a weight, and 2 a one and 4 a column (and 4) a layer in columns."""
    net = MLP((1, 28, 28), 100, widths=[300, 100], bias=False)
    assert SupSup(net).memory() == {"shared": 8, "stage": 34_400} == SupSup(net, density_scale=30).memory()
    sparse = SupSup(net, density_scale=1)
    ones = [784 + 300, 300 + 100, 100 + 100]  # c (out + in) of each layer
    assert list(sparse.count.values()) == ones
    columns = [2 * n + 4 * (fan_in + 1) for n, fan_in in zip(ones, (784, 300, 100), strict=True)]
    assert sparse.memory()["stage"] == columns[0] + columns[1] + min(columns[2], 10_000 // 8)


# ---- nobody says where a stage begins

BLIND = ("method=supsup", "data=permutedmnist", "data.base=synthetic", "data.stages=3", "method.boundaries=unknown")
SHORT = ("budget.steps=60", "method.check_every=20", "method.inference=[one_shot_H]", "task.trials=5", "backbone.widths=[24,12]")


@pytest.mark.parametrize("known", [0, 2, 5, 7])
def test_the_rule_for_new_data(known: int, double: None) -> None:
    """nu over max(k, 5) masks, untrained ones filling up; new when k max nu < 1 + eps or an untrained one is preferred."""
    torch.manual_seed(known)
    method = SupSup(dense_net(), boundaries="unknown")
    method.classes.fill_(CLASSES)
    for slot in range(known):
        method.book.write(slot, {name: torch.rand(w.shape) < 0.5 for name, w in method.w.items()})
    x = torch.randn(16, *SHAPE)
    pages = [method.book.read(t) for t in range(known)] + [method.blanks.read(t) for t in range(5 - known)]
    alpha = torch.full((len(pages),), 1 / len(pages), requires_grad=True)
    stacked = {n: torch.stack([page[n] for page in pages]).to(w) for n, w in method.w.items()}
    weights = {n: w.detach() * torch.einsum("t,t...->...", alpha, stacked[n]) for n, w in method.w.items()}
    logits = torch.func.functional_call(method.net, weights, (x,))
    (slopes,) = torch.autograd.grad(entropy_of(logits.softmax(-1)).mean(), alpha)
    nu = (-slopes).softmax(0)
    best = int(nu.argmax())
    flat = len(pages) * float(nu.max()) < 1 + method.novelty
    assert method.place(x) == (known if flat or best >= known else best)
    method.novelty = -1.0  # nothing is new but what an untrained mask suits better
    assert method.place(x) == (known if best >= known else best)


@pytest.mark.full
def test_blind_learning_goes_on_bit_for_bit(relay: Callable, same: Callable) -> None:
    same(relay(*BLIND, *SHORT, folder="straight", halts=[]),
         relay(*BLIND, *SHORT, "loop.checkpoint_seconds=0", folder="halted", halts=[2, 3, 2]))  # fmt: skip


def test_no_more_masks_than_allowed(build: Callable) -> None:
    bench = build(*BLIND, *SHORT, "method.most=2").go()
    assert bench.outcome.metrics["masks_found"] == 2
