"""A source that the net came trained on: nothing is trained on it, its head answers it, of its samples no accuracy is told."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.data.images import small
from maskbench.data.sources.small_sets import Pool
from maskbench.data.stage import Origin
from maskbench.data.streams import decathlon
from maskbench.training import evaluate, features

WORDS = ("data=imagenet2animals", "data.size=8", "data.n_target=4", "data.normalize=unit", "budget.steps=12",
         "budget.batch_size=16", "backbone=mlp_100x3", "backbone.widths=[16,12]", "trainer.memory_format=null")  # fmt: skip


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Animals of 8 x 8 pixels, each class about a picture of its own, and 20 samples of noise."""
    draw = np.random.RandomState(0)
    pictures = draw.randint(0, 256, (10, 1, 8, 8))

    def pool(name: str, *_) -> tuple[Pool, Origin]:
        if name == "imagenet_samples":
            x = np.random.RandomState(1).randint(0, 256, (20, 3, 8, 8)).astype(np.uint8)
            return Pool(x, np.arange(20), tuple(map(str, range(1000)))), Origin(name, "pip")
        x = (pictures + np.random.RandomState(2).randint(-60, 60, (10, 100, 8, 8))).clip(0, 255).astype(np.uint8)
        return Pool(x.reshape(-1, 8, 8), np.repeat(np.arange(10), 100), tuple(map(str, range(10)))), Origin(name, "pip")

    for module in (small, decathlon):
        monkeypatch.setattr(module, "pool_of", pool)
    monkeypatch.setattr(small, "NEAR", {})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    path = tmp_path / "net.safetensors"
    save_file(MLP((3, 8, 8), 1000, widths=[16, 12], init="torch").state_dict(), path)
    return path


@pytest.fixture
def over(build: Callable, path: Path) -> Callable:
    """`over(method, *words)`: an attempt of a transfer method over the file's net."""
    return lambda method, *words, **how: build(f"method={method}", *WORDS, f"backbone.init=file:{path}", *words, **how)


def test_pac_net_prunes_untrained_and_gives_the_target_a_head_beside_the_sources(over: Callable, path: Path) -> None:
    bench = over("pac_net", "method.head_start=null").go()
    source, target = bench.stages
    assert bench.fit.steps == 6 and bench.method.ledger.stages == 2
    assert bench.metrics["density"] == pytest.approx(0.75, abs=1e-3)
    assert bench.metrics["given_net/kept"] == 1 and bench.metrics["unload_drift"] == bench.metrics["given_net/drift"] == 0
    assert bench.metrics["source_accuracy"] is bench.metrics["source_accuracy_unloaded"] is None
    assert bench.outcome.objective == "target_accuracy" and "no test set" in bench.outcome.notes[0]
    given = load_file(path)
    for name, mask in ((name, bench.method.ledger.mask(name, 0)) for name in bench.method.trunk):
        assert torch.equal(bench.method.ledger.finished(0)[name], given[name] * mask)
    own = bench.method.effective_weights(source.test.tensors()[0], target)
    assert own["head.weight"].shape == (10, 12) and torch.equal(bench.method.net.head.bias, given["head.bias"])
    assert evaluate.logits(bench.method, source, source.test).shape == (20, 1000)


def test_the_targets_own_weights_alone_are_drawn_to_zero(over: Callable) -> None:
    bench = over("pac_net").go()
    method, target = bench.method, bench.stages[1]
    alive = {name: method.ledger.owner[name] == 2 for name in method.trunk if not name.startswith("head")}
    wanted = sum((method.ledger.finished(1)[name][mine]).square().sum() for name, mine in alive.items())
    assert method.penalty(target).item() == pytest.approx(0.01 * wanted.item(), rel=1e-5)
    assert wanted > 0


def test_fine_tuning_moves_the_net_and_still_answers_the_source_by_its_head(over: Callable, path: Path) -> None:
    bench = over("transfer_finetune").go()
    source, target = bench.stages
    assert bench.method.has_learned(source) and bench.method.has_learned(target) and bench.method.fresh(target)
    now, given = bench.method.net.state_dict(), load_file(path)
    assert {name for name in given if not torch.equal(now[name], given[name])} == set(given) - {"head.weight", "head.bias"}
    assert bench.metrics["given_net/drift"] > 0 and bench.metrics["given_net/kept"] < 1
    x, y = target.test.tensors()
    assert bench.metrics["target_accuracy"] == pytest.approx(
        (bench.method.logits(x, target).argmax(1) == y).double().mean().item()
    )


