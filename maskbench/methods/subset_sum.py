"""Strong lottery tickets by subset sums: a random net logarithmically wider than any target holds it, by masking alone.

Every weight of the target is the sum of some of n random products |u| v (Pensia et al. 2020, arXiv 2006.07990, with Lueker's
theorem; Orseau et al. 2020, arXiv 2006.12156). Nothing is trained: the mask is a function of the seed and the target.
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

OBJECTIVES = ("min_size", "min_error")


@final
class SubsetSum(Method):
    """Args:
    net: the target's backbone. target: `random`, `trained`, or a run directory.
    objective: `min_size`: the smallest subset within the tolerance of a weight; `min_error`: the one of least error.
    solver: meet_in_the_middle (exact), milp (scipy, a check), greedy (a heuristic, min_error only).
    faithful_code: draw what the authors' public code draws instead: n uniform numbers on the range of a layer's weights,
        shared by an output's weights. It shows their numbers, not their theorem: no random net has such weights.
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
        objective: str = "min_size",
        solver: str = "meet_in_the_middle",
        distribution: str = "uniform",
        inputs: str = "auto",
        storage: str = "auto",
        strict: bool = True,
        faithful_code: bool = False,
    ) -> None:
        if objective not in OBJECTIVES:
            raise UsageError(f"method.objective={objective} must be one of {', '.join(OBJECTIVES)}")
        if solver not in construct.SOLVERS:
            raise UsageError(f"method.solver={solver} must be one of {', '.join(construct.SOLVERS)}")
        if solver == "greedy" and objective == "min_size":
            raise UsageError("method.solver=greedy looks for a small error only: add method.objective=min_error")
        rule = construct.subsets(objective, solver)
        plan = construct.SharedSums(rule) if faithful_code else construct.TwoLayers(rule, distribution, storage)
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
