"""Pruning is all you need: a wide random net holds a target by masking alone (Malach et al. 2020, arXiv 2002.00585).

Every weight of the target is one random product |u| v, so two random layers stand for each of its own. Nothing is trained:
the mask is a function of the seed and the target. The width that this takes grows as a power of 1/eps.
"""

from collections.abc import Callable, Iterator
from typing import Any, final

from torch import Tensor, nn

from maskbench import construct
from maskbench.data.stage import Stage
from maskbench.errors import UsageError
from maskbench.method import Method
from maskbench.shelf import Shelf
from maskbench.strong_ticket import StrongTicket
from maskbench.targets import Target


@final
class Malach(Method):
    """Args:
    net: the target's backbone: one neuron, one layer or a whole net. target: `random`, `trained`, or a run directory.
    pick: `two_coordinate`: the pair nearest to (|w|, sign w), as in the proof; `product`: the pair whose product is nearest.
    width, eps_net, eps_weight, inputs, strict: of StrongTicket. distribution, storage: of TwoLayers.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        target: str = "random",
        width: int | str = "auto",
        eps_net: float = 0.1,
        eps_weight: float | None = None,
        pick: str = "product",
        distribution: str = "uniform",
        inputs: str = "auto",
        storage: str = "auto",
        strict: bool = True,
    ) -> None:
        if pick not in construct.PICKS:
            raise UsageError(f"method.pick={pick} must be one of {', '.join(construct.PICKS)}")
        plan = construct.TwoLayers(construct.PICKS[pick], distribution, storage)
        goal = Target(net, target)
        super().__init__(plan.net(goal.depth))
        self.target, self.book = goal, Shelf()
        self.construction = StrongTicket(
            self.net, self.target, self.book, plan,
            width=width, eps_net=eps_net, eps_weight=eps_weight, inputs=inputs, strict=strict,
        )  # fmt: skip

    def movable(self) -> Iterator[nn.Parameter]:
        """A target that is to be trained, before it is approximated; of the random net nothing."""
        return iter(self.construction.trainable())

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.construction.aim(stage, fit, lambda: fit(self, stage, name="target"))
        for piece in self.construction.pieces:
            self.construction.build(piece, stage, fit)

    def logits(self, x: Tensor, stage: Stage) -> Tensor:
        return super().logits(x, stage) if self.knows(stage) else self.target.net(x)

    def effective(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return self.construction.effective()

    def knows(self, stage: Stage) -> bool:
        return self.construction.done

    def masks(self) -> dict[str, Tensor]:
        return {f"0/{name}": mask for name, mask in self.construction.masks().items()}

    def facts(self) -> dict[str, Any]:
        return {"target_weights": self.target.size}
