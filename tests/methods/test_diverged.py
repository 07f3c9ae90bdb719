"""A stage whose scores end as NaN leaves no mask that looks like one: whatever draws masks says that training diverged."""

from collections.abc import Callable

import pytest
import torch


@pytest.mark.parametrize(
    "method",
    ["supsup", "supsup method.density_scale=1", "piggyback method.backbone=random", "hopsupsup", "edge_popup", "supermask"],
)
def test_no_mask_is_kept_of_scores_that_are_nan(method: str, build: Callable) -> None:
    bench = build(*f"method={method}".split(), "data.base=synthetic", "backbone.widths=[8]")

    def diverge(of: object, stage: object, **phase: object) -> None:
        for score in of.trainable_parameters():
            score.data.view(-1)[-1] = torch.nan

    with pytest.raises(FloatingPointError, match="NaN.*training diverged"):
        bench.method.learn(bench.stages[0], diverge)
    assert bench.method.masks() == {}
