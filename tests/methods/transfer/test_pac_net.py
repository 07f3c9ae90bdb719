"""PAC-Net: exact counts, frozen survivors, an unloaded target that leaves the source's bits, and its two limits."""

import logging
from collections.abc import Callable

import pytest
import torch

from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.methods.continual.packnet import PackNet
from maskbench.methods.transfer.pac_net import PacNet
from maskbench.training import evaluate

TINY = (
    "method=pac_net", "data.n_source=200", "data.n_target=12", "data.val=20", "data.test=60", "backbone.widths=[24,16]",
    "budget.steps=20", "budget.batch_size=50",
)  # fmt: skip
IMAGES = ("data.base=synthetic", "data.n_target=3", "budget.steps=4", "budget.batch_size=32")
KNOBS = {
    "prune": {"ratio": 0.8, "scope": "global", "criterion": "magnitude"},
    "allocate": {"share": 0.5},
    "calibrate": {"lam": 0.01, "reset": "zero"},
}


def knobs(**changes) -> dict:
    """KNOBS with some of them changed: knobs(lam=0)."""
    values = {group: dict(inner) for group, inner in KNOBS.items()}
    for key, value in changes.items():
        next(inner for inner in values.values() if key in inner)[key] = value
    return values


class Watched:
    """A fit that notes, around each phase, what the net computes with: {weight: values} before and after."""

    def __init__(self, fit: Callable) -> None:
        self.fit, self.phases = fit, []

    def __getattr__(self, name: str):
        return getattr(self.fit, name)

    def __call__(self, method: PacNet, stage, **phase) -> list:
        before = weights_in_use(method)
        curve = self.fit(method, stage, **phase)
        self.phases.append((stage.index, phase["name"], before, weights_in_use(method)))
        return curve


def weights_in_use(method: PacNet) -> dict[str, torch.Tensor]:
    return {name: w.detach().clone() for name, w in method.ledger.present(method.trunk).items()}


def owned(method: PacNet, stage: int) -> dict[str, torch.Tensor]:
    return {name: method.ledger.owner[name] == stage + 1 for name in method.trunk}


def test_three_steps_in_the_papers_order(build: Callable) -> None:
    bench = build(*TINY)
    watched = Watched(bench.fit)
    bench.go(learner=watched)
    assert [phase[:2] for phase in watched.phases] == [(0, "train"), (0, "allocate"), (1, "train")]
    (*_, trained), (*_, pruned, allocated), (*_, begun, calibrated) = watched.phases
    for name, mine in owned(bench.method, 0).items():
        assert torch.equal(pruned[name][mine], trained[name][mine]), "A starts from the source's solution, without rewinding"
        assert not pruned[name][~mine].any() and not allocated[name][~mine].any(), "pruned weights are exactly 0 in A"
        assert not torch.equal(allocated[name][mine], pruned[name][mine])
        assert torch.equal(begun[name], allocated[name]), "C starts from A's net, its own weights at 0"
        assert torch.equal(calibrated[name][mine], allocated[name][mine]), "the source's weights stay, bit for bit"
    assert any(calibrated[name][~mine].any() for name, mine in owned(bench.method, 0).items())


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.8, 0.93])
@pytest.mark.parametrize("criterion", ["magnitude", "random"])
def test_the_ratio_is_exact_over_the_whole_net(ratio: float, criterion: str) -> None:
    torch.manual_seed(0)
    method = PacNet(MLP((7,), 3, widths=[11, 5]), **knobs(ratio=ratio, criterion=criterion))
    method.prune()
    total = sum(w.numel() for w in method.trunk.values())
    kept = sum(int(method.ledger.alive[name].sum()) for name in method.trunk)
    assert kept == total - round(ratio * total)


def test_by_magnitude_the_largest_of_the_whole_net_stay() -> None:
    method = PacNet(MLP((7,), 3, widths=[11, 5]), **knobs())
    method.prune()
    kept, gone = ([w[method.ledger.alive[n].bool() == side].abs() for n, w in method.trunk.items()] for side in (True, False))
    assert torch.cat(kept).min() > torch.cat(gone).max()


