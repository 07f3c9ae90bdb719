"""Pruning at initialisation: a mask is drawn from the first weights and a few images, and what it keeps is trained.

SNIP (Lee et al. 2019, arXiv 1810.02340), GraSP (Wang et al. 2020, arXiv 2002.07376) and SynFlow (Tanaka et al. 2020, arXiv
2006.05467), beside the magnitude of first weights and chance; with the controls of Frankle et al. (arXiv 2009.08576) and of
Su et al. (arXiv 2009.11094): the same counts at other places, or the same mask over other weights.
"""

import logging
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, Literal, Self, final

import torch
from torch import Tensor, nn

from maskbench.backbones import initial
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Keep, Layers
from maskbench.common.named import named
from maskbench.common.streams import seeded
from maskbench.data.stage import Stage
from maskbench.masks import criteria, scopes
from maskbench.masks.connectivity import connectivity
from maskbench.masks.criteria import Criterion, Weights
from maskbench.masks.distributions import Distribution, share_out
from maskbench.masks.scopes import Scope
from maskbench.methods.prune import scoring
from maskbench.methods.prune.kernel import Choice
from maskbench.methods.prune.sparse import KEEP, SparseNet
from maskbench.training.method import Method

log = logging.getLogger("maskbench")
Places = Literal["same", "shuffle", "shuffle_inputs", "invert", "erk", "er", "uniform", "smart"]
TRAINED = (  # criteria that rank by what a training made of weights
    "wanda", "movement", "magnitude_increase", "magnitude_increase_same_sign", "magnitude_increase_diff_sign",
    "large_final_diff_sign",
)  # fmt: skip
PASSES = ("gradient", "curvature", "flow")  # parts of what a criterion sees that take a gradient


