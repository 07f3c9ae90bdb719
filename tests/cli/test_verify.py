"""SHA-256 of what runs leave: one flipped bit in any file is found, and nothing that is read goes unchecked."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import maskbench
from maskbench.cli.commands import figure, verify
from maskbench.common import checksums
from maskbench.common.errors import UsageError
from maskbench.common.files import Damaged
from maskbench.report import runs as records
from maskbench.runs.record import Record
from maskbench.training import journal

WORDS = (
    "method=supsup", "data=splitmnist", "data.base=synthetic", "logger=csv", "backbone.widths=[16,8]", "budget.steps=4",
    "budget.batch_size=32", "task.trials=2", "task.probe=20",
)  # fmt: skip


def flip(path: Path, at: float = 0.5) -> bytes:
    """Turn one bit of a file; what it held before."""
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[int(at * (len(whole) - 1))] ^= 1
    path.write_bytes(changed)
    return whole


_outputs: list[Path] = []


@pytest.fixture
def run(program: Callable, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in the test's own folder: trained once, copied for each."""
    if not _outputs:
        process = program(*WORDS)
        process.join()
        assert process.exitcode == 0, (tmp_path / "stderr").read_text()
        kept = tmp_path_factory.mktemp("kept") / "outputs"
        shutil.move(tmp_path / "outputs", kept)
        _outputs.append(kept)
    shutil.copytree(_outputs[0], tmp_path / "outputs")
    (place,) = (tmp_path / "outputs").glob("*/s*")
    return place


def test_one_flipped_bit_in_any_file_is_found(
    run: Path, program: Callable, tmp_path: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    assert verify.main([]) == 0 and verify.main([str(run)]) == 0
    assert "1 run: 1 as written, 0 with faults" in capsys.readouterr().out
    names = [*checksums.recorded(run), checksums.NAME]
    wanted = {"run.json", "result.json", "metrics.csv", "weights.safetensors", "masks.safetensors", "state.json", "files.json"}
    assert (
        wanted <= set(names) and any(name.startswith("csv/") for name in names) and any(name.endswith(".png") for name in names)
    )
    for name in names:
        before = flip(run / name)
        assert verify.main(["outputs"]) == 1, name
        assert str(run.relative_to(tmp_path) / name) in capsys.readouterr().out
        (run / name).write_bytes(before)
    assert verify.main([]) == 0
    (drawn,) = list(run.glob("*.png"))[:1]
    flip(drawn)
    assert figure.main([str(run)]) == 0 and verify.main([]) == 0, "figures drawn anew are the run's"

    before = flip(run / "weights.safetensors")
    with pytest.raises(UsageError, match=r"weights\.safetensors is damaged"):
        maskbench.load(run)
    (run / "weights.safetensors").write_bytes(before)
    before = flip(run / "result.json")
    assert records.read(tmp_path / "outputs") == [] and "is skipped" in capsys.readouterr().err
    process = program(*WORDS, log="again")
    process.join()
    text = (tmp_path / "again").read_text()
    assert process.exitcode == 2 and "result.json is damaged" in text and "force=true" in text
    (run / "result.json").write_bytes(before)
    (run / "masks.safetensors").unlink()
    assert not records.load(run).sound("masks.safetensors") and "is skipped: is missing" in capsys.readouterr().err


def test_a_run_of_before_is_not_recorded(run: Path, capsys: pytest.CaptureFixture) -> None:
    (run / checksums.NAME).unlink()
    assert verify.main([str(run)]) == 0
    assert "1 not recorded" in capsys.readouterr().out
    assert records.load(run).status == "finished" and Record(run).result


def test_what_a_run_resumes_from_carries_its_own(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "out" / "m" / "s0"
    path = run / "state" / "checkpoint.pt"
    journal.write(path, {"place": torch.arange(100.0)})
    (run / "run.json").write_text("{}")
    assert verify.main(["out"]) == 0
    size = path.stat().st_size
    for at in range(0, size, 97):
        before = flip(path, at / (size - 1))
        with pytest.raises(UsageError, match=r"checkpoint\.pt is damaged"):
            journal.read(path)
        path.write_bytes(before)
    flip(path)
    assert verify.main(["out"]) == 1 and str(path.relative_to(tmp_path)) in capsys.readouterr().out
    path.write_bytes(before)
    torch.save({"place": torch.ones(2)}, path)
    assert torch.equal(journal.read(path)["place"], torch.ones(2)), "one of before has no such line"


def test_a_folder_without_runs_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run"):
        verify.main([str(tmp_path)])


def test_a_list_that_was_edited_is_damaged(run: Path) -> None:
    text = (run / checksums.NAME).read_text()
    (run / checksums.NAME).write_text(text.replace('"bytes": ', '"bytes": 1', 1))
    with pytest.raises(Damaged, match=r"files\.json"):
        checksums.recorded(run)
