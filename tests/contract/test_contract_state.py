"""A method's state_dict is all it remembers: it restores the answers, bit for bit, in a process that never trained."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from maskbench import masks
from maskbench.common.streams import seeded
from maskbench.data.stage import Stage
from maskbench.training import evaluate
from maskbench.training.method import Method

FIRST = 50  # test inputs whose logits are compared


@pytest.mark.parametrize("kind", ["safetensors", pytest.param("pt", marks=pytest.mark.full)])
def test_a_new_process_gives_the_same_answers(calm, kind: str, script: Callable, tmp_path: Path) -> None:
    state, config, out = tmp_path / f"state.{kind}", tmp_path / "config.yaml", tmp_path / "answers.pt"
    save_file(calm.state, state) if kind == "safetensors" else torch.save(calm.method.state_dict(), state)
    config.write_text(OmegaConf.to_yaml(calm.cfg, resolve=True))

    process = script(Path(__file__).with_name("answers.py"), config=config, state=state, out=out, first=FIRST)
    process.join()
    assert process.exitcode == 0

    found = torch.load(out, weights_only=True)
    assert found["logits"].keys() == {str(stage.index) for stage in calm.stages}
    logits, members = answers(calm.method, calm.stages)
    assert_equal(found["logits"], logits)
    assert_equal(found["members"], members)
    assert_equal(found["masks"], calm.method.masks())


def test_a_copy_answers_like_the_original_and_trains_apart_from_it(calm) -> None:
    twin, before = copy.deepcopy(calm.method), calm.state
    for theirs, ours in zip(answers(twin, calm.stages), answers(calm.method, calm.stages), strict=True):
        assert_equal(theirs, ours)
    for p in twin.trainable_parameters():
        p.data.add_(1)
    assert_equal(calm.state, before)


def test_what_is_known_has_masks_and_what_has_masks_is_known(tiny: tuple[str, ...], build: Callable, calm) -> None:
    if len(calm.stages) == 1:  # its masks are numbered by level, if at all
        levels = {int(name.split("/")[0]) for name in calm.method.masks()}
        assert calm.method.has_learned(calm.stages[0]) and levels == {*range(len(levels))}
        return
    bench = build(*tiny)
    assert bench.method.masks() == {}, "no stage is learnt, so no mask is drawn"
    seen = []

    def look(name: str, value: dict) -> None:
        known = {stage.index for stage in bench.stages if bench.method.has_learned(stage)}
        drawn = {int(name.split("/")[0]) for name in bench.method.masks()}
        assert not drawn or drawn == known
        seen.append(len(drawn))

    bench.journal.on_part = look
    bench.go()
    assert all(bench.method.has_learned(stage) for stage in bench.stages)
    assert seen == sorted(seen)


def test_the_net_computes_without_what_a_mask_drops(calm) -> None:
    own = dict(calm.method.net.named_parameters()) | dict(calm.method.net.named_buffers())
    drawn = calm.method.masks()
    last = max((int(name.split("/")[0]) for name in drawn), default=0)
    for name, mask in drawn.items():
        number, site = name.removesuffix(".negative").split("/")
        assert mask.dtype == torch.bool and mask.shape == own[site].shape
        if name.endswith(".negative") or (len(calm.stages) == 1 and int(number) < last):
            continue  # what changes its sign is in; an earlier level
        stage = calm.stages[int(number) if len(calm.stages) > 1 else 0]
        x, _ = stage.test.tensors(first=2)
        tensors = calm.method.effective_weights(x, stage)
        if tensors:  # where members have masks of their own, one of them is what a single net computes with
            own_masks = of_members(calm.method, drawn, site, calm.stages[0]) or [mask]
            least = 0.5 if calm.method.extra_metrics().get("open_gates") else 0.0  # such a gate is between on and off, and said
            assert any((tensors[site][~m].abs() <= least).all() for m in own_masks)


def test_mask_files_hold_one_bit_a_weight_and_read_back(calm, tmp_path: Path) -> None:
    drawn = calm.method.masks()
    path = tmp_path / "masks.safetensors"
    masks.save(path, drawn)
    assert_equal(masks.load(path), drawn)
    assert path.stat().st_size <= sum(-(-m.numel() // 8) for m in drawn.values()) + 250 * (1 + len(drawn))


def test_every_mask_stands_where_masked_weights_says(calm) -> None:
    if calm.cfg.task.name == "theory":
        return  # its net is made as it learns, and no coverage of it is told
    drawn = {name.split("/", 1)[1].removesuffix(".negative") for name in calm.method.masks()}
    told = set(calm.method.masked_weights())
    assert drawn <= told
    assert told <= {name for name, _ in [*calm.method.net.named_parameters(), *calm.method.net.named_buffers()]}


def of_members(method: Method, drawn: dict[str, torch.Tensor], site: str, stage: Stage) -> list[torch.Tensor]:
    """The masks of `site`, if there is one for each member; else none."""
    several, _ = evaluate.members(method, stage, stage.test, 2)
    found = [mask for name, mask in drawn.items() if name.split("/")[1] == site]
    return found if 1 < len(found) == len(several) else []


def answers(method: Method, stages: list[Stage]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Logits, and what all members predict, on every stage the method knows; a method that draws at test time draws the
    same in each process."""
    known = [stage for stage in stages if method.has_learned(stage)]
    with seeded("answers"):
        logits = {str(s.index): evaluate.logits(method, s, s.test, FIRST) for s in known}
        return logits, {str(s.index): evaluate.members(method, s, s.test, FIRST)[0] for s in known}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
