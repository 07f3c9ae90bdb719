"""The .wandb reader: a torn or damaged file gives what is whole in it, in order, and never an error."""

import random
import struct
import zlib
from importlib.util import find_spec
from pathlib import Path

import pytest

from maskbench.report import wandb_file
from maskbench.report.wandb_file import WandbRun
from maskbench.runs.loggers import wandb_logger

pytestmark = pytest.mark.skipif(find_spec("wandb") is None, reason="wandb, which writes the files, is not installed")
ROWS = 400


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a real offline run: several blocks long, with one message that spans blocks."""
    folder = tmp_path_factory.mktemp("run")
    config = {"text": "x" * 70_000}
    logger = wandb_logger(run_dir=folder, run_id="long", project="maskbench", mode="offline", config=config)
    for step in range(ROWS):
        logger.log({"loss": float(step)}, step)
    logger.finish(0)
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    assert path.stat().st_size > 3 * wandb_file.BLOCK
    return path


def copy(tmp_path: Path, data: bytes, name: str = "offline-run-20200101_000000-long") -> Path:
    path = tmp_path / "wandb" / name / "run-long.wandb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return tmp_path


def test_messages_may_span_blocks(written: Path, tmp_path: Path) -> None:
    found = wandb_file.read(copy(tmp_path, written.read_bytes()))
    assert found.config == {"text": "x" * 70_000}
    assert found.history == [{"loss": float(step), "step": step} for step in range(ROWS)]
    assert found.exit_code == 0


def test_a_torn_tail_yields_a_prefix(written: Path, tmp_path: Path) -> None:
    data = written.read_bytes()
    whole = list(wandb_file.messages(data))
    history = [{"loss": float(step), "step": step} for step in range(ROWS)]
    counts = []
    for cut in range(len(data) - 2800, len(data), 7):
        left = list(wandb_file.messages(data[:cut]))
        assert left == whole[: len(left)] and len(left) < len(whole)
    for cut in range(len(data) - 1400, len(data), 70):
        found = wandb_file.read(copy(tmp_path, data[:cut]))
        assert found.history == history[: len(found.history)]
        assert found.exit_code is None
        counts.append(len(found.history))
    assert counts == sorted(counts) and counts[0] < ROWS


def test_a_torn_head_is_no_run(written: Path, tmp_path: Path) -> None:
    data = written.read_bytes()
    for cut in (0, 3, 7, 10, 60, 100, wandb_file.BLOCK, 2 * wandb_file.BLOCK):
        assert wandb_file.read(copy(tmp_path, data[:cut])) is None
    assert wandb_file.read(tmp_path / "nowhere") is None


def test_damage_costs_its_block_and_no_more(written: Path, tmp_path: Path) -> None:
    data = bytearray(written.read_bytes())
    at = 3 * wandb_file.BLOCK + wandb_file.BLOCK // 2  # history, past the long config
    data[at] ^= 0xFF
    found = wandb_file.read(copy(tmp_path, bytes(data)))
    steps = [row["step"] for row in found.history]
    assert steps == sorted(set(steps)) and set(steps) < set(range(ROWS))
    assert all(row["loss"] == row["step"] for row in found.history)
    assert steps[-1] == ROWS - 1 and found.exit_code == 0


def test_noise_is_never_an_error(written: Path, tmp_path: Path) -> None:
    data, noise = written.read_bytes(), random.Random(0)
    for _ in range(20):
        broken = bytearray(data)
        for _ in range(5):  # past the long config, so that the run keeps its name
            broken[noise.randrange(3 * wandb_file.BLOCK, len(data))] = noise.randrange(256)
        found = wandb_file.read(copy(tmp_path, bytes(broken)))
        assert found.id == "long" and all(row["loss"] == row["step"] for row in found.history)
        broken[noise.randrange(100, 200)] ^= 1
        assert wandb_file.read(copy(tmp_path, bytes(broken))) is None
    assert list(wandb_file.messages(b":W&B" + noise.randbytes(100_000))) == []
    assert list(wandb_file.messages(noise.randbytes(1000))) == []


def test_a_message_that_is_no_record_is_passed_over(tmp_path: Path) -> None:
    body = b"\xff\xff\xff"
    chunk = struct.pack("<IHB", zlib.crc32(b"\x01" + body), len(body), 1) + body
    assert list(wandb_file.messages(b":W&B\xe1\xbe\x00" + chunk)) == [body]
    assert wandb_file.read(copy(tmp_path, b":W&B\xe1\xbe\x00" + chunk)) is None


def test_the_newest_run_is_read_and_empty_attempts_are_not_counted(written: Path, tmp_path: Path) -> None:
    copy(tmp_path, written.read_bytes())
    copy(tmp_path, written.read_bytes()[:7], "offline-run-20200101_000001-long")
    assert wandb_file.read(tmp_path).attempts == 1
    logger = wandb_logger(run_dir=tmp_path, run_id="newer", project="maskbench", mode="offline")
    logger.finish(0)
    assert (wandb_file.read(tmp_path).id, wandb_file.read(tmp_path).attempts) == ("newer", 1)


def test_merge_goes_by_time_and_lets_redone_steps_win() -> None:
    late = WandbRun("a", started=2.0, history=[{"step": 2, "x": 2}], summary={"x": 2}, exit_code=0)
    early = WandbRun("a", started=1.0, history=[{"step": s, "x": 1} for s in (1, 2, 3)], summary={"x": 1, "y": 1})
    last = WandbRun("a", started=3.0, summary={"z": 3}, exit_code=1)
    merged = wandb_file.merge([late, last, early])
    assert merged.history == [{"step": 1, "x": 1}, {"step": 2, "x": 2}]
    assert merged.summary == {"x": 2, "y": 1, "z": 3}
    assert (merged.attempts, merged.started, merged.exit_code) == (3, 1.0, 1)
    assert early.history[-1]["step"] == 3  # what was given is left alone
