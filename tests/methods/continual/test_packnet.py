"""PackNet: counts, owners, schedules and policies."""

from collections.abc import Callable

import pytest
import torch

from maskbench import masks
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.methods.continual.packnet import PackNet
from maskbench.training import evaluate

TINY = (
    "method=packnet", "data.base=synthetic", "backbone.widths=[40,24]", "budget.steps=20", "budget.batch_size=64",
    "task.probe=50", "optimizer.weight_decay=0.01",
)  # fmt: skip
SCHEDULES = {
    "listed": ("[0.5,0.75]", [0.5, 0.75, 0.75, 0.75, 0]),
    "equal": ("equal_share", [4 / 5, 3 / 4, 2 / 3, 1 / 2, 0]),
}


class Watched:
    """A fit that keeps what PackNet looks like around every phase: (stage, phase, alive and trunk before, after)."""

    def __init__(self, fit: Callable) -> None:
        self.fit, self.phases = fit, []

    def __getattr__(self, name: str):
        return getattr(self.fit, name)

    def __call__(self, method: PackNet, stage, **phase) -> None:
        before = look(method)
        self.fit(method, stage, **phase)
        self.phases.append((stage, phase.get("name", "train"), before, look(method)))


def look(method: PackNet) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "alive": {name: method.ledger.alive[name].bool() for name in method.trunk},
        "free": {name: method.ledger.free(name) for name in method.trunk},
        "present": {name: w.detach().clone() for name, w in method.ledger.present(method.trunk).items()},
    }


@pytest.fixture(params=SCHEDULES)
def packed(request: pytest.FixtureRequest, build: Callable):
    """(bench, watched phases, shares) of a finished run under each pruning schedule."""
    text, shares = SCHEDULES[request.param]
    bench = build(*TINY, f"method.prune={text}")
    watched = Watched(bench.fit)
    return bench.go(learner=watched), watched.phases, shares


def test_each_stage_trains_prunes_its_own_by_layer_and_retrains(packed) -> None:
    bench, phases, shares = packed
    wanted = [(s, name) for s in range(4) for name in ("train", "retrain")] + [(4, "train")]
    assert [(stage.index, name) for stage, name, *_ in phases] == wanted
    for stage, name, before, after in phases:
        for layer in bench.method.trunk:
            free, alive = before["free"][layer], before["alive"][layer]
            if name == "train":
                assert torch.equal(alive, free), "a stage may use every free weight"
                trained = after["present"]
                continue
            w, own = trained[layer], int(free.sum())
            k = round(shares[stage.index] * own)  # of this stage's weights in this layer
            cutoff = w[free].abs().sort().values[k - 1]
            assert torch.equal(alive, free & (w.abs() > cutoff)), "the k smallest go, and ties with them"
            assert int(alive.sum()) <= own - k


def test_retraining_revives_nothing_that_was_pruned(packed) -> None:
    for _, name, before, after in packed[1]:
        for layer, alive in before["alive"].items():
            assert torch.equal(after["alive"][layer], alive)
            if name == "retrain":
                pruned = before["free"][layer] & ~alive
                assert pruned.any() and not before["present"][layer][pruned].any()
                assert not after["present"][layer][pruned].any()


def test_freed_weights_restart_from_zero(packed) -> None:
    for stage, name, before, _ in packed[1]:
        if name == "train" and stage.index:
            assert not any(w[before["free"][layer]].any() for layer, w in before["present"].items())


def test_the_free_share_follows_the_schedule(packed) -> None:
    """Up to the rounding of each layer's count; ties (dead units have weights of exactly 0) can only free more."""
    bench, phases, shares = packed
    free = 1.0
    for stage, name, before, _ in phases:
        if name == "train":
            sizes = sum(m.numel() for m in before["free"].values())
            assert sum(int(m.sum()) for m in before["free"].values()) / sizes == pytest.approx(free, abs=0.02)
        elif name == "retrain":
            free *= shares[stage.index]
    assert bench.metrics["free"] == 0.0, "the last stage keeps all that is left"


def test_equal_shares_are_equal(build: Callable) -> None:
    method = build(*TINY, "method.prune=equal_share").go().method
    owner = torch.cat([method.ledger.owner[name].flatten() for name in method.trunk])
    shares = torch.bincount(owner.long(), minlength=6)[1:] / len(owner)
    assert shares.tolist() == pytest.approx([0.2] * 5, abs=0.02)


def test_owners_are_stages_and_masks_are_nested(packed) -> None:
    bench = packed[0]
    method = bench.method
    for layer in method.trunk:
        owner = method.ledger.owner[layer]
        assert owner.dtype == torch.uint8 and owner.unique().tolist() == [1, 2, 3, 4, 5]
        for stage in range(5):
            assert torch.equal(method.masks()[f"{stage}/{layer}"], owner <= stage + 1)
    assert len(method.masks()) == 5 * len(method.trunk)


def test_drift_is_measured_where_there_is_some(build: Callable) -> None:
    """The same measurement on a net that is trained on: a zero in test_zero_forgetting.py is a finding, not a default."""
    metrics = build("method=finetune", *TINY[1:]).go().metrics
    assert metrics["logit_drift"] > 0.01


def test_biases_move_in_the_first_stage_and_never_after(build: Callable) -> None:
    bench, biases = build(*TINY), []
    names = [n for n, _ in bench.method.net.named_parameters() if n.endswith("bias") and not n.startswith("head")]
    assert names

    def look_at(name: str, value: dict) -> None:
        biases.append(torch.cat([bench.method.net.get_parameter(n).detach().clone() for n in names]))

    look_at("start", {})
    bench.journal.on_part = look_at
    bench.go()
    assert not torch.equal(biases[0], biases[1])
    assert all(torch.equal(biases[1], later) for later in biases[2:])


