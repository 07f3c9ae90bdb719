"""Tensors that are added while a run goes on, and kept: heads, norm statistics, nets and masks per stage.

A plain module refuses a state dict with names it has not met. These take what the state holds, so a method that grew
over ten stages is restored in a new process by `load_state_dict` alone.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from maskbench import masks


class Shelf(nn.Module):
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


class PrivateHeads(nn.Module):
    """An output layer of its own for each stage, which stands in for the backbone's `head`.

    Args:
        head: the backbone's layer; None: all stages share it, so that there is nothing to put in its place.
    """

    def __init__(self, head: nn.Module | None) -> None:
        super().__init__()
        self.parts = [] if head is None else [name for name, _ in head.named_parameters()]
        self.bytes = 0 if head is None else sum(p.numel() * p.element_size() for p in head.parameters())  # of one stage's
        self.kept = Shelf(moving=True)

    def open(self, stage: int, head: nn.Module) -> None:
        """A fresh head for a stage, drawn as `head` draws itself: nothing is shared with other stages' heads."""
        if not self.parts:
            return
        head.reset_parameters()
        for part in self.parts:
            self.kept.put(f"{stage}/{part}", head.get_parameter(part))

    def of(self, stage: int) -> dict[str, nn.Parameter]:
        """A stage's head, by the backbone's names; empty where heads are shared."""
        return {f"head.{part}": self.kept[f"{stage}/{part}"] for part in self.parts}

    def __contains__(self, stage: int) -> bool:
        return bool(self.parts) and f"{stage}/{self.parts[0]}" in self.kept


class Statistics(nn.Module):
    """A net's running norm statistics: a set for each stage, and one as they were before all training.

    They follow the data a stage sees, so that a finished stage must answer with its own (2006.14769 section 3: shared
    ones leave chance accuracy on all but the last).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        parameters = dict(net.named_parameters())
        self.names = [name for name in net.state_dict() if name not in parameters]
        self.kept = Shelf()
        for name, value in self.live(net):
            self.kept.put(f"start/{name}", value)
        self.bytes = sum(value.numel() * value.element_size() for _, value in self.live(net))  # of one stage's

    def live(self, net: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """The net's own, which training moves."""
        return ((name, net.get_buffer(name)) for name in self.names)

    def restart(self, net: nn.Module) -> None:
        """The net's own become what they were before all training."""
        for name, value in self.live(net):
            value.copy_(self.kept[f"start/{name}"])

    def keep(self, net: nn.Module, stage: int) -> None:
        """The net's own, as they are now, are those of a stage."""
        for name, value in self.live(net):
            self.kept.put(f"{stage}/{name}", value)

    def of(self, stage: int) -> dict[str, Tensor]:
        """Those that were kept for a stage, by the backbone's names."""
        return {name: self.kept[f"{stage}/{name}"] for name in self.names}

    def __contains__(self, stage: int) -> bool:
        return bool(self.names) and f"{stage}/{self.names[0]}" in self.kept


class Book(nn.Module):
    """One set of masks per stage, one bit a weight, with the running count that a uniform superposition needs.

    Memory is n / 8 bytes per stage and 4 n bytes once, however many stages there are.

    Args:
        shapes: of the masked weights, by name.
    """

    def __init__(self, shapes: dict[str, torch.Size]) -> None:
        super().__init__()
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.store = Shelf()
        self.store.put("stages", torch.zeros(0, dtype=torch.long))
        for name, shape in self.shapes.items():
            self.store.put(f"bits/{name}", torch.zeros(0, -(-_numel(shape) // 8), dtype=torch.uint8))
            self.store.put(f"count/{name}", torch.zeros(shape, dtype=torch.int32))

    @property
    def stages(self) -> list[int]:
        """Indices of the stages whose masks are here, in the order they were written."""
        return self.store["stages"].tolist()

    def __contains__(self, stage: int) -> bool:
        return stage in self.stages

    def write(self, stage: int, masks_of: dict[str, Tensor]) -> None:
        """Add a stage's masks (bool, of the book's shapes); a stage is written once.

        Raises:
            ValueError: it is written already.
        """
        if stage in self:
            raise ValueError(f"the masks of stage {stage} are written already")
        device = self.store["stages"].device
        self.store.put("stages", torch.cat([self.store["stages"], torch.tensor([stage], device=device)]))
        for name in self.shapes:
            row = masks.pack(masks_of[name]).to(device)
            self.store.put(f"bits/{name}", torch.cat([self.store[f"bits/{name}"], row[None]]))
            self.store.put(f"count/{name}", self.store[f"count/{name}"] + masks_of[name])

    def rewrite(self, stage: int, masks_of: dict[str, Tensor]) -> None:
        """Put masks in the place of those that a stage has, or add them."""
        if stage not in self:
            return self.write(stage, masks_of)
        row, before = self.stages.index(stage), self.read(stage)
        for name in self.shapes:
            self.store[f"bits/{name}"][row] = masks.pack(masks_of[name]).to(self.store[f"bits/{name}"].device)
            self.store[f"count/{name}"].add_(masks_of[name].int() - before[name].int())

    def read(self, stage: int) -> dict[str, Tensor]:
        """The masks of one stage, bool."""
        row = self.stages.index(stage)
        return {name: masks.unpack(self.store[f"bits/{name}"][row], shape) for name, shape in self.shapes.items()}

    def mean(self, rows: Tensor | None = None) -> dict[str, Tensor]:
        """The uniform superposition of all masks, or of those in `rows` (places in `stages`): their mean, float32."""
        if rows is None:
            return {name: self.store[f"count/{name}"] / len(self.stages) for name in self.shapes}
        return {n: masks.unpack(self.store[f"bits/{n}"][rows], s).float().mean(0) for n, s in self.shapes.items()}

    def dot(self, a: dict[str, Tensor], rows: Tensor | None = None, chunk: int = 8) -> Tensor:
        """sum over weights of a * mask_t: {name: [k, *shape]} -> [k, stages], or [k, rows] for those places in `stages`.

        `chunk` unpacked masks are held at a time, in one buffer a weight: fresh memory for each would cost more than the
        products.
        """
        rows = torch.arange(len(self.stages)) if rows is None else rows
        k, device = len(next(iter(a.values()))), self.store["stages"].device
        total = torch.zeros(k, len(rows), dtype=next(iter(a.values())).dtype, device=device)
        for name, shape in self.shapes.items():
            vectors, bits = a[name].flatten(1), self.store[f"bits/{name}"]
            held = vectors.new_empty(min(chunk, len(rows)), _numel(shape))
            for start in range(0, len(rows), chunk):
                some = rows[start : start + chunk]
                bytes_of = masks.unpack(bits[some], (_numel(shape),)).view(torch.uint8)  # torch copies bools slowly
                held[: len(some)].copy_(bytes_of)
                total[:, start : start + chunk] += vectors @ held[: len(some)].T
        return total

    def bytes(self) -> int:
        """Of one stage's masks, packed."""
        return sum(-(-_numel(shape) // 8) for shape in self.shapes.values())


def _numel(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
