"""ExSSNeT: two phases a stage, what the second one may move, what stages have in common, where scores start."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskbench import masks
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.data.stage import Split
from maskbench.methods.continual.exssnet import ExSSNeT, told_by_neighbours
from maskbench.training import evaluate

TINY = (
    "method=exssnet", "data.base=synthetic", "backbone.widths=[40,24]", "budget.steps=15", "budget.batch_size=64",
    "task.probe=50", "optimizer.lr=0.01", "optimizer.weight_decay=0.01", "method.keep=0.3",
)  # fmt: skip


class Watched:
    """A fit that keeps what ExSSNeT looks like around every phase: (stage, phase, weights and scores before, after)."""

    def __init__(self, fit: Callable) -> None:
        self.fit, self.phases = fit, []

    def __getattr__(self, name: str):
        return getattr(self.fit, name)

    def __call__(self, method: ExSSNeT, stage, **phase) -> None:
        before = look(method)
        self.fit(method, stage, **phase)
        self.phases.append((stage.index, phase.get("name", "train"), before, look(method)))


def look(method: ExSSNeT) -> dict[str, dict[str, Tensor]]:
    return {
        "w": {name: w.detach().clone() for name, w in method.w.items()},
        "scores": {name: method.score(name).detach().clone() for name in method.w},
        "moving": {name: method.moving[name].detach().clone() for name in method.w},
        "alive": {name: method.alive[name].bool() for name in method.w},
    }


@pytest.fixture(params=["true", "false"])
def learnt(request: pytest.FixtureRequest, build: Callable):
    """(bench, phases) of a finished run of ExSSNeT and of SSNeT."""
    bench = build(*TINY, f"method.exclusive={request.param}")
    start = {name: w.detach().clone() for name, w in bench.method.w.items()}
    watched = Watched(bench.fit)
    return bench.go(learner=watched), watched.phases, start


def small(**knobs) -> ExSSNeT:
    torch.manual_seed(0)
    return ExSSNeT(MLP((1, 4, 4), 3, widths=[8], bias=False, init="signed_constant"), **knobs)


def at(index: int, **more) -> SimpleNamespace:
    return SimpleNamespace(index=index, total=5, criterion=F.cross_entropy, name=str(index), classes=(0, 1, 2), **more)


def untrained(method: ExSSNeT, stage, **phase) -> None:
    """A fit that trains nothing."""


def test_a_stage_learns_its_mask_then_weights(learnt) -> None:
    _, phases, _ = learnt
    assert [(stage, name) for stage, name, *_ in phases] == [(s, name) for s in range(5) for name in ("train", "weights")]
    for _, name, before, after in phases:
        for layer in before["w"]:
            assert torch.equal(before["w"][layer], after["w"][layer]), "the net is written to between phases only"
            assert torch.equal(before["moving"][layer], after["moving"][layer]) == (name == "train")
            assert torch.equal(before["scores"][layer], after["scores"][layer]) == (name == "weights")


def test_weights_move_where_a_stage_alone_uses_them_and_nowhere_else(learnt) -> None:
    """With weight decay on: what an optimiser does elsewhere is never read."""
    bench, phases, start = learnt
    weights = [start, *(after["w"] for _, name, _, after in phases[2:] if name == "train"), look(bench.method)["w"]]
    for stage in range(5):
        drawn, alive = bench.method.bank.read(stage), phases[2 * stage + 1][2]["alive"]
        for name, m in drawn.items():
            earlier = torch.zeros_like(m)
            for before in range(stage):
                earlier |= bench.method.bank.read(before)[name]
            own = m & ~earlier if bench.method.exclusive else m
            assert int(m.sum()) == masks.kept_count(0.3, m.numel()) and torch.equal(alive[name], own)
            moved = weights[stage][name] != weights[stage + 1][name]
            assert not moved[~own].any() and moved[own].float().mean() > 0.5


def test_ssnet_forgets_and_exssnet_does_not(learnt) -> None:
    bench, _, _ = learnt
    assert (bench.metrics["logit_drift"] == 0.0) == bench.method.exclusive
    if not bench.method.exclusive:
        assert bench.metrics["logit_drift"] > 0.01


def test_answers_are_those_of_the_end_of_training(build: Callable) -> None:
    bench, before = build(*TINY), {}

    def fit(method: ExSSNeT, stage, **phase) -> None:
        bench.fit(method, stage, **phase)
        before[stage.index] = evaluate.logits(method, stage, stage.test, 50)

    for stage in bench.stages[:3]:
        bench.method.learn(stage, fit)
    assert all(torch.equal(before[s.index], evaluate.logits(bench.method, s, s.test, 50)) for s in bench.stages[:3])


def test_without_the_second_phase_no_weight_moves(build: Callable) -> None:
    bench = build(*TINY, "method.weights_share=0")
    start = {name: w.detach().clone() for name, w in bench.method.w.items()}
    bench.go()
    assert all(torch.equal(start[name], w) for name, w in bench.method.w.items())
    assert bench.fit.steps == 5 * 15


def test_the_second_phase_has_its_share_of_the_steps(build: Callable) -> None:
    assert build(*TINY, "method.weights_share=0.2").go().fit.steps == 5 * (15 + 3)


@pytest.mark.parametrize("keep", [0.5, 0.1])
def test_of_independent_masks_each_reuses_what_its_predecessors_leave(keep: float) -> None:
    torch.manual_seed(0)
    method = ExSSNeT(MLP((1, 28, 28), 10, widths=[100], bias=False), keep=keep)
    for stage in range(4):
        method.learn(at(stage), untrained)
        assert 1 - method.extra_metrics()["reuse"] == pytest.approx((1 - keep) ** stage, abs=0.01)


def test_bytes_of_lenet_300_100() -> None:
    def made(**knobs) -> dict[str, int]:
        return ExSSNeT(MLP((1, 28, 28), 2, widths=[300, 100], bias=False), **knobs).memory()

    assert made() == {"shared": 1_061_600, "stage": 33_175}
    assert made(transfer="kkt") == {"shared": 1_061_600, "stage": 33_175 + 4 * 265_400}


def test_what_grows_with_stages_is_bits() -> None:
    method, sizes = small(keep=0.5), []
    for stage in map(at, range(3)):
        method.learn(stage, untrained)
        sizes.append(sum(value.numel() * value.element_size() for value in method.state_dict().values()))
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] == method.bank.bytes() + 8  # and the stage's number


def test_a_layer_that_would_keep_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"method.keep=0.03 keeps less than one of the 24 weights of head: take at least 1/24"):
        small(keep=0.03)


@pytest.mark.parametrize("knobs", [{"keep": 0.0}, {"transfer": "knn"}, {"weights_share": -1.0}, {"exclusive": "no"}], ids=str)
def test_unknown_values_are_refused(knobs: dict) -> None:
    with pytest.raises(UsageError, match=f"method.{next(iter(knobs))}="):
        small(**knobs)


# ---- where scores start


@pytest.fixture
def known() -> ExSSNeT:
    """Two finished stages: units of the first one answer to the first input, those of the second to the second."""
    method = small(keep=0.25, transfer="kkt")
    name, head = method.w
    for stage in range(2):
        for weight, one in ((name, stage), (head, 0)):
            method.score(weight).data.zero_()
            method.score(weight).data[:, one] = 1.0
            method.learnt_scores.put(f"{stage}/{weight}", method.score(weight))
        mask = torch.zeros(method.w[name].shape, dtype=torch.bool)
        mask[:, stage] = True
        method.bank.write(stage, {name: mask, head: torch.ones_like(method.w[head], dtype=torch.bool)})
    return method


def told_by(column: int | None) -> SimpleNamespace:
    """A stage whose classes are thirds of one input's range, or chance."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(1500, 1, 4, 4, generator=generator) * 2 - 1
    y = (x.flatten(1)[:, 0 if column is None else column] * 1.5 + 1.5).long().clamp(0, 2)
    return at(2, train=Split(x, y if column is not None else torch.randint(3, (1500,), generator=generator)))


