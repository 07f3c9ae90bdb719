"""A net's first weights from a file of tensors, whoever trained them: read without trust, renamed, and held to the net.

Masks in a file are taken with their weights: torch.nn.utils.prune's `weight_orig` and `weight_mask`, the 2:4 form of `maskbench
export` (masks/semi_structured.py), and a ticket's `mask|weight`.

Names are met in this order: as they stand, as the backbone itself renames them (a static function `own_name` of its class,
where it has one), as one of the usual names of a last layer. What wraps a net (`module.`, ...) is taken off first.
"""

import pickle
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from maskbench.backbones.per_stage import in_head
from maskbench.common import given
from maskbench.common.errors import UsageError, first_line
from maskbench.masks import packing, semi_structured

WRAPPED = ("state_dict", "state_dict_ema", "model")  # entries of a training's checkpoint that hold the net
PREFIXES = ("module.", "_orig_mod.", "net.")  # DataParallel, torch.compile, a run of ours or a learner around the net
HEADS = ("fc.", "classifier.", "classifier.6.", "head.fc.", "linear.")  # of last layers; here it is `head.`
COUNTER = "num_batches_tracked"  # of a batch norm; the only thing that may be missing
ORIG, MASK = "_orig", "_mask"  # behind the name of a weight that torch.nn.utils.prune has pruned: its values, and its mask
VALUES, PLACES = ".values24", ".places24"  # behind that of one in 2:4 form
TICKET = "mask|"  # before the name of a weight in a ticket
SHOWN = 3  # names that a refusal tells of each kind


