"""HopSupSup: masks over units, a memory of constant size, and recall that is told neither labels nor the stage."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import silu

from maskbench.backbones.conv import ConvK
from maskbench.backbones.mlp import MLP
from maskbench.backbones.norm_mlp import NormMLP, standardised
from maskbench.common.errors import UsageError
from maskbench.methods.continual import hopfield, hopsupsup
from maskbench.methods.continual.hopsupsup import HopSupSup
from maskbench.tasks import continual
from maskbench.training import evaluate
from maskbench.training.method import Method

TINY = ("method=hopsupsup", "data.base=synthetic", "backbone.widths=[64,48]", "budget.steps=30", "budget.epochs=null")
SHAPE, WIDTHS = (1, 6, 6), (40, 30)


def net() -> NormMLP:
    return NormMLP(SHAPE, 10, widths=WIDTHS, bias=False, init="signed_constant")


def with_masks(stages: int, seed: int = 0, **knobs) -> HopSupSup:
    torch.manual_seed(seed)
    method = HopSupSup(net(), **knobs)
    for stage in range(stages):
        method.store(stage, {name: torch.rand(method.score(name).shape) < 0.5 for name in method.sites})
    return method


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(100, *SHAPE, generator=torch.Generator().manual_seed(1))


# ---- the net


def test_units_are_standardised_over_the_batch_in_training_and_in_evaluation() -> None:
    x = torch.randn(50, 7) * 3 + 2
    wanted = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(standardised(x), wanted, atol=1e-6, rtol=1e-5)
    twin = net()
    images = torch.randn(8, *SHAPE)
    assert torch.equal(twin.train()(images), twin.eval()(images))


def test_the_gate_stands_between_norm_and_swish(images: Tensor) -> None:
    model = HopSupSup(net()).net
    gains = [torch.rand(d) for d in WIDTHS]
    x = images.flatten(1)
    for layer, gain in zip(model.hidden, gains, strict=True):
        x = silu(standardised(x @ layer.weight.T) * gain)
    found = functional_call(model, {f"gates.{i}.gain": g for i, g in enumerate(gains)}, (images,))
    torch.testing.assert_close(found, x @ model.head.weight.T)


def test_an_answer_to_a_single_image_is_no_answer(images: Tensor) -> None:
    model = net()
    assert model(images[:1]).abs().max() < 1e-3 < model(images).abs().max(), "all of them get the same one"


def test_the_papers_net(compose: Callable) -> None:
    cfg = compose("method=hopsupsup")
    assert cfg.backbone.widths == [2048, 2048] and cfg.data.labels == "kept" and cfg.budget.epochs == 1
    model = NormMLP((1, 28, 28), 10, widths=cfg.backbone.widths, bias=cfg.backbone.bias, init=cfg.backbone.init)
    assert sum(p.numel() for p in model.parameters()) == 5_820_416
    assert [name for name, _ in model.named_buffers()] == ["gates.0.gain", "gates.1.gain"]


def test_the_papers_net_in_another_width(compose: Callable) -> None:
    """The key's default is null, so that it changes no key of earlier runs."""
    assert compose("method=hopsupsup").backbone.width is None
    cfg = compose("method=hopsupsup", "backbone.width=0.5")
    model = NormMLP((1, 28, 28), 10, widths=cfg.backbone.widths, width=cfg.backbone.width)
    assert HopSupSup(model).widths() == [1024, 1024]


