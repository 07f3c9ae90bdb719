"""Which outputs are a stage's own, and which stages it knows."""

import pytest

from maskbench.data.images import permuted, split
from maskbench.data.stage import in_order

MADE = {"base": "synthetic", "val": 100, "normalize": "standard", "source": "auto", "seed": 0}


@pytest.mark.parametrize("labels", ["shifted", "kept"])
def test_a_split_stage_says_which_outputs_are_its_own_and_which_were_seen(labels, tmp_path):
    stages = in_order(split.split(**MADE, stages=5, labels=labels, order="random", root=tmp_path))
    for stage in stages:
        assert set(stage.train.y.tolist()) == set(stage.own) == set(stage.test.y.tolist())
        assert [s.index for s in stage.earlier] == list(range(stage.index))
        assert set(stage.seen) == {label for s in stages[: stage.index + 1] for label in s.own}
    assert len(stages[-1].seen) == {"shifted": 2, "kept": 10}[labels]


def test_a_permuted_stage_owns_all_outputs(tmp_path):
    *_, last = in_order(permuted.permuted(**MADE, stages=3, legacy=False, root=tmp_path))
    assert last.own == last.seen == tuple(range(10))
