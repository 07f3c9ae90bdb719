"""Images read from disk: the same numbers as from memory, whatever the workers, bit for bit after an interruption."""

import gc
import multiprocessing
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from maskbench.common.errors import UsageError
from maskbench.data.images import imagenet, streamed
from maskbench.data.images.imagenet import STANDARD
from maskbench.data.images.streamed import Crop
from maskbench.data.images.whole_sets import Scale
from maskbench.data.stage import Split, Stage, batches
from maskbench.training import evaluate

CLASSES = ["n02", "n01", "n10", "n03"]
SIDE = 16


def write(folder: Path, side: int | None = SIDE) -> Path:
    """Four classes of 9 training and 5 validation images, of two formats; `side` None: of many shapes."""
    draw = np.random.RandomState(0)
    for part, count in (("train", 9), ("val", 5)):
        for name in CLASSES:
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                shape = draw.randint(18, 40, 2) if side is None else (side, side)
                image = Image.fromarray(draw.randint(0, 256, (*shape, 3)).astype(np.uint8))
                if i == 0:
                    image = image.convert("L")  # grey ones and others with alpha are among ImageNet's too
                image.save(folder / part / name / f"{name}_{i}.{'png' if i % 2 else 'JPEG'}")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("shapes"), side=None)


KEYS = {"val": 6, "augment": False, "size": SIDE, "resize": SIDE, "normalize": "standard", "workers": 0, "seed": 0}


def whole(folder: Path, **changes) -> Stage:
    (stage,) = imagenet.whole(folder=str(folder), root="nowhere", **KEYS | changes)
    return stage


def split(folder: Path, **changes) -> list[Stage]:
    keys = KEYS | {"stages": 2, "labels": "shifted", "order": "random"}
    return imagenet.split(folder=str(folder), root="nowhere", **keys | changes)


def in_memory(part) -> Split:
    """The same split as a tensor of all its files, decoded by PIL."""
    pixels = [np.asarray(Image.open(part.x[row]).convert("RGB")).transpose(2, 0, 1) for row in range(len(part.x))]
    return Split(part.scale.apply(torch.from_numpy(np.stack(pixels).astype(np.float32))), part.y, part.rows)


