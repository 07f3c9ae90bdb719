"""A prediction is a set of members, each a distribution over the outputs (for classes)."""

import torch

from maskbench.data.stage import probabilities
from maskbench.training import evaluate


def test_members_are_distributions(calm) -> None:
    for stage in calm.stages:
        p, y = evaluate.members(calm.method, stage, stage.test, 33)
        # a row may ask several questions: [members, rows, outputs] or [members, rows, questions, outputs]
        assert p.ndim >= 3 and p.shape[0] >= 1 and p.shape[1] == len(y) == 33 and p.shape[-1] >= stage.outputs
        assert p.isfinite().all()
        if stage.link is probabilities:
            assert (p >= 0).all()
            assert torch.allclose(p.sum(-1), torch.ones(p.shape[:-1]), atol=1e-5)


def test_looking_changes_nothing(calm) -> None:
    before = calm.state
    for stage in calm.stages:
        evaluate.members(calm.method, stage, stage.test, 33)
        evaluate.logits(calm.method, stage, stage.test, 33)
    assert all(torch.equal(before[name], value) for name, value in calm.state.items())
