"""Lottery tickets under every scope: exact counts, nested levels, controls of the same pattern, units that are gone."""

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from maskbench.backbones.mlp import MLP
from maskbench.backbones.resnet import ResNet
from maskbench.backbones.vgg import VGG
from maskbench.common.errors import UsageError
from maskbench.masks import scopes
from maskbench.methods.prune.lottery import Lottery

SCOPES = ["layer", "global", "row", "unit", "unit_l1", "2:4"]
RANDOM = ["random", "random_even", "random_global"]


class Moved:
    """A fit that moves every weight a little."""

    def __call__(self, method, stage, **phase) -> list:
        with torch.no_grad():
            for p in method.trainable_parameters():
                p.add_(0.1 * torch.randn_like(p))
        return []


def lottery(net: nn.Module | None = None, **knobs) -> Lottery:
    torch.manual_seed(0)
    return Lottery(net or MLP((1, 8, 8), 10, widths=[40, 20]), **knobs)


def level_down(method: Lottery, levels: int) -> Lottery:
    method.learn(None, Moved())
    for _ in range(levels):
        method.shrink(None)
        method.learn(None, Moved())
    return method


def kept(method: Lottery) -> dict[str, Tensor]:
    return {name: method.alive[name].bool() for name in method.sites}


def living(method: Lottery) -> list[int]:
    return list(method.counts(kept(method)).values())


def patterned(mask: Tensor) -> bool:
    return bool((mask.movedim(1, -1).reshape(-1, 4).sum(1) == 2).all())


# ---- counts


@pytest.mark.parametrize(
    ("knobs", "left"),
    [
        ({"rate": [0.5, 0.5, 0.2]}, [[1280, 400, 150], [640, 200, 112], [512, 160, 101], [410, 128, 91]]),
        ({"rate": 0.5, "layer_rates": {"head": 0.1, "hidden.1": [0.2, 0.4]}}, [[1280, 640, 180], [640, 384, 162]]),
        ({"rate": [0.5, 0.2], "scope": "global"}, [[1780], [1424], [1139]]),
        ({"rate": 0.5, "scope": "row"}, [[32 * 40, 20 * 20, 15 * 10], [16 * 40, 10 * 20, 11 * 10]]),
        ({"rate": 0.5, "scope": "unit"}, [[20, 10, 10], [10, 5, 10], [5, 3, 10]]),
        ({"rate": 0.9, "scope": "unit_l1"}, [[4, 2, 10], [1, 1, 10], [1, 1, 10]]),
        ({"scope": "2:4"}, [[1280, 400, 100]]),
        ({"scope": "3:4", "rate": [0.9]}, [[1920, 600, 150]]),
        ({"rate": 0.5, "distribution": "uniform"}, [[1280, 400, 100], [640, 200, 50]]),
        ({"rate": 0.5, "distribution": "erk"}, [[1002, 578, 200], [477, 275, 138]]),
    ],
)
def test_counts_of_levels(knobs: dict, left: list[list[int]]) -> None:
    method = lottery(**knobs)
    method.learn(None, Moved())
    before = kept(method)
    for counts in left:
        method.shrink(None)
        assert living(method) == counts
        assert all(bool((kept(method)[name] <= before[name]).all()) for name in method.sites), "nested"
        before = kept(method)


def test_a_distribution_stays_nested_where_rounding_would_not() -> None:
    method = lottery(MLP((3,), 3, widths=[4, 5]), rate=0.05, distribution="erk")
    counts = method.counts(kept(method))
    for level in range(60):
        fewer = method.fewer(counts, level)
        total = sum(counts.values())
        assert sum(fewer.values()) == total - round(0.05 * total)
        assert all(fewer[name] <= counts[name] for name in counts)
        counts = fewer


def test_a_pattern_has_one_level() -> None:
    method = lottery(scope="1:4")
    assert not method.exhausted()
    level_down(method, 1)
    assert method.exhausted() and not level_down(lottery(), 3).exhausted()


