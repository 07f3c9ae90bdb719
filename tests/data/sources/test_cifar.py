"""CIFAR: the files torchvision unpacks, its archive and its download, and images that are cropped and mirrored."""

import io
import pickle
import tarfile
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from maskbench.common.errors import UsageError
from maskbench.data.images import whole_sets as images
from maskbench.data.images.augment import CropFlip
from maskbench.data.images.split import split
from maskbench.data.images.whole_sets import load, whole
from maskbench.data.sources import cifar, sets
from maskbench.data.sources import clients as programs
from maskbench.data.sources import find as sources
from maskbench.data.sources import folder as disk

ROWS = 20  # images in each file
LABELS = {"cifar10": (b"labels", 10), "cifar100": (b"fine_labels", 100)}


def python2(x: np.ndarray, y: list[int], key: bytes) -> bytes:
    """{"data": x, key: y} as Python 2 pickled it: its strings, and numpy's old module name."""

    def text(s: bytes) -> bytes:
        return b"U" + bytes([len(s)]) + s if len(s) < 256 else b"T" + len(s).to_bytes(4, "little") + s

    def number(n: int) -> bytes:
        return b"J" + n.to_bytes(4, "little", signed=True)

    kind = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
    kind += b"(K\x03" + text(b"|") + b"NNN" + 2 * number(-1) + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    array += b"(K\x01" + b"".join(map(number, x.shape)) + b"\x86" + kind + b"\x89" + text(x.tobytes()) + b"tb"
    labels = b"](" + b"".join(map(number, y)) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(key) + labels + b"u."


def small(name: str) -> dict[str, bytes]:
    """The files of a data set of ROWS images each."""
    draw, (key, classes) = np.random.RandomState(0), LABELS[name]
    return {
        file: python2(draw.randint(0, 256, (ROWS, 3072)).astype(np.uint8), draw.randint(0, classes, ROWS).tolist(), key)
        for file in sets.SETS[name].md5
    }


@pytest.fixture(params=LABELS)
def known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[sets.Spec, dict[str, bytes]]:
    """One of the sets, small, with checksums to match; no network."""
    spec, files = sets.SETS[request.param], small(request.param)
    spec = replace(spec, md5={file: disk.md5(content) for file, content in files.items()})
    monkeypatch.setitem(sets.SETS, request.param, spec)
    monkeypatch.setattr(sources, "torchvision", unavailable)
    images._load.cache_clear()
    yield spec, files
    images._load.cache_clear()


def unavailable(*_: object) -> Path:
    raise programs.Unavailable("no answer from its servers")


def place(root: Path, spec: sets.Spec, files: dict[str, bytes]) -> Path:
    spec.raw(root).mkdir(parents=True)
    for file, content in files.items():
        (spec.raw(root) / file).write_bytes(content)
    return spec.raw(root)


