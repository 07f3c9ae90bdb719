"""Pieces of episodic learners: patterns of names, and batch statistics of the first rows."""

import torch
from torch import nn

from maskbench.backbones.batch_statistics import BatchStatistics, by_first
from maskbench.methods.meta import inner


def test_names_are_selected_by_patterns() -> None:
    names = ["hidden.0.weight", "hidden.0.bias", "head.weight"]
    assert inner.selected(names, ["*"]) == names
    assert inner.selected(names, ["*", "!head.*"]) == names[:2]
    assert inner.selected(names, ["*.weight", "!hidden.*"]) == ["head.weight"]
    assert inner.selected(names, []) == []


def test_batch_statistics_are_those_of_torch_and_of_the_first_rows() -> None:
    draw = torch.Generator().manual_seed(0)
    for shape in ((7, 3), (7, 3, 4, 5)):
        x, norm = torch.randn(shape, generator=draw), BatchStatistics(3)
        reference = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3, track_running_stats=False)
        assert torch.allclose(norm(x), reference(x), atol=1e-6)
        with by_first(norm, 4):
            assert torch.allclose(norm(x)[:4], reference(x[:4]), atol=1e-6)
        assert norm.first is None
