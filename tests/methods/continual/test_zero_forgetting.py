"""Zero forgetting, bit for bit on logits: every method that claims it, under momentum, Adam and decay, with norms too, and
across interruptions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from maskbench.training import evaluate

TINY = ("data.base=synthetic", "budget.steps=8", "budget.epochs=null", "budget.batch_size=32", "task.probe=50", "task.trials=5")
MLP_NET = ("backbone.widths=[24,12]",)
NORM_NET = ("backbone=resnet20", "backbone.base=2", "backbone.blocks=[1,1]", "budget.steps=3")
SGD = ("optimizer=sgd", "optimizer.momentum=0", "optimizer.weight_decay=0")
DECAY = ("optimizer=sgd", "optimizer.momentum=0.9", "optimizer.weight_decay=0.01")
ADAM = ("optimizer=adam", "optimizer.weight_decay=0.01")
SETTINGS = {
    "sgd": (*MLP_NET, *SGD),
    "momentum-decay": (*MLP_NET, *DECAY),
    "adam-decay": (*MLP_NET, *ADAM),
    "norms-momentum-decay": (*NORM_NET, *DECAY),
    "norms-adam-decay": (*NORM_NET, *ADAM),
}
NEVER, FIRST = "never", "in the first stage only"
KEEPERS: dict[str, tuple] = {  # overrides, what of the net is frozen, when it moves
    "supsup": (("method=supsup", "method.inference=[]"), "parameters", NEVER),
    "supsup-top": (("method=supsup", "method.inference=[]", "method.density_scale=4"), "parameters", NEVER),
    "packnet": (("method=packnet",), "nothing", NEVER),
    "packnet-per-stage": (("method=packnet", "method.bias=per_stage", "method.norm=per_stage"), "nothing", NEVER),
    "wsn": (("method=wsn",), "nothing", NEVER),
    "wsn-redrawn": (("method=wsn", "method.scores=redrawn", "method.keep=0.2"), "nothing", NEVER),
    "wsn-per-stage": (("method=wsn", "method.bias=per_stage", "method.norm=per_stage"), "nothing", NEVER),
    "wsn-given": (("method=wsn", "method.bias=none", "method.norm=given"), "nothing", NEVER),
    "exssnet": (("method=exssnet", "method.keep=0.3"), "nothing", NEVER),
    "exssnet-kkt": (("method=exssnet", "method.keep=0.3", "method.transfer=kkt"), "nothing", NEVER),
    "exssnet-no-weights": (("method=exssnet", "method.keep=0.3", "method.weights_share=0"), "parameters", NEVER),
    "piggyback": (("method=piggyback",), "trunk", FIRST),
    "piggyback-random": (("method=piggyback", "method.backbone=random"), "trunk", NEVER),
    "piggyback-ternary": (("method=piggyback", "method.ternary=true"), "trunk", FIRST),
    "piggyback-masked-head": (("method=piggyback", "method.head=masked"), "all", FIRST),
    "batch-ensemble": (("method=batch_ensemble", "method.inference=[]"), "parameters", FIRST),
    "batch-ensemble-random": (("method=batch_ensemble", "method.inference=[]", "method.trunk=random"), "parameters", NEVER),
    "heads": (("method=frozen_heads",), "trunk", FIRST),
    "heads-random": (("method=frozen_heads", "method.trunk=random"), "trunk", NEVER),
    "heads-statistics": (("method=frozen_heads", "method.statistics=per_stage"), "trunk parameters", FIRST),
    "heads-random-statistics": (
        ("method=frozen_heads", "method.trunk=random", "method.statistics=per_stage"),
        "trunk parameters",
        NEVER,
    ),
    "separate": (("method=separate",), "nothing", NEVER),
}


def frozen(method: Any, part: str) -> dict[str, torch.Tensor]:
    """A copy of what of the net is frozen: `parameters`; or, norm statistics included, `all`; or the `trunk` before the head."""
    own = dict(method.net.named_parameters()) if part.endswith("parameters") else method.net.state_dict()
    if part.startswith("trunk"):
        own = {name: value for name, value in own.items() if not name.startswith("head.")}
    kept = {"nothing": lambda name: False}.get(part, lambda name: True)
    return {name: value.detach().clone() for name, value in own.items() if kept(name)}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


ALL_WAYS = "norms-adam-decay"  # of moving what should stay: by state, by decay, by norm statistics
OFTEN = {"packnet", "wsn", "exssnet", "piggyback", "batch-ensemble"}
CASES = [
    pytest.param(
        keeper, setting, id=f"{keeper}-{setting}", marks=() if setting == ALL_WAYS and keeper in OFTEN else pytest.mark.full
    )
    for keeper in KEEPERS
    for setting in SETTINGS
]


@pytest.mark.parametrize("keeper, setting", CASES)
def test_no_logit_of_a_finished_stage_moves(keeper: str, setting: str, build: Callable) -> None:
    """Not one bit, after any later stage; nor does what the method says it freezes."""
    words, part, moves = KEEPERS[keeper]
    bench = build(*words, *TINY, *SETTINGS[setting])
    parts, heard = [frozen(bench.method, part)], []

    def listen(name: str, value: dict) -> None:
        parts.append(frozen(bench.method, part))
        now = [evaluate.logits(bench.method, s, s.test, 100) for s in bench.stages if bench.method.has_learned(s)]
        assert len(now) == len(heard) + 1 and all(torch.equal(a, b) for a, b in zip(heard, now, strict=False))
        heard[:] = now

    bench.journal.on_part = listen
    bench.go()
    assert len(heard) == 5 and bench.metrics["logit_drift"] == 0.0
    matrix = bench.outcome.matrices["accuracy"]
    assert all(matrix[i][j] == matrix[j][j] for i in range(5) for j in range(i))
    assert bench.metrics["forgetting"] == 0.0 and bench.metrics["backward_transfer"] == 0.0
    same = [equal(before, after) for before, after in zip(parts, parts[1:], strict=False)]
    assert same == [part == "nothing" or moves == NEVER, True, True, True, True]


INTERRUPTED = [
    "packnet",
    *(
        pytest.param(name, marks=pytest.mark.full)
        for name in ("supsup", "wsn", "exssnet-kkt", "piggyback", "batch-ensemble", "heads")
    ),
]


@pytest.mark.sample(1)
@pytest.mark.parametrize("keeper", INTERRUPTED)
def test_nor_across_interruptions(keeper: str, relay: Callable) -> None:
    """The logits of each stage were recorded in another attempt than the last: drift compares across them."""
    words, _, _ = KEEPERS[keeper]
    bench = relay(*words, *TINY, *SETTINGS["norms-momentum-decay"], "loop.block=1", folder="resumed", halts=[5, 5, 3])
    assert len(bench.journal.done) == 5 and bench.metrics["logit_drift"] == 0.0