def test_the_nearest_stage_is_the_one_whose_features_tell_the_classes(known: ExSSNeT) -> None:
    assert [known.nearest(told_by(column)) for column in (0, 1)] == [0, 1]


def test_scores_start_at_those_the_nearest_stage_learnt_and_leave_them_alone(known: ExSSNeT) -> None:
    stage = told_by(1)
    source = {name: known.learnt_scores[f"1/{name}"].clone() for name in known.w}
    known.begin(stage)
    assert all(torch.equal(known.score(name), source[name]) for name in known.w)
    for score in known.scores.values():
        score.data += 1
    assert all(torch.equal(known.learnt_scores[f"1/{name}"], source[name]) for name in known.w)


def test_without_a_better_than_chance_or_any_stage_scores_are_drawn(known: ExSSNeT, monkeypatch: pytest.MonkeyPatch) -> None:
    assert small(transfer="kkt").nearest(told_by(0)) is None
    monkeypatch.setattr("maskbench.methods.continual.exssnet.told_by_neighbours", lambda features, y: 1 / 3)
    assert known.nearest(told_by(0)) is None


def test_a_run_with_kkt_keeps_the_scores_of_each_stage(build: Callable) -> None:
    bench = build(*TINY, "method.transfer=kkt").go()
    names = {f"{stage}/{name}" for stage in range(5) for name in bench.method.w}
    assert set(bench.method.learnt_scores.names()) == names and bench.metrics["logit_drift"] == 0.0


def test_neighbours_vote_and_of_equal_votes_the_lowest_class_counts() -> None:
    features = torch.tensor([[0.0], [0.2], [1.0], [1.2], [0.1], [1.1]])
    for y, rate in (([0, 0, 2, 0, 0, 0], 1.0), ([0, 0, 2, 2, 0, 2], 1 / 3)):  # fitted on the first three; 1.2 and 1.1 see 2 and 0
        assert told_by_neighbours(features, torch.tensor(y), k=2) == pytest.approx(rate)