def pack(path: Path, spec: sets.Spec, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for file, content in {"readme.html": b"hello", **files}.items():
            member = tarfile.TarInfo(f"{spec.place}/{file}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


# ---- files


def test_checksums_are_torchvisions():
    from torchvision import datasets

    for name in LABELS:
        spec = sets.SETS[name]
        theirs = getattr(datasets, spec.dataset)
        assert spec.md5 == dict(theirs.train_list + theirs.test_list)
        assert (spec.place, spec.archive) == (theirs.base_folder, theirs.filename)


def test_images_and_labels_are_what_torchvision_reads(tmp_path, known, monkeypatch):
    from torchvision import datasets

    spec, files = known
    base = getattr(datasets, spec.dataset)
    meta = pickle.dumps({base.meta["key"]: [str(i) for i in range(LABELS[spec.name][1])]})
    (place(tmp_path, spec, files) / base.meta["filename"]).write_bytes(meta)
    monkeypatch.setattr(base, "train_list", [[f, m] for f, m in spec.md5.items() if "test" not in f])
    monkeypatch.setattr(base, "test_list", [[f, m] for f, m in spec.md5.items() if "test" in f])
    monkeypatch.setattr(base, "meta", base.meta | {"md5": disk.md5(meta)})
    raw, origin = sources.find(spec.name, tmp_path, "folder")
    assert origin.source == "folder" and origin.checksums == spec.md5
    for train, x, y in ((True, raw.train_x, raw.train_y), (False, raw.test_x, raw.test_y)):
        theirs = base(tmp_path, train=train)
        assert x.dtype == y.dtype == np.uint8 and np.array_equal(x.transpose(0, 2, 3, 1), theirs.data)
        assert y.tolist() == theirs.targets


def test_an_archive_in_the_folder_is_as_good(tmp_path, known):
    spec, files = known
    pack(tmp_path / spec.archive, spec, files)
    raw, origin = sources.find(spec.name, tmp_path, "folder")
    assert len(raw.test_x) == ROWS and origin.source == "folder"
    assert {path.name for path in tmp_path.iterdir()} == {spec.archive}  # nothing was written
    (row,) = [row for row in sources.status(tmp_path) if row["name"] == spec.name]
    assert row["present"] and row["damaged"] == []


def test_the_archive_stands_in_for_a_damaged_file(tmp_path, known):
    spec, files = known
    folder = place(tmp_path, spec, files)
    last = list(files)[-1]
    (folder / last).write_bytes(b"short")
    with pytest.raises(UsageError, match="damaged"):
        sources.find(spec.name, tmp_path, "folder")
    pack(tmp_path / spec.archive, spec, {last: files[last]})
    assert len(sources.find(spec.name, tmp_path, "folder")[0].test_x) == ROWS


@pytest.mark.parametrize("damage", [lambda b: b[:300], lambda b: b"<html>", lambda b: b""])
def test_a_damaged_archive_is_named(tmp_path, known, damage):
    spec, files = known
    pack(tmp_path / spec.archive, spec, files)
    (tmp_path / spec.archive).write_bytes(damage((tmp_path / spec.archive).read_bytes()))
    with pytest.raises(UsageError, match=f"{spec.archive} is damaged"):
        sources.find(spec.name, tmp_path, "folder")


def test_without_files_or_network_one_sentence_says_what_to_put_where(tmp_path, known):
    spec, files = known
    with pytest.raises(UsageError) as error:
        whole(base=spec.name, val=1, normalize="standard", source="auto", root=tmp_path, seed=0)
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and ". " not in text
    for word in (spec.title, str(spec.raw(tmp_path)), *files, spec.archive, "torchvision: no answer", "paths.data="):
        assert word in text


def test_no_package_has_it(tmp_path, known):
    with pytest.raises(UsageError, match="has no package: take data.source=auto, folder or torchvision"):
        sources.find(known[0].name, tmp_path, "package")


def test_a_file_that_would_run_something_is_refused():
    class Trick:
        def __reduce__(self):
            return exec, ("raise SystemExit",)

    with pytest.raises(pickle.UnpicklingError, match="no place"):
        cifar.images({"test": pickle.dumps({"data": Trick()})}, ["test"], "labels")


@pytest.fixture
def server(tmp_path, known, monkeypatch):
    """torchvision's download comes from this machine; yields the path of the archive that is served."""
    from torchvision import datasets

    spec, files = known
    base = getattr(datasets, spec.dataset)
    served = tmp_path / "served"
    served.mkdir()
    meta = pickle.dumps({base.meta["key"]: ["a"]})
    pack(served / spec.archive, spec, {**files, base.meta["filename"]: meta})

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None: ...  # a client that hangs up early is no word of ours

    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, "127.0.0.1")
    monkeypatch.setattr(base, "tgz_md5", disk.md5((served / spec.archive).read_bytes()))
    monkeypatch.setattr(base, "train_list", [[f, m] for f, m in spec.md5.items() if "test" not in f])
    monkeypatch.setattr(base, "test_list", [[f, m] for f, m in spec.md5.items() if "test" in f])
    monkeypatch.setattr(base, "meta", base.meta | {"md5": disk.md5(meta)})
    with Server(("127.0.0.1", 0), partial(Quiet, directory=served)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        monkeypatch.setattr(base, "url", f"http://127.0.0.1:{http.server_port}/{spec.archive}")
        yield served / spec.archive
        http.shutdown()


REAL = sources.torchvision


def test_torchvision_downloads_in_silence(tmp_path, known, server, monkeypatch, capfd):
    monkeypatch.setattr(sources, "torchvision", REAL)
    spec, files = known
    raw, origin = sources.find(spec.name, tmp_path / "data", "torchvision")
    assert origin.source == "torchvision" and len(raw.test_x) == ROWS
    assert capfd.readouterr() == ("", "")
    assert {path.name for path in spec.raw(tmp_path / "data").iterdir()} == {*files, "SOURCE.json"}
    server.unlink()
    assert sources.find(spec.name, tmp_path / "data")[1].source == "torchvision"  # from the folder now


def test_a_server_without_the_file_is_a_reason(tmp_path, known, server, monkeypatch):
    monkeypatch.setattr(sources, "torchvision", REAL)
    server.unlink()
    with pytest.raises(UsageError, match="torchvision: no answer from its servers"):
        sources.find(known[0].name, tmp_path / "data")


# ---- stages


def test_pixels_are_normalised_by_channel(tmp_path, known):
    spec, files = known
    place(tmp_path, spec, files)
    loaded = load(spec.name, tmp_path)
    raw = torch.from_numpy(sources.find(spec.name, tmp_path)[0].train_x)
    for channel, (mean, deviation) in enumerate(zip(*images.STANDARD[spec.name], strict=True)):
        expected = (raw[:, channel].double() / 255 - mean) / deviation
        torch.testing.assert_close(loaded.train_x[:, channel].double(), expected, rtol=1e-5, atol=1e-6)
        assert loaded.blacks[channel] == pytest.approx(-mean / deviation)
    assert (loaded.classes, loaded.shape) == (LABELS[spec.name][1], (3, 32, 32))


@pytest.mark.parametrize("base", ["synthetic_cifar10", "synthetic_cifar100"])
def test_made_up_images_are_standard_too(base):
    loaded = load(base, "nowhere")
    assert loaded.train_x.shape == (2000, 3, 32, 32) and loaded.train_y.unique().numel() == loaded.classes
    assert loaded.train_x.mean((0, 2, 3)).abs().max() < 1e-3 and (loaded.train_x.std((0, 2, 3)) - 1).abs().max() < 1e-3


def build(**changes):
    keys = {"base": "synthetic_cifar100", "stages": 20, "labels": "shifted", "order": "random", "val": 200, "seed": 0}
    keys |= {"augment": True, "normalize": "standard", "source": "auto", "root": "nowhere"}
    return split(**keys | changes)


def test_split_cifar100_deals_every_class_once_by_the_seed():
    made = build()
    assert [len(stage.classes) for stage in made] == [5] * 20 and {stage.outputs for stage in made} == {5}
    assert sorted(c for stage in made for c in stage.classes) == list(range(100))
    assert [stage.classes for stage in made] == [stage.classes for stage in build()]
    assert [stage.classes for stage in made] != [stage.classes for stage in build(seed=1)]
    assert sum(len(stage.val) for stage in made) == 200
    assert sum(len(stage.train) for stage in made) == 1800 and sum(len(stage.test) for stage in made) == 500
    everything = load("synthetic_cifar100", "nowhere")
    for stage in made:
        assert torch.equal(torch.tensor(stage.classes)[stage.train.y], everything.train_y[stage.train.rows])
    assert build(labels="kept")[0].outputs == 100
    with pytest.raises(UsageError, match="1, 2, 4, 5, 10, 20, 25, 50 or 100"):
        build(stages=30)


def test_a_colour_set_can_be_permuted_but_not_rotated():
    from maskbench.data.images.permuted import permuted
    from maskbench.data.images.rotated import rotated

    keys = {"base": "synthetic_cifar10", "val": 10, "normalize": "standard", "source": "auto", "root": "nowhere"}
    keys["seed"] = 0
    (stage,) = permuted(stages=1, legacy=False, **keys)
    assert sorted(stage.train.view.order.tolist()) == list(range(3 * 32 * 32))
    assert stage.test.tensors(first=3)[0].shape == (3, 3, 32, 32)
    with pytest.raises(UsageError, match="in colour"):
        rotated(stages=2, degrees=10.0, **keys)


# ---- augmentation


def test_a_batch_is_cropped_and_mirrored_as_torchvision_does_image_by_image():
    x, black = torch.randn(64, 3, 9, 7), (-1.0, 0.25, 2.0)
    torch.manual_seed(5)
    changed = CropFlip(2, black)(x)
    torch.manual_seed(5)
    down, along = torch.randint(0, 5, (2, 64, 1)).flatten(1).tolist()
    mirrored = (torch.rand(64, 1) < 0.5).flatten().tolist()
    for i, image in enumerate(x):
        padded = torch.stack([tv.pad(channel[None], [2], fill=b)[0] for channel, b in zip(image, black, strict=True)])
        crop = tv.crop(padded, down[i], along[i], 9, 7)
        assert torch.equal(changed[i], tv.hflip(crop) if mirrored[i] else crop)
    assert {*down} == {*along} == set(range(5)) and {*mirrored} == {True, False}


def test_the_generator_decides_and_the_input_stays():
    augment, x = CropFlip(4, (0.0,)), torch.randn(30, 1, 28, 28)
    before, results = x.clone(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(augment(x))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
    assert torch.equal(x, before)


def test_only_what_trains_is_augmented():
    stage, plain = build()[3], build(augment=False)[3]
    index = torch.arange(20)
    for split_ in (stage.train, stage.val, stage.test):
        (x, _), (picked, _) = split_.tensors(), split_.pick(index[: len(split_)])
        assert torch.equal(x[: len(picked)], picked)
        parts = list(split_.batches(7, first=20))
        assert torch.equal(torch.cat([part for part, _ in parts]), x[:20]) and max(len(y) for _, y in parts) <= 7
    torch.manual_seed(0)
    changed = stage.train.feed().take(index)
    assert not torch.equal(changed[0], plain.train.feed().take(index)[0])
    assert torch.equal(changed[1], plain.train.y[index])
    assert torch.equal(stage.val.feed().take(index[:2])[0], stage.val.tensors(first=2)[0])
    assert stage.fingerprint != plain.fingerprint
