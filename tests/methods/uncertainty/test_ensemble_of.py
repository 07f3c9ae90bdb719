"""An ensemble of methods: each net is trained and answers as it would alone; all members of all nets count alike."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from maskbench.common.errors import UsageError
from maskbench.training.journal import snapshot

METHODS = ("masksembles_ensemble", "mc_dropout_ensemble")
TINY = ("data.base=synthetic", "data.ood=[]", "budget.steps=6", "budget.epochs=null", "budget.batch_size=32")
FEW = {"masksembles_ensemble": (), "mc_dropout_ensemble": ("method.of.passes=3",)}  # members of each net
# ^ a net for images of 28 x 28 trains in milliseconds a step


def weights(method: torch.nn.Module) -> list[torch.Tensor]:
    return [w for name, w in snapshot(method).items() if name.startswith("net.") and w.ndim > 1]


@pytest.mark.parametrize("name", METHODS)
def test_nets_differ_and_the_first_ones_of_more_are_those_of_fewer(name: str, build: Callable) -> None:
    two, three = (build(f"method={name}", f"method.nets={n}", *TINY, folder=f"of{n}").method for n in (2, 3))
    for a, b in zip(two.each, three.each, strict=False):
        assert all(torch.equal(v, snapshot(b)[k]) for k, v in snapshot(a).items())
    assert not any(torch.equal(u, v) for u, v in zip(weights(three.each[1]), weights(three.each[2]), strict=True))


@pytest.mark.full
@pytest.mark.parametrize("name", METHODS)
def test_members_are_those_of_each_net_in_turn(name: str, build: Callable) -> None:
    bench = build(f"method={name}", "method.nets=3", *FEW[name], *TINY).go()
    (stage,) = bench.stages
    x, _ = stage.test.tensors(first=5)
    method = bench.method.eval()
    predictions = method.predict(x, stage)
    apart = [one.predict(x, stage) for one in method.each]
    assert len(predictions) == sum(map(len, apart)) and len({len(part) for part in apart}) == 1
    assert torch.equal(predictions, torch.cat(apart))
    assert not torch.equal(apart[0], apart[1])
    assert bench.metrics["nll"] <= bench.metrics["member_nll"]  # Jensen
    assert bench.metrics["nets"] == 3


def test_masks_of_all_nets_are_numbered_through(build: Callable) -> None:
    method = build("method=masksembles_ensemble", "method.nets=2", *TINY).method
    drawn, (first, second) = method.masks(), method.each
    assert len({name.split("/")[0] for name in drawn}) == 8
    for (member, gate), mask in {tuple(name.split("/")): mask for name, mask in second.masks().items()}.items():
        assert torch.equal(drawn[f"{4 + int(member)}/{gate}"], mask)
    gate = next(iter(first.gates))
    assert not torch.equal(drawn[f"0/{gate}"], drawn[f"4/{gate}"])


@pytest.mark.full
def test_one_net_is_the_method_alone(build: Callable) -> None:
    """The same start, masks and order of data give the same net, wrapped or not."""
    wrapped = build("method=masksembles_ensemble", "method.nets=1", *TINY, folder="wrapped")
    alone = build("method=masksembles", *TINY, folder="alone")
    alone.method.load_state_dict(snapshot(wrapped.method.each[0]))
    wrapped.go(), alone.go()
    held = snapshot(alone.method)
    assert all(torch.equal(value, held[name]) for name, value in snapshot(wrapped.method.each[0]).items())


@pytest.mark.full
def test_the_history_tells_nets_apart(build: Callable) -> None:
    rows = build("method=mc_dropout_ensemble", "method.nets=2", *FEW["mc_dropout_ensemble"], *TINY).go().rows
    assert b"net 0 train" in rows and b"net 1 train" in rows


@pytest.mark.full
def test_the_record_has_the_hash_of_each_nets_masks(cli: Callable, tmp_path: Path) -> None:
    done = cli("method=masksembles_ensemble", "method.nets=2", *TINY, "logger=csv", "loop.progress=false")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("outputs/*/*/result.json")
    marks = json.loads(path.read_text())["fingerprints"]
    hashes = [marks[f"net {number}"]["masks_sha256"] for number in range(2)]
    assert len(set(hashes)) == 2 and all(len(own) == 64 for own in hashes)
    output = cli("show", str(path.parent)).stdout
    assert all(own in output for own in hashes)


def test_no_net_is_refused_in_words(build: Callable) -> None:
    with pytest.raises(UsageError, match="method.nets=0 must be a whole number"):
        build("method=mc_dropout_ensemble", "method.nets=0", *TINY)


def test_a_key_that_the_nets_method_does_not_have_is_refused_in_words(build: Callable) -> None:
    with pytest.raises(UsageError, match="method.of.dropp.*Did you mean 'drop'"):
        build("method=mc_dropout_ensemble", "+method.of.dropp=0.1", *TINY)
