"""A key changes with the question and with nothing else."""

from pathlib import Path

import pytest
from omegaconf import DictConfig

from maskbench.cli import command_line
from maskbench.common import identity


def config(*overrides: str) -> DictConfig:
    return command_line.parse(list(overrides)).compose(list(overrides))


def key(*overrides: str) -> str:
    return identity.key(config(*overrides))


@pytest.mark.sample(14)
@pytest.mark.parametrize(
    "elsewhere",
    [
        "logger=csv",
        "logger.project=mine",
        "paths.output=other",
        "paths.data=other",
        "loop.block=1",
        "loop.threads=2",
        "seed=7",
        "force=true",
        "stale=keep",
        "tags=[talk]",
        "notes=first",
        "trainer=ddp",
        "trainer.devices=4",
        "hydra.job.name=x",
        "method.about=words",
        "experiment=supsup/split_mnist",
    ],
)
def test_what_cannot_change_an_answer_leaves_the_key(elsewhere: str) -> None:
    assert key(elsewhere) == key()


@pytest.mark.parametrize(
    "knob",
    [
        "method.inference=[one_shot_G]",
        "optimizer.lr=0.5",
        "data=permutedmnist",
        "budget.steps=3",
        "trainer.precision=16",
        "trainer.memory_format=channels_last",
        "trainer=gpu",
        "trainer.accelerator=auto",
        "trainer.sync_batchnorm=true",
        "debug=fast",
    ],
)
def test_what_can_change_it_changes_the_key(knob: str) -> None:
    assert key(knob) != key()


def test_an_option_added_later_with_null_keeps_old_keys() -> None:
    assert key("+method.later=null", "+data.later={a: null}") == key()
    assert key("+method.later=0") != key()


def test_keys_of_the_cpu_are_what_they_always_were() -> None:
    assert key() == "66f821e207"
    assert key("method=packnet", "seed=3") == "c96e5e6c14"
    assert key("trainer.accelerator=cuda") == key("trainer=gpu")
    assert key("trainer.memory_format=contiguous") == key()


def test_a_number_has_one_spelling() -> None:
    assert key("optimizer.lr=1") == key("optimizer.lr=1.0")
    assert key("data=rotatedmnist", "data.degrees=10") == key("data=rotatedmnist")
    assert key("+method.flag=true") != key("+method.flag=1")


def test_the_key_is_ten_hex_digits_in_the_run_directory() -> None:
    cfg = config("seed=3")
    assert int(identity.key(cfg), 16) >= 0 and len(identity.key(cfg)) == 10
    assert identity.run_dir(cfg) == Path("outputs/supsup-splitmnist") / f"s3-{identity.key(cfg)}"
    assert Path(cfg.hydra.run.dir) == identity.run_dir(cfg)
    assert Path(cfg.hydra.sweep.dir) / cfg.hydra.sweep.subdir == identity.run_dir(cfg)


def test_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config().paths.data == identity.data_dir()
    monkeypatch.delenv("MASKBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert identity.data_dir() == "/somewhere/maskbench/data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert identity.data_dir() == str(Path.home() / ".cache/maskbench/data")


def test_the_config_folder_has_the_config() -> None:
    assert (identity.conf_dir() / "config.yaml").is_file()