def test_by_layer_every_layer_keeps_its_share() -> None:
    method = PacNet(MLP((7,), 3, widths=[11, 5]), **knobs(scope="layerwise"))
    method.prune()
    for name, w in method.trunk.items():
        alive = method.ledger.alive[name].bool()
        assert int(alive.sum()) == w.numel() - round(0.8 * w.numel())
        assert w[alive].abs().min() > w[~alive].abs().max()


def test_a_layer_that_keeps_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    net = MLP((7,), 3, widths=[11, 5])
    net.head.weight.data.mul_(1e-6)
    with caplog.at_level(logging.WARNING, "maskbench"):
        PacNet(net, **knobs(ratio=0.9)).prune()
    assert "leaves nothing of head.weight" in caplog.text


@pytest.mark.parametrize("optimizer", ["adam", "packnet"])
def test_unloading_the_target_gives_the_source_back_bit_for_bit(build: Callable, optimizer: str) -> None:
    """With momentum and weight decay on, which a masked gradient alone does not survive."""
    bench, heard = build(*TINY, f"optimizer={optimizer}", "optimizer.weight_decay=0.1", "optimizer.lr=0.01"), []
    source = bench.stages[0]
    bench.journal.on_part = lambda *_: heard.append(evaluate.logits(bench.method, source, source.test))
    bench.go()
    assert torch.equal(*heard)
    assert bench.metrics["unload_drift"] == 0.0
    assert bench.metrics["source_rmse_unloaded"] == bench.metrics["source_rmse"]
    assert bench.metrics["source_rmse_after"] != bench.metrics["source_rmse"], "the target's net is another one"


@pytest.mark.full
@pytest.mark.parametrize("policy", ["bias=free", "bn=train", "calibrate.reset=keep", "prune.scope=layerwise", "bias=freeze"])
def test_no_policy_keeps_the_source_from_coming_back(build: Callable, policy: str) -> None:
    words = ("method=pac_net", "data=mnist2rotated", *IMAGES, "backbone=resnet20", "backbone.width=0.25")
    metrics = build(*words, f"method.{policy}").go().metrics
    assert metrics["unload_drift"] == 0.0
    assert metrics["source_accuracy_unloaded"] == metrics["source_accuracy"]


def test_a_target_of_other_classes_gets_a_head_of_its_own(build: Callable) -> None:
    bench = build("method=pac_net", "data=digits_split", *IMAGES, "backbone=lenet_300_100", "backbone.widths=[24,12]")
    bench.go()
    source, target = bench.stages
    heads = [bench.method.effective_weights(None, stage)["head.weight"] for stage in (source, target)]
    mine = owned(bench.method, 0)["head.weight"]
    assert not torch.equal(heads[0][mine], heads[1][mine]), "not even where the source keeps weights"
    assert bench.metrics["unload_drift"] == 0.0 and bench.metrics["source_accuracy_after"] is None
    before = bench.method.penalty(target).item()
    bench.method.net.head.weight.data.add_(1)
    assert bench.method.penalty(target).item() == before, "a fresh head is not penalised"


def test_a_head_of_several_matrices_is_fresh_as_a_whole(build: Callable) -> None:
    words = ("method=pac_net", "data=digits_split", *IMAGES, "backbone=lenet_300_100", "backbone.widths=[12]")
    bench = build(*words, "+backbone.redundancy=2")
    bench.go()
    source, target = bench.stages
    names = [name for name in bench.method.masked_weights() if name.startswith("head.")]
    assert len(names) == 2
    theirs, own = (bench.method.effective_weights(None, stage) for stage in (source, target))
    assert all(own[name] is bench.method.net.get_parameter(name) and own[name] is not theirs[name] for name in names)
    before = bench.method.penalty(target).item()
    for name in names:
        bench.method.net.get_parameter(name).data.add_(1)
    assert bench.method.penalty(target).item() == before


@pytest.mark.parametrize("bias, moved", [("freeze", False), ("free", True)])
def test_biases_follow_their_policy(build: Callable, bias: str, moved: bool) -> None:
    bench = build(*TINY, f"method.bias={bias}").go()
    own = bench.method.net.state_dict()
    changed = [not torch.equal(own[name], bench.method.rest[name]) for name in bench.method.rest.names()]
    assert changed and all(changed) == moved and any(changed) == moved


