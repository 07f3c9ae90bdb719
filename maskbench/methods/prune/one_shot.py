"""One-shot pruning: a dense net trains, is cut once by a criterion, and what stays goes on from where it stands.

Fine-tuning starts from the *trained* values; to go back to the first ones is another experiment, the lottery ticket's
(method=lottery with task.levels=1). With criterion=wanda and finetune=0 it is Wanda (Sun et al. 2023, arXiv 2306.11695).
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from maskbench.common.knobs import Count, Keep, Layers, NonNegative
from maskbench.common.named import named
from maskbench.data.stage import Stage
from maskbench.masks import criteria, scopes
from maskbench.masks.criteria import Criterion
from maskbench.masks.distributions import Distribution
from maskbench.masks.scopes import Scope
from maskbench.methods.prune import scoring
from maskbench.methods.prune.kernel import Choice
from maskbench.methods.prune.sparse import KEEP, SparseNet
from maskbench.training.method import Method


@final
class OneShot(Method):
    """A net that is trained, cut once, and trained on under its mask.

    Args:
        net: the backbone; its Linear and Conv weights are pruned, biases and norms never.
        keep: share of the maskable weights that stays, ceil(keep * n) of n; null: 0.05, or what `scope` says.
        criterion: which weights stay: a function of maskbench.masks.criteria by name, or any importable one by its dotted path.
        distribution: how the layers share them, under scope `layer`: `erk`, `er`, `uniform` or `smart`.
        scope: among which weights scores are ranked: the whole net (`global`), each `layer`, `row` or `N:M`, or whole units.
        dense: modules without masks (`[head]`).
        finetune: training after the cut, with a fresh optimiser at the same rate, in budgets as the one before it; 0: none.
        calibration: training images for criteria that look at inputs or gradients.
        kernel: how masked Linear layers are computed in fine-tuning: `dense`, as w * m; `csr`, by the kept values alone; `auto`,
            so where that is cheaper.
    """

    keeps_given_stage: ClassVar = True

    def __init__(
        self,
        net: nn.Module,
        *,
        keep: Keep | None = None,
        criterion: Criterion = "large_final",
        distribution: Distribution = "erk",
        scope: Scope = "global",
        dense: Layers = (),
        finetune: NonNegative = 1.0,
        calibration: Count = 128,
        kernel: Choice = "auto",
    ) -> None:
        super().__init__(net)
        self.criterion = named("method.criterion", criterion, criteria)
        self.scope, self.finetune, self.calibration = scope, finetune, calibration
        self.sparse = SparseNet(net, dense, scope, kernel)
        share = scopes.share(scope, keep, KEEP)
        self.count = scopes.counts(self.sparse.shapes(), scope, share, distribution, self.sparse.uncut)

    # ---- the algorithm

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return self.sparse.effective_weights(self.net)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return self.sparse.trainable_parameters(self.net)

    def learn(self, stage: Stage, fit: Callable) -> None:
        fit(self, stage, shared=self.net)  # nothing is masked yet: runs that cut by other rules have this training in common
        self.cut(stage)
        if self.finetune > 0:
            with self.sparse.compact(self.net):
                fit(self, stage, name="finetune", share=self.finetune)

    @torch.no_grad()
    def cut(self, stage: Stage) -> None:
        """Score what was trained, keep the best; the others are 0."""
        w = {name: self.net.get_parameter(name) for name in self.sparse.sites}
        start = {name: self.sparse.start[name] for name in self.sparse.start.names()}
        batch = partial(scoring.some_rows, stage, self.calibration, next(iter(w.values())).device)
        scores = scoring.Scores(self.net, start, w, self.sparse.kept(), batch=batch, loss=stage.criterion, shape=stage.shape)
        kept = scoring.draw(self.criterion, scores, self.scope, self.count, self.sparse.follow)
        self.sparse.put(self.net, kept)

    # ---- for the record

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
        """`budgets`: how long both trainings are together, in budgets of steps."""
        return self.sparse.densities(self.net) | {"budgets": 1 + self.finetune}

    def training_cost(self, share: float, steps: int) -> float:
        """A dense training, and what the fine-tuning computes."""
        return 1 + share * self.finetune
