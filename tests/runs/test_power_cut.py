"""A power cut after any step that a run takes on the file system: the same command goes on and ends with the same bytes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

WORDS = (
    "method=packnet", "data=splitmnist", "data.base=synthetic", "logger=none", "backbone.widths=[16,8]", "budget.steps=4",
    "budget.batch_size=32", "loop.block=2", "loop.log_every=1", "loop.checkpoint_seconds=0", "task.trials=2", "task.probe=20",
)  # fmt: skip
FILES = ("metrics.csv", "weights.safetensors", "masks.safetensors")
HERE = Path(__file__).parent


@pytest.fixture
def cut(script: Callable, tmp_path: Path, data_root: Path) -> tuple[Path, list[Path]]:
    """(the output folder of an undisturbed run, what a power cut would have left after each of its steps, in their order)."""
    output, images = tmp_path / "calm", tmp_path / "images"
    process = script(
        HERE / "power.py", words=[*WORDS, f"paths.output={output}"], folder=tmp_path, output=output, images=images,
        env={"MASKBENCH_DATA": str(data_root)},
    )  # fmt: skip
    process.join()
    assert process.exitcode == 0, (tmp_path / "stderr").read_text()
    return output, sorted(images.iterdir())


def answers(output: Path) -> dict:
    """The files of the one run below an output folder that must not differ, by name."""
    (run,) = output.glob("*/s*")
    whole = json.loads((run / "result.json").read_text())
    whole["metrics"] = {name: value for name, value in whole["metrics"].items() if "seconds" not in name}
    return {name: (run / name).read_bytes() for name in FILES} | {"result": whole}


def goes_on(image: Path, calm: dict, program: Callable, tmp_path: Path) -> None:
    process = program(*WORDS, f"paths.output={image}", log="again")
    process.join()
    assert process.exitcode == 0, f"{image.name}: {(tmp_path / 'again').read_text()}"
    assert answers(image) == calm, image.name


def spread(images: list[Path], count: int) -> list[Path]:
    return [images[i * (len(images) - 1) // (count - 1)] for i in range(count)]


@pytest.mark.full
def test_three_power_cuts_cost_nothing(cut: tuple, program: Callable, tmp_path: Path) -> None:
    output, images = cut
    calm = answers(output)
    checkpoints = [image for image in images if list(image.glob("*/s*/state/checkpoint.pt"))]
    assert len(images) > 100 and len(checkpoints) > 50
    for image in spread(checkpoints, 3):
        goes_on(image, calm, program, tmp_path)


@pytest.mark.full
def test_power_cuts_at_forty_moments_cost_nothing(cut: tuple, program: Callable, tmp_path: Path) -> None:
    """Half of them spread over the run, half at its end, where the result is written."""
    output, images = cut
    calm = answers(output)
    for image in {path: None for path in [*spread(images, 20), *images[-90::4]]}:
        goes_on(image, calm, program, tmp_path)