@pytest.mark.parametrize("reset", ["zero", "keep"])
def test_free_weights_start_as_said(build: Callable, reset: str) -> None:
    bench = build(*TINY, f"method.calibrate.reset={reset}", "method.allocate.share=0")
    watched = Watched(bench.fit)
    bench.go(learner=watched)
    (*_, trained), (*_, begun, _) = watched.phases
    for name, mine in owned(bench.method, 0).items():
        wanted = trained[name][~mine] if reset == "keep" else torch.zeros_like(trained[name][~mine])
        assert torch.equal(begun[name][~mine], wanted)


def test_the_penalty_pulls_on_the_targets_weights_alone() -> None:
    torch.manual_seed(0)
    method = PacNet(MLP((7,), 3, widths=[11, 5]).double(), **knobs(lam=0.3))
    method.prune()
    method.ledger.claim(method.trunk, 0)
    method.ledger.open(method.trunk, 1, lambda w: w)

    class Stage:
        index, label_space = 1, 0

    names = list(method.trunk)
    values = torch.autograd.grad(method.penalty(Stage), [method.trunk[name] for name in names])
    for name, gradient in zip(names, values, strict=True):
        free = method.ledger.free(name)
        assert torch.equal(gradient, torch.where(free, 2 * 0.3 * method.trunk[name], torch.zeros_like(gradient)))


def test_without_a_penalty_it_is_packnets_second_stage(build: Callable) -> None:
    """PackNet prunes by layer, packs its head, freezes its biases: the same bits from the same seed."""
    ours = build(*TINY, "method.calibrate.lam=0", "method.prune.scope=layerwise", folder="ours").go()

    def packnet(net) -> PackNet:
        return PackNet(net, prune=[0.8], retrain_share=0.5, retrain_lr=1.0, head="packed")

    theirs = build(*TINY, folder="theirs", method=packnet).go()
    for name in ours.method.trunk:
        assert torch.equal(ours.method.ledger.owner[name], theirs.method.ledger.owner[name])
        assert torch.equal(ours.method.ledger.kept[name], theirs.method.ledger.kept[name])
    assert ours.metrics["target_rmse"] == theirs.metrics["target_rmse"]


def test_the_stronger_the_penalty_the_nearer_the_net_of_step_a(build: Callable) -> None:
    """Gradient descent on L + lam * sum w^2 holds w at -dL/dw / (2 lam): a tenth with ten times the strength, and the
    target's answer is that of the source's net in the limit."""
    sizes, drifts = [], []
    for lam in (1e2, 1e3, 1e4):
        descent = ("optimizer=sgd", f"optimizer.lr={0.4 / lam}", "optimizer.momentum=0", f"method.calibrate.lam={lam}")
        bench = build(*TINY, *descent, folder=f"lam {lam}")
        source, target = bench.stages
        for stage in (source, target):
            bench.method.learn(stage, bench.fit)
        own = owned(bench.method, 1)
        sizes.append(max(bench.method.ledger.kept[name][mask].abs().max().item() for name, mask in own.items()))
        answers = [evaluate.logits(bench.method, stage, target.test) for stage in (source, target)]
        drifts.append((answers[0] - answers[1]).abs().max().item())
    for values in (sizes, drifts):
        assert values[0] > 5 * values[1] > 25 * values[2] > 0


def test_the_target_answers_with_all_weights(build: Callable) -> None:
    bench = build(*TINY).go()
    assert all(mask.all() for name, mask in bench.method.masks().items() if name.startswith("1/"))
    assert bench.metrics["density"] == pytest.approx(0.2, abs=0.001)


@pytest.mark.parametrize(
    "changes",
    [
        {"ratio": 1.0},
        {"ratio": -0.1},
        {"scope": "local"},
        {"criterion": "movement"},
        {"share": -1},
        {"lam": -0.1},
        {"reset": "one"},
        {"lam": None},
    ],
)
def test_a_knob_that_does_not_work_is_refused(changes: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(changes))):
        PacNet(MLP((7,), 3, widths=[4]), **knobs(**changes))


@pytest.mark.parametrize("policy", [{"bias": "train"}, {"bn": "free"}])
def test_an_unknown_policy_is_refused(policy: dict) -> None:
    with pytest.raises(UsageError, match=f"method.{next(iter(policy))}=.* freeze or "):
        PacNet(MLP((7,), 3, widths=[4]), **KNOBS, **policy)
