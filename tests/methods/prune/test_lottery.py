"""Lottery tickets: exact counts, nesting, what is pruned stays zero, controls keep the counts, tickets travel."""

import copy
import itertools

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
from maskbench.methods.prune import actions
from maskbench.methods.prune.lottery import Lottery

SHAPE = (1, 28, 28)
SITES = ["hidden.0.weight", "hidden.1.weight", "head.weight"]


class Moved:
    """A fit that moves every weight a little, as training would, with the stage's data left alone."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, method, stage, *, callbacks_at_steps=None, **phase) -> list:
        torch.manual_seed(self.seed)
        with torch.no_grad():
            for p in method.trainable_parameters():
                p.add_(0.1 * torch.randn_like(p))
        if callbacks_at_steps is not None:
            callbacks_at_steps[1]()
        return []


def lenet(seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    return MLP(SHAPE, 10, widths=[300, 100])


def small(seed: int = 0, **knobs) -> Lottery:
    torch.manual_seed(seed)
    return Lottery(MLP(SHAPE, 10, widths=[30, 20]), **knobs)


def counts(method: Lottery) -> list[int]:
    return [int(method.alive[name].sum()) for name in method.sites]


def level_down(method: Lottery, levels: int, seed: int = 0) -> None:
    method.learn(None, Moved(seed))
    for level in range(levels):
        method.shrink(None)
        method.learn(None, Moved(seed + level + 1))


# ---- counts


def test_counts_of_the_paper() -> None:
    """Level 1 keeps 188,160 / 24,000 / 900 (80.04 %), level 7 21.07 %, level 15 3.58 %."""
    method = Lottery(lenet())
    method.learn(None, Moved())
    seen = {}
    for level in range(1, 16):
        method.shrink(None)
        seen[level] = counts(method)
    assert seen[1] == [188_160, 24_000, 900]
    assert sum(seen[1]) == 213_060
    assert sum(seen[7]) / 266_200 == pytest.approx(0.2107, abs=5e-5)
    assert sum(seen[15]) / 266_200 == pytest.approx(0.0358, abs=5e-5)


def test_masks_are_nested() -> None:
    method = small()
    level_down(method, 5)
    drawn = [method.book.read(level) for level in range(6)]
    for outer, inner in itertools.pairwise(drawn):
        assert all(bool((inner[name] <= outer[name]).all()) for name in method.sites)


def test_rates_by_kind_of_layer() -> None:
    method = small(rate=0.5, output_rate=0.1)
    method.learn(None, Moved())
    method.shrink(None)
    assert counts(method) == [784 * 30 // 2, 300, 180]


def test_global_ranking_counts_the_whole_net() -> None:
    method = small(scope="global", rate=0.3)
    method.learn(None, Moved())
    method.shrink(None)
    total = 784 * 30 + 600 + 200
    assert sum(counts(method)) == total - round(0.3 * total)


def test_a_layer_can_be_left_dense() -> None:
    method = small(dense=["head"])
    assert method.sites == SITES[:2]


def test_one_seed_one_mask() -> None:
    first, second, other = small(), small(), small(seed=1)
    for method in (first, second, other):
        level_down(method, 2)
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


def test_rewinding_restores_the_start_and_shares_nothing_with_it() -> None:
    method = small()
    start = {name: value.clone() for name, value in method.net.state_dict().items()}
    level_down(method, 1)
    assert all(torch.equal(method.start[name], value) for name, value in start.items()), "training wrote into the start"
    method.rewind()
    for name, value in method.net.state_dict().items():
        assert torch.equal(value, start[name])
        assert value.data_ptr() != method.start[name].data_ptr()


def test_late_rewinding_goes_back_to_the_remembered_weights() -> None:
    method = small(rewind_step=3)
    method.learn(None, Moved())
    remembered = {name: method.start[name].clone() for name in SITES}
    assert not torch.equal(remembered[SITES[0]], small().start[SITES[0]])
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


# ---- controls


@pytest.mark.parametrize("knobs", [{"mask": "random"}, {"mask": "one_shot"}, {"mask1": "reinit"}, {"mask0": "freeze_init"}])
def test_branches_keep_the_counts_and_leave_the_method_alone(knobs: dict) -> None:
    method = small()
    level_down(method, 2)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    twin = copy.deepcopy(method).branch(None, **knobs)
    assert counts(twin) == counts(method)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_reinit_draws_afresh_and_keeps_the_mask() -> None:
    method = small()
    level_down(method, 1)
    twin = copy.deepcopy(method).branch(None, mask1="reinit")
    for name in SITES:
        assert torch.equal(twin.alive[name], method.alive[name])
        assert not torch.equal(twin.net.get_parameter(name), method.begin[name])
        assert float(twin.start[name].std()) == pytest.approx(float(method.begin[name].std()), rel=0.15)


def test_one_shot_equals_the_first_level() -> None:
    """From the same dense net, drawing level 1 at once is level 1."""
    method = small()
    level_down(method, 1)
    twin = copy.deepcopy(method).branch(None, mask="one_shot", level=1)
    assert all(torch.equal(twin.alive[name], method.alive[name]) for name in SITES)


def test_an_unknown_branch_is_refused() -> None:
    method = small()
    level_down(method, 1)
    with pytest.raises(UsageError, match="one of same, random, .*, not other"):
        method.branch(None, mask="other")


# ---- actions


def layer(seed: int = 0) -> actions.Layer:
    torch.manual_seed(seed)
    init, final = torch.randn(40, 30), torch.randn(40, 30)
    return actions.Layer(init, final, torch.rand(40, 30) < 0.5, lambda: torch.randn(40, 30))


ON_KEPT = ["reinit", "permute", "reshuffle", "constant"]


@pytest.mark.parametrize("name", ON_KEPT)
def test_signed_actions_keep_signs_and_free_ones_do_not(name: str) -> None:
    one = layer()
    signed, free = (actions.mask1(n)(one)[one.mask] for n in (f"signed_{name}", name))
    assert torch.equal(signed.sign(), one.init[one.mask].sign())
    assert not torch.equal(free.sign(), one.init[one.mask].sign())


def test_permutations_keep_the_values() -> None:
    one = layer()
    assert torch.equal(actions.permute(one).flatten().sort().values, one.init.flatten().sort().values)
    assert torch.equal(actions.reshuffle(one)[one.mask].sort().values, one.init[one.mask].sort().values)
    assert torch.equal(actions.reshuffle(one)[~one.mask], one.init[~one.mask])


def test_the_constant_is_the_std_of_the_whole_layer() -> None:
    one = layer()
    assert torch.allclose(actions.constant(one).abs(), one.init.std(correction=0).expand(40, 30))


def test_freezing_what_did_not_move_toward_zero() -> None:
    one = layer()
    toward = one.final.abs() < one.init.abs()
    variant, reverse = actions.freeze_init_zero_mask(one), actions.freeze_init_zero_rev(one)
    assert torch.equal(variant, torch.where(toward, 0.0, one.init))
    assert torch.equal(reverse, torch.where(toward, one.init, 0.0))
    shuffled = actions.freeze_init_zero_reshuffle(one)
    pruned = ~one.mask
    assert int((shuffled[pruned] == 0).sum()) == int((variant[pruned] == 0).sum())


def test_variant_two_zeroes_the_start_of_kept_weights_too() -> None:
    method = small()
    level_down(method, 1)
    twin = copy.deepcopy(method).branch(None, mask0="freeze_init_zero_all")
    name = SITES[0]
    kept, toward = twin.alive[name].bool(), method.first[name].abs() < method.begin[name].abs()
    assert torch.equal(twin.net.get_parameter(name)[kept & toward], torch.zeros(int((kept & toward).sum())))
    assert torch.equal(twin.net.get_parameter(name)[kept & ~toward], method.begin[name][kept & ~toward])


def test_pruned_weights_keep_the_value_they_were_given_first() -> None:
    method = small(mask0="freeze_init_zero_mask")
    level_down(method, 1)
    name = SITES[0]
    gone, held = ~method.alive[name].bool(), method.held[name].clone()
    method.shrink(None)
    assert torch.equal(method.held[name][gone], held[gone])


# ---- criteria


def weights(seed: int = 0) -> criteria.Weights:
    torch.manual_seed(seed)
    init, final = torch.randn(30, 20, dtype=torch.float64), torch.randn(30, 20, dtype=torch.float64)
    return criteria.Weights(init, final, torch.ones(30, 20).bool(), 100, lambda: torch.ones(30, 20))


def test_same_sign_criterion_is_the_papers_formula() -> None:
    w = weights()
    formula = torch.clamp(w.final * w.init / w.init.abs(), min=0)
    assert torch.allclose(criteria.large_final_same_sign(w), formula)
    assert torch.allclose(criteria.large_final_diff_sign(w), torch.clamp(-w.final * w.init / w.init.abs(), min=0))


def test_large_at_both_ends_is_one_common_quantile() -> None:
    """The kept weights are those above the same rank in both orders, for the rank that keeps the count."""
    w = weights()
    kept = masks.keep_best(criteria.large_init_large_final(w), w.alive, w.keep)
    places = [criteria._rank(value.abs(), w.alive) for value in (w.init, w.final)]
    for cut in range(600):
        both = (places[0] >= cut) & (places[1] >= cut)
        if int(both.sum()) == w.keep:
            assert torch.equal(both, kept)
            return
    pytest.fail("no cut keeps the count")


def test_every_criterion_times_every_action_runs() -> None:
    from maskbench.common.named import functions

    names = [n for n in functions(criteria) if n not in ("snip", "grad", "grasp", "grasp_magnitude", "synflow", "wanda")]
    for criterion in names:
        for mask1 in ["rewind", *ON_KEPT, *(f"signed_{n}" for n in ON_KEPT)]:
            method = small(criterion=criterion, mask1=mask1, mask0="freeze_init")
            method.learn(None, Moved())
            method.shrink(None)
            assert counts(method) == [784 * 30 - round(0.2 * 784 * 30), 480, 180]


@pytest.mark.parametrize("criterion", ["snip", "grad", "synflow", "wanda"])
def test_gradient_criteria_see_the_loss(build, tmp_path, criterion: str) -> None:
    parts = build("method=lottery", f"method.criterion={criterion}", "data.base=synthetic", "budget.epochs=1", folder=tmp_path)
    method, (stage,) = parts.method, parts.stages
    method.learn(stage, Moved())
    method.shrink(stage)
    dead = stage.train.tensors()[0].flatten(1).abs().sum(0) == 0  # inputs that are always 0 have no gradient
    if dead.any():
        assert method.alive[SITES[0]][:, dead].mean() < method.alive[SITES[0]].mean()
    assert counts(method)[2] == 900


def test_a_criterion_from_outside_by_its_dotted_path() -> None:
    method = small(criterion="maskbench.criteria.small_final")
    assert method.criterion is criteria.small_final


def test_an_unknown_criterion_is_refused_with_a_hint() -> None:
    with pytest.raises(UsageError, match="method.criterion=large_fina .*Did you mean 'large_final'"):
        small(criterion="large_fina")


# ---- tickets


def test_a_ticket_loads_into_a_plain_backbone_and_into_dense(tmp_path) -> None:
    method = small()
    begin = {name: value.clone() for name, value in method.net.state_dict().items()}
    level_down(method, 2)
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


def test_a_ticket_of_another_backbone_is_refused(tmp_path) -> None:
    method = small()
    level_down(method, 1)
    save_file(method.ticket(), tmp_path / "t.safetensors")
    with pytest.raises(UsageError, match="another backbone"):
        Dense(lenet(), init=f"ticket:{tmp_path / 't.safetensors'}")
    with pytest.raises(UsageError, match="ticket:FILE"):
        Dense(lenet(), init=str(tmp_path / "t.safetensors"))


# ---- what remains, as the papers count it


def test_weights_remaining_count_the_layers_that_are_kept_dense(tmp_path) -> None:
    """ResNet-20 of the lottery paper's figure 8: 11.8 and 27.1 % after 10 and 6 levels, head and shortcuts included."""
    torch.manual_seed(0)
    net = ResNet((3, 32, 32), 10, base=16, blocks=[3, 3, 3], init="glorot_normal")
    shortcuts = [f"stages.{n}.0.shortcut.conv" for n in (1, 2)]
    method = Lottery(copy.deepcopy(net), scope="global", dense=["head", *shortcuts])
    method.learn(None, Moved())
    remaining = [method.extra_metrics()["density"]]
    for _ in range(10):
        method.shrink(None)
        remaining.append(method.extra_metrics()["density"])
    assert [round(100 * remaining[level], 1) for level in (0, 6, 10)] == [100, 27.1, 11.8]
    metrics = method.extra_metrics()
    assert all(metrics[f"density/{name}"] == 1 for name in ("head", *shortcuts)) and metrics["density/conv"] < 1
    kept = sum(counts(method)) + sum(net.get_parameter(f"{name}.weight").numel() for name in ("head", *shortcuts))
    assert remaining[10] == kept / 270_896
    save_file(method.ticket(), tmp_path / "ticket.safetensors")
    assert Dense(net, init=f"ticket:{tmp_path}/ticket.safetensors").extra_metrics() == {"density": remaining[10]}