def test_a_smart_ratio_ends_where_matrices_alone_are_more() -> None:
    net = VGG((3, 8, 8), 5, blocks=[1, 1], channels=[4, 40])
    method = level_down(lottery(net, distribution="smart", rate=0.8), 1)
    assert not method.exhausted()
    assert level_down(method, 1).exhausted()


# ---- controls


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("mask", [*RANDOM, "one_shot"])
def test_controls_have_the_pattern_of_the_scope(scope: str, mask: str) -> None:
    method = level_down(lottery(scope=scope, rate=0.4), 1 if scope == "2:4" else 2)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    twin = copy.deepcopy(method).branch(None, mask=mask)
    ours, theirs = kept(method), kept(twin)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    drawn_alike = scope == "2:4" and mask == "one_shot"  # from the dense net, as the only level is
    assert all(torch.equal(ours[name], theirs[name]) for name in ours) == drawn_alike
    if scope == "2:4":
        assert all(patterned(m) for m in theirs.values())
    if scope.startswith("unit"):
        units = {name: scopes.units_of(m) for name, m in theirs.items()}
        assert sum(int(u.sum()) for u in units.values()) == sum(living(method))
        for before_, after in itertools.pairwise(twin.sites):
            assert torch.equal(theirs[after], units[after][:, None] & units[before_])
        assert int(units["head.weight"].sum()) == 10
    else:
        assert sum(int(m.sum()) for m in theirs.values()) == sum(int(m.sum()) for m in ours.values())
    if mask in ("random", "one_shot") and not (scope == "global" and mask == "one_shot"):
        assert twin.counts(theirs) == method.counts(ours)
    if scope == "row" and mask in ("random", "one_shot"):
        assert all(len(set(m.sum(1).tolist())) == 1 for m in theirs.values())
    if mask == "random_even" and scope != "2:4":
        spread = shares(theirs, scope)
        assert max(spread) - min(spread) < 0.05


def shares(masks: dict[str, Tensor], scope: str) -> list[float]:
    """What is kept of each layer, or of each hidden layer's units."""
    if scope.startswith("unit"):
        return [float(scopes.units_of(m).float().mean()) for m in masks.values()][:-1]
    return [float(m.float().mean()) for m in masks.values()]


def test_one_shot_is_the_counts_of_a_level_under_a_scope() -> None:
    method = level_down(lottery(scope="unit", rate=[0.5, 0.2]), 1)
    twin = copy.deepcopy(method).branch(None, mask="one_shot", level=2)
    assert living(twin) == [16, 8, 10]
    for name, mask in kept(copy.deepcopy(method).branch(None, mask="one_shot", level=1)).items():
        assert torch.equal(mask, kept(method)[name])


# ---- whole units


@pytest.mark.parametrize("training", [True, False])
def test_a_dead_unit_has_neither_bias_nor_gain_nor_shift(training: bool) -> None:
    net = VGG((3, 8, 8), 5, blocks=[1, 2], channels=[8, 12])
    method = level_down(lottery(net, scope="unit", rate=0.5), 1).train(training)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1.0)  # whatever the net's own tensors are
    x = torch.randn(4, 3, 8, 8)
    tensors = method.effective_weights(x, None)
    assert set(tensors) == {*method.sites, *(f"norms.{i}.{part}" for i in range(3) for part in ("weight", "bias"))}
    for i in range(3):
        dead = ~scopes.units_of(kept(method)[f"convs.{i}.weight"])
        assert int(dead.sum()) == len(dead) // 2
        assert not any(tensors[f"norms.{i}.{part}"][dead].any() for part in ("weight", "bias"))
    method.logits(x, None).sum().backward()
    for i in range(3):
        dead = ~scopes.units_of(kept(method)[f"convs.{i}.weight"])
        assert not any(net.get_parameter(f"norms.{i}.{part}").grad[dead].any() for part in ("weight", "bias"))


