"""Every key of every data set has a type, a range and a meaning; a wrong value is refused before any file is read."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import maskbench
from maskbench.common import knobs
from maskbench.runs.build import WORDS

CONF = Path(maskbench.__file__).parents[1] / "conf" / "data"
NODES = {file.stem: yaml.safe_load(file.read_text())["data"] for file in sorted(CONF.glob("*.yaml"))}
BUILDERS = sorted({node["_target_"] for node in NODES.values()})


@pytest.mark.parametrize("builder", BUILDERS)
def test_every_key_has_a_type_and_a_meaning(builder: str) -> None:
    arguments = [knob for knob in knobs.read(builder) if knob.name != "root"]  # a Path, which no config spells
    assert [knob.name for knob in arguments if knob.kind is Any] == []
    assert [knob.name for knob in arguments if not knob.meaning] == []


@pytest.mark.parametrize("name", NODES)
def test_the_values_of_the_configs_are_allowed(name: str) -> None:
    node = {key: value for key, value in NODES[name].items() if "${" not in str(value)}
    assert list(knobs.mistakes("data", node, WORDS)) == []


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("mnist", "val", [-1, "many", 2.5, True]),
        ("mnist", "normalize", ["unti"]),
        ("mnist", "ood", [3, True]),
        ("mnist", "shifted", [3, [3]]),
        ("splitmnist", "stages", [0, -5, 2.0, "five", True]),
        ("splitmnist", "labels", ["shiftd"]),
        ("splitmnist", "order", ["randm", -1, [0, -1], [0.5]]),
        ("splitmnist", "sizes", [3, [0], ["two"]]),
        ("splitmnist", "split", [[0, 1], [[-1]], "0,1"]),
        ("splitmnist", "rest", ["keep", True]),
        ("splitmnist", "visits", [0, [-1], "twice"]),
        ("splitmnist", "blur", [0, 1, "some"]),
        ("stream", "sets", ["mnist", [3]]),
        ("stream", "val", [1, -0.1]),
        ("folders", "folders", ["birds", [1]]),
        ("faces", "train", [0]),
        ("faces", "base", ["face"]),
        ("decathlon5", "sets", [["mnits"]]),
        ("decathlon5", "given", [1]),
        ("imagenet2animals", "n_target", [0, "few"]),
        ("imagenet2animals", "base", ["animal"]),
        ("fortunes", "val", [1, -0.1]),
        ("fortunes", "length", [0]),
        ("permutedmnist", "stages", [0, "ten", 1.5]),
        ("rotatedmnist", "stages", [0]),
        ("rotatedmnist", "degrees", ["ten", True]),
        ("digits_split", "n_target", [0]),
        ("digits_split", "source_classes", [[-1, 2], 3]),
        ("imagenet", "size", [0]),
        ("imagenet", "workers", [-1]),
        ("splitimagenet", "normalize", ["unti"]),
        ("celeba", "val", [0]),
        ("glyph_scripts", "n_target", [0]),
        ("glyph_scripts", "val", [0]),
        ("glyph28", "ways", [1]),
        ("glyph28", "shots", [0]),
        ("glyph28", "test_shots", [[1, 0], 5]),
        ("sinusoid", "test", [1]),
        ("boston", "fold", [-1]),
        ("boston", "folds", [0]),
        ("boston", "val", [1.0, "some"]),
        ("boston", "source", ["torchvision"]),
        ("cubic", "rows", [1]),
        ("cubic", "grid", [1]),
        ("cubic", "noise", [-1.0]),
        ("cubic", "reach", ["far"]),
        ("co2", "train", [1]),
        ("co2", "every", [1]),
        ("ball", "domain", ["cube"]),
        ("ball", "dimension", [0]),
        ("ball", "rows", [1.5]),
        ("friedman1_transfer", "distance", [-1]),
        ("friedman1_transfer", "n_source", [1]),
        ("friedman1_transfer", "test", [0]),
        ("pendulum", "target_damping", [-0.1]),
        ("pendulum", "gravity", [0]),
        ("pendulum", "n_target", [1.5]),
    ],
)
def test_values_that_do_not_work_are_refused_by_their_key(name: str, key: str, values: list) -> None:
    for value in values:
        (sentence,) = knobs.mistakes("data", {"_target_": NODES[name]["_target_"], key: value})
        assert sentence.startswith(f"data.{key}=") and " must be " in sentence