def epochs(part, blocks: int = 1, count: int = 2) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """All batches of `count` epochs, through the feed as the loop asks for them."""
    size, steps = 8, count * -(-len(part) // 8)
    walk = list(batches(len(part), size, range(steps), lambda e: torch.randperm(len(part), generator=seeded(e))))
    feed = part.feed()
    grouped = (walk[i : i + blocks] for i in range(0, len(walk), blocks))
    return [feed.take(batch) for block in feed.loader(grouped) for batch in block]


def seeded(epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(epoch)


def equal(a: list, b: list) -> bool:
    pairs = [pair for p, q in zip(a, b, strict=True) for pair in zip(p, q, strict=True)]
    return all(torch.equal(x, y) for x, y in pairs)


# ---- files


def test_files_and_labels_are_torchvisions(folder):
    stage = whole(folder)
    for part, files in (("train", stage.train.x), ("val", stage.test.x)):
        theirs = ImageFolder(folder / part).samples
        assert [str(files[row]) for row in range(len(files))] == [path for path, _ in theirs]
    theirs = torch.tensor(ImageFolder(folder / "train").targets)
    assert torch.equal(stage.train.y, theirs[stage.train.rows]) and torch.equal(stage.val.y, theirs[stage.val.rows])


def test_validation_is_taken_from_training_and_val_is_the_test(folder):
    stage = whole(folder)
    assert (len(stage.train), len(stage.val), len(stage.test)) == (30, 6, 20)
    assert sorted([*stage.train.rows.tolist(), *stage.val.rows.tolist()]) == list(range(36))
    assert "train" in str(stage.val.x[0]) and "val" in str(stage.test.x[0])
    assert (stage.outputs, stage.shape, stage.origin.source) == (4, (3, SIDE, SIDE), "folder")


def test_stages_deal_the_classes(folder):
    made = split(folder)
    assert sorted(c for stage in made for c in stage.classes) == [0, 1, 2, 3]
    assert [len(s.train) + len(s.val) for s in made] == [18, 18] and sum(len(s.val) for s in made) == 6
    for stage in made:
        x, y = stage.test.tensors()
        assert x.shape == (10, 3, SIDE, SIDE) and set(y.tolist()) == {0, 1}
        names = {stage.test.x[row].parent.name for row in stage.test.rows.tolist()}
        assert names == {sorted(CLASSES)[c] for c in stage.classes}
    assert split(folder, labels="kept")[0].outputs == 4
    assert len({tuple(s.classes for s in split(folder, seed=seed)) for seed in range(6)}) > 1


def test_the_fingerprint_follows_names_sizes_and_seed_without_reading_images(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(streamed, "decode", None)
    prints = [whole(folder, **changes).fingerprint for changes in ({}, {"seed": 1}, {"augment": True}, {"resize": 20})]
    assert len(set(prints)) == 4 and whole(folder).fingerprint == prints[0]
    assert whole(folder, workers=2).fingerprint == prints[0]
    copy = write(tmp_path / "images")
    with open(copy / "val" / "n01" / "n01_1.png", "ab") as file:
        file.write(b"x")
    one = whole(copy)
    assert one.fingerprint != prints[0] and one.origin.checksums["train"] == whole(folder).origin.checksums["train"]


def test_stages_can_be_pickled(folder):
    stage = whole(folder)
    back = pickle.loads(pickle.dumps(stage))
    assert back.fingerprint == stage.fingerprint and torch.equal(back.test.tensors()[0], stage.test.tensors()[0])


# ---- the same as in memory


def test_a_streamed_split_is_the_split_in_memory(folder):
    for normalize in ("standard", "unit"):
        stage = whole(folder, normalize=normalize)
        for part in (stage.train, stage.val, stage.test):
            twin = in_memory(part)
            for first in (None, 4):
                assert equal([part.tensors(first=first)], [twin.tensors(first=first)])
                assert equal(list(part.batches(3, first=first)), list(twin.batches(3, first=first)))
            index = torch.tensor([3, 0, 3])
            assert equal([part.pick(index)], [twin.pick(index)])
        assert equal(epochs(stage.train), epochs(in_memory(stage.train)))
    assert part.scale == Scale((0.0,) * 3, (1.0,) * 3) and STANDARD.black[0] == pytest.approx(-0.485 / 0.229)


def test_no_validation_images_is_allowed(folder):
    stage = whole(folder, val=0)
    assert len(stage.val) == 0 and stage.val.tensors()[0].shape == (0, 3, SIDE, SIDE)


def test_images_of_all_shapes_are_resized_and_cut_as_torchvision_does(shapes):
    from torchvision.transforms import v2

    theirs = ImageFolder(shapes / "val", v2.Compose([v2.Resize(20), v2.CenterCrop(SIDE), v2.PILToTensor()]))
    stage = whole(shapes, resize=20, normalize="unit")
    expected = torch.stack([theirs[row][0] for row in stage.test.rows.tolist()]) / 255
    assert torch.equal(stage.test.tensors()[0], expected)


WORDS = ["data=imagenet", f"data.size={SIDE}", f"data.resize={SIDE}", "data.val=6", "data.workers=0"]
WORDS += ["backbone.width=0.25", "budget.epochs=null", "budget.batch_size=8", "budget.validate_every=4"]
WORDS += ["loop.log_every=4"]


def test_a_run_on_files_is_the_run_in_memory(folder, build: Callable, same: Callable):
    words = ["method=dense", "backbone=resnet20", *WORDS, f"data.folder={folder}", "data.augment=false"]
    words += ["budget.steps=9"]
    on_disk, resident = build(*words, folder="disk"), build(*words, folder="memory")
    (stage,) = resident.stages
    splits = {name: in_memory(getattr(stage, name)) for name in ("train", "val", "test")}
    resident.stages = [replace(stage, **splits)]
    same(on_disk.go(), resident.go())
    assert on_disk.metrics["accuracy"] is not None


def test_supsup_learns_stages_from_files(folder, build: Callable):
    words = ["method=supsup", "backbone=resnet18", *WORDS, "data=splitimagenet", f"data.folder={folder}"]
    words += ["data.stages=2", "backbone.norm=batch_no_stats", "backbone.base=8"]
    words += ["task.trials=3", "task.probe=5"]
    run = build(*words, "budget.steps=2").go()
    assert run.metrics["average_accuracy"] is not None and run.metrics["task_inference_accuracy"] is not None


# ---- randomness


@pytest.mark.full
def test_workers_change_nothing(shapes):
    augmented = {n: whole(shapes, augment=True, resize=20, workers=n) for n in (0, 2)}
    assert equal(epochs(augmented[0].train, blocks=2), epochs(augmented[2].train, blocks=5))
    assert equal(list(augmented[0].test.batches(3)), list(augmented[2].test.batches(3)))
    gc.collect()
    assert multiprocessing.active_children() == []  # workers went when the last batch was taken


def test_augmentation_is_named_by_seed_epoch_and_batch(shapes):
    stage = whole(shapes, augment=True)
    first, again = epochs(stage.train), epochs(stage.train)
    assert equal(first, again)
    assert not equal(first, epochs(whole(shapes).train))
    assert not equal(first, epochs(replace(stage.train, seed=1)))
    (order,) = [torch.arange(8)]
    walk = [list(batches(8, 8, range(step, step + 1), lambda _: order)) for step in (0, 0, 1)]  # epochs 0, 0 and 1
    feed = stage.train.feed()
    one, same, other = ([feed.take(b) for block in feed.loader([w]) for b in block] for w in walk)
    assert equal(one, same) and not equal(one, other)


def test_reading_leaves_the_global_generator_alone(shapes):
    stage = whole(shapes, augment=True)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    epochs(stage.train)
    stage.test.tensors()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.full
@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_run_goes_on_bit_for_bit(shapes, build: Callable, relay: Callable, same: Callable, workers: int):
    words = ["method=dense", "backbone=resnet20", *WORDS, f"data.folder={shapes}", "budget.steps=11", "loop.block=2"]
    words += ["loop.checkpoint_seconds=0", f"data.workers={workers}", "data.resize=20"]
    same(build(*words, folder="whole").go(), relay(*words, folder="parts", halts=[3, 2]))


def test_a_process_of_several_reads_its_own_share(shapes, monkeypatch):
    stage = whole(shapes, augment=True)
    everything = epochs(stage.train)
    read = []
    real = streamed.decode
    monkeypatch.setattr(streamed, "decode", lambda path: read.append(path) or real(path))
    monkeypatch.setattr(streamed.devices, "share", lambda rows: slice(1, None, 2))
    feed, part = stage.train.feed(), stage.train
    walk = list(batches(len(part), 8, range(8), lambda e: torch.randperm(len(part), generator=seeded(e))))
    shares = [feed.take(batch[1::2]) for block in feed.loader([walk]) for batch in block]  # the loop cuts batches too
    assert equal(shares, [(x[1::2], y[1::2]) for x, y in everything])
    assert len(read) == sum(len(batch) // 2 for batch in walk)


def test_training_crops_are_torchvisions(shapes):
    image = streamed.decode(whole(shapes).train.x[0])
    transform = Crop(SIDE, 20, random=True).transform()
    torch.manual_seed(1)
    first = transform(image)
    assert first.shape == (3, SIDE, SIDE) and first.dtype == torch.uint8 and not torch.equal(first, transform(image))


def test_evaluation_goes_piece_by_piece(folder, monkeypatch):
    monkeypatch.setattr(streamed, "PIECE", 7)
    stage, seen = whole(folder), []

    class Method(torch.nn.Linear):
        net = torch.nn.Identity()

        def prediction_modes(self):
            return {"": self.predict}

        def predict(self, x, stage):
            seen.append(len(x))
            return self(x.flatten(1)).softmax(-1)[None]

    p, y = evaluate.members(Method(3 * SIDE * SIDE, 4), stage, stage.test)
    assert p.shape == (1, 20, 4) and torch.equal(y, stage.test.y) and seen == [7, 7, 6]


# ---- what is wrong with a folder


def sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and ". " not in text
    return text


def test_an_empty_folder_says_what_to_put_where(tmp_path, folder):
    for place in ("nowhere", str(folder / "train" / "n01")):
        with pytest.raises(UsageError) as error:
            imagenet.whole(folder=place, root=tmp_path, **KEYS)
        assert "train/CLASS/*.JPEG" in sentence(error) and "data.folder=" in str(error.value)


def test_classes_must_agree_and_hold_images(tmp_path):
    (write(tmp_path) / "val" / "n99").mkdir()
    with pytest.raises(UsageError) as error:
        whole(tmp_path)
    assert "n99" in sentence(error)
    (tmp_path / "train" / "n99").mkdir()
    with pytest.raises(UsageError) as error:
        whole(tmp_path)
    assert str(tmp_path / "train" / "n99") in sentence(error)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"<html>", lambda b: b""])
def test_a_damaged_image_is_named(tmp_path, damage, workers):
    stage = whole(write(tmp_path), workers=workers)
    for path in tmp_path.glob("val/n03/*"):
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError) as error:
        list(stage.test.batches(5))
    assert "n03_" in sentence(error) and "cannot be read" in str(error.value)
    with pytest.raises(UsageError):
        epochs(replace(stage.test, workers=workers))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize": 8}, "data.resize=8 is too small"),
        ({"val": 36}, "leaves nothing"),
    ],
)
def test_keys_that_do_not_work_are_refused(folder, changes, message):
    with pytest.raises(UsageError, match=message):
        whole(folder, **changes)


def test_workers_follow_the_machine(folder):
    assert 1 <= whole(folder, workers=None).train.workers <= streamed.MOST_WORKERS
