"""Learning to learn from few examples as one learner: MAML (Finn et al. 2017, arXiv 1703.03400), FOMAML, ANIL (Raghu et
al. 2020, arXiv 1909.09157), BOIL (Oh et al. 2021, arXiv 2008.08882) and Meta-ticket (Chijiwa et al. 2022, arXiv 2205.15619).

They differ in three selections of the net's weights: what the outer loop learns, what the inner loop adapts to a task, and
what is masked. A masked weight keeps its random initial value for ever; what is learnt is whether it exists. Only what does
not exist may be drawn anew (`redraw_every`). Without inner steps in training (`steps=0`) this is MAML's baseline: plain training
on all tasks at once, adapted to each in testing.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Annotated, ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskbench import masks
from maskbench.backbones.batch_statistics import by_first
from maskbench.backbones.initial import RULES, Law
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Length, Positive, Probability, Share, Whole
from maskbench.common.streams import seeded
from maskbench.data.episodes.stages import EpisodeStage, Tasks
from maskbench.methods.meta import inner
from maskbench.methods.meta.inner import Weights
from maskbench.training.evaluate import BATCH, device_of
from maskbench.training.method import Method, Progress


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
            sum over the K shots a class, which is the number of ways times the mean of a support set, and more where there
            are more queries than shots. A squared error is a mean in both.
        clip: the largest entry of an outer gradient; larger ones are cut to it (null: none is).
        test_rates: learning rates of the inner loop in testing, of which training ends by taking the one with the least loss
            on the validation episodes after `test_steps`; null: `rate`.
        redraw_every: outer steps after which masked weights that are off are drawn anew, again and again; null: never.
        redraw_share: chance of each of them to be; null: 1.
        side_by_side: tasks in one batched computation (vmap): true, false, or `auto`: unless the net has convolutions and
            runs on a CPU.

    Raises:
        UsageError: patterns fit no weight of the backbone.
    """

    drawn_by_rule: ClassVar = {"masked": "weights that are masked are drawn by method.weights"}  # cli/parts.py

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
        weights: Law = "kaiming_normal",
        scores: Literal["learned", "fixed"] = "learned",
        reduction: Literal["mean", "paper"] | None = None,
        clip: Positive | None = None,
        test_rates: Annotated[Sequence[Positive], Length(least=1)] | None = None,
        redraw_every: Count | None = None,
        redraw_share: Probability | None = None,
        side_by_side: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__(net)
        names = [name for name, _ in net.named_parameters()]
        self.masked = inner.selected(masks.sites(net), list(masked)) if masked else []
        self.outer = [n for n in inner.selected(names, list(outer)) if n not in self.masked]
        self.rates = dict.fromkeys(matching("adapted", names, adapted), rate)
        if masked and not self.masked:
            raise UsageError(f"method.masked={list(masked)} fits no weight; there are {', '.join(masks.sites(net))}")
        if redraw_share is not None and redraw_every is None:
            raise UsageError("method.redraw_share goes with method.redraw_every, outer steps such as 1000")
        self.count, self.test_count, self.first_order = steps, test_steps, first_order
        self.learned, self.summed, self.clip = scores == "learned", reduction == "paper", clip
        self.rule, self.redraw_every, self.redraw_share = weights, redraw_every, 1.0 if redraw_share is None else redraw_share
        self.batched = side_by_side if side_by_side != "auto" else None
        self.convolutions = any(isinstance(module, nn.Conv2d) for module in net.modules())
        self.scores, self.thresholds = nn.ParameterDict(), nn.Module()
        for name in self.masked:
            self.draw(name, dropped)
        self.test_rates = test_rates
        if test_rates is not None:  # which of them was chosen; -1: none yet
            self.register_buffer("chosen", torch.tensor(-1))

    def draw(self, name: str, dropped: float) -> None:
        """Random weights, scores, and the score from which on a weight exists: section 2, items 1 and 2."""
        w = self.net.get_parameter(name)
        RULES[self.rule](w)
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
        if self.test_rates is not None:
            losses = [self.validation_loss(stage, choice) for choice in range(len(self.test_rates))]
            self.chosen.fill_(losses.index(min(losses)))

    def after_backward(self, progress: Progress) -> None:
        """Cut the entries of the outer gradient."""
        if self.clip is not None:
            for p in self.trainable_parameters():
                if p.grad is not None:
                    p.grad.clamp_(-self.clip, self.clip)

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Draw what does not exist anew, in its time: section 2, item 6."""
        if self.redraw_every is None or (progress.step + 1) % self.redraw_every:
            return
        for name, mask in self.masks().items():
            self.redraw(name.removeprefix("0/"), mask, (*progress.stream, "hook", progress.step, "redraw"))

    def redraw(self, name: str, mask: Tensor, stream: tuple) -> None:
        """Values as at the start for weights that are off, each with the chance `redraw_share`: of a stream of their own, on the
        CPU, so that they are the same on every device and training's other draws stay."""
        w = self.net.get_parameter(name)
        with seeded(*stream, name):
            fresh = torch.empty(w.shape, dtype=w.dtype)
            RULES[self.rule](fresh)
            chosen = torch.rand(w.shape) < self.redraw_share
        w.copy_(torch.where(chosen.to(w.device) & ~mask, fresh.to(w.device), w))

    def loss(self, batch: tuple[Tasks, Tensor], stage: EpisodeStage) -> Tensor:
        """Mean over tasks of the query loss after the inner loop on the support set."""
        (x, support_y), y = batch
        start, binary, size = self.start(), self.binary_masks(), support_y.shape[1]

        def one(x: Tensor, support_y: Tensor, y: Tensor) -> Tensor:
            def support_loss(weights: Weights) -> Tensor:
                return self.reduced(self.output(weights, binary, x[:size]), support_y, stage, size)

            weights = inner.adapted(support_loss, start, self.rates, self.count, self.first_order)
            return self.reduced(self.output(weights, binary, x[size:]), y, stage, size)

        return inner.over_tasks(one, x, support_y, y, side_by_side=self.side_by_side()).mean()

    def after(self, tasks: Tasks, stage: EpisodeStage, counts: Sequence[int], inductive: bool = False) -> Tensor:
        """Query outputs after so many inner steps each, [counts, tasks, queries, outputs].

        Norms take their statistics from the query set (transductive), or `inductive` from the support set.
        """
        start, binary, size = self.start(), self.binary_masks(), tasks.y.shape[1]
        rates = self.rates_of_testing()

        def one(x: Tensor, support_y: Tensor) -> Tensor:
            def support_loss(weights: Weights) -> Tensor:
                return self.reduced(self.output(weights, binary, x[:size]), support_y, stage, size)

            def query(weights: Weights) -> Tensor:
                if not inductive:
                    return self.output(weights, binary, x[size:])
                with by_first(self.net, size):
                    return self.output(weights, binary, x)[size:]

            path = islice(inner.steps(support_loss, start, rates, first_order=True), max(counts) + 1)
            answers = {count: query(weights) for count, weights in enumerate(path) if count in set(counts)}
            return torch.stack([answers[count] for count in counts])

        return inner.over_tasks(one, *tasks, side_by_side=self.side_by_side()).transpose(0, 1)

    # ---- its parts

    def reduced(self, outputs: Tensor, y: Tensor, stage: EpisodeStage, support: int) -> Tensor:
        """The loss of one task's set, a scalar: outputs [examples, outputs], y [examples] or [examples, values]; `support`:
        the rows of its support set, K a class."""
        loss = stage.criterion(outputs, y)
        return loss * (outputs.shape[-1] * len(y) / support) if self.summed and not y.is_floating_point() else loss

    @torch.no_grad()
    def validation_loss(self, stage: EpisodeStage, choice: int) -> float:
        """Mean over the validation episodes after the inner steps of testing at one of `test_rates`, by its place."""
        self.eval()
        self.chosen.fill_(choice)
        losses = [
            stage.criterion(self.logits(tasks, stage).flatten(0, 1), y.flatten(0, 1)).item() * len(y)
            for tasks, y in stage.val.batches(BATCH, device_of(self))
        ]
        return sum(losses) / len(stage.val)

    def rates_of_testing(self) -> dict[str, float]:
        """The inner loop's rate of each weight that moves, in testing."""
        if self.test_rates is None or (choice := self.chosen.item()) < 0:
            return self.rates
        return dict.fromkeys(self.rates, self.test_rates[choice])

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

    def masked_weights(self) -> list[str]:
        return list(self.masked)

    @torch.no_grad()
    def masks(self) -> dict[str, Tensor]:
        return {f"0/{name}": masks.ranked(self.score(name)) >= self.threshold(name) for name in self.masked}

    def extra_metrics(self) -> dict[str, float]:
        rate = {} if self.test_rates is None else {"test_rate": next(iter(self.rates_of_testing().values()))}
        if not self.masked:
            return rate
        by_name = {name.removeprefix("0/"): mask for name, mask in self.masks().items()}
        layers = {f"density/{name.removesuffix('.weight')}": masks.density([m]) for name, m in by_name.items()}
        return {"density": masks.density(by_name.values())} | layers | rate

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
