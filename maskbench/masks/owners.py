"""Which stage owns each weight, and the weight's value: the memory of methods that pack stages into one net.

A stage computes with kept + alive * moving: the values of earlier owners are buffers out of the optimiser's reach, what
the present stage may use is a mask, and what moves is the backbone's own parameter. Momentum and weight decay can touch
the moving tensor only, so a finished stage answers bit for bit by structure, not by care.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from maskbench.masks.stores import TensorStore, number

MOST = 254  # owners are bytes: 0 is free, 1 .. 254 are stages


class WeightOwners(nn.Module):
    """Owner and value of every weight, and the mask of those that the stage in training may use.

    Args:
        weights: the backbone's, by name; only their shapes and devices count.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.names = list(weights)
        self.register_buffer("claimed", torch.tensor(0))  # stages finished so far
        self.owner, self.kept, self.alive = TensorStore(), TensorStore(), TensorStore()
        for name, w in weights.items():
            self.owner.put(name, torch.zeros_like(w, dtype=torch.uint8))
            self.kept.put(name, torch.zeros_like(w))
            self.alive.put(name, torch.ones_like(w))

    @property
    def stages(self) -> int:
        """How many stages are finished."""
        return number(self, "claimed")

    def free(self, name: str) -> Tensor:
        """Weights of `name` that nobody owns, bool."""
        return self.owner[name] == 0

    def share_free(self) -> float:
        """The part of all weights that nobody owns."""
        return sum(int(self.free(n).sum()) for n in self.names) / sum(self.owner[n].numel() for n in self.names)

    def present(self, moving: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the stage in training computes with: earlier owners' values, and its own where it is alive."""
        return {name: torch.addcmul(self.kept[name], self.alive[name], moving[name]) for name in self.names}

    def fixed(self) -> dict[str, tuple[Tensor, Tensor]]:
        """(kept, alive) of each name, for who adds them up with other work: `present` is kept + alive * moving."""
        return {name: (self.kept[name], self.alive[name]) for name in self.names}

    def finished(self, stage: int) -> dict[str, Tensor]:
        """What a finished stage computes with: the values of owners up to and including it, zero elsewhere."""
        return {name: self.kept[name] * self.mask(name, stage) for name in self.names}

    def mask(self, name: str, stage: int) -> Tensor:
        """The weights that stage (index from 0) computes with, bool."""
        owner = self.owner[name]
        return (owner > 0) & (owner <= stage + 1)

    def masks(self) -> dict[str, Tensor]:
        """The weights that each finished stage computes with, bool, named `<stage>/<weight>`."""
        return {f"{stage}/{name}": self.mask(name, stage) for stage in range(self.stages) for name in self.names}

    @torch.no_grad()
    def open(self, moving: dict[str, Tensor], stage: int, refill: Callable[[Tensor], object] = torch.Tensor.zero_) -> None:
        """Let `stage` train all free weights: they are alive.

        From the second stage on they restart as `refill` leaves them: at zero by default, not at old values. What it writes
        where weights are owned is never read.

        Raises:
            ValueError: more stages than MOST.
        """
        if stage + 1 > MOST:
            raise ValueError(f"weights have {MOST} owners at most: no stage {stage + 1}")
        for name in self.names:
            self.alive[name].copy_(self.free(name))
            if stage > 0:
                refill(moving[name])

    @torch.no_grad()
    def release(self, moving: dict[str, Tensor], stage: int) -> None:
        """Free what `stage` owns; nothing is left of its values, nor of those that training left where nobody owns a weight.

        Whether another stage computes with them is for the method to know.
        """
        for name in self.names:
            own = self.owner[name] == stage + 1
            self.owner[name].masked_fill_(own, 0)
            self.kept[name].masked_fill_(own, 0)
            self.alive[name].copy_(self.free(name))
            moving[name].zero_()

    @torch.no_grad()
    def claim(self, moving: dict[str, Tensor], stage: int) -> None:
        """What is alive now belongs to `stage`, with its present value, for good."""
        self.claimed.fill_(stage + 1)
        for name in self.names:
            alive = self.alive[name].bool()
            self.owner[name].masked_fill_(alive, stage + 1)
            self.kept[name].copy_(torch.where(alive, moving[name], self.kept[name]))
