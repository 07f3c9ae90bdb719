"""Experience replay (Rolnick et al. 2019, arXiv 1811.11682; with tiny memories Chaudhry et al. 2019, arXiv 1902.10486).

Each step trains on its own batch and on as many rows of a memory of fixed size, which holds a fair sample of all images so far.
"""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from maskbench.common import devices
from maskbench.common.knobs import Count
from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore, number, set_number
from maskbench.methods.continual import outputs as over
from maskbench.methods.continual.outputs import Outputs
from maskbench.training.method import Method, Progress


@final
class Replay(Method):
    """One net and one head for all stages, and a reservoir of training images.

    Args:
        net: any backbone.
        memory: images that are kept, as the net saw them.
        outputs: which outputs the loss sees: of the classes `seen` so far, `all`, or for each image those of its own `stage`.
    """

    def __init__(self, net: nn.Module, *, memory: Count = 200, outputs: Outputs = "seen") -> None:
        super().__init__(net)
        self.slots, self.outputs = memory, outputs
        self.kept = TensorStore()  # images [slots, ...] and labels [slots], once their shape is known
        self.register_buffer("offered", torch.tensor(0))  # images that the memory has been offered so far
        self.draws: torch.Generator | None = None  # within a step
        self.batch: tuple[Tensor, Tensor] | None = None  # within a step

    def learn(self, stage: Stage, fit: Callable) -> None:
        if "images" not in self.kept:
            device = self.offered.device
            self.kept.put("images", torch.zeros(self.slots, *stage.shape, device=device))
            self.kept.put("labels", torch.zeros(self.slots, dtype=torch.long, device=device))
        fit(self, stage)

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        """The mean over the batch and as many rows of the memory, drawn with replacement; the first step has none."""
        x, y = self.batch = batch
        full = min(number(self, "offered"), self.slots)
        if full and self.draws is not None:
            rows = devices.own(torch.randint(full, (devices.whole(len(y)),), generator=self.draws)).to(y.device)
            x, y = joined(x, self.kept["images"], rows), joined(y, self.kept["labels"], rows)
        return over.loss(self.logits(x, stage), y, stage, self.outputs)

    def before_step(self, progress: Progress) -> None:
        self.draws = progress.generator("rows", 0)  # the name that one device has

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """The memory is offered the batch as the net saw it, that of all devices together."""
        x, y = map(devices.whole_batch, self.batch)
        self.offer(x, y, progress.generator("slots"))
        self.draws = self.batch = None

    @torch.no_grad()
    def offer(self, x: Tensor, y: Tensor, draws: torch.Generator) -> None:
        """Reservoir sampling: the n-th image of all goes to slot n while there are free ones, then to one of U{0 .. n - 1} if
        there is such a slot. So each image so far is kept with the same probability."""
        before = torch.arange(len(y)) + number(self, "offered")
        lots = (torch.rand(len(y), dtype=torch.float64, generator=draws) * (before + 1)).long()
        slots = torch.where(before < self.slots, before, lots)
        taken = {slot: row for row, slot in enumerate(slots.tolist()) if slot < self.slots}  # the last one stays
        set_number(self, "offered", number(self, "offered") + len(y))
        if taken:
            to, rows = (torch.tensor(list(part), device=y.device) for part in (taken.keys(), taken.values()))
            self.kept["images"].index_copy_(0, to, x[rows].to(self.kept["images"].dtype))
            self.kept["labels"].index_copy_(0, to, y[rows])

    def memory(self) -> dict[str, int]:
        """One net, and each slot's image (4 bytes a value) and label (8 bytes)."""
        net = sum(value.numel() * value.element_size() for value in self.net.state_dict().values())
        return {"shared": net + sum(value.numel() * value.element_size() for value in self.kept.buffers()), "stage": 0}


def joined(batch: Tensor, memory: Tensor, rows: Tensor) -> Tensor:
    """The batch and chosen rows of a memory behind it, as the batch's type: one new tensor, and nothing else made on the way."""
    n = len(batch)
    both = batch.new_empty(n + len(rows), *batch.shape[1:])
    both[:n] = batch
    if memory.dtype == both.dtype:
        torch.index_select(memory, 0, rows, out=both[n:])
    else:
        both[n:] = memory.index_select(0, rows)
    return both
