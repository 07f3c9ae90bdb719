"""What tests of several tasks begin with."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from maskbench.backbones.mlp import MLP
from maskbench.data.stage import Split, in_order


@pytest.fixture
def judged(build: Callable) -> Callable:
    """`judged(*overrides, **parts)`: a finished run whose stage has these parts in the place of its own."""

    def go(*overrides: str, **parts: object):
        bench = build(*overrides, folder="-".join(sorted(parts)) or "run")
        bench.stages = [replace(bench.stages[0], **parts)]
        return bench.go()

    return go


@pytest.fixture
def cut_given(build: Callable, tmp_path: Path) -> Callable:
    """`cut_given(*words, head=..., **parts)`: a finished run of one_shot, without training, over a net of a file, with or without
    its output layer, on twelve images; its stage has these parts, too."""
    torch.manual_seed(3)
    tensors = MLP((1, 28, 28), 10, widths=[24, 12]).state_dict()
    path = tmp_path / "net.safetensors"

    def go(*words: str, head: bool = True, folder: str = "run", **parts: object):
        save_file({name: value for name, value in tensors.items() if head or not name.startswith("head")}, path)
        bench = build(
            "method=one_shot", "data=mnist", "data.base=synthetic", "method.finetune=0", *words,
            "backbone.widths=[24,12]", f"backbone.init=file:{path}", folder=folder,
        )  # fmt: skip
        (stage,) = bench.stages
        x, y = stage.test.tensors(first=12)
        some = Split(x, y)
        bench.stages[:] = in_order([replace(stage, train=some, val=some, test=some, given=True, samples=True, **parts)])
        return bench.go()

    return go
