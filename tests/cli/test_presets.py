"""Presets: each composes, passes preflight and says what it is; those of before are reached by other words, with equal keys."""

import json
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.types import RunMode
from omegaconf import OmegaConf

from maskbench.cli import command_line, preflight, schema
from maskbench.cli import main as cli
from maskbench.cli.commands import notes
from maskbench.common import identity

FOLDER = identity.conf_dir() / "experiment"
OLD = json.loads((Path(__file__).parent / "old_presets.json").read_text())  # preset of before -> its key
CHANGED: dict[str, str] = {}  # preset of before that runs something else now -> the words with which it is the run of before
for change in yaml.safe_load((Path(__file__).parent / "changed_presets.yaml").read_text()):
    for name in change["presets"]:
        CHANGED[name] = f"{CHANGED.get(name, '')} {change['before']}"  # there may be several reasons
MOVED = yaml.safe_load((FOLDER / "_moved.yaml").read_text())  # preset of before -> the command that is it now
PRESETS = list(command_line.choices([FOLDER.parent], "experiment"))
PAPERS = sorted({name.partition("/")[0] for name in [*PRESETS, *OLD]})
SAMPLE = {paper: [name for name in OLD if name.startswith(f"{paper}/")][:1] for paper in PAPERS}  # `make test` holds these
WORDS_OF_TIME = ("minutes", "hours", "days")


@pytest.fixture(scope="module")
def composed(hydra_loader) -> Any:
    """`composed(words)`: the config of a command line, not to be changed; each is composed once."""
    return cache(lambda words: hydra_loader.load_configuration("config", shlex.split(words), run_mode=RunMode.RUN))


def note(preset: str) -> dict:
    return yaml.safe_load((FOLDER / f"{preset}.yaml").read_text())["experiment"]


def test_there_are_few_enough_to_read() -> None:
    assert len(PRESETS) <= 110


FIRST = {next(name for name in PRESETS if name.startswith(f"{paper}/")) for paper in PAPERS}


@pytest.mark.parametrize("preset", [pytest.param(name, marks=() if name in FIRST else pytest.mark.full) for name in PRESETS])
def test_a_preset_is_ready_to_run(preset: str, composed) -> None:
    cfg = composed(f"experiment={preset}")
    preflight.check_config(cfg)
    assert (cfg.budget.steps is None) != (cfg.budget.epochs is None)
    assert cfg.experiment == OmegaConf.merge(schema.Experiment(), note(preset)), "it says of itself what its base says"


@pytest.mark.parametrize("paper", PAPERS)
def test_presets_of_before_are_reached_with_equal_keys(paper: str, composed) -> None:
    assert keys(SAMPLE[paper], composed) == {name: OLD[name] for name in SAMPLE[paper]}


@pytest.mark.full
@pytest.mark.parametrize("paper", PAPERS)
def test_all_presets_of_before_are_reached_with_equal_keys(paper: str, composed) -> None:
    names = [name for name in OLD if name.startswith(f"{paper}/")]
    assert keys(names, composed) == {name: OLD[name] for name in names}


def keys(names: list[str], composed) -> dict[str, str]:
    return {name: identity.key(composed(f"{command(name)} {CHANGED.get(name, '')}")) for name in names}


def command(name: str) -> str:
    return MOVED.get(name, f"experiment={name}")


@pytest.mark.full
def test_what_changed_on_purpose_has_a_key_of_its_own(composed) -> None:
    assert set(CHANGED) <= set(OLD)
    assert not {name for name in CHANGED if identity.key(composed(command(name))) == OLD[name]}


def test_what_moved_are_presets_of_before_that_are_gone() -> None:
    assert set(MOVED) == set(OLD) - set(PRESETS)
    assert len(OLD) == 257


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_says_what_it_is(preset: str) -> None:
    told = note(preset)
    assert set(told) <= set(schema.Experiment.__dataclass_fields__)
    assert isinstance(told["about"], str) and "paper" in told
    if told["paper"]:
        assert "differs" in told and told["place"], "a preset that cites a paper says where, and in what it differs"
    assert all(isinstance(one, str) for one in told.get("differs") or [])
    if told.get("run_here") is False:
        assert told["reason"]
        assert told.get("minutes") or any(word in told["reason"] for word in WORDS_OF_TIME), "the time it takes"
    else:
        assert told["expect"] and told["minutes"]
    assert all(line.strip() for line in notes.lines(told))


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.full
def test_variants_of_a_preset_compose(paper: str, composed) -> None:
    """Words beside which a value stands, where they are a command's: all but `other tables` and sweeps."""
    for preset in (name for name in PRESETS if name.startswith(f"{paper}/")):
        told = [value for value in note(preset).values() if isinstance(value, dict)]
        variants = {words for one in told for words in one if "=" in words and ("," not in words or "[" in words)}
        for words in sorted(variants):
            assert identity.key(composed(f"experiment={preset} {words}"))


@pytest.mark.full
def test_the_first_job_of_each_command_composes(composed) -> None:
    lines = [shlex.split(line) for preset in PRESETS for line in note(preset).get("commands") or []]
    assert len(lines) > 20 and {words[0] for words in lines} == {"maskbench"}
    for words in lines:
        if words[1] not in cli.COMMANDS:
            assert identity.key(composed(shlex.join(next(command_line.jobs(command_line.parse(words[1:]))))))