# ---- further controls


@pytest.mark.parametrize("name", ["rewind", "signed_constant"])
def test_rescaling_makes_up_for_the_weights_that_went(name: str) -> None:
    """Over levels n / ones of the mask, not the product of that of each level."""
    plain, scaled = small(mask1=name), small(mask1=f"{name}_rescaling")
    for method in (plain, scaled):
        level_down(method, 2)
    for site in plain.sites:
        alive = scaled.alive[site].bool()
        factor = alive.numel() / alive.sum()
        value = (
            plain.begin[site][alive] if name == "rewind" else plain.start[site][alive].abs() * scaled.begin[site][alive].sign()
        )
        assert torch.allclose(scaled.start[site][alive], value * factor, rtol=1e-3)


@pytest.mark.parametrize("mask", ["random", "random_even", "random_global"])
def test_random_masks_keep_the_count_of_a_layer_of_the_net_or_evenly(mask: str) -> None:
    method = small(output_rate=0.05)
    level_down(method, 4)
    control = copy.deepcopy(method).branch(None, mask=mask)
    assert sum(counts(control)) == sum(counts(method)) and masks_differ(control, method)
    assert (counts(control) == counts(method)) == (mask == "random")
    shares = [m / control.alive[name].numel() for m, name in zip(counts(control), control.sites, strict=True)]
    if mask == "random_even":
        assert max(shares) - min(shares) <= 1.5 / 200  # a weight of the smallest layer
    assert max(shares) - min(shares) > 0.1 if mask == "random" else max(shares) - min(shares) < 0.1


