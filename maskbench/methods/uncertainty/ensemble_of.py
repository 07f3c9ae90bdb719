"""An ensemble whose nets answer with several members each: Masksembles or MC-dropout, several times over, averaged.

Lakshminarayanan et al. 2017 (arXiv 1612.01474) with another method in the place of plain training: nets that differ in
start, data order and masks, each trained by the method's own rules; all their members count alike.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from maskbench.backbones.initial import fresh
from maskbench.common.knobs import Count
from maskbench.common.streams import seeded, under_way
from maskbench.data.stage import Stage
from maskbench.training.method import Method


@final
class EnsembleOf(Method):
    """Several nets, each trained by another method, all of whose members make one uniform mixture.

    Args:
        net: the backbone whose shape all nets have.
        of: what makes a method of a net, with that method's own knobs.
        nets: how many. The first ones of a larger ensemble are those of a smaller one.
    """

    drawn_by_rule: ClassVar = "its nets differ in their start, each a draw of its own"  # cli/parts.py

    def __init__(self, net: nn.Module, *, of: Callable[[nn.Module], Method], nets: Count = 3) -> None:
        stream, made = under_way(), []
        for number in range(nets):
            with seeded(stream, "net", number):
                twin = copy.deepcopy(net)
                twin.load_state_dict(fresh(net))
                made.append(of(twin))
        super().__init__(made[0].net)
        self.each = nn.ModuleList(made)

    # ---- the algorithm

    def learn(self, stage: Stage, fit: Callable) -> None:
        """One net after another; an interrupted run keeps those that are done."""
        for number, method in enumerate(self.each):
            method.learn(stage, Named(fit, f"net {number}"))

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return (p for method in self.each for p in method.trainable_parameters())

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        """Members of the first net, then of the second, ...: [nets * members, batch, outputs]."""
        return torch.cat([method.predict(x, stage) for method in self.each])

    def logits(self, x: Tensor, stage: Stage) -> Tensor:
        """Of the first net, for what takes a single net."""
        return self.each[0].logits(x, stage)

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return self.each[0].effective_weights(x, stage)

    # ---- for the record

    def masked_weights(self) -> list[str]:
        """Of one net: they are alike in all."""
        return self.each[0].masked_weights()

    def masks(self) -> dict[str, Tensor]:
        """Named `<member>/<gate>`, members counted over all nets as `predict` has them."""
        masks: dict[str, Tensor] = {}
        before = 0
        for method in self.each:
            own = {tuple(name.split("/", 1)): mask for name, mask in method.masks().items()}
            masks |= {f"{before + int(member)}/{gate}": mask for (member, gate), mask in own.items()}
            before += len({member for member, _ in own})
        return masks

    def memory(self) -> dict[str, int]:
        return {"shared": sum(method.memory()["shared"] for method in self.each), "stage": 0}

    def extra_metrics(self) -> dict[str, float]:
        """How many nets, and the metrics of each as `<name>/<net>`."""
        by_net = [method.extra_metrics() for method in self.each]
        named = {f"{name}/{n}": value for n, metrics in enumerate(by_net) for name, value in metrics.items()}
        return {"nets": len(by_net)} | named

    def fingerprints(self) -> dict[str, dict]:
        """The fingerprints of each net, by its number."""
        return {f"net {number}": method.fingerprints() for number, method in enumerate(self.each)}


class Named:
    """A fit whose phases are told apart by whose they are: `train` of net 2 is `net 2 train` in the history."""

    def __init__(self, fit: Callable, owner: str) -> None:
        self.fit, self.owner = fit, owner

    def __call__(self, method: Method, stage: Stage, *, name: str = "train", **phase: Any) -> Any:
        return self.fit(method, stage, name=f"{self.owner} {name}", **phase)
