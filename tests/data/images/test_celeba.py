"""CelebA's layout, on a few made-up files: halves, attributes, few target images, and errors in one sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskbench.common.errors import UsageError
from maskbench.data.images import celeba

NAMES = ["Smiling", "Young", "Bald"]
FACES = 40


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """torchvision's layout: images, and the table with a count, the names and a line a face."""
    folder = tmp_path / "celeba"
    (folder / celeba.IMAGES).mkdir(parents=True)
    draw, lines = np.random.RandomState(0), [str(FACES), " ".join(NAMES) + " "]
    for i in range(FACES):
        name = f"{i + 1:06d}.jpg"
        Image.fromarray(draw.randint(0, 256, (22, 18, 3)).astype(np.uint8)).save(folder / celeba.IMAGES / name)
        lines.append(f"{name}  {1 if i % 2 else -1} {1 if i % 4 < 2 else -1} -1")
    (folder / celeba.TABLE).write_text("\n".join(lines) + "\n")
    celeba.survey.cache_clear()
    return tmp_path


def pair(root: Path, **changes):
    keys = {
        "folder": "celeba", "source_attribute": "Smiling", "target_attribute": "Young", "n_target": 2, "val": 4, "size": 16,
        "resize": 16, "workers": 0, "seed": 0,
    }  # fmt: skip
    return celeba.celeba(root=root, **keys | changes)


def test_one_half_trains_and_the_other_tests_the_same_for_both(root: Path) -> None:
    source, target = pair(root)
    assert (len(source.train), len(source.val), len(source.test)) == (16, 4, 20)
    rows = [set(split.rows.tolist()) for split in (source.train, source.val, source.test)]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and set.union(*rows) == set(range(FACES))
    assert torch.equal(source.test.rows, target.test.rows)


def test_answers_are_the_tables(root: Path) -> None:
    source, target = pair(root, n_target=None)
    assert torch.equal(source.train.y, source.train.rows % 2)
    assert torch.equal(target.test.y, (target.test.rows % 4 < 2).long())
    assert source.classes == ("not Smiling", "Smiling") and source.label_space != target.label_space


def test_few_target_images_as_many_of_each_answer(root: Path) -> None:
    assert pair(root)[1].train.y.bincount().tolist() == [2, 2]
    assert set(pair(root, n_target=1)[1].train.rows.tolist()) <= set(pair(root)[1].train.rows.tolist())


def test_images_are_read_as_they_are(root: Path) -> None:
    source, _ = pair(root)
    x, y = source.train.tensors(first=2)
    assert x.shape == (2, 3, 16, 16) and -1 <= x.min() < x.max() <= 1 and len(y) == 2


@pytest.mark.parametrize("method", ["pac_net", "transfer_delta"])
def test_a_run_on_it(method: str, root: Path, build) -> None:
    words = (f"method={method}", "data=celeba", f"data.folder={root / 'celeba'}", "data.n_target=2", "data.val=4", "data.size=16")
    words += ("data.resize=16", "data.workers=0", "backbone=resnet18", "backbone.base=2", "budget.steps=2", "budget.batch_size=8")
    metrics = build(*words).go().metrics
    assert 0 <= metrics["target_accuracy"] <= 1 and metrics["n_target"] == 4
    assert method != "pac_net" or metrics["unload_drift"] == 0.0


def test_what_is_wrong_is_one_sentence(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no CelebA in"):
        pair(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="Did you mean 'Smiling'"):
        pair(root, source_attribute="Smilling")
    with pytest.raises(UsageError, match="data.val=20"):
        pair(root, val=20)
    with pytest.raises(UsageError, match="data.resize=8"):
        pair(root, resize=8)


@pytest.mark.parametrize("damage", ["count", "sign", "short"])
def test_a_table_of_another_kind_is_refused(damage: str, root: Path) -> None:
    table = root / "celeba" / celeba.TABLE
    text = table.read_text()
    table.write_text(
        {"count": text.replace("40\n", "41\n", 1), "sign": text.replace(" -1\n", " 7\n", 1), "short": "40\n"}[damage]
    )
    celeba.survey.cache_clear()
    with pytest.raises(UsageError, match="table of attributes"):
        pair(root)


def test_a_missing_image_is_named(root: Path) -> None:
    (root / "celeba" / celeba.IMAGES / "000003.jpg").unlink()
    celeba.survey.cache_clear()
    with pytest.raises(UsageError, match="lacks 000003.jpg"):
        pair(root)
