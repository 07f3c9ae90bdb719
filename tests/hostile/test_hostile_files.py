"""Files of a stranger's run that are damaged, endless or lie about their size cost that run, or a part of it, and no command."""

import json
import os
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskbench import masks
from maskbench.common.errors import UsageError
from maskbench.report.runs import load

GB = 1 << 30


def container(head: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with this head, which may lie about its length."""
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def mask(weights: Any, size: int = 8, name: str = "0/a", **entry: Any) -> bytes:
    about = {"format": 1, "bitorder": "little", "shapes": {name: weights}}
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]} | entry
    return container({"__metadata__": {"masks": json.dumps(about)}, name: tensor}, b"\xff" * size)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


MASKS = {
    "a shape of 10^12 weights": mask([10**6, 10**6]),
    "a product beyond 64 bits": mask([2**40, 2**40]),
    "a product that wraps to the truth": mask([2**63, 2, 2**61 + 1]),
    "a negative side": mask([-8, -8]),
    "a side that is no number": mask(["8", 8]),
    "a side of true": mask([True, 64]),
    "a side of 1e3": mask([1e3]),
    "no list": mask({"8": 8}),
    "too many axes": mask([1] * 60 + [64]),
    "floats": mask([8, 8], dtype="F32", shape=[2]),
    "offsets beyond the end": mask([8, 8], data_offsets=[0, 1 << 40]),
    "offsets backwards": mask([8, 8], data_offsets=[8, 0]),
    "offsets that are no numbers": mask([8, 8], data_offsets=["0", None]),
    "a head of 2^63 bytes": container({}, length=1 << 63),
    "a head longer than the file": container({}, length=1000),
    "an empty file": b"",
    "three bytes": b"abc",
    "a head that is no JSON": container(b"{" * 100),
    "a head of lists": container(nested(100_000)),
    "shapes nested deeply": container({"__metadata__": {"masks": nested(100_000).decode()}, "0/a": {}}),
    "metadata that is a list": container({"__metadata__": [1], "0/a": {}}),
    "invalid UTF-8": container(b'{"\xff\xfe": 1}'),
    "a name twice": container(b'{"0/a": {"dtype":"U8","shape":[0],"data_offsets":[0,0]}, "0/a": {}}'),
    "a grid of names": container(
        {"__metadata__": {"masks": json.dumps({"shapes": {f"{n}/{n}": [0] for n in range(3000)}})}}
        | {f"{n}/{n}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in range(3000)}
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MASKS)
def test_masks_that_lie_are_left_out_and_named(case: str, foreign: Path, call: Callable, tmp_path: Path) -> None:
    """In memory that the file itself could need, and in both readers."""
    file = foreign / "masks.safetensors"
    file.write_bytes(MASKS[case])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, _, err = call("report")
    assert status == 0 and "masks.safetensors is left out" in err and "s0-k1" in err
    page = Path("outputs/report.html").read_text()
    assert "packnet-splitmnist/s1-k1" in page and "packnet-splitmnist/s0-k1" in page
    with pytest.raises(UsageError, match="no file of masks"):
        masks.load(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


def test_masks_of_ours_are_read_by_both(foreign: Path, call: Callable) -> None:
    assert call("report")[::2] == (0, "")
    assert masks.load(foreign / "masks.safetensors")["0/a"].all()


RECORDS = {
    "no JSON": b"{",
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "empty": b"",
    "null bytes": b"\0" * 4096,
    "invalid UTF-8": b'{"status": "\xff\xfe"}',
    "nested deeply": b'{"config": ' + nested(100_000) + b"}",
    "nested moderately": b'{"config": {"a": ' + nested(400) + b"}}",
    "a huge number": b'{"seed": ' + b"9" * 4000 + b"}",
    "a number of 10^6 digits": b'{"seed": ' + b"9" * 10**6 + b"}",
    "a line of 10 MB": b'{"key": "' + b"x" * 10_000_000 + b'"}',
    "a name of 1 MB": b'{"config": {"' + b"x" * 1_000_000 + b'": 1}}',
    "a method that is a list": b'{"config": {"method": [1]}}',
    "an attempt that is a number": b'{"attempts": [1]}',
    "a seed that is a mapping": b'{"seed": {"a": 1}}',
    "infinite costs": b'{"cost": {"cpu_seconds": Infinity}}',
    "a module that leads out": b'{"code": {"closure": "x", "modules": {"../../etc": "x"}}}',
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_run_json_that_is_none_costs_its_own_run(case: str, foreign: Path, survives: Callable, call: Callable) -> None:
    (foreign / "run.json").write_bytes(RECORDS[case])
    survives()
    status, out, err = call("results")
    assert "s0-k1 is skipped: run.json" in err and status == 0


RESULTS = {
    "metrics that are a list": b'{"status": "finished", "metrics": [1, 2]}',
    "a metric that is a word": b'{"status": "finished", "metrics": {"average_accuracy": "high"}}',
    "a metric whose square overflows": b'{"status": "finished", "metrics": {"average_accuracy": 1e300}}',
    "an objective that is a mapping": b'{"status": "finished", "objective": {"a": 1}}',
    "a table of numbers": b'{"status": "finished", "table": [1, 2]}',
    "notes that are a word": b'{"status": "finished", "notes": "a note"}',
    "a task that is a number": b'{"status": "finished", "task": 7}',
    "nested deeply": b'{"status": "finished", "matrices": ' + nested(100_000) + b"}",
}


@pytest.mark.parametrize("case", RESULTS)
def test_a_result_json_that_is_none_costs_its_own_run(case: str, foreign: Path, survives: Callable, call: Callable) -> None:
    (foreign / "result.json").write_bytes(RESULTS[case])
    survives()
    assert "s0-k1 is skipped: result.json" in call("results")[2]


def test_nan_and_infinities_are_what_diverged(foreign: Path, survives: Callable) -> None:
    result = json.loads((foreign / "result.json").read_text())
    result["metrics"] |= {"average_accuracy": float("nan"), "forgetting": float("inf"), "accuracy/a/0.5": -float("inf")}
    result["matrices"] = {"accuracy": [[float("nan")] * 2] * 2}
    (foreign / "result.json").write_text(json.dumps(result))
    assert "packnet-splitmnist/s0-k1" in survives()


HISTORIES = {
    "a line of 10 MB": b"h\n" + b"x" * 10_000_000 + b",train,1,loss,0.5\n",
    "null bytes": b"h\n\0,\0,\0,\0,\0\n",
    "invalid UTF-8": b"h\n\xff,train,1,\xfe,0.5\n",
    "huge steps": b"h\n0,train," + b"9" * 4000 + b",loss,0.5\n0,train,2,loss,1e999\n0,train,3,loss,nan\n",
    "no rows": b"",
    "markup": b"h\n<script>,train,1,<b>,0.5\n<script>,train,2,<b>,0.5\n",
}
CURVES = {
    "a mapping": {"kind": "members"},
    "rows of numbers": [1, 2],
    "no place": [{"kind": "members", "nll": 0.1}] * 3,
    "places of every kind": [{"kind": "members", "members": x, "nll": 1} for x in (1, "2", None, [3], {"a": 1}, True)],
    "values of every kind": [
        {"kind": "members", "members": n, "nll": v} for n, v in enumerate(("a", [1], {}, None, 1e300, True))
    ],
    "a series named by a list": [{"kind": "confidence", "threshold": n, "accuracy": 1, "data": [1]} for n in range(3)],
}


@pytest.mark.parametrize("case", HISTORIES)
def test_a_history_of_a_stranger(case: str, foreign: Path, survives: Callable) -> None:
    (foreign / "metrics.csv").write_bytes(HISTORIES[case])
    assert "packnet-splitmnist/s0-k1" in survives()


@pytest.mark.parametrize("case", CURVES)
def test_curves_of_a_stranger(case: str, foreign: Path, survives: Callable) -> None:
    (foreign / "curves.json").write_text(json.dumps(CURVES[case]))
    assert "packnet-splitmnist/s0-k1" in survives()


@pytest.mark.parametrize("case", ["a mapping", "rows of numbers"])
def test_curves_that_are_none_are_told_by_the_page_and_by_figures_alike(case: str, foreign: Path, call: Callable) -> None:
    (foreign / "curves.json").write_text(json.dumps(CURVES[case]))
    reason = "is damaged: it is no list of rows"
    assert f"s0-k1/curves.json is skipped: {reason}" in call("report")[2]
    status, _, err = call("figure", foreign)
    assert status == 2 and f"curves.json {reason}" in err and err.count("\n") == 1


@pytest.mark.sample(1)
@pytest.mark.parametrize("words", [("outputs",), ("outputs/*/*",)])
def test_figures_of_a_folder_say_which_runs_are_left_out(words: tuple[str, ...], foreign: Path, call: Callable) -> None:
    status, _, err = call("figure", *words)
    assert (status, err) == (0, "")
    (foreign / "result.json").unlink()
    (foreign / "result.json").mkdir()
    status, _, err = call("figure", *words)
    assert status == 0 and "s0-k1 is skipped: it is unreadable; maskbench show" in err and err.count("skipped") == 1


def test_a_history_that_cannot_be_read_is_told(foreign: Path, call: Callable) -> None:
    (foreign / "metrics.csv").unlink()
    assert call("report")[2] == "", "one that is not there is no fault"
    (foreign / "metrics.csv").mkdir()
    assert "s0-k1/metrics.csv is skipped: cannot be read (no regular file)" in call("report")[2]


def test_a_patch_that_cannot_be_read_is_not_taken_for_none(good: Path, foreign: Path) -> None:
    about = json.loads((foreign / "run.json").read_text()) | {"code": None, "attempts": []}
    for run in (good, foreign):
        (run / "run.json").write_text(json.dumps(about))
    assert load(good).codes == load(foreign).codes
    (foreign / "uncommitted.patch").mkdir()
    assert load(good).codes != load(foreign).codes


FILES = ("run.json", "result.json", "metrics.csv", "curves.json", "masks.safetensors", "uncommitted.patch", ".lock")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["endless", "pipe", "folder", "loop", "nowhere"])
def test_what_is_no_file_is_not_opened(kind: str, name: str, foreign: Path, survives: Callable, call: Callable) -> None:
    """A pipe that nobody writes would be waited for, a device that never ends read until memory is gone."""
    path = foreign / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"endless": "/dev/zero", "loop": name, "nowhere": "gone"}[kind])
    if name == "run.json" and kind != "endless":
        (foreign / "result.json").unlink()
    for words in (["results"], ["report"]):
        status, out, err = call(*words)
        assert status == 0 and "Traceback" not in out + err, err
    assert "packnet-splitmnist/s1-k1" in Path("outputs/report.html").read_text()


def test_a_file_of_a_terabyte_without_content(foreign: Path, survives: Callable) -> None:
    for name in ("result.json", "masks.safetensors", "metrics.csv", "curves.json"):
        os.truncate(foreign / name, 1 << 40)
    survives()


def test_a_wandb_file_of_a_stranger(foreign: Path, call: Callable) -> None:
    folder = foreign / "wandb" / "offline-run-1"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "run-1.wandb")
    assert call("show", foreign)[0] == 0