def test_it_needs_a_gate_per_hidden_layer() -> None:
    assert HopSupSup(MLP(SHAPE, 10, widths=WIDTHS)).widths() == list(WIDTHS)
    assert HopSupSup(ConvK((1, 8, 8), 10, channels=[3, 4], widths=[9])).widths() == [9]
    with pytest.raises(UsageError, match="fc2048_norm"):
        HopSupSup(nn.Linear(36, 10))
    with pytest.raises(UsageError, match="2 units"):
        HopSupSup(NormMLP(SHAPE, 10, widths=[5, 1]))


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"rule": "storky"}, "method.rule=storky .*'storkey'"),
        ({"recall_batch": 1}, "method.recall_batch=1 .* at least 2"),
        ({"recall_settle": -1}, "method.recall_settle=-1 .* at least 0"),
        ({"recall_tries": 0}, "method.recall_tries=0 .* at least 1"),
    ],
)
def test_wrong_knobs_are_refused(knobs: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        HopSupSup(net(), **knobs)


# ---- training a mask


def test_a_mask_passes_its_gradient_straight_to_the_score() -> None:
    score = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    m = hopsupsup.straight_through(score)
    assert m.tolist() == [0, 1, 1], "0 counts as kept"
    (grad,) = torch.autograd.grad((m * torch.tensor([3.0, 5.0, 7.0])).sum(), score)
    assert grad.tolist() == [3, 5, 7], "also where the unit is off"
    (grad,) = torch.autograd.grad(((2 * hopsupsup.straight_through(score) - 1) * torch.tensor([3.0, 5.0, 7.0])).sum(), score)
    assert grad.tolist() == [6, 10, 14]


class Fit:
    """In the place of training: notes what it starts from and moves the scores at random."""

    def __init__(self) -> None:
        self.starts: list[list[float]] = []

    def __call__(self, method: Method, stage) -> None:
        self.starts.append([p.detach().abs().max().item() for p in method.trainable_parameters()])
        for p in method.trainable_parameters():
            p.data.normal_()


def test_every_stage_starts_from_a_mask_of_ones_and_leaves_its_pattern(build: Callable) -> None:
    bench, fit = build(*TINY), Fit()
    method, drawn = bench.method, []
    for stage in bench.stages:
        method.learn(stage, fit)
        drawn.append({name: method.score(name).detach() >= 0 for name in method.sites})
    assert all(start == [0.0, 0.0] for start in fit.starts)
    for name in method.sites:
        z = [2 * m[name].float() - 1 for m in drawn]
        psi = torch.zeros(len(z[0]), len(z[0]))
        for pattern in z:
            psi = hopfield.storkey(psi, pattern)
        assert torch.equal(method.psi(name), psi)
        assert torch.equal(method.memories[f"sum/{name}"], sum(z))
        assert all(torch.equal(method.masks()[f"{i}/{name}"], m[name]) for i, m in enumerate(drawn))


def test_the_weights_never_move(build: Callable) -> None:
    bench = build(*TINY)
    before = {name: p.clone() for name, p in bench.method.net.named_parameters()}
    bench.go()
    assert all(torch.equal(p, before[name]) for name, p in bench.method.net.named_parameters())
    assert bench.metrics["logit_drift"] == 0.0 and bench.metrics["forgetting"] == 0.0


# ---- recall


def test_the_objective_is_the_schedule_of_entropy_and_energy(images: Tensor) -> None:
    method = with_masks(3)
    scores = {name: torch.randn(d) for name, d in zip(method.sites, WIDTHS, strict=True)}
    gains = {name: (s >= 0).float() for name, s in scores.items()}
    p = functional_call(method.net, gains, (images,)).softmax(-1).double()
    entropy = -(p * p.log()).sum(-1).mean()
    energy = sum(-0.5 * (2 * m - 1) @ method.psi(name) @ (2 * m - 1) for name, m in gains.items())
    for done in (0.25, 1.0):
        wanted = (1 - done) * entropy + 1.5e-3 * done * energy
        assert method.objective(scores, images, done).item() == pytest.approx(wanted.item(), rel=1e-5)


def naive_recall(method: HopSupSup, x: Tensor, order: Tensor) -> list[dict[str, Tensor]]:
    """The paper's loop with momentum and decay written out."""
    stages = method.book.stages
    scores = {n: torch.stack([2 * method.masks()[f"{t}/{n}"].float() - 1 for t in stages]).mean(0) for n in method.sites}
    speed, steps, path = dict.fromkeys(scores, 0.0), -(-len(x) // method.recall_batch), []
    path.append({name: s >= 0 for name, s in scores.items()})
    for t, rows in enumerate(order.tensor_split(steps), start=1):
        gains = {name: (s >= 0).float().requires_grad_() for name, s in scores.items()}
        p = functional_call(method.net, gains, (x[rows],)).softmax(-1)
        loss = (1 - t / steps) * -(p * p.log()).sum(-1).mean()
        for name, m in gains.items():
            loss = loss + 1.5e-3 * t / steps * -0.5 * (2 * m - 1) @ method.psi(name) @ (2 * m - 1)
        grads = torch.autograd.grad(loss, list(gains.values()))
        for name, grad in zip(scores, grads, strict=True):
            speed[name] = 0.9 * speed[name] + grad + 1e-4 * scores[name]
            scores[name] = scores[name] - 500 * speed[name]
        path.append({name: s >= 0 for name, s in scores.items()})
    return path


def test_recall_is_the_papers_loop(images: Tensor) -> None:
    method = with_masks(4, recall_batch=16)
    torch.manual_seed(5)
    path, answer = method.recall(images)
    torch.manual_seed(5)
    wanted = naive_recall(method, images, torch.randperm(100))
    assert len(path) == 1 + 7, "where it starts, and ceil(100 / 16) steps"
    assert all(torch.equal(p[name], w[name]) for p, w in zip(path, wanted, strict=True) for name in method.sites)
    last = {name: m.float() for name, m in path[-1].items()}
    assert torch.equal(answer(images), functional_call(method.net, last, (images,)))


def test_settling_goes_on_down_the_energy_alone(images: Tensor) -> None:
    """The steps before are the same; those after ignore the images, and end in a mask that the memory keeps as it is."""
    paths = []
    for settle in (0, 100):
        torch.manual_seed(5)
        paths.append(with_masks(4, recall_batch=16, recall_settle=settle).recall(images)[0])
    short, long = paths
    assert len(long) == len(short) + 100
    assert all(torch.equal(a[name], b[name]) for a, b in zip(short, long, strict=False) for name in a)
    method = with_masks(4)
    for name, m in long[-1].items():
        z = 2 * m.float() - 1
        assert torch.equal((method.psi(name) @ z).sign(), z)


def test_the_surest_of_several_descents_counts(images: Tensor) -> None:
    """Entropies by their definition over all images at once; the first descent is the one that a single try makes."""
    method = with_masks(4, recall_batch=16, recall_settle=100, recall_tries=6)
    torch.manual_seed(5)
    paths = [method.descend(images) for _ in range(6)]
    found = []
    for path in paths:
        p = functional_call(method.net, {name: m.float() for name, m in path[-1].items()}, (images,)).softmax(-1)
        found.append(-(p * p.log()).sum(-1).mean().item())
    assert len({round(value, 5) for value in found}) > 1, "there is something to choose"
    torch.manual_seed(5)
    chosen, _ = method.recall(images)
    best = paths[found.index(min(found))]
    assert all(torch.equal(a[name], b[name]) for a, b in zip(chosen, best, strict=True) for name in a)


def test_recall_reads_the_memory_and_no_stored_mask(images: Tensor) -> None:
    """Nor does it change anything, under no_grad or not."""
    method, blind = with_masks(4), with_masks(4)
    for name in blind.sites:
        blind.book.store[f"bits/{name}"].zero_()
        blind.book.store[f"count/{name}"].zero_()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    torch.manual_seed(0)
    path, _ = method.recall(images)
    torch.manual_seed(0)
    with torch.no_grad():
        other, _ = blind.recall(images)
    assert all(torch.equal(path[-1][name], other[-1][name]) for name in method.sites)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())


def test_a_single_stored_mask_is_recalled_at_once(images: Tensor) -> None:
    """It is the start, and a valley; with entropy out of the way nothing leads off it."""
    method = with_masks(1)
    method.objective = lambda scores, x, done: HopSupSup.objective(method, scores, x, 1.0)
    path, _ = method.recall(images)
    assert all(torch.equal(step[name], method.masks()[f"0/{name}"]) for step in path for name in method.sites)


# ---- in the task


def test_the_report_of_recall(build: Callable) -> None:
    bench = build(*TINY).go()
    metrics, matrices = bench.metrics, bench.outcome.matrices
    distances = matrices["recall_distance"]
    own = [row[i] for i, row in enumerate(distances)]
    assert metrics["recall_distance_max"] == max(own) and metrics["recall_distance_mean"] == sum(own) / 5
    assert [curve[-1] for curve in matrices["recall_distance_curve"]] == own
    assert [len(curve) for curve in matrices["recall_distance_curve"]] == [1 + -(-len(s.test) // 64) for s in bench.stages]
    assert all(0 <= d <= 64 + 48 for row in distances for d in row)
    assert metrics["recall_accuracy"] == pytest.approx(sum(r["accuracy, mask recalled"] for r in bench.outcome.table) / 5)
    assert any("transductive" in note for note in bench.outcome.notes)


def test_a_mask_that_is_recalled_exactly_answers_as_if_the_stage_were_given(build: Callable) -> None:
    bench = build(*TINY).go()
    stage, method = bench.stages[2], bench.method
    own = method.book.read(2)
    gains = {name: m.float() for name, m in own.items()}
    method.recall = lambda x: ([own], lambda images: functional_call(method.net, gains, (images,)))
    found = continual.recall(method, bench.stages, stage)
    assert found["distances"][2] == 0 and found["curve"] == [0]
    p, y = evaluate.members(method, stage, stage.test)
    assert found["accuracy"] == evaluate.share(p.mean(0).argmax(-1) == y), "among all classes: the stage is not named"
    assert found["accuracy"] <= evaluate.accuracy(method, stage, stage.test), "its own are fewer"


def test_a_method_without_recall_is_not_asked_to(build: Callable) -> None:
    bench = build("method=finetune", "data.base=synthetic", "budget.steps=3")
    assert not hasattr(bench.method, "recall")  # which the task's contract asks for
    bench.go()
    assert not [name for name in bench.metrics if name.startswith("recall")]
    assert bench.journal.expected == len(bench.journal.done)


def test_all_steps_are_announced(build: Callable) -> None:
    bench = build(*TINY).go()
    assert bench.journal.expected == len(bench.journal.done) == 10


# ---- memory


def test_memory_is_constant_and_its_break_even_is_said(compose: Callable) -> None:
    method = HopSupSup(NormMLP((1, 2, 2), 10, widths=[2048, 2048]))
    method.store(0, {name: torch.ones(2048, dtype=torch.bool) for name in method.sites})
    assert method.memory() == {"shared": 8 + 2 * 4 * (2048**2 + 2048), "stage": 0}
    facts = method.extra_metrics()
    assert facts["break_even_stages"] == (2 * 4 * (2048**2 + 2048)) / 512 == 65_568
    assert facts["capacity_stages"] == hopfield.capacity(2048) < facts["break_even_stages"]
    assert facts["density"] == 1.0


def test_nothing_but_the_book_grows_with_the_stages() -> None:
    def sizes(method: nn.Module) -> dict[str, int]:
        return {name: value.numel() for name, value in method.state_dict().items() if not name.startswith("book.")}

    assert sizes(with_masks(1)) == sizes(with_masks(9))