class Misfit(UsageError):
    """A file of another net; `tensors` are what it holds."""

    def __init__(self, text: str, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(text)
        self.tensors = tensors


# ---- reading


def read(path: Path, key: str = "") -> dict[str, Tensor]:
    """The tensors of a file by name, those of pruned weights with their masks applied. Nothing in it is called: a pickle may
    hold tensors and plain containers, no more.

    key: who names the file, for refusals; none: `backbone.init=file:PATH`.

    Raises:
        UsageError: it cannot be read, is damaged, or holds anything else.
    """
    key = key or f"backbone.init={given.FILE}{path}"
    values, masks = taken_apart(content(path, key), key)
    return values | {name: values[name] * mask for name, mask in masks.items()}


def ticket(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(values, masks of weights, bool) of a file, both by name: a ticket, what torch.nn.utils.prune made, or an export, whose
    masks may lie beside it (`NAME.masks.safetensors` beside `NAME.safetensors`).

    Raises:
        UsageError: as of `read`; or there are no masks.
    """
    tensors = content(path, key)
    masks = {name.removeprefix(TICKET): mask.bool() for name, mask in tensors.items() if name.startswith(TICKET)}
    values, more = taken_apart({name: value for name, value in tensors.items() if not name.startswith(TICKET)}, key)
    beside = path.with_name(f"{path.stem}.masks.safetensors")
    if not (masks := masks | more) and beside.is_file():
        masks = packing.load(beside)
    if not masks:
        raise UsageError(
            f"{key} holds no masks, and none lie beside it: backbone.init={given.FILE}{path} starts from its weights."
        )
    return values, masks


def taken_apart(tensors: Mapping[str, Tensor], key: str = "the file") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(values, masks of weights, bool), both by the weights' own names, of tensors some of which may be pruned weights.

    Raises:
        UsageError: the parts of one do not fit each other.
    """
    values, masks = dict(tensors), {}
    try:
        for name in [
            name.removesuffix(ORIG) for name in tensors if name.endswith(ORIG) and f"{name[: -len(ORIG)]}{MASK}" in tensors
        ]:
            values[name], masks[name] = values.pop(f"{name}{ORIG}"), values.pop(f"{name}{MASK}") != 0
            if values[name].shape != masks[name].shape:
                raise ValueError(f"{MASK} and {ORIG} have two shapes")
        for name in [name.removesuffix(VALUES) for name in tensors if name.endswith(VALUES)]:
            places = values.pop(f"{name}{PLACES}", torch.zeros(0, dtype=torch.uint8))
            values[name], masks[name] = semi_structured.expand(values.pop(f"{name}{VALUES}"), places)
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"{key}: {name} cannot be put together ({error}).") from error
    return values, masks


def content(path: Path, key: str) -> dict[str, Tensor]:
    """The tensors of a file as it has them.

    Raises:
        UsageError: as of `read`.
    """
    if wrong := given.file_mistake(key, path):
        raise UsageError(wrong)
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UsageError(f"{key} is damaged, or no safetensors file ({error}).") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the version of the pickle
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(f"{key} holds Python objects besides tensors: save its state_dict as safetensors.") from error
    except Exception as error:  # whatever half a file makes of torch's reader
        reason = first_line(error).partition(". ")[0]
        raise UsageError(f"{key} is damaged, or no file that torch.save wrote ({reason}).") from error
    entries = found if isinstance(found, Mapping) else {}
    for _ in WRAPPED:  # each may be in another
        entries = next((entries[name] for name in WRAPPED if isinstance(entries.get(name), Mapping)), entries)
    if tensors := {str(name): value for name, value in entries.items() if _usable(value)}:
        return tensors
    raise UsageError(f"{key} holds no tensors by name{_listed(map(str, entries), ', only ')}.")


def _usable(value: object) -> bool:
    """Whether it is a tensor of plain numbers."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_quantized or value.is_complex() or value.is_meta)
    )


# ---- whose tensors they are


@dataclass(frozen=True)
class Match:
    """The tensors of a file beside those of a net.

    Attributes:
        taken: the net's name -> the file's tensor of it, whatever its shape.
        lacking: the net's tensors before the head that the file has not, or in another shape.
        unexpected: the file's names that are none of the net's.
        foreign: those of them that belong to layers the net has: it is another net's file.
        left: what of the file's head the net's has not, as a bias.
    """

    taken: Mapping[str, Tensor]
    lacking: list[str]
    unexpected: list[str]
    foreign: list[str]
    left: list[str]

    @property
    def fits(self) -> bool:
        return not self.lacking and not self.foreign

    @property
    def exact(self) -> bool:
        return self.fits and all(name.endswith(COUNTER) for name in self.unexpected)


def match(net: nn.Module, tensors: Mapping[str, Tensor]) -> Match:
    """Which tensor of a file is which of a net.

    Raises:
        UsageError: two of the file's are one of the net's.
    """
    own = net.state_dict()
    wrapped = {name: _stripped(name, own) for name in tensors}
    beside = {name for name, (_, ours) in wrapped.items() if not ours} if any(o for _, o in wrapped.values()) else set()
    rename: Callable[[str], str] = getattr(net, "own_name", str)
    trunk = {name.partition(".")[0] for name in own if not in_head(name)}
    taken, unexpected, foreign, left, by = {}, [], [], [], {}
    for name, tensor in tensors.items():
        plain = wrapped[name][0]
        ours = next((n for n in (plain, rename(plain), _headed(plain)) if n in own), None)
        if ours is None:
            unexpected.append(name)
            if name not in beside and not name.endswith(COUNTER) and rename(plain).partition(".")[0] in trunk:
                foreign.append(name)
            if in_head(headed := _headed(plain)):
                left.append(headed.removeprefix("head."))
            continue
        if ours in by:
            raise UsageError(f"backbone.init: the file has two tensors for {ours}: {by[ours]} and {name}")
        taken[ours], by[ours] = tensor, name
    lacking = [name for name, value in own.items() if not in_head(name) and not _has(taken, name, value)]
    return Match(taken, [name for name in lacking if not name.endswith(COUNTER)], unexpected, foreign, left)


def _stripped(name: str, own: Mapping[str, Tensor]) -> tuple[str, bool]:
    """(the name without what wraps its net, whether that was a net of ours)."""
    inside = False
    while name not in own and (prefix := next((p for p in PREFIXES if name.startswith(p)), None)):
        name, inside = name.removeprefix(prefix), inside or prefix == "net."
    return name, inside


def _headed(name: str) -> str:
    """The name here of a tensor of the last layer, by one of that layer's usual names."""
    layer, dot, part = name.rpartition(".")
    return f"head.{part}" if f"{layer}{dot}" in HEADS else name


def _has(taken: Mapping[str, Tensor], name: str, value: Tensor) -> bool:
    return name in taken and taken[name].shape == value.shape


def _listed(names: Iterable[str], before: str) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{before}{', '.join(names[:SHOWN])}{more}" if names else ""


# ---- taking them


def start(net: nn.Module, path: Path, *, head: Literal["auto", "fresh", "load"] = "auto", key: str = "") -> dict[str, Any]:
    """Let a net start from a file: every tensor before the head, and the head where it has as many classes.

    Args:
        head: `auto`; `fresh`, it stays as it was drawn; `load`, it must fit. key: who names the file, for refusals.

    Returns:
        What was done, for the record; the net has it as `given`.

    Raises:
        UsageError: the file is of no use, or its head is to be loaded and does not fit.
        Misfit: it is another net's.
    """
    key = key or f"backbone.init={given.FILE}{path}"
    source = {"source": f"{given.FILE}{path}", "sha256": given.of_file(path), "bytes": path.stat().st_size}
    return fill(net, read(path, key), source, head=head, key=key)


@torch.no_grad()
def fill(
    net: nn.Module,
    tensors: Mapping[str, Tensor],
    source: Mapping[str, Any],
    *,
    head: Literal["auto", "fresh", "load"] = "auto",
    key: str = "backbone.init",
) -> dict[str, Any]:
    """`start` from tensors by name; `source` is what the record says of where they came from."""
    found, own = match(net, tensors), net.state_dict()
    if not found.fits:
        lacking = [f"{name}{_shapes(found.taken.get(name), own[name])}" for name in found.lacking]
        parts = [_listed(lacking, "it has no fitting "), _listed(found.foreign or found.unexpected, "unexpected in it: ")]
        words = "; ".join(filter(None, parts))
        raise Misfit(f"{key} is of another net than this run's {type(net).__name__}: {words}", tensors)
    other = [name for name, value in own.items() if in_head(name) and not _has(found.taken, name, value)]
    why = "as asked" if head == "fresh" else _why_fresh(other, found.taken, own)
    if head == "load" and why:
        raise UsageError(f"{key}: its head does not fit ({why}); leave backbone.init_head out for a fresh one.")
    used = {name: value for name, value in found.taken.items() if _has(found.taken, name, own[name])}
    used = {name: value for name, value in used.items() if not (why and in_head(name))}
    for name, value in used.items():
        own[name].copy_(value)
    net.given = {
        **source,
        "arch": getattr(net, "arch", type(net).__name__),
        "mapped": len(used),
        "missing": [name for name in own if name not in used and not in_head(name)],
        "unexpected": found.unexpected,
        "head": f"fresh: {why}" if why else f"loaded{_listed(found.left, ' without its ')}",
    }
    return net.given


def head_of(net: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The output layer among the tensors of a file, by the net's names, whatever its number of classes."""
    return {name: value for name, value in match(net, tensors).taken.items() if in_head(name)}


def _shapes(theirs: Tensor | None, ours: Tensor) -> str:
    return "" if theirs is None else f" ({list(theirs.shape)} for {list(ours.shape)})"


def _why_fresh(other: list[str], taken: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Why the file's head cannot be the net's; "" where it can."""
    if not other:
        return ""
    if not any(map(in_head, taken)):
        return "the file has none"
    name = next((name for name in other if name in taken), None)
    if name is None:
        return f"the file's has no {other[0].removeprefix('head.')}"
    theirs, ours = taken[name].shape, own[name].shape
    if theirs[:1] != ours[:1]:
        return f"the file's has {theirs[0]} classes, this net {ours[0]}"
    return f"the file's is {list(theirs)}, this net's {list(ours)}"
