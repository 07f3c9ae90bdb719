"""Copies of CIFAR and SVHN by class and as npz: what fits is canonical, what differs is refused, what lost is marked."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskbench.cli.commands import data as command
from maskbench.common.errors import UsageError
from maskbench.data.images import whole_sets
from maskbench.data.images.pairs import pair
from maskbench.data.images.whole_sets import whole
from maskbench.data.sources import clients as programs
from maskbench.data.sources import content, copies, kept, known_copies, sets
from maskbench.data.sources import find as sources

CLASSES = ("bird", "cat", "frog")
EACH = {"train": 6, "test": 3}  # images of a class
Parts = dict[str, tuple[np.ndarray, np.ndarray]]


def drawn(seed: int = 0) -> Parts:
    """x [rows, 32, 32, 3] and y [rows] of each part, in no order; two images of a class are the same, as in CIFAR-100."""
    draw, parts = np.random.RandomState(seed), {}
    for part, each in EACH.items():
        y = draw.permutation(np.arange(3 * each) % 3).astype(np.uint8)
        x = draw.randint(0, 256, (len(y), 32, 32, 3)).astype(np.uint8)
        first, second = np.flatnonzero(y == 0)[:2]
        x[second] = x[first]
        parts[part] = x, y
    return parts


def facts_of(parts: Parts, file: Path) -> content.Facts:
    """What is known of the set that these images are."""
    hashed = {part: content.digests(part, CLASSES, x, y) for part, (x, y) in parts.items()}
    file.write_bytes(content.packed(hashed.values()))
    return content.Facts(
        title="CIFAR-10", classes=CLASSES, counts={part: (each,) * 3 for part, each in EACH.items()},
        places=("cifar10", "CIFAR-10"), content={part: content.content(own) for part, own in hashed.items()}, hashes=file,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def parts(tmp_path_factory, monkeypatch) -> Parts:
    """CIFAR-10 is a small set, and nothing is downloaded."""
    made = drawn()
    facts = facts_of(made, tmp_path_factory.mktemp("facts") / "small.hashes")
    monkeypatch.setitem(sets.SETS, "cifar10", replace(sets.SETS["cifar10"], copies=facts))

    def unavailable(*_: object) -> Path:
        raise programs.Unavailable("no answer from its servers")

    monkeypatch.setattr(sources, "torchvision", unavailable)
    whole_sets._load.cache_clear()
    yield made
    whole_sets._load.cache_clear()


def by_class(folder: Path, parts: Parts, kind: str = "png", names: tuple[str, ...] = CLASSES) -> Path:
    for part, (x, y) in parts.items():
        for row, (image, label) in enumerate(zip(x, y, strict=True)):
            path = folder / part / names[label] / f"{row:05d}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, format="JPEG" if kind.startswith("jp") else None)
    return folder


def as_npz(folder: Path, parts: Parts, **more: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, (x, y) in parts.items():
        np.savez(folder / f"{part}.npz", x=x, y=y, **more)
    return folder


def refused(root: Path) -> str:
    with pytest.raises(UsageError) as error:
        sources.find("cifar10", root)
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and ". " not in text
    return text


def same(one: sets.Raw, other: sets.Raw) -> bool:
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))


# ---- what fits


def test_every_container_and_order_gives_the_same_bits(tmp_path, parts):
    shuffled = {part: (x[::-1], y[::-1]) for part, (x, y) in parts.items()}
    renamed = {part: (x, (y + 1) % 3) for part, (x, y) in parts.items()}
    rolled = np.roll(CLASSES, 1).tolist()
    rolled_parts = {part: (x, y) for part, (x, y) in renamed.items()}
    whole_file = {f"{a}_{part}": array for part, pair_ in parts.items() for a, array in zip("xy", pair_, strict=True)}
    by_class(tmp_path / "a/cifar10", parts)
    by_class(tmp_path / "b/CIFAR-10", shuffled, "bmp", ("Bird", "01", "frog"))
    by_class(tmp_path / "c", parts)  # the data folder itself
    as_npz(tmp_path / "d/cifar10", shuffled)
    as_npz(tmp_path / "e/cifar10", rolled_parts, classes=np.array(rolled))
    (tmp_path / "f").mkdir()
    np.savez_compressed(tmp_path / "f/cifar10.npz", **whole_file | {"y_train": whole_file["y_train"][:, None]})
    found = {place: sources.find("cifar10", tmp_path / place) for place in "abcdef"}
    raw, origin = found["a"]
    assert (
        raw.train_x.shape == (18, 3, 32, 32) and raw.train_x.flags.c_contiguous and np.all(np.diff(raw.train_y.astype(int)) >= 0)
    )
    for theirs, where in found.values():
        assert same(raw, theirs) and where.checksums == origin.checksums
        assert where.source == "copy, canonical" and where.facts["order"] == "sorted by class and hash"
    assert {where.facts["container"] for _, where in found.values()} == {"images by class", "npz"}


def test_the_images_are_those_that_were_written_under_their_labels(tmp_path, parts):
    by_class(tmp_path / "cifar10", parts)
    raw, _ = sources.find("cifar10", tmp_path)
    for part, x, y in (("train", raw.train_x, raw.train_y), ("test", raw.test_x, raw.test_y)):
        written = sorted((label, image.tobytes()) for image, label in zip(*parts[part], strict=True))
        assert written == sorted((label, image.transpose(1, 2, 0).tobytes()) for image, label in zip(x, y, strict=True))


def test_two_containers_are_one_data_set_to_a_run(tmp_path, parts):
    by_class(tmp_path / "a/cifar10", parts)
    as_npz(tmp_path / "b/cifar10", parts)
    keys = {"base": "cifar10", "val": 2, "normalize": "standard", "source": "auto", "seed": 0}
    (one,), (other,) = (whole(root=tmp_path / place, **keys) for place in "ab")
    assert one.fingerprint == other.fingerprint


def test_facts_of_the_published_sets_agree_with_each_other():
    for facts in (known_copies.CIFAR10, known_copies.CIFAR100):
        numbers = facts.known()
        assert len(numbers) == facts.images == 60_000 and np.all(np.diff(numbers) >= 0)
        assert set(facts.content) == set(facts.counts) and {len(sum_) for sum_ in facts.content.values()} == {64}
    assert [sum(own) for own in known_copies.SVHN.counts.values()] == [73_257, 26_032]
    assert known_copies.SVHN.labels["10"] == 0 and known_copies.CIFAR10.labels["09"] == 9


# ---- what differs


def test_one_changed_pixel_is_refused_with_the_number_and_the_file(tmp_path, parts):
    x, y = parts["train"]
    by_class(tmp_path / "cifar10", parts)
    path = tmp_path / "cifar10/train" / CLASSES[y[7]] / "00007.png"
    pixels = x[7].copy()
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(path)
    text = refused(tmp_path)
    assert "1 of 27 images differs" in text and f"train/{CLASSES[y[7]]}/00007.png" in text and "CIFAR-10" in text
    shutil.rmtree(tmp_path / "cifar10")
    as_npz(tmp_path / "cifar10", parts | {"train": (np.concatenate([x[:7], pixels[None], x[8:]]), y)})
    assert "1 of 27 images differs (row 7 of train.npz)" in refused(tmp_path)


def test_missing_doubled_and_mislabelled_images_are_counted(tmp_path, parts):
    x, y = parts["train"]
    folder = by_class(tmp_path / "cifar10", parts)
    first = sorted((folder / "train/cat").iterdir())
    first[0].unlink()
    text = refused(tmp_path)
    assert "1 of 27 images differs" in text and "train/cat has 5 of 6 images" in text
    shutil.copy(first[1], first[0])  # the counts are right again
    assert "1 of 27 images differs" in refused(tmp_path)
    shutil.rmtree(folder)
    as_npz(folder, parts | {"train": (x, np.where(np.arange(len(y)) < 2, (y + 1) % 3, y))})
    assert "2 of 27 images differ (row 0 of train.npz, row 1 of train.npz)" in refused(tmp_path)


def test_train_and_test_may_not_be_exchanged(tmp_path, parts):
    as_npz(tmp_path / "cifar10", {"train": parts["test"], "test": parts["train"]})
    assert "27 of 27 images differ" in refused(tmp_path)


def test_a_copy_that_differs_is_not_silently_replaced_by_a_download(tmp_path, parts, monkeypatch):
    by_class(tmp_path / "cifar10", drawn(seed=1))
    monkeypatch.setattr(sources, "torchvision", lambda *_: pytest.fail("was asked"))
    text = refused(tmp_path)
    assert "27 of 27 images differ" in text and "compressed, resized" in text


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: shutil.rmtree(folder / "test"), "for train and none for test: put them into"),
        (lambda folder: (folder / "train/cat").rename(folder / "train/catt"), "has a folder catt, which is no class of CIFAR-10"),
        (lambda folder: next((folder / "test/cat").iterdir()).write_bytes(b"no image"), "is no image"),
        (
            lambda folder: Image.new("RGB", (8, 9)).save(folder / "test/cat/x.png"),
            "is 9 x 8 pixels, and images of CIFAR-10 are 32 x 32",
        ),
    ],
    ids=["half", "class", "broken", "size"],
)
def test_what_is_no_copy_is_one_sentence(tmp_path, parts, spoil, words):
    spoil(by_class(tmp_path / "cifar10", parts))
    assert words in refused(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "test.npz").unlink(), "has no test.npz beside"),
        (lambda folder: (folder / "test.npz").write_bytes(b"PK"), "is no npz"),
        (lambda folder: np.savez(folder / "test.npz", x=np.zeros(3)), "is no npz"),
        (lambda folder: np.savez(folder / "test.npz", x=np.zeros((2, 32, 32, 3)), y=[0, 1]), "and not bytes"),
        (lambda folder: np.savez(folder / "test.npz", x=np.zeros((1, 32, 32, 3), np.uint8), y=[5]), "labels or classes that"),
    ],
    ids=["half", "broken", "keys", "type", "labels"],
)
def test_npz_that_does_not_serve_is_one_sentence(tmp_path, parts, spoil, words):
    spoil(as_npz(tmp_path / "cifar10", parts))
    assert words in refused(tmp_path)


def test_folders_of_few_shot_splits_are_no_copy(tmp_path):
    for split, name in (("train", "bird"), ("val", "cat"), ("test", "frog")):
        (tmp_path / "cifar10" / split / name).mkdir(parents=True)
    assert copies.find(sets.SETS["cifar10"], tmp_path) is None


# ---- what lost


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_jpeg_is_known_by_its_content_and_marked(tmp_path, parts, kind, caplog):
    folder = by_class(tmp_path / "cifar10", parts, "jpeg")
    for path in folder.rglob("*.jpeg"):
        path.rename(path.with_suffix(f".{kind}"))
    with caplog.at_level("WARNING", "maskbench"):
        raw, origin = sources.find("cifar10", tmp_path)
    assert origin.source == "images, not lossless" and origin.facts["order"] == "sorted by class and name"
    assert len(raw.train_x) == 18 and "WITH LOSS" in caplog.text
    assert origin.checksums["train content"] != sets.SETS["cifar10"].copies.content["train"]
    caplog.clear()
    again, known = sources.find("cifar10", tmp_path)
    assert same(raw, again) and known == origin and "WITH LOSS" in caplog.text
    next((folder / "train/cat").iterdir()).unlink()
    assert "is not complete, train/cat has 5 of 6 images" in refused(tmp_path)


def test_images_that_lost_are_no_unknown_classes_and_are_told_of_pairs(tmp_path, parts, monkeypatch):
    for name in ("cifar100", "svhn"):
        facts = replace(sets.SETS["cifar10"].copies, places=(name,))
        monkeypatch.setitem(sets.SETS, name, replace(sets.SETS[name], copies=facts))
    by_class(tmp_path / "cifar10", parts)
    by_class(tmp_path / "cifar100", parts, "jpg")
    keys = {"base": "cifar10", "val": 2, "normalize": "standard", "source": "auto", "seed": 0, "root": tmp_path}
    with pytest.raises(UsageError, match="compressed with loss"):
        whole(**keys, ood=["cifar100"])
    stages = pair(**keys | {"base": "cifar10"}, target_base="cifar100", source_classes=[0, 1], target_classes=[0, 1], degrees=0,
                  n_target=None)  # fmt: skip
    origin = stages[0].origin
    assert origin.source == "copy, canonical + images, not lossless" and "cifar100/train content" in origin.checksums


# ---- SVHN, of which no hash is known


def test_svhn_by_class_is_unverified_and_complete(tmp_path, parts, monkeypatch):
    facts = content.Facts("SVHN", tuple("012"), {part: (each,) * 3 for part, each in EACH.items()}, ("SVHN",), also={"10": 0})
    monkeypatch.setitem(sets.SETS, "svhn", replace(sets.SETS["svhn"], copies=facts))
    folder = by_class(tmp_path / "SVHN", parts, names=("10", "1", "2"))
    raw, origin = sources.find("svhn", tmp_path)
    assert origin.source == "folder, unverified" and np.bincount(raw.train_y).tolist() == [6, 6, 6]
    next((folder / "train/10").iterdir()).unlink()
    with pytest.raises(UsageError, match="train/0 has 5 of 6 images"):
        sources.find("svhn", tmp_path)


# ---- what is kept of an earlier reading


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The image files that were opened, in their order."""
    names, real = [], Image.open

    def counting(file, *args, **kwargs):
        names.append(str(file))
        return real(file, *args, **kwargs)

    monkeypatch.setattr(Image, "open", counting)
    return names


