"""Heads on one trunk: each is private; a frozen trunk's stages answer bit for bit, a shared one's do not."""

from collections.abc import Callable

import pytest
import torch

from maskbench import evaluate
from maskbench.backbones.mlp import MLP
from maskbench.errors import UsageError
from maskbench.methods.heads import Heads

TINY = ("data.base=synthetic", "budget.steps=15", "budget.batch_size=32", "task.probe=50")
MLP_NET = ("backbone.widths=[24,12]",)
NORM_NET = ("backbone=resnet20", "backbone.base=2", "backbone.blocks=[1,1]", "budget.steps=3")
OPTIMIZERS = {
    "sgd": ("optimizer=sgd", "optimizer.momentum=0.9", "optimizer.weight_decay=0.01"),
    "adam": ("optimizer=adam", "optimizer.weight_decay=0.01"),
}


def trunk(method: Heads) -> dict[str, torch.Tensor]:
    """Everything of the backbone before its head, norm statistics included."""
    return {n: v.detach().clone() for n, v in method.net.state_dict().items() if not n.startswith("head.")}


@pytest.mark.parametrize("net", [MLP_NET, NORM_NET], ids=["mlp", "norms"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["first", "random"])
def test_no_logit_of_a_finished_stage_moves_on_a_frozen_trunk(kind: str, optimizer: str, net: tuple, build: Callable) -> None:
    bench = build("method=frozen_heads", f"method.trunk={kind}", *TINY, *net, *OPTIMIZERS[optimizer])
    trunks, heard = [trunk(bench.method)], []

    def listen(name: str, value: dict) -> None:
        trunks.append(trunk(bench.method))
        now = [evaluate.logits(bench.method, s, s.test, 100) for s in bench.stages if bench.method.knows(s)]
        assert all(torch.equal(a, b) for a, b in zip(heard, now, strict=False))
        heard[:] = now

    bench.journal.on_step = listen
    bench.go()
    assert len(heard) == 5 and bench.metrics["logit_drift"] == 0.0 and bench.metrics["forgetting"] == 0.0
    same = [all(torch.equal(v, after[n]) for n, v in before.items()) for before, after in zip(trunks, trunks[1:], strict=False)]
    assert same == [kind == "random", True, True, True, True]


def test_a_shared_trunk_moves_on_and_leaves_its_heads_behind(build: Callable) -> None:
    bench = build("method=heads", *TINY, *MLP_NET, "optimizer=adam")
    trunks, heads = [], []

    def look(name: str, value: dict) -> None:
        trunks.append(trunk(bench.method))
        heads.append({n: bench.method.heads[n].detach().clone() for n in bench.method.heads.names()})

    bench.journal.on_step = look
    bench.go()
    pairs = list(zip(trunks, trunks[1:], strict=False))
    assert all(not torch.equal(a["hidden.0.weight"], b["hidden.0.weight"]) for a, b in pairs)
    assert all(torch.equal(w, heads[-1][n]) for earlier in heads for n, w in earlier.items()), "a head moves in its stage only"
    assert bench.metrics["logit_drift"] > 0.01


def test_heads_start_afresh_and_are_private(build: Callable) -> None:
    bench = build("method=frozen_heads", *TINY, *MLP_NET).go()
    names = [name for name in bench.method.heads.names() if name.endswith("weight")]
    assert names == [f"{stage}/weight" for stage in range(5)]
    assert len({bench.method.heads[name].detach().numpy().tobytes() for name in names}) == 5


@pytest.mark.parametrize(("kind", "shared"), [("shared", 4 * (16 * 6 + 6)), ("first", 4 * (16 * 6 + 6)), ("random", 8)])
def test_bytes_are_one_trunk_and_a_head_per_stage(kind: str, shared: int) -> None:
    method = Heads(MLP((1, 4, 4), 3, widths=[6]), trunk=kind)
    assert method.memory() == {"shared": shared, "stage": 4 * (6 * 3 + 3)}


def test_a_trunk_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="Did you mean 'shared'"):
        Heads(MLP((1, 4, 4), 2, widths=[4]), trunk="share")
