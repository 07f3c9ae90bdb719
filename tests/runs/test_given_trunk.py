"""Methods over a net that comes trained: the first stage answered by its own head, heads that start from a probe, features
computed once, a finished run as the source, and what is refused.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from maskbench.backbones.mlp import MLP
from maskbench.backbones.per_stage import PrivateHeads
from maskbench.common.errors import UsageError
from maskbench.data.stage import Stage
from maskbench.training import evaluate, features

NET = ("data=splitmnist", "data.base=synthetic", "data.labels=kept", "budget.steps=6", "budget.batch_size=32", "task.probe=50",
       "backbone.widths=[24,12]")  # fmt: skip


@pytest.fixture
def over(build: Callable, file: Path) -> Callable:
    """`over(method, *words)`: an attempt of a continual method over the file's net."""
    return lambda method, *words, **how: build(
        f"method={method}", *NET, *words, "backbone.bias=true", f"backbone.init=file:{file}", **how
    )


# ---- the first stage is what the net was trained on


@pytest.mark.parametrize("method", ["packnet", "piggyback", "heads", "frozen_heads", "separate"])
def test_the_first_stage_is_answered_by_the_nets_own_head_and_trains_nothing(method: str, over: Callable, file: Path) -> None:
    words = ["method.prune=[0.0,0.75]"] if method == "packnet" else []
    bench = over(method, "method.first=given", *words)
    assert bench.stages[0].given and not any(stage.given for stage in bench.stages[1:])
    bench.method.learn(bench.stages[0], bench.fit)
    assert bench.fit.steps == 0 and bench.run.given["head"] == "loaded"
    net = MLP((1, 28, 28), 10, widths=[24, 12])
    net.load_state_dict(load_file(file))
    x = bench.stages[0].test.tensors(first=50)[0]
    answers = evaluate.logits(bench.method, bench.stages[0], bench.stages[0].test, 50)
    assert torch.equal(answers, net(x).detach())
    bench.method.learn(bench.stages[1], bench.fit)
    assert bench.fit.steps > 0
    if method != "heads":  # whose trunk moves on
        assert torch.equal(evaluate.logits(bench.method, bench.stages[0], bench.stages[0].test, 50), answers)


def test_packnet_prunes_the_given_stage_and_later_ones_have_what_it_left(over: Callable) -> None:
    bench = over("packnet", "method.first=given", "method.prune=[0.25,0.75]")
    owned = []
    for stage in bench.stages[:3]:
        bench.method.learn(stage, bench.fit)
        owned.append(1 - bench.method.ledger.share_free())
    assert owned == pytest.approx([0.75, 0.8125, 0.859375], abs=1e-3)
    assert bench.method.copies.norms == set() and bench.method.masked_weights() == ["hidden.0.weight", "hidden.1.weight"]


def test_a_first_stage_without_a_net_or_without_its_head_is_refused(build: Callable, over: Callable) -> None:
    with pytest.raises(UsageError, match="is what a given net was trained on: add backbone.init"):
        build("method=packnet", *NET, "method.first=given")
    with pytest.raises(UsageError, match="answered by the head of .*, and that is fresh: as asked"):
        over("packnet", "method.first=given", "backbone.init_head=fresh")
    with pytest.raises(UsageError, match="method=supsup would answer the first stage by a mask that nothing has trained"):
        over("supsup", "method.first=given")


# ---- heads


def test_a_head_has_as_many_outputs_as_its_stage_where_the_nets_has_others() -> None:
    heads, head = PrivateHeads(layer := torch.nn.Linear(4, 10)), torch.nn.Linear(4, 10)
    heads.open(0, layer, given=True)
    assert torch.equal(heads.of(0)["head.weight"], layer.weight) and not heads.fresh
    heads.open(1, head, 3)
    assert heads.of(1)["head.weight"].shape == (3, 4) and heads.fresh
    assert heads.bytes_upto(0) == heads.bytes == 4 * (10 * 4 + 10) and heads.bytes_upto(1) - heads.bytes == 4 * (3 * 4 + 3)


def test_a_probe_starts_the_head_and_moves_nothing_else(over: Callable) -> None:
    bench = over("packnet", "method.head_start=probe")
    stage, looks = bench.stages[0], []

    def fit(method, stage: Stage, **phase) -> None:
        heads = features.untouched(method)
        looks.append((len(heads), evaluate.loss_and_accuracy(method, stage, stage.train)["loss"]))
        before = {name: value.clone() for name, value in method.state_dict().items()}
        for one in heads:
            features.probe(method, stage, one)
            looks.append((len(heads), evaluate.loss_and_accuracy(method, stage, stage.train)["loss"]))
        changed = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == ({f"heads.kept.{stage.index}/{part}" for part in ("weight", "bias")} if heads else set())

    bench.method.learn(stage, fit)
    assert [count for count, _ in looks] == [1, 1, 0], "once a stage, not before it is retrained"
    assert looks[1][1] < 0.7 * looks[0][1]
    assert over("packnet", folder="none").fit.head_start is None and bench.fit.head_start == "probe"


@pytest.mark.full
def test_a_probed_run_is_the_same_after_an_interruption(over: Callable, relay: Callable, same: Callable, file: Path) -> None:
    words = ("method=packnet", *NET, "backbone.bias=true", "method.head_start=probe", f"backbone.init=file:{file}",
             "loop.block=2", "loop.checkpoint_seconds=0")  # fmt: skip
    same(
        over("packnet", "method.head_start=probe", "loop.block=2", folder="calm").go(), relay(*words, folder="hurt", halts=[2, 7])
    )