def test_heads_are_private(build: Callable) -> None:
    bench, heads = build(*TINY), []

    def look_at(name: str, value: dict) -> None:
        now = {name: bench.method.heads.kept[name].detach().clone() for name in bench.method.heads.kept.names()}
        assert all(torch.equal(now[name], w) for earlier in heads for name, w in earlier.items())
        heads.append(now)

    bench.journal.on_part = look_at
    bench.go()
    assert [len(now) for now in heads] == [2, 4, 6, 8, 10]
    assert len({w.numpy().tobytes() for name, w in heads[-1].items() if name.endswith("weight")}) == 5


def test_looking_at_an_old_stage_does_not_write_into_the_live_weights(build: Callable) -> None:
    bench = build(*TINY)
    first, second = bench.stages[:2]
    for stage in (first, second):
        bench.method.learn(stage, bench.fit)
    before = bench.state
    evaluate.logits(bench.method, first, first.test)
    assert all(torch.equal(w, before[name]) for name, w in bench.state.items())


def test_the_retraining_is_shorter_and_slower(build: Callable) -> None:
    bench, calls = build(*TINY, "method.retrain_share=0.25", "method.retrain_lr=0.5"), []
    bench.fit.log = lambda part, phase, step, run_step, values: calls.append((part, phase, step, run_step))
    bench.go()
    last_rows = [(phase, step) for part, phase, step, _ in calls if part == "0/1"]
    assert last_rows == [("train", 20), ("retrain", 5)]
    assert calls[-1][3] == 4 * 25 + 20  # steps of the whole run


@pytest.mark.parametrize("prune", [[], [0.5, 1.0], [-0.1], "equal", ["half"], 0.5])
def test_a_schedule_that_is_none_is_refused(prune) -> None:
    with pytest.raises(UsageError, match="method.prune"):
        PackNet(MLP((1, 4, 4), 2, widths=[4]), prune=prune)


def test_the_owner_map_stands_for_all_masks() -> None:
    """One byte a weight however many stages: nested masks need no bits of their own."""
    method = PackNet(MLP((1, 4, 4), 2, widths=[4]), prune=[0.5])
    assert list(method.trunk) == masks.sites(method.net, skip=["head"]) == ["hidden.0.weight"]
    assert method.masks() == {} and method.extra_metrics()["free"] == 1.0


# ---- policies


POLICIES = ["bias=per_stage", "norm=per_stage", "freed=keep"]
MORE_POLICIES = ["bias=none", "freed=kaiming", "head=packed"]


@pytest.mark.parametrize("policy", [*POLICIES, *(pytest.param(policy, marks=pytest.mark.full) for policy in MORE_POLICIES)])
@pytest.mark.full
def test_no_policy_moves_a_finished_logit(build: Callable, policy: str) -> None:
    """With weight decay on, and a net that has norms."""
    words = [word for word in TINY if "widths" not in word]
    bench = build(*words, f"method.{policy}", "backbone=resnet20", "backbone.width=0.25", "budget.steps=4").go()
    assert bench.outcome.metrics["logit_drift"] == 0.0


def biases(bench) -> list[torch.Tensor]:
    return [bench.method.net.get_parameter(name).detach().clone() for name in bench.method.copies.biases]


@pytest.mark.parametrize("bias, moved", [("none", 0), ("first", 1), ("per_stage", 5)])
def test_biases_move_in_the_stages_their_policy_says(build: Callable, bias: str, moved: int) -> None:
    bench = build(*TINY, f"method.bias={bias}")
    changed = set()

    class Watching(Watched):
        def __call__(self, method, stage, **phase) -> None:
            before = biases(bench)
            super().__call__(method, stage, **phase)
            if any(not torch.equal(a, b) for a, b in zip(before, biases(bench), strict=True)):
                changed.add(stage.index)

    bench.go(learner=Watching(bench.fit))
    assert changed == set(range(moved))


@pytest.mark.parametrize("freed", ["zero", "kaiming", "keep"])
def test_freed_weights_restart_as_said(freed: str) -> None:
    torch.manual_seed(0)
    method = PackNet(MLP((1, 4, 4), 2, widths=[8]), prune=[0.5], freed=freed)
    (name,) = method.trunk
    w = method.trunk[name]
    method.ledger.open(method.trunk, 0)
    alive = method.ledger.alive[name]
    alive.copy_(masks.prune(w, alive.bool(), 0.5))
    pruned, before = ~alive.bool(), w.detach().clone()
    method.ledger.claim(method.trunk, 0)
    method.ledger.open(method.trunk, 1, method.refill)
    now = w.detach()[pruned]
    if freed == "zero":
        assert torch.equal(now, torch.zeros_like(now))
    else:
        assert torch.equal(now, before[pruned]) == (freed == "keep")


def test_a_packed_head_is_a_layer_like_any_other(build: Callable) -> None:
    bench = build(*TINY, "method.head=packed", "data.labels=kept").go()
    assert "head.weight" in bench.method.trunk and not bench.method.heads.kept.names()
    assert bench.outcome.metrics["logit_drift"] == 0.0


@pytest.mark.parametrize("knobs", [{"bias": "all"}, {"norm": "none"}, {"freed": "one"}, {"head": "shared"}])
def test_an_unknown_policy_is_refused(knobs: dict) -> None:
    with pytest.raises(UsageError, match=f"method.{next(iter(knobs))}="):
        PackNet(MLP((1, 4, 4), 2, widths=[4]), prune=[0.5], **knobs)
