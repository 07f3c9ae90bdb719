"""Data that a task or a method cannot use: refused in one sentence before anything is trained, never a number without meaning."""

from collections.abc import Callable

import pytest

from maskbench.common.errors import UsageError

NUMBERS, EPISODES = "the targets of this data are numbers", "only task=meta learns from"


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("method=packnet data=cubic", NUMBERS),
        pytest.param("method=hopsupsup data=friedman1_transfer", NUMBERS, marks=pytest.mark.full),
        ("method=packnet data=sinusoid", EPISODES),
        pytest.param("method=dense data=sinusoid", EPISODES, marks=pytest.mark.full),
        pytest.param("method=edge_popup data=sinusoid", EPISODES, marks=pytest.mark.full),
        pytest.param("method=pac_net data=sinusoid", EPISODES, marks=pytest.mark.full),
        ("method=maml data=cubic", "task=meta takes data that come as episodes"),
        ("method=pac_net data=cubic", "takes a source and a target, and this data has 1"),
        ("method=dense data=friedman1_transfer", "takes data of one stage, and this data has 2"),
        ("method=supermask data=boston task=uncertainty backbone=fold_mlp", "FoldMLP has no layer whose weights"),
        ("method=edge_popup data=boston task=uncertainty", "backbone=fold_mlp, or one division with data.fold=0"),
        (
            "method=supermask data=cubic +data.normalize=unit task=uncertainty",
            "'data.normalize'. It takes rows, val, grid, reach, noise; ~data.normalize removes",
        ),
        ("method=edge_popup backbone=fold_mlp +backbone.colour=1", "~backbone.colour removes"),
    ],
)
def test_what_does_not_go_together_is_refused(words: str, sentence: str, build: Callable) -> None:
    with pytest.raises(UsageError) as caught:
        build(*words.split(), "budget.steps=1", "budget.epochs=null").go()
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["supermask", "edge_popup"])
def test_a_mask_answers_for_one_division_of_a_table(method: str, build: Callable) -> None:
    words = [f"method={method}", "data=boston", "data.fold=0", "task=uncertainty", "backbone.widths=[8,8]"]
    assert build(*words, "budget.steps=2", "budget.epochs=null").go().metrics["rmse"] > 0
