"""Episodic learners: meta-gradients against finite differences, a plain loop and closed forms; who moves where."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from maskbench import masks
from maskbench.backbones.few_shot import BatchMLP
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.data.episodes.stages import Tasks
from maskbench.methods.meta import inner
from maskbench.methods.meta.episodic import Episodic

ALL, BODY, HEAD = ["*"], ["*", "!head.*"], ["head.*"]
SELECTORS = {  # what the outer loop learns, the inner adapts, and what is masked
    "maml": {"outer": ALL, "adapted": ALL, "masked": []},
    "fomaml": {"outer": ALL, "adapted": ALL, "masked": [], "first_order": True},
    "anil": {"outer": ALL, "adapted": HEAD, "masked": []},
    "boil": {"outer": ALL, "adapted": BODY, "masked": []},
    "meta_ticket": {"outer": [], "adapted": ALL, "masked": BODY},
    "meta_ticket_boil": {"outer": [], "adapted": BODY, "masked": BODY},
    "meta_ticket_sinusoid": {"outer": ALL, "adapted": ALL, "masked": ["hidden.1.weight"]},
}
SUPPORT, QUERIES, WAYS = 6, 4, 3


class Question:
    """What a learner asks of a stage."""

    criterion = staticmethod(F.cross_entropy)


def learner(name: str, *, norm: bool = False, steps: int = 2, **knobs) -> Episodic:
    """A smooth little net in float64, some of its masked weights off."""
    torch.manual_seed(3)
    net = BatchMLP((5,), WAYS, widths=[6, 4]) if norm else Smooth()
    method = Episodic(net, **SELECTORS[name], rate=0.3, steps=steps, test_steps=steps, dropped=0.3, **knobs)
    return method.double()


class Smooth(nn.Module):
    """MLP with tanh, so that second differences exist everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(5, 6), nn.Linear(6, 4)])
        self.head = nn.Linear(4, WAYS)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = layer(x).tanh()
        return self.head(x)


def batch(tasks: int = 3) -> tuple[Tasks, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(tasks, SUPPORT + QUERIES, 5, generator=draw, dtype=torch.float64)
    y = torch.randint(WAYS, (tasks, SUPPORT + QUERIES), generator=draw)
    return Tasks(x, y[:, :SUPPORT]), y[:, SUPPORT:]


def gradients(method: Episodic, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(method.trainable_parameters())))


