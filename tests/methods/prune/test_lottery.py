"""Lottery tickets: exact counts, nesting, what is pruned stays zero, controls keep the counts, tickets travel."""

import copy
import itertools
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from maskbench import masks
from maskbench.backbones.mlp import MLP
from maskbench.backbones.resnet import ResNet
from maskbench.common.errors import UsageError
from maskbench.masks import criteria
from maskbench.methods.dense import Dense
from maskbench.methods.prune.lottery import Lottery

SHAPE = (1, 28, 28)
SITES = ["hidden.0.weight", "hidden.1.weight", "head.weight"]


def lenet(seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    return MLP(SHAPE, 10, widths=[300, 100])


# ---- counts


def test_counts_of_the_paper(tickets: SimpleNamespace) -> None:
    """Level 1 keeps 188,160 / 24,000 / 900 (80.04 %), level 7 21.07 %, level 15 3.58 %."""
    method = Lottery(lenet())
    method.learn(None, tickets.Moved())
    seen = {}
    for level in range(1, 16):
        method.shrink(None)
        seen[level] = tickets.counts(method)
    assert seen[1] == [188_160, 24_000, 900]
    assert sum(seen[1]) == 213_060
    assert sum(seen[7]) / 266_200 == pytest.approx(0.2107, abs=5e-5)
    assert sum(seen[15]) / 266_200 == pytest.approx(0.0358, abs=5e-5)


def test_masks_are_nested(tickets: SimpleNamespace) -> None:
    method = tickets.small()
    tickets.level_down(method, 5)
    drawn = [method.book.read(level) for level in range(6)]
    for outer, inner in itertools.pairwise(drawn):
        assert all(bool((inner[name] <= outer[name]).all()) for name in method.sites)


def test_rates_by_kind_of_layer(tickets: SimpleNamespace) -> None:
    method = tickets.small(rate=0.5, output_rate=0.1)
    method.learn(None, tickets.Moved())
    method.shrink(None)
    assert tickets.counts(method) == [784 * 30 // 2, 300, 180]


def test_global_ranking_counts_the_whole_net(tickets: SimpleNamespace) -> None:
    method = tickets.small(scope="global", rate=0.3)
    method.learn(None, tickets.Moved())
    method.shrink(None)
    total = 784 * 30 + 600 + 200
    assert sum(tickets.counts(method)) == total - round(0.3 * total)


def test_a_layer_can_be_left_dense(tickets: SimpleNamespace) -> None:
    method = tickets.small(dense=["head"])
    assert method.sites == SITES[:2]


def test_one_seed_one_mask(tickets: SimpleNamespace) -> None:
    first, second, other = tickets.small(), tickets.small(), tickets.small(seed=1)
    for method in (first, second, other):
        tickets.level_down(method, 2)
    assert all(torch.equal(first.alive[n], second.alive[n]) for n in SITES)
    assert not all(torch.equal(first.alive[n], other.alive[n]) for n in SITES)


@given(st.integers(1, 200), st.data())
def test_keep_best_is_exact_under_ties(n: int, data: st.DataObject) -> None:
    score = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))).float()
    alive = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    keep = data.draw(st.integers(0, int(alive.sum())))
    kept = masks.keep_best(score, alive, keep)
    assert int(kept.sum()) == keep
    assert bool((kept <= alive).all())
    if 0 < keep < int(alive.sum()):
        assert score[kept].min() >= score[alive & ~kept].max()


def test_keep_best_breaks_ties_by_lot() -> None:
    drawn = [masks.keep_best(torch.zeros(50), torch.ones(50).bool(), 25) for _ in range(2)]
    assert not torch.equal(*drawn)


# ---- what is pruned


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_pruned_weights_are_zero_after_training(build, tmp_path, optimizer: str) -> None:
    """Under momentum and weight decay, and the optimiser's state from before notwithstanding."""
    parts = build(
        "method=lottery",
        "data.base=synthetic",
        f"optimizer={optimizer}",
        "optimizer.lr=0.01",
        "optimizer.weight_decay=0.01",
        "budget.epochs=null",
        "budget.steps=10",
        folder=tmp_path,
    )
    method, (stage,) = parts.method, parts.stages
    parts.journal.part("level 0", lambda: method.learn(stage, parts.fit) or {})
    parts.journal.part("level 1", lambda: (method.shrink(stage), method.learn(stage, parts.fit)) and {})
    x, _ = stage.test.tensors()
    for name, w in method.effective_weights(x, stage).items():
        pruned = method.alive[name] == 0
        assert pruned.any()
        assert torch.equal(w[pruned], torch.zeros(int(pruned.sum())))


