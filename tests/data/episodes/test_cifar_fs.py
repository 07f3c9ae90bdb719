"""CIFAR-FS made of CIFAR-100: the published classes, all images of each, and the same bits from every container."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskbench.cli.commands import data as command
from maskbench.common.errors import UsageError
from maskbench.data.episodes import cifar_fs
from maskbench.data.episodes import few_shot as episodes
from maskbench.data.episodes.few_shot import few_shot
from maskbench.data.sources import clients as programs
from maskbench.data.sources import content, sets
from maskbench.data.sources import find as sources
from maskbench.data.sources import folder as disk
from maskbench.data.sources.known_copies import CIFAR100

EACH = {"train": 2, "test": 1}


@pytest.fixture(autouse=True)
def parts(tmp_path_factory, monkeypatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """CIFAR-100 has three images of a class, nothing is downloaded, and the red of a pixel tells the class."""
    draw, made = np.random.RandomState(0), {}
    for part, each in EACH.items():
        y = draw.permutation(np.repeat(np.arange(100), each)).astype(np.uint8)
        made[part] = draw.randint(0, 256, (len(y), 32, 32, 3)).astype(np.uint8), y
        made[part][0][..., 0] = y[:, None, None]
    hashed = {part: content.digests(part, CIFAR100.classes, x, y) for part, (x, y) in made.items()}
    file = tmp_path_factory.mktemp("facts") / "small.hashes"
    file.write_bytes(content.packed(hashed.values()))
    facts = replace(
        CIFAR100, counts={part: (each,) * 100 for part, each in EACH.items()}, hashes=file,
        content={part: content.content(own) for part, own in hashed.items()},
    )  # fmt: skip
    pickles = pickled(made)
    md5 = {name: disk.md5(file) for name, file in pickles.items()}
    monkeypatch.setitem(sets.SETS, "cifar100", replace(sets.SETS["cifar100"], copies=facts, md5=md5))

    def unavailable(*_: object) -> Path:
        raise programs.Unavailable("no answer from its servers")

    monkeypatch.setattr(sources, "torchvision", unavailable)
    episodes.load.cache_clear()
    return made


def pickled(parts) -> dict[str, bytes]:
    """torchvision's files."""
    rows = {part: (x.transpose(0, 3, 1, 2).reshape(len(x), -1), y.tolist()) for part, (x, y) in parts.items()}
    return {part: pickle.dumps({"data": x, "fine_labels": y}, protocol=4) for part, (x, y) in rows.items()}


def stage(root: Path, **changes):
    keys = {"ways": 5, "shots": 1, "queries": 1, "test_queries": 1, "test_shots": [], "cross": [], "rotations": False, "val": 3}
    keys |= {"test": 5, "source": "auto", "seed": 0, "size": 32, "base": "cifar_fs", "root": root}
    (made,) = few_shot(**keys | changes)
    return made


def test_the_published_classes_are_64_16_and_20_and_each_one_once():
    assert [len(cifar_fs.CLASSES[split]) for split in ("train", "val", "test")] == [64, 16, 20]
    assert sorted(name for own in cifar_fs.CLASSES.values() for name in own) == sorted(CIFAR100.classes)
    assert {"whale", "worm", "baby", "rocket"} <= set(cifar_fs.CLASSES["test"])
    assert {"otter", "shark", "sea", "motorcycle"} <= set(cifar_fs.CLASSES["val"])


def test_it_is_made_of_any_copy_of_cifar_100_with_the_same_bits(tmp_path, parts):
    (tmp_path / "a/cifar100").mkdir(parents=True)
    (tmp_path / "b/cifar-100-python").mkdir(parents=True)
    for part, (x, y) in parts.items():
        np.savez(tmp_path / f"a/cifar100/{part}.npz", x=x, y=y)
    for name, file in pickled(parts).items():
        (tmp_path / "b/cifar-100-python" / name).write_bytes(file)
    one, other = stage(tmp_path / "a"), stage(tmp_path / "b")
    assert one.fingerprint == other.fingerprint
    assert (one.origin.source, other.origin.source) == ("copy, canonical", "folder")
    assert one.origin.facts == {"made_of": "cifar100"}
    for split in ("train", "val", "test"):
        bank = getattr(one, split).bank
        assert list(bank.names) == cifar_fs.CLASSES[split] and set(bank.counts) == {3}
        reds = bank.images[:, 0, 0, 0].reshape(-1, 3)
        assert reds.tolist() == [[CIFAR100.classes.index(name)] * 3 for name in bank.names]


def test_images_of_another_size_and_a_folder_of_its_own(tmp_path, parts):
    (tmp_path / "cifar100").mkdir()
    for part, (x, y) in parts.items():
        np.savez(tmp_path / f"cifar100/{part}.npz", x=x, y=y)
    assert stage(tmp_path, size=16).shape == (3, 16, 16)
    row = next(row for row in command.rows(tmp_path) if row[0] == "cifar_fs")
    assert row[1:3] == ["yes", "cifar100 (npz, not read yet)"]


def test_without_either_one_sentence_says_what_to_put_where(tmp_path):
    with pytest.raises(UsageError) as error:
        stage(tmp_path)
    text = str(error.value)
    assert "\n" not in text and ". " not in text and "CIFAR-FS" in text and str(tmp_path / "cifar100/data") in text
    assert str(tmp_path / "cifar100") + "/train/CLASS" in text
