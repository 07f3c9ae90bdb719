"""A method's state_dict is all it remembers: it restores the answers, bit for bit, in a process that never trained."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from maskbench import evaluate, masks

FIRST = 50  # test inputs whose logits are compared


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_new_process_gives_the_same_answers(
    tiny: tuple[str, ...], kind: str, build: Callable, script: Callable, tmp_path: Path
) -> None:
    bench = build(*tiny).go()
    state, config, out = tmp_path / f"state.{kind}", tmp_path / "config.yaml", tmp_path / "answers.pt"
    save_file(bench.state, state) if kind == "safetensors" else torch.save(bench.method.state_dict(), state)
    config.write_text(OmegaConf.to_yaml(bench.cfg, resolve=True))

    process = script(Path(__file__).with_name("answers.py"), config=config, state=state, out=out, first=FIRST)
    process.join()
    assert process.exitcode == 0

    found = torch.load(out, weights_only=True)
    assert found["logits"].keys() == {str(stage.index) for stage in bench.stages}
    for stage in bench.stages:
        assert torch.equal(found["logits"][str(stage.index)], evaluate.logits(bench.method, stage, stage.test, FIRST))
    assert_equal(found["masks"], bench.method.masks())


def test_a_copy_answers_like_the_original_and_trains_apart_from_it(tiny: tuple[str, ...], build: Callable) -> None:
    bench = build(*tiny).go()
    twin, before = copy.deepcopy(bench.method), bench.state
    for stage in bench.stages:
        assert torch.equal(
            evaluate.logits(twin, stage, stage.test, FIRST), evaluate.logits(bench.method, stage, stage.test, FIRST)
        )
    for p in twin.movable():
        p.data.add_(1)
    assert_equal(bench.state, before)


def test_what_is_known_has_masks_and_what_has_masks_is_known(tiny: tuple[str, ...], build: Callable, tmp_path: Path) -> None:
    bench = build(*tiny)
    assert bench.method.masks() == {}, "no stage is learnt, so no mask is drawn"
    seen = []

    def look(name: str, value: dict) -> None:
        known = {stage.index for stage in bench.stages if bench.method.knows(stage)}
        drawn = bench.method.masks()
        stages = {int(name.split("/")[0]) for name in drawn}
        assert not drawn or stages == known
        seen.append(len(stages))

    bench.journal.on_step = look
    bench.go()
    assert all(bench.method.knows(stage) for stage in bench.stages)
    assert seen == sorted(seen)

    own = dict(bench.method.net.named_parameters()) | dict(bench.method.net.named_buffers())
    for name, mask in bench.method.masks().items():
        index, site = name.split("/")
        assert mask.dtype == torch.bool
        stage = bench.stages[int(index)]
        x, _ = stage.test.tensors(first=2)
        tensor = bench.method.effective(x, stage)[site]
        assert mask.shape == own[site].shape == tensor.shape
        assert not tensor[~mask].any(), "the net computes with what the mask drops"


def test_mask_files_hold_one_bit_a_weight_and_read_back(tiny: tuple[str, ...], build: Callable, tmp_path: Path) -> None:
    drawn = build(*tiny).go().method.masks()
    path = tmp_path / "masks.safetensors"
    masks.save(path, drawn)
    assert_equal(masks.load(path), drawn)
    assert path.stat().st_size <= sum(-(-m.numel() // 8) for m in drawn.values()) + 250 * (1 + len(drawn))


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