def test_a_head_alone_trains_on_features_computed_once_and_learns_what_it_would_on_images(
    over: Callable, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Watched:
        def __init__(self, fit: Callable) -> None:
            self.fit = fit

        def __getattr__(self, name: str):
            return getattr(self.fit, name)

        def __call__(self, method, stage, **phase):
            seen.append(stage)
            return self.fit(method, stage, **phase)

    bench = over("transfer_last_layer")
    bench.go(learner=Watched(bench.fit))
    assert isinstance(seen[1], features.Features) and seen[1].shape == (12,) and bench.metrics["given_net/kept"] == 1
    monkeypatch.setattr(features, "can_cache", lambda stage: False)
    plain = over("transfer_last_layer", folder="plain").go()
    mine, theirs = (b.method.head(1)["head.weight"] for b in (bench, plain))
    assert torch.allclose(mine, theirs, atol=1e-5) and not torch.equal(mine, load_file(path)["head.weight"][:10])
    assert bench.metrics["target_accuracy"] == plain.metrics["target_accuracy"] > 0.3


def test_from_scratch_owes_nothing_to_the_net_that_came_trained(over: Callable, path: Path) -> None:
    bench, begun = over("transfer_scratch", "backbone.init_norm=null"), []

    def fit(method, stage, **phase) -> list:
        begun.append({name: value.clone() for name, value in method.net.state_dict().items()})
        return []

    for stage in bench.stages:
        bench.method.learn(stage, fit)
    given, (first, second) = load_file(path), begun
    assert all(torch.equal(first[name], given[name]) for name in given)
    assert not any(torch.equal(second[name], given[name]) for name in given if name.endswith("weight"))


@pytest.mark.parametrize("name", ["l2", "l2_sp", "bss", "delta"])
def test_penalties_reach_the_head_that_answers_the_target(name: str, over: Callable) -> None:
    bench = over(f"transfer_{name}", *(["method.delta=0.5"] if name == "delta" else [])).go()
    target = bench.stages[1]
    head = sum(p.square().sum().item() for p in bench.method.head(1).values())
    trunk = [p for n, p in bench.method.net.named_parameters() if not n.startswith("head")]
    if name == "l2":
        wanted = 0.01 * (head + sum(p.square().sum().item() for p in trunk))
        assert bench.method.penalty(target).item() == pytest.approx(wanted, rel=1e-4)
    if name == "l2_sp":
        start = dict(bench.method.source.named_parameters())
        moved = sum(
            (p - start[n]).square().sum().item() for n, p in bench.method.net.named_parameters() if not n.startswith("head")
        )
        assert bench.method.penalty(target).item() == pytest.approx(0.01 * moved + 0.005 * head, rel=1e-4) and moved > 0
    if name == "delta":
        assert {k: bench.method.attention[k].shape for k in bench.method.attention.names()} == {
            "gates.0": (16,),
            "gates.1": (12,),
        }
    assert bench.metrics["target_accuracy"] > 0.2


@pytest.mark.parametrize("method", ["pac_net", "transfer_finetune", "transfer_last_layer"])
def test_an_interrupted_target_comes_back_bit_for_bit(
    method: str, over: Callable, relay: Callable, path: Path, same: Callable
) -> None:
    words = (f"method={method}", *WORDS, f"backbone.init=file:{path}", "loop.block=2", "loop.checkpoint_seconds=0")
    whole = relay(*words, folder="whole", halts=[])
    same(whole, relay(*words, folder="broken", halts=[2]))


def test_smaller_samples_are_part_of_larger_ones_and_test_rows_the_same() -> None:
    def target(n: int | None):
        keys = {"base": "animals", "size": 8, "normalize": "unit", "source": "auto", "root": "nowhere", "seed": 0}
        source, target = decathlon.imagenet_pair(n_target=n, **keys)
        assert (source.given, source.outputs, target.outputs, len(target.val)) == (True, 1000, 10, 0)
        return target

    few, more, usual = target(2), target(9), target(None)
    rows = [{x.numpy().tobytes() for x in one.train.tensors()[0]} for one in (few, more)]
    assert rows[0] < rows[1] and few.train.y.bincount().tolist() == [2] * 10
    assert len(usual.test) == 500 and torch.equal(few.test.tensors()[0], more.test.tensors()[0])
    with pytest.raises(
        UsageError, match="data.n_target=51 asks for more images than each class has: beside 50 that test, 50 are"
    ):
        target(51)
