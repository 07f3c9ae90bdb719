"""Heads on one trunk: each is private and starts afresh; a shared trunk leaves them behind."""

from collections.abc import Callable

import pytest
import torch

from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.methods.continual.heads import Heads

TINY = ("data.base=synthetic", "budget.steps=15", "budget.batch_size=32", "task.probe=50")
MLP_NET = ("backbone.widths=[24,12]",)


def trunk(method: Heads) -> dict[str, torch.Tensor]:
    """Everything of the backbone before its head, norm statistics included."""
    return {n: v.detach().clone() for n, v in method.net.state_dict().items() if not n.startswith("head.")}


def test_a_shared_trunk_moves_on_and_leaves_its_heads_behind(build: Callable) -> None:
    bench = build("method=heads", *TINY, *MLP_NET, "optimizer=adam")
    trunks, heads = [], []

    def look(name: str, value: dict) -> None:
        trunks.append(trunk(bench.method))
        heads.append({n: bench.method.heads.kept[n].detach().clone() for n in bench.method.heads.kept.names()})

    bench.journal.on_part = look
    bench.go()
    pairs = list(zip(trunks, trunks[1:], strict=False))
    assert all(not torch.equal(a["hidden.0.weight"], b["hidden.0.weight"]) for a, b in pairs)
    assert all(torch.equal(w, heads[-1][n]) for earlier in heads for n, w in earlier.items()), "a head moves in its stage only"
    assert bench.metrics["logit_drift"] > 0.01


def test_heads_start_afresh_and_are_private(build: Callable) -> None:
    bench = build("method=frozen_heads", *TINY, *MLP_NET).go()
    names = [name for name in bench.method.heads.kept.names() if name.endswith("weight")]
    assert names == [f"{stage}/weight" for stage in range(5)]
    assert len({bench.method.heads.kept[name].detach().numpy().tobytes() for name in names}) == 5


@pytest.mark.parametrize(("kind", "shared"), [("shared", 4 * (16 * 6 + 6)), ("first", 4 * (16 * 6 + 6)), ("random", 8)])
def test_bytes_are_one_trunk_and_a_head_per_stage(kind: str, shared: int) -> None:
    method = Heads(MLP((1, 4, 4), 3, widths=[6]), trunk=kind)
    assert method.memory() == {"shared": shared, "stage": 4 * (6 * 3 + 3)}


def test_a_trunk_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="method.trunk=share .*Did you mean 'shared'"):
        Heads(MLP((1, 4, 4), 2, widths=[4]), trunk="share")


def test_a_trunk_trains_at_its_own_rate(build: Callable) -> None:
    for kind, rates in (("first", [0.1, 1, 1, 1, 1]), ("random", [1, 1, 1, 1, 1]), ("shared", [0.1] * 5)):
        bench, told = build("method=frozen_heads", f"method.trunk={kind}", *TINY, *MLP_NET, folder=kind), []
        for stage in bench.stages:
            bench.method.learn(stage, lambda method, stage, lr, told=told: told.append(lr))
        assert told == rates


NORMS = ("backbone=resnet20", "backbone.base=2", "backbone.blocks=[1,1]", "backbone.affine=false", "budget.steps=3")


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", ["first", "random"])
def test_statistics_may_be_of_each_stage_under_a_frozen_trunk(kind: str, build: Callable) -> None:
    """What training moves of a frozen trunk: norm statistics of the stage, by which it answers from then on."""
    words = ("method=frozen_heads", f"method.trunk={kind}", *TINY, *NORMS)
    own, with_it = build(*words, "method.statistics=per_stage", folder="own").go(), build(*words, folder="trunk").go()
    means = [own.method.statistics.of(stage)["norm.running_mean"] for stage in range(5)]
    assert len({tuple(mean.tolist()) for mean in means}) == 5
    assert own.metrics["logit_drift"] == 0.0 == with_it.metrics["logit_drift"]
    floats = sum(v.numel() * v.element_size() for n, v in own.method.net.state_dict().items() if "running" in n or "tracked" in n)
    ours, theirs = own.method.memory(), with_it.method.memory()
    assert ours["stage"] - theirs["stage"] == floats and (kind == "random" or theirs["shared"] - ours["shared"] == floats)
    assert not [name for name in with_it.state if "statistics" in name], "state of runs that exist has its names"