def test_images_are_read_once(tmp_path, parts, opened):
    by_class(tmp_path / "cifar10", parts)
    raw, origin = sources.find("cifar10", tmp_path)
    assert len(opened) == 27
    again, known = sources.find("cifar10", tmp_path)
    assert len(opened) == 27 and same(raw, again) and known == origin
    assert [path.suffix for path in (tmp_path / kept.FOLDER).iterdir()] == [".npz"]


def test_a_change_that_sets_the_time_back_is_noticed(tmp_path, parts):
    by_class(tmp_path / "cifar10", parts)
    sources.find("cifar10", tmp_path)
    path = next((tmp_path / "cifar10/test/frog").iterdir())
    before = path.stat()
    damaged = bytearray(path.read_bytes())
    damaged[-20] ^= 255
    path.write_bytes(bytes(damaged))  # of the same length
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UsageError, match="frog"):
        sources.find("cifar10", tmp_path)


@pytest.mark.parametrize("damage", ["cut", "other pixels"])
def test_a_damaged_memory_is_no_source(tmp_path, parts, opened, damage):
    by_class(tmp_path / "cifar10", parts)
    raw, _ = sources.find("cifar10", tmp_path)
    (file,) = (tmp_path / kept.FOLDER).iterdir()
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        arrays = kept.read(file)
        arrays["train_x"][0, 0, 0, 0] ^= 1
        kept.write(file, arrays)
    again, _ = sources.find("cifar10", tmp_path)
    assert same(raw, again) and len(opened) == 2 * 27


