"""Images that do not fit in memory: read from their files batch by batch, by a DataLoader and its workers.

Nothing that is random happens in a worker's own name. A batch is named by its epoch and its rows, and from that name
the main process draws a seed for each sample: neither the number of workers, nor how far they read ahead, nor an
interruption plays a part.
"""

import hashlib
import os
import signal
import warnings
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, tee
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from maskbench.common import devices, streams
from maskbench.common.errors import UsageError
from maskbench.data.images.scale import Scale

PIECE = 128  # images evaluated at a time, at most: they are larger than those held in memory
MOST_WORKERS = 8  # when the number of workers follows the machine
# DataLoader iterators under way. One that Python collects in a cycle with its queues waits for its workers in vain,
# five seconds for each; held here, it is let go on purpose, and they end at once.
READING: set[Iterator] = set()


Wanted = tuple[list[int], list[int] | None]  # numbers of the files of a batch; seeds of its samples, None: no draws


@dataclass(frozen=True, eq=False)
class Files:
    """The paths of many images under one folder, as bytes in one array: a million Python objects would be copied to workers.

    Attributes:
        names: [files], bytes, relative to `folder`.
    """

    folder: Path
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> Path:
        return self.folder / os.fsdecode(bytes(self.names[row]))


@dataclass(frozen=True)
class Crop:
    """What of an image becomes an input of `size` x `size` pixels.

    Either its middle, once its short side is `resize` pixels long; or, `random`, a piece of 8 to 100 % of its area and
    mirrored half of the time, as is usual for training on ImageNet.
    """

    size: int
    resize: int
    random: bool = False

    @property
    def key(self) -> str:
        return f"random crop {self.size}" if self.random else f"resize {self.resize}, crop {self.size}"

    def transform(self) -> Any:
        """PIL image -> uint8 [3, size, size]; random ones draw from torch's global generator."""
        from torchvision.transforms import v2

        if self.random:
            steps = [v2.RandomResizedCrop(self.size), v2.RandomHorizontalFlip()]
        else:
            steps = [v2.Resize(self.resize), v2.CenterCrop(self.size)]
        return v2.Compose([*steps, v2.PILToTensor()])


@dataclass(frozen=True, eq=False)
class Streamed:
    """A split whose inputs stay on disk: the same methods as `Split`, and memory for one batch at a time.

    Args:
        x: the files shared by all stages.
        y: this split's targets, [rows of the split], int64.
        rows: which of the files belong here, [rows of the split].
        crop: what is cut out of an image in evaluation.
        augment: what is cut out in training; None: the same.
        scale: how pixel values become inputs.
        workers: processes that read files; 0 reads in this one.
        seed: of the run, for the augmentation.
    """

    x: Files
    y: Tensor
    rows: Tensor
    crop: Crop
    scale: Scale
    augment: Crop | None = None
    workers: int = 0
    seed: int = 0

    def __len__(self) -> int:
        return len(self.y)

    def batches(self, size: int, device: torch.device | str = "cpu", first: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, targets) on `device` of the whole split or its `first` rows, at most `size` and PIECE at a time."""
        index = torch.arange(len(self))[:first].split(min(size, PIECE))
        samples = self.read(((self.rows[i].tolist(), None) for i in index), self.crop, device, ahead=len(index) > 1)
        for i, pixels in zip(index, samples, strict=True):
            yield self.inputs(pixels, device), self.y[i].to(device)

    def tensors(self, device: torch.device | str = "cpu", first: int | None = None) -> tuple[Tensor, Tensor]:
        """(inputs, targets) of the whole split, or of its `first` rows, on `device`; they have to fit in memory."""
        x, y = zip(*self.batches(PIECE, device, first), strict=True)
        return torch.cat(x), torch.cat(y)

    def pick(self, index: Tensor, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """(inputs, targets) of the rows number `index` of this split, [rows picked], on `device`."""
        (pixels,) = self.read([(self.rows[index].tolist(), None)], self.crop, device, ahead=False)
        return self.inputs(pixels, device), self.y[index].to(device)

    def feed(self, device: torch.device | str = "cpu") -> "StreamFeed":
        return StreamFeed(self, torch.device(device))

    def update(self, digest: "hashlib._Hash") -> None:
        """Add all that decides this split's content, apart from the files, to a hash."""
        for part in (self.y, self.rows):
            digest.update(part.numpy().tobytes())
        digest.update(self.crop.key.encode())
        if self.augment:
            digest.update(self.augment.key.encode())

    # ---- reading

    def read(
        self, wanted: Iterable[Wanted], crop: Crop, device: torch.device | str, ahead: bool = True
    ) -> Generator[Tensor, None, None]:
        """uint8 [files, 3, size, size] for each batch wanted, `ahead` of need by workers.

        Raises:
            UsageError: a file that is no image.
        """
        workers = self.workers if ahead else 0
        loader = DataLoader(
            Reader(self.x, crop),
            batch_sampler=wanted,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_leave_signals if workers else None,
            generator=torch.Generator(),  # else it would draw from the global one
            pin_memory=torch.device(device).type == "cuda",
        )
        reading = iter(loader)
        READING.add(reading)
        try:
            for pixels in reading:
                if isinstance(pixels, UsageError):
                    raise pixels
                yield pixels
        finally:
            READING.remove(reading)
            del reading

    def inputs(self, pixels: Tensor, device: torch.device | str) -> Tensor:
        return self.scale.apply(pixels.to(device, non_blocking=True).float())


