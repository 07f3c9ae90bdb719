"""The forms in which a trained net leaves: each is made in memory, read back from those bytes and held to the run's own answers,
and only then written."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from maskbench import masks
from maskbench.backbones import pretrained
from maskbench.backbones.compact import source
from maskbench.backbones.compact.smaller import Compacted
from maskbench.common.errors import UsageError
from maskbench.common.files import make_folder, replace
from maskbench.masks import packing, semi_structured
from maskbench.runs import onnx_file
from maskbench.runs.plain import Plain, filled

MASKS = "model.masks.safetensors"


@dataclass(frozen=True)
class Form:
    """A form of export.

    Attributes:
        file: its name. encode: a net as the content of that file. answers: what the content says to the net's inputs. inside:
            whether the masks are in it, and need no file beside it. need: refuses where a package is missing.
    """

    file: str
    encode: Callable[[Plain], bytes]
    answers: Callable[[bytes, Plain], Tensor]
    inside: bool = False
    need: Callable[[], None] = lambda: None


def write(made: Plain, form: str, folder: Path) -> list[str]:
    """Write a net in one of FORMS, and its masks beside it; a line on each file.

    Raises:
        UsageError: the form has no place for this net, or what it holds answers otherwise; nothing was written then.
    """
    chosen = FORMS[form]
    if made.gated:
        raise UsageError(
            f"the masks of this run stand on units ({', '.join(made.gated)}), which no weights of the backbone hold: "
            "maskbench compact RUN writes the smaller net without them."
        )
    content = chosen.encode(made)
    with torch.no_grad():
        told = made.hold(chosen.answers(content, made), f"--format {form}")
    make_folder(folder)
    lines = []
    if made.masks and not chosen.inside:
        replace(folder / MASKS, lambda path: packing.save(path, made.masks))
        share = masks.density(made.masks.values())
        lines.append(f"{folder / MASKS}: {len(made.masks)} masks, a bit a weight; they keep {share:.4g} of the weights")
    replace(folder / chosen.file, lambda path: path.write_bytes(content))
    return [f"{folder / chosen.file}: {told}", *lines]


def write_compact(made: Plain, small: Compacted, about: str, folder: Path) -> list[str]:
    """Write a smaller net as the source of a module and its state dict; a line on the two.

    Raises:
        UsageError: it cannot be written so, or answers otherwise; nothing was written then.
    """
    text = source.source(small.net, about)
    content = safetensors.torch.save(state(small.net), {"format": "pt"})
    with torch.no_grad():
        told = made.hold(source.read(text, safetensors.torch.load(content))(made.x), "the smaller net")
    make_folder(folder)
    replace(folder / "net.safetensors", lambda path: path.write_bytes(content))
    replace(folder / "net.py", lambda path: path.write_text(text))
    return [f"{folder / 'net.py'} and net.safetensors: {told}"]


# ---- the forms


def state(net: nn.Module) -> dict[str, Tensor]:
    """The state dict, its tensors apart from each other and from the net."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in net.state_dict().items()}


def answered(made: Plain, values: dict[str, Tensor]) -> Tensor:
    """What a net of these values says."""
    net = filled(made.net, {})
    net.load_state_dict(values)
    return net(made.x)


def as_safetensors(made: Plain) -> bytes:
    return safetensors.torch.save(state(made.net), {"format": "pt"})


def from_safetensors(content: bytes, made: Plain) -> Tensor:
    return answered(made, safetensors.torch.load(content))


def saved(values: dict[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


def loaded(content: bytes) -> dict[str, Tensor]:
    return torch.load(io.BytesIO(content), weights_only=True)


def as_torch(made: Plain) -> bytes:
    return saved(state(made.net))


def from_torch(content: bytes, made: Plain) -> Tensor:
    return answered(made, loaded(content))


def as_pruned(made: Plain) -> bytes:
    """By the names of torch.nn.utils.prune: `weight_orig` before the mask, and `weight_mask`.

    Raises:
        UsageError: there are no masks.
    """
    need_masks(made, "torch-pruned")
    values = {name: value for name, value in state(made.net).items() if name not in made.masks}
    for name, mask in made.masks.items():
        values |= {f"{name}_orig": made.raw[name].cpu(), f"{name}_mask": mask.to(made.raw[name].dtype)}
    return saved(values)


def from_pruned(content: bytes, made: Plain) -> Tensor:
    """Asked of modules that torch itself has pruned, which take the content as it is."""
    net = filled(made.net, {})
    for name in made.masks:
        owner, _, leaf = name.rpartition(".")
        module = net.get_submodule(owner)
        prune.identity(module, leaf)
    net.load_state_dict(loaded(content))
    return net(made.x)


def as_24(made: Plain) -> bytes:
    """Weights under masks in their 2:4 form (masks/semi_structured.py), all else plain.

    Raises:
        UsageError: a mask is no 2:4; names its layer and the first place.
    """
    need_masks(made, "24")
    values = state(made.net)
    for name, mask in made.masks.items():
        layer = made.net.get_submodule(name.rpartition(".")[0])
        wrong = "" if isinstance(layer, masks.LAYERS) else f"{type(layer).__name__} is no Linear layer and no convolution"
        if wrong := wrong or semi_structured.mistake(mask):
            raise UsageError(f"--format 24: the mask of {name} is no 2:4 ({wrong}); method.scope=2:4 makes one that is.")
        kept, places = semi_structured.compress(values.pop(name), mask)
        values |= {f"{name}{pretrained.VALUES}": kept, f"{name}{pretrained.PLACES}": places}
    return safetensors.torch.save(values, {"format": "pt"})


def from_24(content: bytes, made: Plain) -> Tensor:
    values, kept = pretrained.taken_apart(safetensors.torch.load(content))
    for name, mask in kept.items():
        if (made.masks[name] & ~mask).any():
            raise UsageError(f"--format 24: {name} is not what it was once it is expanded: nothing was written.")
    return answered(made, values)


def need_masks(made: Plain, form: str) -> None:
    if not made.masks:
        raise UsageError(f"--format {form} is for nets with masks on their weights, and this one has none: --format safetensors.")


FORMS = {
    "safetensors": Form("model.safetensors", as_safetensors, from_safetensors),
    "torch": Form("model.pt", as_torch, from_torch),
    "onnx": Form("model.onnx", onnx_file.encode, onnx_file.answers, need=onnx_file.need),
    "torch-pruned": Form("model.pruned.pt", as_pruned, from_pruned, inside=True),
    "24": Form("model.24.safetensors", as_24, from_24, inside=True),
}