def test_a_folder_that_cannot_be_written_is_read_anew(tmp_path, parts, opened):
    by_class(tmp_path / "cifar10", parts)
    (tmp_path / kept.FOLDER).write_text("a file is in the way")
    one, _ = sources.find("cifar10", tmp_path)
    other, _ = sources.find("cifar10", tmp_path)
    assert same(one, other) and len(opened) == 2 * 27


# ---- what the command says


def test_the_list_says_what_is_here_and_details_check_it(tmp_path, parts):
    by_class(tmp_path / "cifar10", parts)

    def line() -> list:
        return next(row for row in command.rows(tmp_path) if row[0] == "cifar10")

    assert line()[1:3] == ["yes", "images by class, not read yet"]
    told = list(command.details(["cifar10"], tmp_path))
    assert told[0] == "cifar10: copy, canonical" and "  train: 18 images of 3 classes" in told
    assert any("images by class" in words for words in told) and line()[2] == "copy, canonical"
    shutil.rmtree(tmp_path / "cifar10/test")
    assert line()[1] == "no" and "none for test" in line()[4]
    with pytest.raises(UsageError, match="none for test"):
        list(command.details(["cifar10"], tmp_path))


def test_details_of_a_strange_name(tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'cifar10'"):
        list(command.details(["cifar1"], tmp_path))