def test_a_given_trunk_is_run_once_and_its_heads_learn_what_they_would_have(over: Callable) -> None:
    cached = over("frozen_heads", "optimizer=sgd", folder="cached")
    assert cached.method.caches(cached.stages[0])
    trunk = []
    torch.manual_seed(0)
    cached.method.net.hidden[0].register_forward_hook(lambda module, inputs, output: trunk.append(len(output)))
    cached.method.learn(cached.stages[0], cached.fit)
    assert sum(trunk) == len(cached.stages[0].train) + len(cached.stages[0].val)
    plain = over("frozen_heads", "optimizer=sgd", folder="plain")
    plain.method.trunk = "random"  # frozen as well, and run at each step
    torch.manual_seed(0)
    plain.method.learn(plain.stages[0], plain.fit)
    ours, theirs = (bench.method.heads.of(0) for bench in (cached, plain))
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6)


# ---- optimisers


def test_a_net_that_comes_trained_has_a_rate_for_its_trunk_and_one_for_its_head(over: Callable) -> None:
    from maskbench.training import optimizers

    bench = over("packnet", "optimizer=pretrained")
    bench.method.stage = 0
    bench.method.heads.open(0, bench.method.net.head)
    groups = optimizers.groups(bench.fit.optimizer, bench.method)
    head = {id(p) for p in bench.method.heads.of(0).values()}
    assert {id(p) for p in groups["head"]} == head and len(groups["trunk"]) == 4
    made = bench.fit.optimizer([{"name": name, "params": those} for name, those in groups.items()])
    assert [group["lr"] for group in made.param_groups] == [3e-4, 1e-3]
    assert list(optimizers.groups(over("packnet", folder="sgd").fit.optimizer, bench.method)) == [""]


# ---- Piggyback's start


def test_scores_start_in_a_range_over_a_given_net_and_a_constant_stays_the_papers(over: Callable, build: Callable) -> None:
    given = over("piggyback").method
    assert (given.least, given.most) == pytest.approx((5.01e-3, 5.5e-2))
    plain = build("method=piggyback", *NET, folder="plain").method
    assert plain.least == plain.most == 1e-2


def test_scores_that_cannot_reach_tau_are_said(over: Callable, caplog: pytest.LogCaptureFixture) -> None:
    bench = over("piggyback", "method.start=1e-2", "optimizer.lr=1e-4")
    bench.method.learn(bench.stages[0], bench.fit)
    assert "no weight of stage 0/1 is out: scores start at 0.01" in caplog.text
    caplog.clear()
    bench = over("piggyback", "optimizer.lr=1e-3", folder="range")
    bench.method.learn(bench.stages[0], bench.fit)
    assert "no weight" not in caplog.text and 0.8 < bench.method.extra_metrics()["density"] < 1


# ---- a finished run


@pytest.fixture
def source(cli: Callable, tmp_path: Path) -> Callable:
    """`source(method, *words)`: the folder of a finished run."""

    def make(method: str, *words: str) -> Path:
        done = cli(f"method={method}", *NET, *words, "logger=none")
        assert done.returncode == 0, done.stderr
        (folder,) = tmp_path.glob(f"outputs/{method}-splitmnist/*")
        return folder

    return make


def test_a_run_gives_what_its_net_computes_with_masks_applied(source: Callable, build: Callable) -> None:
    folder = source("packnet", "data.stages=2", "method.head=packed")
    kept = load_file(folder / "weights.safetensors")
    for words, last in ((("backbone.init_stage=0",), 0), ((), 1)):
        bench = build("method=finetune", *NET, f"backbone.init=run:{folder}", *words, folder=f"of{last}")
        net = bench.method.net.state_dict()
        owner = kept["ledger.owner.hidden|0|weight"]
        wanted = kept["ledger.kept.hidden|0|weight"] * ((owner > 0) & (owner <= last + 1))
        assert torch.equal(net["hidden.0.weight"], wanted) and bool((wanted == 0).any()) == (last == 0)
        assert bench.run.given["source"] == f"run:{folder}" and bench.run.given["head"] == "loaded"
    with pytest.raises(UsageError, match=r"backbone.init=run:.*: it has no stage 7: name one by"):
        build("method=finetune", *NET, f"backbone.init=run:{folder}", "backbone.init_stage=7", folder="none")


# ---- what the command line refuses


REFUSED = {
    "backbone=mlp_100x3 backbone.init=imagenet": "backbone=mlp_100x3 has no weights of ImageNet for backbone.init=imagenet; ",
    "backbone.init=run:nowhere": "there is no finished run of that folder or name",
    "data.normalize=net": "data.normalize=net is for backbone.init=imagenet",
    "backbone.init_stage=1": "backbone.init_stage=1 is about weights that",
    "backbone.init=file:FILE backbone.init_size=64": "backbone.init_size=64 goes with backbone.init=imagenet: leave it out.",
    "method.sites=some": "method.sites=some must be",
    "method.sites=[a-b]": "method.sites=[a-b] must be",
    "method.head_start=prob": "method.head_start=prob must be probe or random, or null. Did you mean 'probe'?",
    "method.first=trained": "method.first=trained must be",
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("words", REFUSED)
def test_refused(words: str, file: Path) -> None:
    from maskbench.cli import preflight

    with pytest.raises(UsageError) as refused:
        preflight.check(f"method=packnet data=splitmnist logger=none {words.replace('FILE', str(file))}".split())
    assert REFUSED[words] in str(refused.value) and "\n" not in str(refused.value)


def test_sites_for_a_method_without_masks_on_weights_are_refused(over: Callable) -> None:
    assert over("packnet", "method.sites=[hidden.1]").method.masked_weights() == ["hidden.1.weight"]
    with pytest.raises(UsageError, match="method.sites is about masks on weights, and method=heads has none"):
        over("heads", "method.sites=all", folder="heads")