def apart(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference, as a share of the largest entry: some entries (biases before a norm) are zero but for rounding."""
    differences = [float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)]
    return max(differences) / max(float(b.abs().max()) for b in theirs)


# ---- meta-gradients


def by_hand(method: Episodic, data: tuple[Tasks, Tensor], drawn: dict[str, Tensor] | None = None) -> Tensor:
    """The outer loss as one would write it: autograd, task by task, masks multiplied on, no functional transform."""
    (xs, support_y), ys = data
    drawn, total = method.binary_masks() if drawn is None else drawn, 0.0
    for x, own, y in zip(xs, support_y, ys, strict=True):
        weights = dict(method.net.named_parameters())
        for _ in range(method.count):
            used = {n: w * drawn[n] if n in drawn else w for n, w in weights.items()}
            loss = F.cross_entropy(functional_call(method.net, used, (x[:SUPPORT],)), own)
            names = list(method.rates)
            slopes = torch.autograd.grad(loss, [weights[n] for n in names], create_graph=True)
            if method.first_order:
                slopes = [slope.detach() for slope in slopes]
            weights = weights | {n: weights[n] - method.rates[n] * s for n, s in zip(names, slopes, strict=True)}
        used = {n: w * drawn[n] if n in drawn else w for n, w in weights.items()}
        total = total + F.cross_entropy(functional_call(method.net, used, (x[SUPPORT:],)), y)
    return total / len(xs)


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batch statistics"])
@pytest.mark.parametrize("side_by_side", [True, False])
def test_meta_gradients_are_those_of_a_plain_loop(name: str, first_order: bool, norm: bool, side_by_side: bool) -> None:
    method = learner(name, norm=norm, side_by_side=side_by_side)
    method.first_order = first_order
    loss, plain = method.loss(batch(), Question), by_hand(method, batch())
    assert torch.allclose(loss, plain, rtol=1e-12)
    assert apart(gradients(method, loss), gradients(method, plain)) < 1e-12


@pytest.mark.parametrize("name", SELECTORS)
def test_single_precision_agrees_too(name: str) -> None:
    method = learner(name, norm=True).float()
    (x, own), y = batch()
    data = (Tasks(x.float(), own), y)
    assert apart(gradients(method, method.loss(data, Question)), gradients(method, by_hand(method, data))) < 1e-5


def slope(f: Callable[[Tensor], Tensor], at: Tensor, way: Tensor, h: float = 1e-3) -> Tensor:
    """Derivative of f at `at` along `way`, by central differences of fourth order."""
    near, far = f(at + h * way) - f(at - h * way), f(at + 2 * h * way) - f(at - 2 * h * way)
    return (8 * near - far) / (12 * h)


@pytest.mark.parametrize("name", [n for n, s in SELECTORS.items() if not s.get("first_order")])
def test_meta_gradients_are_the_slopes_of_the_outer_loss(name: str) -> None:
    """To the weights, and to masks taken as real numbers, which is what straight through means."""
    method = learner(name)
    slopes = dict(zip(names_of(method), gradients(method, method.loss(batch(), Question)), strict=True))
    drawn = {n: m.detach() for n, m in method.binary_masks().items()}
    own = {n: w.detach().clone() for n, w in method.net.named_parameters()}
    for target, gradient in slopes.items():

        def outer(value: Tensor, target: str = target) -> Tensor:
            twin = copy.deepcopy(method)
            masks_of, (kind, weight) = dict(drawn), target.split(" ")
            if kind == "score":
                masks_of[weight] = value
            else:
                twin.net.get_parameter(weight).data = value
            return by_hand(twin, batch(), masks_of).detach()

        start = drawn[target.split(" ")[1]] if target.startswith("score") else own[target.split(" ")[1]]
        for seed in range(3):
            way = torch.randn(start.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            assert torch.allclose((gradient * way).sum(), slope(outer, start, way), rtol=1e-6, atol=1e-9)


def names_of(method: Episodic) -> list[str]:
    """What `movable()` yields, in its order."""
    return [f"score {n}" for n in method.masked] + [f"weight {n}" for n in method.outer]


# ---- Meta-ticket's closed forms, section 2 of the specification


@pytest.mark.parametrize("first_order", [False, True])
def test_score_gradients_of_one_inner_step_in_closed_form(first_order: bool) -> None:
    """dL/dm = phi G - 2 a m g G - a phi (H (m G)), and with constant gradients (phi - a m g) G; a single masked layer."""
    torch.manual_seed(0)
    net = MLP((5,), WAYS, widths=[]).double()  # the head alone is masked, and alone adapted
    method = Episodic(
        net, outer=[], adapted=["head.weight"], masked=ALL, rate=0.3, steps=1, test_steps=1, dropped=0.4, first_order=first_order
    ).double()
    (x, own), y = batch(tasks=1)
    (slopes,) = gradients(method, method.loss(batch(tasks=1), Question))

    phi, m, b, a = net.head.weight.detach(), method.masks()["0/head.weight"].double(), net.head.bias.detach(), 0.3
    assert 0 < m.mean() < 1

    def loss(w: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(inputs @ w.T + b, targets)

    def support(w: Tensor) -> Tensor:
        return loss(w, x[0, :SUPPORT], own[0])

    g = torch.func.grad(support)(m * phi)
    after = m * (phi - a * m * g)
    big = torch.func.grad(lambda w: loss(w, x[0, SUPPORT:], y[0]))(after)
    if first_order:
        expected = (phi - a * m * g) * big
    else:
        h = torch.func.grad(lambda w: (torch.func.grad(support)(w) * m * big).sum())(m * phi)
        expected = phi * big - 2 * a * m * g * big - a * phi * h
    assert (slopes - expected).abs().max() < 1e-15
    assert (slopes[m == 0] != 0).any(), "what is off still learns, and can come back"


# ---- who moves where


@pytest.mark.parametrize("name", SELECTORS)
def test_the_inner_loop_moves_what_is_selected_and_alive(name: str) -> None:
    method = learner(name, norm=True)
    (x, own), _ = batch(tasks=1)
    start, drawn = method.start(), {n: m.detach() for n, m in method.binary_masks().items()}
    after = inner.adapted(
        lambda w: F.cross_entropy(method.output(w, drawn, x[0, :SUPPORT]), own[0]), start, method.rates, 2, first_order=True
    )
    moved = {n for n in start if not torch.equal(start[n], after[n])}
    body = {n for n in start if not n.startswith("head")} - {n for n in start if n.startswith("hidden") and n.endswith("bias")}
    # a bias before a norm has no gradient beyond rounding, so that it may stand or move
    expected = {"anil": set(), "boil": body, "meta_ticket_boil": body}.get(name, body | {"head.weight", "head.bias"})
    expected = expected | ({"head.weight", "head.bias"} if name == "anil" else set())
    assert moved - {n for n in start if n.startswith("hidden") and n.endswith("bias")} == expected
    for n, m in drawn.items():
        assert torch.equal(start[n][m == 0], after[n][m == 0]), "what does not exist does not move"


def test_what_the_outer_loop_moves() -> None:
    kinds = {name: list(learner(name).groups()) for name in SELECTORS}
    assert kinds == {name: ["weights"] for name in ("maml", "fomaml", "anil", "boil")} | {
        "meta_ticket": ["scores"],
        "meta_ticket_boil": ["scores"],
        "meta_ticket_sinusoid": ["scores", "weights"],
    }
    method = learner("meta_ticket_sinusoid")
    assert not {id(method.net.get_parameter(n)) for n in method.masked} & {id(p) for p in method.trainable_parameters()}


def test_after_counts_inner_steps() -> None:
    method = learner("maml", norm=True)
    tasks, _ = batch()
    many = method.after(tasks, Question, [0, 1, 4])
    assert many.shape == (3, 3, QUERIES, WAYS)
    for place, count in enumerate((0, 1, 4)):
        assert torch.allclose(many[place], method.after(tasks, Question, [count])[0], rtol=1e-12)
    method.test_count = 4
    assert torch.allclose(method.logits(tasks, Question), many[2], rtol=1e-12)


def test_inductive_answers_do_not_depend_on_the_other_queries() -> None:
    method = learner("maml", norm=True)
    tasks, _ = batch()
    alone = Tasks(tasks.x[:, : SUPPORT + 1], tasks.y)
    whole = method.after(tasks, Question, [0, 2], inductive=True)
    assert torch.allclose(method.after(alone, Question, [0, 2], inductive=True), whole[:, :, :1])
    transductive = method.after(tasks, Question, [0, 2])
    assert not torch.allclose(transductive, whole)
    assert not torch.allclose(method.after(alone, Question, [0, 2]), transductive[:, :, :1])


# ---- masks


def test_training_starts_dense_or_at_the_share_asked_for() -> None:
    torch.manual_seed(0)
    knobs = SELECTORS["meta_ticket"] | {"rate": 0.1, "steps": 1, "test_steps": 1}
    dense = Episodic(BatchMLP((9,), 5, widths=[8, 4]), **knobs)
    assert dense.extra_metrics() == {"density": 1.0, "density/hidden.0": 1.0, "density/hidden.1": 1.0}
    for name, score in ((n, dense.score(n)) for n in dense.masked):
        assert dense.threshold(name) == score.min()
    half = Episodic(BatchMLP((9,), 5, widths=[8, 4]), **knobs, dropped=0.5)
    for name in half.masked:
        n = half.score(name).numel()
        assert int(half.masks()[f"0/{name}"].sum()) == n - round(0.5 * (n - 1))


def test_the_threshold_stays_while_scores_move() -> None:
    method = learner("meta_ticket")
    theta = {n: method.threshold(n).clone() for n in method.masked}
    for p in method.trainable_parameters():
        p.data.sub_(0.4)
    assert all(torch.equal(method.threshold(n), theta[n]) for n in method.masked)
    twin = learner("meta_ticket")
    twin.load_state_dict(method.state_dict())
    assert all(torch.equal(m, twin.masks()[n]) for n, m in method.masks().items())


def test_masks_alone_may_tell() -> None:
    """The control whose weights are one constant a layer."""
    torch.manual_seed(0)
    knobs = {"outer": [], "adapted": ALL, "masked": ALL, "rate": 0.1, "steps": 1, "test_steps": 1}
    method = Episodic(BatchMLP((9,), 5, widths=[8, 4]), **knobs, weights="unsigned_constant")
    for name in method.masked:
        w = method.net.get_parameter(name)
        assert torch.allclose(w, torch.tensor((2 / w.shape[1]) ** 0.5).expand_as(w))
    assert "head.weight" in method.masked


@pytest.mark.parametrize(
    ("knobs", "hint"),
    [
        ({"masked": ["haed.*"]}, "fits no weight"),
        ({"adapted": ["!*"]}, "fits no weight"),
        ({"dropped": 1.0}, "below 1"),
        ({"scores": "frozen"}, "learned or fixed"),
        ({"weights": "kaiming"}, "Did you mean 'kaiming_"),
        ({"side_by_side": "yes"}, "true or false, or auto"),
        ({"steps": -1}, "method.steps=-1"),
        ({"test_steps": 1.5}, "method.test_steps=1.5"),
        ({"rate": 0.0}, "method.rate=0.* above 0"),
    ],
)
def test_wrong_knobs_are_refused(knobs: dict, hint: str) -> None:
    good = SELECTORS["meta_ticket"] | {"rate": 0.1, "steps": 1, "test_steps": 1}
    with pytest.raises(UsageError, match=hint) as error:
        Episodic(BatchMLP((9,), 5, widths=[8, 4]), **(good | knobs))
    assert "\n" not in str(error.value)


# ---- the record


def test_masks_of_the_method_are_those_it_computes_with(build: Callable) -> None:
    method = learner("meta_ticket")
    drawn = method.binary_masks()
    for name, mask in method.masks().items():
        assert torch.equal(drawn[name.removeprefix("0/")].bool(), mask)
    assert masks.density(method.masks().values()) == method.extra_metrics()["density"]


def test_the_ticket_is_a_plain_net_from_which_tasks_begin() -> None:
    method = learner("meta_ticket", norm=True)
    ticket = method.ticket()
    plain = BatchMLP((5,), WAYS, widths=[6, 4]).double()
    plain.load_state_dict({name: value for name, value in ticket.items() if not name.startswith("mask|")})
    for name in method.masked:
        plain.get_parameter(name).data.mul_(ticket[f"mask|{name}"])
    tasks, _ = batch(tasks=1)
    assert torch.equal(plain(tasks.x[0, SUPPORT:]), method.after(tasks, Question, [0])[0, 0])
    assert learner("maml").ticket() == {}