def test_a_ticket_of_units_holds_no_bias_of_the_dead() -> None:
    net = MLP((6,), 3, widths=[8, 4])
    with torch.no_grad():
        for layer in net.hidden:
            layer.bias.fill_(0.5)
    method = level_down(lottery(net, scope="unit", rate=0.5), 1)
    ticket = method.ticket()
    for i in range(2):
        alive = ticket[f"mask|hidden.{i}.weight"].bool().any(1)
        assert torch.equal(ticket[f"hidden.{i}.bias"], alive * 0.5)
    other = lottery(MLP((6,), 3, widths=[8, 4]), scope="unit", rate=0.5)
    other.load_state_dict(method.state_dict())
    x = torch.randn(5, 6)
    assert torch.equal(other.logits(x, None), method.logits(x, None))


# ---- criteria that ask the net


@pytest.mark.parametrize(
    ("criterion", "scope"),
    [("grasp", "global"), ("grasp", "unit"), ("grasp_magnitude", "row"), ("synflow", "layer"), ("synflow", "unit_l1"),
     ("wanda", "row"), ("wanda", "unit"), ("wanda", "2:4")],
)  # fmt: skip
@pytest.mark.full
def test_new_criteria_run_under_every_scope(build, tmp_path, criterion: str, scope: str) -> None:
    words = ("method=lottery", f"method.criterion={criterion}", f"method.scope={scope}", "data.base=synthetic", "task.levels=2")
    bench = build(*words, "budget.epochs=null", "budget.steps=5", "+task.branches.once.mask=one_shot", folder=tmp_path).go()
    assert bench.method.level == (1 if scope == "2:4" else 2)
    assert bench.outcome.metrics["accuracy"] >= 0


def test_a_run_ends_where_a_pattern_leaves_nothing_to_prune(build, tmp_path) -> None:
    words = (
        "method=lottery",
        "method.scope=2:4",
        "method.criterion=wanda",
        "data.base=synthetic",
        "+task.branches.other.mask=random",
    )
    bench = build(*words, "budget.epochs=null", "budget.steps=3", folder=tmp_path).go()
    assert bench.outcome.metrics["density"] == 0.5
    assert [name for name in bench.metrics if name.startswith("accuracy/other/")] == ["accuracy/other/0.5000"]
    assert bench.outcome.notes[-1].startswith("Level 1 is the last, though task.levels=5")
    assert all(patterned(m) for m in kept(bench.method).values())


# ---- what contradicts


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"scope": "2:4", "output_rate": 0.1}, "method.output_rate contradicts method.scope=2:4"),
        ({"scope": "3:5"}, r"method.scope=3:5 takes each 5 inputs .*\(hidden.0 has 64\): .*method.dense=\[hidden.0\]"),
        (
            {"scope": "global", "distribution": "erk"},
            "method.distribution=erk says what each layer keeps, and method.scope=global",
        ),
        ({"distribution": "er", "conv_rate": 0.1}, "method.conv_rate and method.distribution=er both say"),
        (
            {"layer_rates": {"haed": 0.1}},
            "method.layer_rates: no layer called 'haed' has a mask here. Layers with one: hidden.0, h",
        ),
        ({"layer_rates": {"head": 1.5}}, "method.layer_rates"),
        ({"layer_rates": {"head": 0.1}, "scope": "global"}, "method.layer_rates has no meaning under method.scope=global"),
        ({"layer_rates": {"head": 0.1}, "scope": "unit"}, "method.layer_rates.head: its units are the net's outputs"),
        ({"scope": "unit", "mask0": "freeze_init"}, "method.scope=unit takes units out, and method.mask0=freeze_init"),
        (
            {"scope": "columns"},
            "method.scope=columns must be one of layer, global, row, unit, unit_l1, or a word N:M such as 2:4",
        ),
        ({"rate": []}, "method.rate"),
    ],
)
def test_keys_that_contradict_are_refused(knobs: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        lottery(**knobs)


def test_units_across_a_residual_sum_are_refused() -> None:
    net = ResNet((3, 8, 8), 10, base=4, blocks=[1, 1])
    with pytest.raises(UsageError, match=r"across the sum .* leave these whole, method.dense=\[conv,"):
        lottery(net, scope="unit")
    inside = lottery(net, scope="unit", dense=["conv", "stages.0.0.conv2", "stages.1.0.conv2", "stages.1.0.shortcut.conv"])
    assert inside.sites == ["stages.0.0.conv1.weight", "stages.1.0.conv1.weight", "head.weight"]