class Reader:
    """Decodes files, here or in a worker."""

    def __init__(self, files: Files, crop: Crop) -> None:
        self.files, self.crop = files, crop
        self.transform: Any = None  # made where it is used

    def __len__(self) -> int:
        return len(self.files)

    def __getitems__(self, wanted: Wanted) -> Tensor | UsageError:
        """One batch, uint8 [files, 3, size, size], or the error to raise in the main process."""
        rows, seeds = wanted
        self.transform = self.transform or self.crop.transform()
        pixels = torch.empty(len(rows), 3, self.crop.size, self.crop.size, dtype=torch.uint8)
        before = torch.get_rng_state()
        try:
            for i, row in enumerate(rows):
                if seeds is not None:
                    torch.default_generator.manual_seed(seeds[i])  # the CPU's alone
                pixels[i] = self.transform(decode(self.files[row]))
        except OSError as error:
            path, reason = self.files[row], _first_line(error)
            return UsageError(f"{path} cannot be read as an image ({reason}): replace it, or delete it.")
        finally:
            torch.set_rng_state(before)
        return pixels


def decode(path: Path) -> Any:
    """The image as PIL has it, in RGB.

    Raises:
        OSError: there is no image.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on odd EXIF data and palettes, of which ImageNet has some
        try:
            with Image.open(path) as image:
                return image.convert("RGB")
        except SyntaxError as error:  # PIL's answer to some broken PNG files
            raise OSError(str(error)) from error


class StreamFeed:
    """Batches for training, read ahead by the split's workers."""

    def __init__(self, split: Streamed, device: torch.device) -> None:
        self.split, self.device = split, device

    def loader(self, blocks: Iterable[list[Tensor]]) -> Iterator["Block"]:
        """Blocks of index batches -> blocks of samples, which are read while a block is walked through."""
        blocks, ahead, behind = tee(blocks, 3)
        crop = self.split.augment or self.split.crop
        pixels = self.split.read((self.wanted(index) for block in ahead for index in block), crop, self.device)
        indices = (index for block in behind for index in block)
        samples = (self.samples(x, index) for x, index in zip(pixels, indices, strict=False))
        block = None
        for indices in blocks:
            block = Block(samples, len(indices))
            yield block
        if block is not None:
            block.end(pixels)

    def samples(self, pixels: np.ndarray, index: Tensor) -> "Samples":
        """This process's share of one batch, as it was read."""
        return Samples(pixels, self.split.y[index[devices.share(len(index))]], len(index))

    def wanted(self, index: Tensor) -> Wanted:
        """File numbers and seeds of this process's share of one batch."""
        rows, seeds, mine = self.split.rows[index], None, devices.share(len(index))
        if self.split.augment:
            name = hashlib.sha256(rows.numpy().tobytes()).hexdigest()
            draw = streams.generator(self.split.seed, "augment", index.epoch, name)
            seeds = torch.randint(2**62, (len(rows),), generator=draw)[mine].tolist()
        return rows[mine].tolist(), seeds

    def take(self, batch: "Samples") -> tuple[Tensor, Tensor]:
        """One batch: (inputs, targets) on the device."""
        return self.split.inputs(batch.x, self.device), batch.y.to(self.device)


class Block:
    """The next `length` of the samples. No list: it holds none of them."""

    def __init__(self, samples: Iterator["Samples"], length: int) -> None:
        self.samples, self.length = samples, length
        self.left = length
        self.reading: Generator | None = None  # what the last block ends

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator["Samples"]:
        for sample in islice(self.samples, self.length):
            self.left -= 1
            yield sample
        if self.reading is not None:
            self.reading.close()

    def end(self, reading: Generator) -> None:
        """This is the last block: once it is walked through, the workers can go."""
        self.reading = reading
        if not self.left:
            reading.close()


class Samples:
    """One batch as it was read: pixels uint8 [batch, 3, size, size] and targets [batch].

    With several devices only a process's own share of a batch was read, so there is nothing left to cut out of it.
    """

    def __init__(self, x: Tensor, y: Tensor, rows: int) -> None:
        self.x, self.y, self.rows = x, y, rows

    def __len__(self) -> int:
        """Rows of the batch, on all devices together."""
        return self.rows

    def __getitem__(self, share: slice) -> "Samples":
        return self


def worker_count(workers: int | None) -> int:
    """`workers`, or for None as many as this process has processors, at most MOST_WORKERS."""
    if workers is not None:
        return workers
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, allowed)


def _as_it_is(batch: Any) -> Any:
    return batch


def _leave_signals(_: int) -> None:
    """Ctrl-C is for the main process, which ends its workers when it has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _first_line(error: OSError) -> str:
    text = (error.strerror or str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return text if len(text) <= 120 else text[:117] + "..."