@final
class AtInit(Method):
    """A net whose mask is drawn before its first step, and whose kept weights then train from where they were drawn.

    Args:
        net: the backbone; its Linear and Conv weights are masked, biases and norms never.
        criterion: which weights stay, by their first values: `random`, `large_init`, `snip`, `grasp`, `synflow` or another
            function of maskbench.masks.criteria, or any importable one by its dotted path.
        keep: share of the maskable weights that stays, ceil(keep * n) of n; null: 0.05, or what `scope` says.
        scope: what is ranked together: all weights (`global`), each `layer`, each `row`, each M inputs (`N:M`), whole units
            (`unit`).
        distribution: how layers share what stays, under scope `layer`: `erk`, `er`, `uniform` or `smart`.
        rounds: scorings, each of which keeps fewer of what the one before has left (SynFlow: 100).
        per_class: training images of each class that a gradient is taken on.
        collapse: what is done where the mask leaves a layer empty or an output out of reach: `report` trains and says so,
            `refuse` ends before the training.
        dense: modules without masks (`[head]`).
        kernel: how masked Linear layers are computed in training: `dense`, as w * m; `csr`, by the kept values alone; `auto`, so
            where that is cheaper.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        criterion: Criterion = "snip",
        keep: Keep | None = None,
        scope: Scope = "global",
        distribution: Distribution = "erk",
        rounds: Count = 1,
        per_class: Count = 10,
        collapse: Literal["report", "refuse"] = "report",
        dense: Layers = (),
        kernel: Choice = "auto",
    ) -> None:
        if criterion in TRAINED:
            raise UsageError(
                f"method.criterion={criterion} ranks weights by what a training made of them, and before one there is nothing to "
                "rank: take method=one_shot or method=lottery, or here snip, grasp, synflow, large_init or random"
            )
        if rounds > 1 and scopes.of_each(scope):
            raise UsageError(
                f"method.rounds={rounds} keeps fewer in each round, and method.scope={scope} has one count: set method.rounds=1"
            )
        super().__init__(net)
        self.sparse = SparseNet(net, dense, scope, kernel)
        self.criterion, self.by_name = named("method.criterion", criterion, criteria), criterion
        self.scope, self.distribution, self.rounds = scope, distribution, rounds
        self.keep = scopes.share(scope, keep, KEEP)
        self.per_class, self.collapse = per_class, collapse
        for share in scoring.shares(self.keep, rounds):
            self.counts(share)  # refuses what the net cannot keep
        self.register_buffer("drawn", torch.tensor(False))
        self.register_buffer("passes", torch.tensor(False))  # whether the drawing took a gradient
        self.register_buffer("stream", torch.randint(2**62, ()))  # names the draw of images and of what ties leave open

    # ---- the algorithm

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return self.sparse.effective_weights(self.net)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return self.sparse.trainable_parameters(self.net)

    def fixed_masks(self) -> dict[str, Tensor]:
        """For training side by side with other runs: what stands still while a phase trains."""
        return self.sparse.kept()

    def learn(self, stage: Stage, fit: Callable) -> None:
        """Draw the mask, if no control has set one, and train what it keeps; dead weights have no gradient and stay 0."""
        if not self.drawn:
            self.sparse.put(self.net, self.draw(stage, self.criterion))
            self.drawn.fill_(True)
            self.judge(stage)
        with self.sparse.compact(self.net):
            fit(self, stage, order="masks")  # the same batches for every mask, so that controls differ by it alone

    @torch.no_grad()
    def draw(self, stage: Stage, criterion: Callable[[Weights], Tensor]) -> dict[str, Tensor]:
        """The mask of what is best of the first weights by a criterion, in `rounds` of scoring and cutting."""
        start = {name: self.sparse.start[name] for name in self.sparse.sites}
        kept = {name: torch.ones_like(w, dtype=torch.bool) for name, w in start.items()}
        batch = cache(partial(scoring.class_batch, stage, self.per_class, self.stream.device))  # the same in each round
        with seeded(int(self.stream), "mask"):
            for share in scoring.shares(self.keep, self.rounds):
                scores = scoring.Scores(
                    self.net, start, start, kept, batch=batch, loss=stage.criterion, shape=stage.shape, under=True
                )
                kept = scoring.draw(criterion, scores, self.scope, self.counts(share), self.sparse.follow)
                self.passes |= any(part in vars(scores) for part in PASSES)
        return kept

    def counts(self, keep: float) -> dict[str, int]:
        """How many weights stay where a share does, as the scope counts them."""
        return scopes.counts(self.sparse.shapes(), self.scope, keep, self.distribution, self.sparse.uncut)

    def judge(self, stage: Stage) -> None:
        """Warn of a criterion that does not suit the net, and look for layers and outputs that the mask cut off.

        Raises:
            UsageError: there are some, and `collapse` is `refuse`.
        """
        if self.by_name == "synflow" and (curved := scoring.curved(self.net, stage.shape)):
            log.warning(
                "synflow follows what is linear above 0, and this net has %s: what it keeps may not flow", ", ".join(curved)
            )
        found = connectivity(self.net, self.sparse.kept(), stage.shape) if self.collapse == "refuse" else None
        if found and found.collapsed:
            sizes = {name: self.sparse[name].numel() for name in self.sparse.sites}
            left = ", ".join(f"{n.removesuffix('.weight')} {k} of {sizes[n]}" for n, k in self.sparse.counts().items())
            raise UsageError(
                f"method.collapse=refuse: {found.words()} where {sum(self.sparse.counts().values())} of {sum(sizes.values())} "
                f"weights stay ({left}): take method.scope=layer method.distribution=erk, or method=synflow, or a larger "
                "method.keep"
            )

    # ---- controls: as many weights at other places, or other weights at the same

    @torch.no_grad()
    def branch(self, stage: Stage, *, mask: Places = "same", start: Literal["same", "redraw"] = "same") -> Self:
        """Turn this method into a control of itself, which starts from the same first weights unless `start` says otherwise.

        Args:
            mask: `same`; `shuffle`: each layer's mask in random order; `shuffle_inputs`: within the weights out of each input;
                `invert`: what the criterion ranks lowest; `erk`, `er`, `uniform`, `smart`: random places, as many in all,
                shared among layers by that rule.
            start: `redraw`: the weights drawn anew from the initial distribution.
        """
        self.collapse = "report"  # a control that collapses is a finding
        if start == "redraw":
            for name, value in initial.fresh(self.net).items():
                self.net.state_dict()[name].copy_(value)
            self.sparse.restart_from(self.net)
        before = self.sparse.kept()
        if mask == "shuffle":
            kept = {name: shuffled(m.flatten()).reshape(m.shape) for name, m in before.items()}
        elif mask == "shuffle_inputs":
            kept = {name: shuffled(m) for name, m in before.items()}
        elif mask == "invert":
            kept = self.draw(stage, lambda weights: -self.criterion(weights))
        elif mask == "same":
            kept = before
        else:
            counts = share_out(self.sparse.shapes(), sum(int(m.sum()) for m in before.values()), mask)
            lots = {name: torch.rand_like(m, dtype=torch.float) for name, m in before.items()}
            everywhere = {name: torch.ones_like(m) for name, m in before.items()}
            kept = scopes.best(lots, everywhere, "layer", counts)
        self.sparse.put(self.net, kept)
        self.sparse.rewind(self.net)
        self.drawn.fill_(True)
        return self

    # ---- for the record

    def has_learned(self, stage: Stage) -> bool:
        return bool(self.drawn)

    def masked_weights(self) -> list[str]:
        return list(self.sparse.sites)

    def masks(self) -> dict[str, Tensor]:
        return self.sparse.masks()

    def ticket(self) -> dict[str, Tensor]:
        return self.sparse.ticket()

    def fingerprints(self) -> dict[str, Any]:
        return self.sparse.fingerprints(self.net)

    def memory(self) -> dict[str, int]:
        return self.sparse.memory(self.net)

    def extra_metrics(self) -> dict[str, float]:
        return self.sparse.densities(self.net)

    def training_cost(self, share: float, steps: int) -> float:
        """Each step costs what the mask keeps; the drawing costs a dense step where it took gradients (of a few images, or
        SynFlow's hundred of one input)."""
        return share + bool(self.passes) / steps


def shuffled(mask: Tensor) -> Tensor:
    """The entries of each column in random order: of a mask [outputs, ...], those of one input at one place; of a vector, all."""
    lots = torch.rand(mask.shape, device=mask.device)
    return mask.gather(0, lots.argsort(0))