def masks_differ(a: Lottery, b: Lottery) -> bool:
    return not all(torch.equal(a.alive[name], b.alive[name]) for name in a.sites)


@pytest.mark.parametrize("mask", ["same_sign", "diff_sign"])
def test_a_sign_alone_makes_a_mask_without_a_rate(mask: str) -> None:
    method = small()
    level_down(method, 1)
    control = copy.deepcopy(method).branch(None, mask=mask, mask1="signed_constant")
    for name in method.sites:
        flipped = method.begin[name].sign() != method.first[name].sign()
        assert torch.equal(control.alive[name].bool(), flipped if mask == "diff_sign" else ~flipped)


def test_a_mask_from_an_early_step_is_drawn_by_the_weights_of_then() -> None:
    class Early(Moved):
        """Looks before it moves: the weights of then are those of the start."""

        def __call__(self, method, stage, *, callbacks_at_steps=None, **phase) -> list:
            assert callbacks_at_steps[0] == [3]
            callbacks_at_steps[1]()
            return super().__call__(method, stage, **phase)

    method = small(mask_step=3)
    method.learn(None, Early())
    method.shrink(None)
    for name in method.sites:
        start, kept = method.begin[name].abs(), method.alive[name].bool()
        assert start[kept].min() >= start[~kept].max() and torch.equal(method.first[name], method.begin[name])
    with pytest.raises(UsageError, match="beyond the steps"):
        small(mask_step=3).learn(None, lambda *_, **__: [])
    with pytest.raises(UsageError, match="set one of them"):
        small(mask_step=3, rewind_step=2)