def test_rewinding_restores_the_start_and_shares_nothing_with_it(tickets: SimpleNamespace) -> None:
    method = tickets.small()
    start = {name: value.clone() for name, value in method.net.state_dict().items()}
    tickets.level_down(method, 1)
    assert all(torch.equal(method.start[name], value) for name, value in start.items()), "training wrote into the start"
    method.rewind()
    for name, value in method.net.state_dict().items():
        assert torch.equal(value, start[name])
        assert value.data_ptr() != method.start[name].data_ptr()


def test_late_rewinding_goes_back_to_the_remembered_weights(tickets: SimpleNamespace) -> None:
    method = tickets.small(rewind_step=3)
    method.learn(None, tickets.Moved())
    remembered = {name: method.start[name].clone() for name in SITES}
    assert not torch.equal(remembered[SITES[0]], tickets.small().start[SITES[0]])
    method.shrink(None)
    assert all(torch.equal(method.net.get_parameter(name), remembered[name]) for name in SITES)


def test_late_rewinding_takes_up_schedule_and_data(build, tmp_path) -> None:
    """Level 1 trains the steps from rewind_step on, on the batches the dense net saw there."""
    parts = build(
        "method=lottery",
        "method.rewind_step=4",
        "data.base=synthetic",
        "budget.epochs=null",
        "budget.steps=10",
        "loop.log_every=1",
        folder=tmp_path,
    )
    seen: dict[str, list] = {}
    feed = parts.fit.feed

    def spy(split, device):
        made = copy.copy(feed(split, device))
        take = made.take
        made.take = lambda index: seen.setdefault(parts.journal.name, []).append(index.clone()) or take(index)
        return made

    parts.fit.feed = spy
    method, (stage,) = parts.method, parts.stages
    parts.journal.part("dense", lambda: method.learn(stage, parts.fit) or {})
    parts.journal.part("ticket", lambda: (method.shrink(stage), method.learn(stage, parts.fit)) and {})
    assert len(seen["dense"]) == 10 and len(seen["ticket"]) == 6
    assert all(torch.equal(a, b) for a, b in zip(seen["dense"][4:], seen["ticket"], strict=True))


# ---- actions


ON_KEPT = ["reinit", "permute", "reshuffle", "constant"]


def test_variant_two_zeroes_the_start_of_kept_weights_too(tickets: SimpleNamespace) -> None:
    method = tickets.small()
    tickets.level_down(method, 1)
    twin = copy.deepcopy(method).branch(None, mask0="freeze_init_zero_all")
    name = SITES[0]
    kept, toward = twin.alive[name].bool(), method.first[name].abs() < method.begin[name].abs()
    assert torch.equal(twin.net.get_parameter(name)[kept & toward], torch.zeros(int((kept & toward).sum())))
    assert torch.equal(twin.net.get_parameter(name)[kept & ~toward], method.begin[name][kept & ~toward])


def test_pruned_weights_keep_the_value_they_were_given_first(tickets: SimpleNamespace) -> None:
    method = tickets.small(mask0="freeze_init_zero_mask")
    tickets.level_down(method, 1)
    name = SITES[0]
    gone, held = ~method.alive[name].bool(), method.held[name].clone()
    method.shrink(None)
    assert torch.equal(method.held[name][gone], held[gone])


# ---- criteria


def test_every_criterion_times_every_action_runs(tickets: SimpleNamespace) -> None:
    from maskbench.common.named import functions

    names = [n for n in functions(criteria) if n not in ("snip", "grad", "grasp", "grasp_magnitude", "synflow", "wanda")]
    for criterion in names:
        for mask1 in ["rewind", *ON_KEPT, *(f"signed_{n}" for n in ON_KEPT)]:
            method = tickets.small(criterion=criterion, mask1=mask1, mask0="freeze_init")
            method.learn(None, tickets.Moved())
            method.shrink(None)
            assert tickets.counts(method) == [784 * 30 - round(0.2 * 784 * 30), 480, 180]


