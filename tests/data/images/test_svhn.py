"""SVHN: MATLAB's files as torchvision lays them out, its download, and its images as unknown classes."""

import io
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from scipy.io import savemat

from maskbench.data.images import ood
from maskbench.data.images import whole_sets as images
from maskbench.data.images.whole_sets import whole
from maskbench.data.sources import find as sources
from maskbench.data.sources import folder as disk
from maskbench.data.sources import sets

ROWS = {"train_32x32.mat": 40, "test_32x32.mat": 20}


@pytest.fixture
def files(monkeypatch) -> dict[str, bytes]:
    """Small files, with checksums to match."""
    draw, made = np.random.RandomState(0), {}
    for file, n in ROWS.items():
        buffer = io.BytesIO()
        x, y = draw.randint(0, 256, (32, 32, 3, n)).astype(np.uint8), draw.randint(1, 11, (n, 1)).astype(np.uint8)
        savemat(buffer, {"X": x, "y": y}, do_compression=True)
        made[file] = buffer.getvalue()
    md5 = {file: disk.md5(content) for file, content in made.items()}
    monkeypatch.setitem(sets.SETS, "svhn", replace(sets.SETS["svhn"], md5=md5))
    images._load.cache_clear()
    yield made
    images._load.cache_clear()


def place(root, files):
    (root / "SVHN").mkdir(parents=True)
    for file, content in files.items():
        (root / "SVHN" / file).write_bytes(content)


def test_checksums_are_torchvisions():
    from torchvision.datasets import SVHN

    assert sets.SETS["svhn"].md5 == {SVHN.split_list[part][1]: SVHN.split_list[part][2] for part in ("train", "test")}


def test_images_and_labels_are_what_torchvision_reads(tmp_path, files, monkeypatch):
    from torchvision.datasets import SVHN

    place(tmp_path, files)
    raw, origin = sources.find("svhn", tmp_path, "folder")
    assert origin.source == "folder" and raw.train_x.shape == (40, 3, 32, 32)
    for part, x, y in (("train", raw.train_x, raw.train_y), ("test", raw.test_x, raw.test_y)):
        url, file, _ = SVHN.split_list[part]
        monkeypatch.setitem(SVHN.split_list, part, [url, file, disk.md5(files[file])])
        theirs = SVHN(tmp_path / "SVHN", split=part)
        assert np.array_equal(x, theirs.data) and np.array_equal(y, theirs.labels) and y.dtype == np.uint8
    (stage,) = whole(base="svhn", val=8, normalize="standard", source="folder", root=tmp_path, seed=0)
    assert (len(stage.train), len(stage.val), len(stage.test), stage.outputs) == (32, 8, 20, 10)


def test_torchvisions_download(tmp_path, files, monkeypatch, capfd):
    from torchvision.datasets import SVHN

    served = tmp_path / "served"
    served.mkdir()
    for file, content in files.items():
        (served / file).write_bytes(content)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None: ...  # a client that hangs up is none of what is tested here

    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, "127.0.0.1")
    with Server(("127.0.0.1", 0), partial(Quiet, directory=served)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for part, file in (("train", "train_32x32.mat"), ("test", "test_32x32.mat")):
            url = f"http://127.0.0.1:{server.server_port}/{file}"
            monkeypatch.setitem(SVHN.split_list, part, [url, file, disk.md5(files[file])])
        raw, origin = sources.find("svhn", tmp_path / "data", "torchvision")
        server.shutdown()
    assert origin.source == "torchvision" and len(raw.test_x) == 20 and capfd.readouterr() == ("", "")
    assert {path.name for path in (tmp_path / "data/SVHN").iterdir()} == {*files, "SOURCE.json"}


def test_svhn_is_unknown_to_colour_images(tmp_path, files):
    place(tmp_path, files)
    (stage,) = whole(base="synthetic_cifar10", val=100, normalize="standard", source="auto", root=tmp_path, seed=0, ood=["svhn"])
    x, y = stage.ood["svhn"].tensors()
    assert x.shape == (20, 3, 32, 32) and set(y.tolist()) == {ood.UNKNOWN}
