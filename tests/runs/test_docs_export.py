"""docs/export.md, its code run as it stands: the state dict in a plain backbone, the smaller net, and the optimiser's hook."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from maskbench.backbones.compact.smaller import compact
from maskbench.backbones.mlp import MLP
from maskbench.runs import exports
from maskbench.runs.plain import Plain

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text()
STATE, SMALL, HOOK, USE = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """LeNet-300-100 under a mask of a tenth, exported and compacted; the present directory."""
    torch.manual_seed(0)
    net = MLP((1, 28, 28), 10, widths=[300, 100]).eval()
    raw = {name: p.detach().clone() for name, p in net.named_parameters() if p.ndim > 1}
    masks = {name: torch.rand(w.shape) < 0.1 for name, w in raw.items()}
    x = torch.randn(20, 1, 28, 28)
    with torch.no_grad():
        for name, mask in masks.items():
            net.get_parameter(name).mul_(mask)
        one = Plain(net, masks, raw, x, net(x), True)
    exports.write(one, "safetensors", tmp_path)
    exports.write_compact(one, compact(net, x), "A net.", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def run(*parts: str, **names: object) -> dict:
    space = dict(names)
    for part in parts:
        exec(part, space)
    return space


def test_the_state_dict_and_the_smaller_net_answer_alike(folder: Path) -> None:
    x = torch.randn(5, 1, 28, 28)
    plain, small = run(STATE)["net"], run(SMALL)["net"]
    assert torch.allclose(plain(x), small(x), atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    ],
    ids=["adamw", "sgd"],
)
def test_the_hook_keeps_weights_and_moments_at_0(make: Callable, folder: Path) -> None:
    space = run(STATE, HOOK)
    net, kept = space["net"], exports.packing.load(folder / exports.MASKS)
    optimizer = make(net.parameters())
    handle = space["keep_masks"](net, kept, optimizer)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(torch.randn(8, 1, 28, 28)), torch.arange(8)).backward()
        optimizer.step()
    for name, mask in kept.items():
        w = net.get_parameter(name)
        held = [w, *(value for value in optimizer.state[w].values() if value.shape == w.shape)]
        assert len(held) > 1 and all(not value[~mask].any() and value[mask].any() for value in held)
        assert not torch.equal(w, before[name])
    handle.remove()
    optimizer.step()
    assert any(net.get_parameter(name)[~mask].any() for name, mask in kept.items())


def test_its_use_is_as_documented(folder: Path) -> None:
    space = run(STATE, HOOK, USE)
    nn.functional.cross_entropy(space["net"](torch.randn(8, 1, 28, 28)), torch.arange(8)).backward()
    space["optimizer"].step()
    zeros = {name: w != 0 for name, w in space["net"].named_parameters() if w.ndim > 1}
    assert all(torch.equal(zeros[name], mask) for name, mask in space["masks"].load(folder / exports.MASKS).items())
