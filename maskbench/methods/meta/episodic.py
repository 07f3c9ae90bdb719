"""Learning to learn from few examples as one learner: MAML (Finn et al. 2017, arXiv 1703.03400), FOMAML, ANIL (Raghu et
al. 2020, arXiv 1909.09157), BOIL (Oh et al. 2021, arXiv 2008.08882) and Meta-ticket (Chijiwa et al. 2022, arXiv 2205.15619).

They differ in three selections of the net's weights: what the outer loop learns, what the inner loop adapts to a task, and
what is masked. A masked weight keeps its random initial value for ever; what is learnt is whether it exists.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskbench import masks
from maskbench.backbones.batch_statistics import by_first
from maskbench.backbones.initial import RULES
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Positive, Share, Whole
from maskbench.data.episodes.stages import EpisodeStage, Tasks
from maskbench.methods.meta import inner
from maskbench.methods.meta.inner import Weights
from maskbench.training.method import Method


@final
class Episodic(Method):
    """A meta-learner with an inner loop of gradient steps on each task, over weights or over masks of random weights.

    Names of weights are selected by patterns: `["*"]` all, `["*", "!head.*"]` the body, `["head.*"]` the classifier.

    Args:
        net: a backbone that ends in `head`.
        outer: patterns of what the outer loop learns, of the weights that are not masked.
        adapted: patterns of what the inner loop moves.
        masked: patterns of the Linear and Conv weights that are masked, each entry by a learnt score.
        rate: learning rate of the inner loop.
        steps: gradient steps of the inner loop in training.
        test_steps: gradient steps of the inner loop in testing.
        first_order: gradients of the inner loop count as constants.
        dropped: share of each masked weight that is off at the start (p0 of the paper; 0: training starts dense).
        weights: how masked weights are drawn, by a rule of backbones/initial.py.
        scores: `learned`, or `fixed`: the mask of the start stays (the control of a random mask).
        reduction: of a classification loss over the examples of a set: `mean` (null: mean), or `paper`, MAML's code: their
            sum over the K examples a class, which is the number of ways times the mean. A squared error is a mean in both.
        side_by_side: tasks in one batched computation (vmap): true, false, or `auto`: unless the net has convolutions and
            runs on a CPU.

    Raises:
        UsageError: patterns fit no weight of the backbone.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        outer: Sequence[str],
        adapted: Sequence[str],
        masked: Sequence[str],
        rate: Positive,
        steps: Whole,
        test_steps: Whole,
        first_order: bool = False,
        dropped: Share = 0.0,
        weights: Literal[
            "glorot_normal",
            "glorot_uniform",
            "glorot_signed_constant",
            "kaiming_normal",
            "kaiming_uniform",
            "signed_constant",
            "unsigned_constant",
        ] = "kaiming_normal",
        scores: Literal["learned", "fixed"] = "learned",
        reduction: Literal["mean", "paper"] | None = None,
        side_by_side: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__(net)
        names = [name for name, _ in net.named_parameters()]
        self.masked = inner.selected(masks.sites(net), list(masked)) if masked else []
        self.outer = [n for n in inner.selected(names, list(outer)) if n not in self.masked]
        self.rates = dict.fromkeys(matching("adapted", names, adapted), rate)
        if masked and not self.masked:
            raise UsageError(f"method.masked={list(masked)} fits no weight; there are {', '.join(masks.sites(net))}")
        self.count, self.test_count, self.first_order = steps, test_steps, first_order
        self.learned, self.summed = scores == "learned", reduction == "paper"
        self.batched = side_by_side if side_by_side != "auto" else None
        self.convolutions = any(isinstance(module, nn.Conv2d) for module in net.modules())
        self.scores, self.thresholds = nn.ParameterDict(), nn.Module()
        for name in self.masked:
            self.draw(name, weights, dropped)

    def draw(self, name: str, rule: str, dropped: float) -> None:
        """Random weights, scores, and the score from which on a weight exists: section 2, items 1 and 2."""
        w = self.net.get_parameter(name)
        RULES[rule](w)
        score = torch.empty_like(w)
        nn.init.kaiming_uniform_(score, nonlinearity="relu")  # U(-a, a), a = sqrt(6 / fan_in), as in the authors' code
        rank = 1 + round(dropped * (score.numel() - 1))
        self.scores[name.replace(".", "|")] = nn.Parameter(score)
        # part of the state: the quantile of trained scores would be another one
        self.thresholds.register_buffer(name.replace(".", "|"), masks.smallest(score.detach(), rank).clone())

    # ---- the algorithm

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return (p for some in self.groups().values() for p in some)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """What the outer loop learns, for an optimiser with a rate for each: `scores` and `weights`."""
        scores = list(self.scores.values()) if self.learned else []
        weights = [self.net.get_parameter(name) for name in self.outer]
        return {name: some for name, some in (("scores", scores), ("weights", weights)) if some}

    def learn(self, stage: EpisodeStage, fit: Callable) -> None:
        if self.groups():  # under a fixed mask over random weights nothing is learnt
            fit(self, stage)

    def loss(self, batch: tuple[Tasks, Tensor], stage: EpisodeStage) -> Tensor:
        """Mean over tasks of the query loss after the inner loop on the support set."""
        (x, support_y), y = batch
        start, binary, size = self.start(), self.binary_masks(), support_y.shape[1]

        def one(x: Tensor, support_y: Tensor, y: Tensor) -> Tensor:
            def support_loss(weights: Weights) -> Tensor:
                return self.reduced(self.output(weights, binary, x[:size]), support_y, stage)

            weights = inner.adapted(support_loss, start, self.rates, self.count, self.first_order)
            return self.reduced(self.output(weights, binary, x[size:]), y, stage)

        return inner.over_tasks(one, x, support_y, y, side_by_side=self.side_by_side()).mean()

    def after(self, tasks: Tasks, stage: EpisodeStage, counts: Sequence[int], inductive: bool = False) -> Tensor:
        """Query outputs after so many inner steps each, [counts, tasks, queries, outputs].

        Norms take their statistics from the query set (transductive), or `inductive` from the support set.
        """
        start, binary, size = self.start(), self.binary_masks(), tasks.y.shape[1]

        def one(x: Tensor, support_y: Tensor) -> Tensor:
            def support_loss(weights: Weights) -> Tensor:
                return self.reduced(self.output(weights, binary, x[:size]), support_y, stage)

            def query(weights: Weights) -> Tensor:
                if not inductive:
                    return self.output(weights, binary, x[size:])
                with by_first(self.net, size):
                    return self.output(weights, binary, x)[size:]

            path = islice(inner.steps(support_loss, start, self.rates, first_order=True), max(counts) + 1)
            answers = {count: query(weights) for count, weights in enumerate(path) if count in set(counts)}
            return torch.stack([answers[count] for count in counts])

        return inner.over_tasks(one, *tasks, side_by_side=self.side_by_side()).transpose(0, 1)

    # ---- its parts

    def reduced(self, outputs: Tensor, y: Tensor, stage: EpisodeStage) -> Tensor:
        """The loss of one task's set, a scalar: outputs [examples, outputs], y [examples] or [examples, values]."""
        loss = stage.criterion(outputs, y)
        return loss * outputs.shape[-1] if self.summed and not y.is_floating_point() else loss

    def start(self) -> Weights:
        """Where the inner loop begins, by name; masked weights without their mask."""
        return dict(self.net.named_parameters())

    def binary_masks(self) -> Weights:
        """The masks, zeros and ones, straight through to the scores: d/dscore = d/dm."""
        pairs = {name: (self.score(name), self.threshold(name)) for name in self.masked}
        return {name: masks.threshold(torch.ones_like(score), score, theta) for name, (score, theta) in pairs.items()}

    def output(self, weights: Weights, binary: Weights, x: Tensor) -> Tensor:
        return functional_call(self.net, inner.masked(weights, binary), (x,))

    def effective_weights(self, x: Tasks, stage: EpisodeStage) -> Weights:
        """What the inner loop starts from, masked."""
        return inner.masked(self.start(), self.binary_masks())

    def logits(self, x: Tasks, stage: EpisodeStage) -> Tensor:
        """Query outputs [tasks, queries, outputs] after the inner loop."""
        return self.after(x, stage, [self.test_count])[0]

    def side_by_side(self) -> bool:
        if self.batched is not None:
            return self.batched
        return not (self.convolutions and next(self.net.parameters()).device.type == "cpu")

    def score(self, name: str) -> nn.Parameter:
        return self.scores[name.replace(".", "|")]

    def threshold(self, name: str) -> Tensor:
        return self.thresholds.get_buffer(name.replace(".", "|"))

    # ---- for the record

    @torch.no_grad()
    def masked_weights(self) -> list[str]:
        return list(self.masked)

    def masks(self) -> dict[str, Tensor]:
        return {f"0/{name}": masks.ranked(self.score(name)) >= self.threshold(name) for name in self.masked}

    def extra_metrics(self) -> dict[str, float]:
        if not self.masked:
            return {}
        by_name = {name.removeprefix("0/"): mask for name, mask in self.masks().items()}
        layers = {f"density/{name.removesuffix('.weight')}": masks.density([m]) for name, m in by_name.items()}
        return {"density": masks.density(by_name.values())} | layers

    def ticket(self) -> dict[str, Tensor]:
        """The random weights and the masks over them: a plain net from which each task begins."""
        if not self.masked:
            return {}
        bits = {f"mask|{name.removeprefix('0/')}": mask.to(torch.uint8) for name, mask in self.masks().items()}
        return dict(self.net.state_dict()) | bits


def matching(key: str, names: list[str], patterns: Sequence[str]) -> list[str]:
    """The names that the patterns of a knob select.

    Raises:
        UsageError: they select none.
    """
    if selected := inner.selected(names, list(patterns)):
        return selected
    raise UsageError(f"method.{key}={list(patterns)} fits no weight of the backbone; there are {', '.join(names)}")
