"""BatchEnsemble: one net, M rank-one changes of its weights, M answers (Wen et al. 2020, arXiv 2002.06715).

Member m computes each layer with W * outer(s_m, t_m) and biases of its own: W is shared, s_m stands over outputs and t_m
over inputs. Masksembles' baseline of one net; like there, each example trains one member.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskbench import masks
from maskbench.backbones.fold import FoldLinear
from maskbench.common import devices
from maskbench.common.knobs import Count
from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore
from maskbench.training.method import Method


@final
class BatchEnsembleMembers(Method):
    """An ensemble of M members that share their weights up to a rank-one factor for each member and layer.

    Args:
        net: any backbone. Norms, their statistics too, are shared by all members.
        members: M, how many.
        assign: which members an example trains: `chunk`, the batch in M consecutive parts, one for each (the cost of one
            net); `all`, every member, at M times the cost.
    """

    def __init__(self, net: nn.Module, *, members: Count = 4, assign: Literal["chunk", "all"] = "chunk") -> None:
        super().__init__(net)
        self.members, self.assign = members, assign
        self.layers = {name: net.get_submodule(name) for name in layers(net)}
        self.own = TensorStore(moving=True)  # s/<layer>, t/<layer>, bias/<layer>: [members, ...]
        for name, layer in self.layers.items():
            for kind, shape in zip("st", factor_shapes(layer), strict=True):
                self.own.put(f"{kind}/{name}", torch.randint(2, (members, *shape)) * 2.0 - 1)  # random signs, as in the paper
            if layer.bias is not None:
                self.own.put(f"bias/{name}", layer.bias.expand(members, *layer.bias.shape))

    # ---- the algorithm

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        """The mean over examples, each by the member it trains."""
        x, y = batch
        rows = devices.whole(len(x))
        sizes = [rows // self.members + (m < rows % self.members) for m in range(self.members)]  # as equal as they can be
        parts = [(x, y)] * self.members
        if self.assign == "chunk":
            ends = [0, *accumulate(sizes)]
            places = devices.places(rows)
            here = [bisect_left(places, after) - bisect_left(places, first) for first, after in pairwise(ends)]
            parts = list(zip(x.split(here), y.split(here), strict=True))
        # of fewer examples than members some parts are empty: then it is random whose
        owners = torch.randperm(self.members).tolist() if rows < self.members else range(self.members)
        losses = [
            self.share(m, part, (x, y), stage) for m, part, size in zip(owners, parts, sizes, strict=True) if size or len(part[0])
        ]
        return sum(losses) / sum(len(some) for some, _ in parts)

    def share(self, member: int, part: tuple[Tensor, Tensor], batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        """A member's loss, summed over its part of the batch, which may be on other devices as a whole."""
        if not len(part[0]):
            with devices.uncounted():
                return 0 * self.share(member, (batch[0][:1], batch[1][:1]), batch, stage)
        x, y = part
        return len(x) * stage.criterion(functional_call(self.net, self.member(member), (x,)), y)

    def member(self, number: int) -> dict[str, Tensor]:
        """A member's weights and biases, by the backbone's names."""
        tensors = {}
        for name, layer in self.layers.items():
            tensors[f"{name}.weight"] = layer.weight * self.own[f"s/{name}"][number] * self.own[f"t/{name}"][number]
            if layer.bias is not None:
                tensors[f"{name}.bias"] = self.own[f"bias/{name}"][number]
        return tensors

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """The shared weights and norms, and every member's factors and biases, which replace the backbone's biases."""
        replaced = {f"{name}.bias" for name in self.layers}
        yield from (p for name, p in self.net.named_parameters() if name not in replaced)
        yield from self.own.parameters()

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        """The first member's, for what takes a single net."""
        return self.member(0)

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        """[members, batch, outputs]."""
        return torch.stack([stage.link(functional_call(self.net, self.member(m), (x,))) for m in range(self.members)])

    # ---- for the record

    def memory(self) -> dict[str, int]:
        return {"shared": sum(p.numel() * p.element_size() for p in self.trainable_parameters()), "stage": 0}

    def extra_metrics(self) -> dict[str, float]:
        """M, and how many weights an ensemble of them has for one of the plain net."""
        plain = sum(p.numel() for p in self.net.parameters())
        return {"members": self.members, "weights_over_plain": sum(p.numel() for p in self.trainable_parameters()) / plain}


def layers(net: nn.Module) -> list[str]:
    """The names of all weight layers, those of nets side by side too."""
    return [name for name, module in net.named_modules() if isinstance(module, (*masks.LAYERS, FoldLinear))]


def factor_shapes(layer: nn.Module) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of s and t, as they multiply the layer's weight [(folds,) outputs, inputs, *kernel]."""
    folds = 1 if isinstance(layer, FoldLinear) else 0
    *front, outputs, inputs = layer.weight.shape[: folds + 2]
    kernel = [1] * (layer.weight.ndim - folds - 2)
    return (*front, outputs, 1, *kernel), (*front, 1, inputs, *kernel)