@pytest.mark.parametrize("criterion", ["snip", "grad", "synflow", "wanda"])
def test_gradient_criteria_see_the_loss(build, tmp_path, criterion: str, tickets: SimpleNamespace) -> None:
    parts = build("method=lottery", f"method.criterion={criterion}", "data.base=synthetic", "budget.epochs=1", folder=tmp_path)
    method, (stage,) = parts.method, parts.stages
    method.learn(stage, tickets.Moved())
    method.shrink(stage)
    dead = stage.train.tensors()[0].flatten(1).abs().sum(0) == 0  # inputs that are always 0 have no gradient
    if dead.any():
        assert method.alive[SITES[0]][:, dead].mean() < method.alive[SITES[0]].mean()
    assert tickets.counts(method)[2] == 900


def test_a_criterion_from_outside_by_its_dotted_path(tickets: SimpleNamespace) -> None:
    method = tickets.small(criterion="maskbench.criteria.small_final")
    assert method.criterion is criteria.small_final


def test_an_unknown_criterion_is_refused_with_a_hint(tickets: SimpleNamespace) -> None:
    with pytest.raises(UsageError, match="method.criterion=large_fina .*Did you mean 'large_final'"):
        tickets.small(criterion="large_fina")


# ---- tickets


def test_a_ticket_loads_into_a_plain_backbone_and_into_dense(tmp_path, tickets: SimpleNamespace) -> None:
    method = tickets.small()
    begin = {name: value.clone() for name, value in method.net.state_dict().items()}
    tickets.level_down(method, 2)
    path = tmp_path / "ticket.safetensors"
    save_file(method.ticket(), path)

    ticket = load_file(path)  # the README's ten lines
    net = MLP(SHAPE, 10, widths=[30, 20])
    net.load_state_dict({k: v for k, v in ticket.items() if not k.startswith("mask|")})
    for name, w in net.named_parameters():
        if f"mask|{name}" in ticket:
            mask = ticket[f"mask|{name}"].float()
            w.data.mul_(mask)
            w.register_hook(lambda g, m=mask: g * m)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(torch.randn(8, *SHAPE)), torch.arange(8)).backward()
        optimizer.step()
    for name in SITES:
        assert bool((net.get_parameter(name)[method.alive[name] == 0] == 0).all())

    dense = Dense(MLP(SHAPE, 10, widths=[30, 20]), init=f"ticket:{path}")
    assert all(torch.equal(value, begin[name]) for name, value in dense.net.state_dict().items())
    x = torch.randn(4, *SHAPE)
    method.rewind()
    assert torch.equal(dense.logits(x, None), method.logits(x, None))
    assert dense.extra_metrics()["density"] == method.extra_metrics()["density"]


def test_a_ticket_of_another_backbone_is_refused(tmp_path, tickets: SimpleNamespace) -> None:
    method = tickets.small()
    tickets.level_down(method, 1)
    save_file(method.ticket(), tmp_path / "t.safetensors")
    with pytest.raises(UsageError, match="another backbone"):
        Dense(lenet(), init=f"ticket:{tmp_path / 't.safetensors'}")
    with pytest.raises(UsageError, match="ticket:FILE"):
        Dense(lenet(), init=str(tmp_path / "t.safetensors"))


# ---- what remains, as the papers count it


def test_weights_remaining_count_the_layers_that_are_kept_dense(tmp_path, tickets: SimpleNamespace) -> None:
    """ResNet-20 of the lottery paper's figure 8: 11.8 and 27.1 % after 10 and 6 levels, head and shortcuts included."""
    torch.manual_seed(0)
    net = ResNet((3, 32, 32), 10, base=16, blocks=[3, 3, 3], init="glorot_normal")
    shortcuts = [f"stages.{n}.0.shortcut.conv" for n in (1, 2)]
    method = Lottery(copy.deepcopy(net), scope="global", dense=["head", *shortcuts])
    method.learn(None, tickets.Moved())
    remaining = [method.extra_metrics()["density"]]
    for _ in range(10):
        method.shrink(None)
        remaining.append(method.extra_metrics()["density"])
    assert [round(100 * remaining[level], 1) for level in (0, 6, 10)] == [100, 27.1, 11.8]
    metrics = method.extra_metrics()
    assert all(metrics[f"density/{name}"] == 1 for name in ("head", *shortcuts)) and metrics["density/conv"] < 1
    kept = sum(tickets.counts(method)) + sum(net.get_parameter(f"{name}.weight").numel() for name in ("head", *shortcuts))
    assert remaining[10] == kept / 270_896
    save_file(method.ticket(), tmp_path / "ticket.safetensors")
    assert Dense(net, init=f"ticket:{tmp_path}/ticket.safetensors").extra_metrics() == {"density": remaining[10]}
