"""Pairs of writing systems: few instances of each letter, the same for all methods; nothing that trains is tested."""

import pytest
import torch

from maskbench.common.errors import UsageError
from maskbench.data.images import glyph_scripts


def pair(**changes):
    keys = {"base": "synthetic", "source_script": "A", "target_script": "B", "n_target": 3, "val": 2, "test": 4}
    return glyph_scripts.glyph_scripts(**keys | {"source": "auto", "root": "nowhere", "seed": 0} | changes)


def rows(split) -> set[bytes]:
    return {x.numpy().tobytes() for x in split.x}


def test_every_letter_has_its_instances_and_no_image_two_splits() -> None:
    source, target = pair()
    assert source.train.y.bincount().tolist() == [6] * 6 and target.train.y.bincount().tolist() == [3] * 5
    assert target.val.y.bincount().tolist() == [2] * 5 and target.test.y.bincount().tolist() == [4] * 5
    for stage in (source, target):
        assert not rows(stage.train) & rows(stage.test) and not rows(stage.train) & rows(stage.val)
        assert not rows(stage.val) & rows(stage.test)
    assert source.outputs == target.outputs == 6 and source.label_space != target.label_space


def test_smaller_targets_are_parts_of_larger_ones_and_all_else_stays() -> None:
    (a, few), (b, many) = pair(n_target=1), pair(n_target=None)
    assert rows(few.train) < rows(many.train) and torch.equal(few.test.x, many.test.x)
    assert a.fingerprint == b.fingerprint
    assert len(many.train) == 30


def test_both_are_on_the_sources_scale() -> None:
    source, target = pair()
    assert source.train.x.mean().item() == pytest.approx(0, abs=1e-4) and source.train.x.std().item() == pytest.approx(
        1, abs=1e-3
    )
    assert target.train.x.min() == pytest.approx(source.train.x.min().item(), abs=1e-5), "black is black"


def test_the_seed_draws_instances() -> None:
    assert torch.equal(pair()[1].train.x, pair()[1].train.x)
    assert rows(pair()[1].train) != rows(pair(seed=1)[1].train)


@pytest.mark.parametrize("changes", [{"n_target": 7}, {"test": 12}])
def test_what_does_not_work_is_refused(changes: dict) -> None:
    with pytest.raises(UsageError, match="data."):
        pair(**changes)


def test_an_unknown_script_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="Did you mean 'GREEK'"):
        glyph_scripts.letters_of("target_script", "greek", {"GREEK:0391": None, "LATIN:0041": None})


def test_pac_net_on_it(build) -> None:
    words = ("method=pac_net", "data=glyph_scripts", "data.base=synthetic", "data.test=4", "data.n_target=3", "budget.steps=20")
    metrics = build(*words, "backbone=lenet_300_100", "backbone.widths=[24,12]").go().metrics
    assert metrics["unload_drift"] == 0.0 and metrics["n_target"] == 15