def test_training_goes_on_and_is_reset_once() -> None:
    """resets=false: each level starts where the last one ended, biases too; a branch goes back to the first start."""
    method = small(resets=False)
    method.learn(None, Moved(1))
    ended = {name: value.clone() for name, value in method.net.state_dict().items()}
    method.shrink(None)
    assert all(torch.equal(value, ended[name]) for name, value in method.net.state_dict().items())
    control = copy.deepcopy(method).branch(None, mask="same")
    assert all(torch.equal(value, method.begin[name]) for name, value in control.net.state_dict().items())
    assert not masks_differ(control, method)
    with pytest.raises(UsageError, match="sets no weight back"):
        small(resets=False, mask1="reinit")


def test_supermasks_by_sign_have_one_row_and_those_with_a_rate_one_a_level(build, tmp_path) -> None:
    masks_of = "+task.supermasks={sign:{mask:same_sign,mask1:signed_constant},large:{criterion:large_final}}"
    words = ("method=lottery", "data.base=synthetic", "budget.epochs=1", "task.levels=0", "task.supermask_levels=2", masks_of)
    rows = [row["branch"] for row in build(*words, folder=tmp_path).go().outcome.curves]
    assert rows == ["ticket", "supermask/sign", "supermask/large", "supermask/large"]


def test_early_masks_and_training_that_goes_on_through_the_real_loop(build, tmp_path) -> None:
    """A mask of step 2 is none of the last step; with resets=false level 1 begins with what level 0 ended with."""
    words = ("method=lottery", "data.base=synthetic", "budget.epochs=null", "budget.steps=6", "task.levels=1")
    early = build(*words, "+method.mask_step=2", folder=tmp_path / "early").go().method
    plain = build(*words, folder=tmp_path / "plain").go().method
    assert all(early.alive[name].sum() == plain.alive[name].sum() for name in plain.sites) and masks_differ(early, plain)
    going = build(*words, "+method.resets=false", "+task.branches={reset:{mask:same}}", folder=tmp_path / "on").go().method
    assert not torch.equal(going.start["head.bias"], going.begin["head.bias"])
    assert torch.equal(plain.start["head.bias"], plain.begin["head.bias"])
