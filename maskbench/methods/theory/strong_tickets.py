"""Strong lottery tickets by construction: a wide random net holds a target by masking alone, and nothing is trained.

Two random layers stand for each layer of the target, and each of its weights is made of random products |u| v: of one
(Malach et al. 2020, arXiv 2002.00585), where the width grows as a power of 1/eps, or of the sum of some (Pensia et al. 2020,
arXiv 2006.07990, with Lueker's theorem; Orseau et al. 2020, arXiv 2006.12156), where it grows as log(1/eps). The mask is a
function of the seed and the target.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, final

from torch import Tensor, nn

from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Positive
from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore
from maskbench.methods.theory import construct
from maskbench.methods.theory.strong_ticket import StrongTicket
from maskbench.methods.theory.targets import Target
from maskbench.training.method import Method


@final
class StrongTickets(Method):
    """A target net approximated by masking a random net, which is never trained.

    Args:
        net: the target's backbone: one neuron, one layer or a whole net.
        target: `random`: as the backbone was drawn; `given`: as `backbone.init` left it; `trained`: within this run, first; or
            the run directory of a finished run.
        width: candidates N of each weight, or `auto`: the narrowest that is certified within eps_net.
        eps_net: bound on the error over the unit ball, of the net whose layers have spectral norm 1.
        eps_weight: error of one weight that counts as within tolerance; None: what suffices for eps_net.
        pick: one product for each weight. `two_coordinate`: the pair nearest to (|w|, sign w), as in the proof; `product`:
            the pair whose product is nearest. None: any subset of the products, by `objective` and `solver`.
        objective: `min_size`: the smallest subset within the tolerance of a weight; `min_error`: the one of least error.
        solver: meet_in_the_middle (exact), milp (scipy, a check), greedy (a heuristic, min_error only).
        distribution: of the random weights: `uniform` on [-1, 1], or standard `normal`.
        inputs: `ball`; `nonnegative`: the part of it without negative coordinates, which needs half of the pairs; `auto`: the
            latter if no training input is negative.
        storage: `dense` keeps the whole random net, `block` only the entries that a mask can keep; `auto`: dense up to
            32 million entries.
        strict: whether a width that is not certified within eps_net is an error.
        faithful_code: draw what the authors' public code draws instead: n uniform numbers on the range of the target's weights
            and 0, shared by an output's weights. It shows their numbers, not their theorem: no random net has such weights.

    Raises:
        UsageError: the greedy solver with objective min_size, or a target that does not fit (targets.py).
    """

    drawn_by_rule: ClassVar = {"target": {"random": "given"}}  # cli/parts.py

    def __init__(
        self,
        net: nn.Module,
        *,
        target: str = "random",
        width: Count | Literal["auto"] = "auto",
        eps_net: Positive = 0.1,
        eps_weight: Positive | None = None,
        pick: Literal["two_coordinate", "product"] | None = None,
        objective: Literal["min_size", "min_error"] = "min_size",
        solver: Literal["meet_in_the_middle", "milp", "greedy"] = "meet_in_the_middle",
        distribution: Literal["uniform", "normal"] = "uniform",
        inputs: Literal["auto", "ball", "nonnegative"] = "auto",
        storage: Literal["auto", "dense", "block"] = "auto",
        strict: bool = True,
        faithful_code: bool = False,
    ) -> None:
        if solver == "greedy" and objective == "min_size":
            raise UsageError("method.solver=greedy finds small errors only: add method.objective=min_error")
        rule = construct.subsets(objective, solver) if pick is None else construct.PICKS[pick]
        plan = construct.SharedSums(rule) if faithful_code else construct.TwoLayers(rule, distribution, storage)
        goal = Target(net, target)
        super().__init__(plan.net(goal.depth))
        self.target, self.book = goal, TensorStore()
        self.construction = StrongTicket(
            self.net, self.target, self.book, plan,
            width=width, eps_net=eps_net, eps_weight=eps_weight, inputs=inputs, strict=strict,
        )  # fmt: skip

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """A target that is to be trained, before it is approximated; of the random net nothing."""
        return iter(self.construction.trainable())

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.construction.aim(stage, fit, lambda: fit(self, stage, name="target"))
        for piece in self.construction.pieces:
            self.construction.build(piece, stage, fit)

    def logits(self, x: Tensor, stage: Stage) -> Tensor:
        return super().logits(x, stage) if self.has_learned(stage) else self.target.net(x)

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return self.construction.effective_weights()

    def has_learned(self, stage: Stage) -> bool:
        return self.construction.done

    def masks(self) -> dict[str, Tensor]:
        return {f"0/{name}": mask for name, mask in self.construction.masks().items()}

    def extra_metrics(self) -> dict[str, Any]:
        return {"target_weights": self.target.size}
