"""Tensors that are added while a run goes on, and kept: values by name, and the finished masks of every stage.

A plain module refuses a state dict with names it has not met. These take what the state holds, so a method that grew
over ten stages is restored in a new process by `load_state_dict` alone.
"""

from typing import Any

import torch
from torch import Tensor, nn

from maskbench.masks import packing


def number(module: nn.Module, name: str) -> Any:
    """What a buffer of a module holds, as Python numbers. It is asked for when it has changed and not again: on an accelerator
    each question waits until all that was asked of it before is done."""
    tensor, known = module.get_buffer(name), module.__dict__.setdefault("_numbers", {})
    if name not in known or known[name][0] is not tensor or known[name][1] != tensor._version:
        known[name] = tensor, tensor._version, tensor.tolist()
    return known[name][2]


def set_number(module: nn.Module, name: str, value: float) -> None:
    """Put a number into a buffer [] of a module, which then need not be asked for it."""
    tensor = module.get_buffer(name).fill_(value)
    module.__dict__.setdefault("_numbers", {})[name] = tensor, tensor._version, value


class TensorStore(nn.Module):
    """A growing set of named tensors; names may hold dots. With `moving` they are parameters, else buffers."""

    def __init__(self, moving: bool = False) -> None:
        super().__init__()
        self.moving = moving

    @property
    def _held(self) -> dict[str, Tensor]:
        return self._parameters if self.moving else self._buffers

    def put(self, name: str, value: Tensor) -> None:
        """Keep a copy of `value` under `name`, in place of what stood there."""
        key = name.replace(".", "|")  # a module's own names may not hold dots
        value = value.detach().clone()
        self._held.pop(key, None)
        if self.moving:
            self.register_parameter(key, nn.Parameter(value))
        else:
            self.register_buffer(key, value)

    def hold(self, name: str, parameter: nn.Parameter) -> None:
        """Keep the parameter itself under `name`, in place of what stood there; of a moving store."""
        self._held.pop(name.replace(".", "|"), None)
        self.register_parameter(name.replace(".", "|"), parameter)

    def drop(self, name: str) -> Tensor:
        """Keep it no longer; returns it."""
        return self._held.pop(name.replace(".", "|"))

    def names(self) -> list[str]:
        return [key.replace("|", ".") for key in self._held]

    def __getitem__(self, name: str) -> Tensor:
        return self._held[name.replace(".", "|")]

    def __contains__(self, name: str) -> bool:
        return name.replace(".", "|") in self._held

    def _load_from_state_dict(self, state, prefix, metadata, strict, missing, unexpected, errors) -> None:
        device = next((t.device for t in self._held.values()), "cpu")
        self._held.clear()
        for name in [name for name in state if name.startswith(prefix)]:
            self.put(name.removeprefix(prefix), state[name].to(device))


class MaskBank(nn.Module):
    """The finished masks of all stages, one bit a weight, with the running count that a uniform superposition needs.

    Memory is n / 8 bytes per stage and 4 n bytes once, however many stages there are.

    Args:
        shapes: of the masked weights, by name.
    """

    def __init__(self, shapes: dict[str, torch.Size]) -> None:
        super().__init__()
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.store = TensorStore()
        self.store.put("stages", torch.zeros(0, dtype=torch.long))
        for name, shape in self.shapes.items():
            self.store.put(f"bits/{name}", torch.zeros(0, -(-_numel(shape) // 8), dtype=torch.uint8))
            self.store.put(f"count/{name}", torch.zeros(shape, dtype=torch.int32))

    @property
    def stages(self) -> list[int]:
        """Indices of the stages whose masks are here, in the order they were written."""
        return list(number(self.store, "stages"))

    def __contains__(self, stage: int) -> bool:
        return stage in self.stages

    def write(self, stage: int, masks_of: dict[str, Tensor]) -> None:
        """Add a stage's masks (bool, of the bank's shapes); a stage is written once.

        Raises:
            ValueError: it is written already.
        """
        if stage in self:
            raise ValueError(f"the masks of stage {stage} are written already")
        device = self.store["stages"].device
        self.store.put("stages", torch.cat([self.store["stages"], torch.tensor([stage], device=device)]))
        for name in self.shapes:
            row = packing.pack(masks_of[name]).to(device)
            self.store.put(f"bits/{name}", torch.cat([self.store[f"bits/{name}"], row[None]]))
            self.store.put(f"count/{name}", self.store[f"count/{name}"] + masks_of[name])

    def rewrite(self, stage: int, masks_of: dict[str, Tensor]) -> None:
        """Put masks in the place of those that a stage has, or add them."""
        if stage not in self:
            return self.write(stage, masks_of)
        row, before = self.stages.index(stage), self.read(stage)
        for name in self.shapes:
            self.store[f"bits/{name}"][row] = packing.pack(masks_of[name]).to(self.store[f"bits/{name}"].device)
            self.store[f"count/{name}"].add_(masks_of[name].int() - before[name].int())

    def drop(self, stage: int) -> None:
        """Keep the masks of a stage no longer."""
        row, before = self.stages.index(stage), self.read(stage)
        rest = torch.tensor([place for place in range(len(self.stages)) if place != row], dtype=torch.long)
        self.store.put("stages", self.store["stages"][rest])
        for name in self.shapes:
            self.store.put(f"bits/{name}", self.store[f"bits/{name}"][rest])
            self.store[f"count/{name}"].sub_(before[name].int())

    def read(self, stage: int) -> dict[str, Tensor]:
        """The masks of one stage, bool."""
        row = self.stages.index(stage)
        return {name: packing.unpack(self.store[f"bits/{name}"][row], shape) for name, shape in self.shapes.items()}

    def named(self) -> dict[str, Tensor]:
        """The masks of all stages, bool, named `<stage>/<weight>`."""
        return {f"{stage}/{name}": mask for stage in self.stages for name, mask in self.read(stage).items()}

    def mean(self, rows: Tensor | None = None) -> dict[str, Tensor]:
        """The uniform superposition of all masks, or of those in `rows` (distinct places in `stages`): their mean, float32."""
        if rows is None or len(rows) == len(self.stages):
            return {name: self.store[f"count/{name}"] / len(self.stages) for name in self.shapes}
        return {n: packing.count(self.store[f"bits/{n}"][rows], s) / len(rows) for n, s in self.shapes.items()}

    def dot(self, a: dict[str, Tensor], rows: Tensor | None = None, chunk: int = 2**20) -> Tensor:
        """sum over weights of a * mask_t: {name: [k, *shape]} -> [k, stages], or [k, rows] for those places in `stages`.

        About `chunk` unpacked entries are held at a time, all masks' of the same weights: each is unpacked once for all k.
        """
        rows = torch.arange(len(self.stages), device=self.store["stages"].device) if rows is None else rows
        first = next(iter(a.values()))
        total = first.new_zeros(len(first), len(rows))
        width = max(1, chunk // (8 * max(1, len(rows))))  # bytes of each mask
        unpacked = first.new_empty(8 * width * len(rows))
        for name in self.shapes:
            vectors, bits = a[name].flatten(1), self.store[f"bits/{name}"]
            for start in range(0, bits.shape[1], width):
                part = vectors[:, 8 * start : 8 * (start + width)]
                entries = packing.unpack_into(unpacked, bits[rows, start : start + width])
                total += part @ entries[:, : part.shape[1]].T
        return total

    def bytes(self) -> int:
        """Bytes of one stage's masks, packed."""
        return sum(-(-_numel(shape) // 8) for shape in self.shapes.values())


def _numel(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
