"""Lottery tickets (Frankle & Carbin 2019, arXiv 1803.03635) and what Zhou et al. (2019, arXiv 1905.01067) took them apart into.

Train, keep the weights a criterion ranks highest, set the kept ones back to where they started (mask-1 action), the
pruned ones to zero (mask-0 action), and again. One level of pruning is `shrink`; the task counts the levels.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Self, final, get_args

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones import initial
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Dotted, Layers, Whole
from maskbench.common.named import named
from maskbench.data.stage import Stage
from maskbench.masks import criteria, scopes
from maskbench.masks.criteria import Criterion
from maskbench.masks.distributions import Distribution
from maskbench.masks.scopes import Scope
from maskbench.masks.stores import MaskBank, TensorStore
from maskbench.masks.units import units
from maskbench.methods.prune import actions, levels, scoring
from maskbench.methods.prune.actions import Mask0, Mask1
from maskbench.methods.prune.kernel import Choice, Kernel
from maskbench.methods.prune.levels import Levels, Rate
from maskbench.training.method import Method

BranchMask = Literal["same", "random", "random_global", "random_even", "one_shot", "same_sign", "diff_sign"]


@final
class Lottery(Method):
    """A net that is trained, pruned and rewound, level after level.

    Args:
        net: the backbone; its Linear and Conv weights are pruned, biases and norms never.
        criterion: which weights stay: a function of maskbench.masks.criteria by name, or any importable one by its dotted
            path.
        rate: share of what is left that a level prunes; or a list, one a level, the last of which goes on.
        conv_rate: that share in convolutional layers; null: `rate`.
        output_rate: that share in the output layer; null: half of `rate`.
        layer_rates: that share in single layers, by name (`{head: 0.1}`), which win.
        scope: what is ranked together: each `layer`; all weights (`global`: then `rate` alone counts); each `row`, the weights
            into a unit, with equal counts; each M inputs (`N:M`: one level, whatever the rate); whole units by the l2 (`unit`) or
            l1 norm (`unit_l1`) of their scores, with which their biases and the weights out of them go.
        distribution: how layers share what a level leaves of the whole net (then `rate` alone counts), under scope `layer`:
            `erk`, `er`, `uniform`, `smart`; null: by their own rates.
        dense: modules that are never pruned (`[head]`).
        mask1: what kept weights become: `rewind` (their initial values), `reinit`, `permute`, `reshuffle`, `constant`, or one
            of these with `signed_` before it or `_rescaling` behind it; or any importable function of a Layer by its dotted path.
        mask0: what pruned weights are frozen at: `zero`, `freeze_init`, or one of its variants and controls; or any
            importable function of a Layer by its dotted path.
        rewind_step: the step whose weights kept ones go back to; training then goes on from that step of the schedule and
            of the data order (arXiv 1912.05671; 0 is the original paper).
        gradient_batch: images for the criteria that use a gradient or the norms of inputs.
        mask_step: the step of each training whose weights criteria and mask-0 actions take for its end; null: the last.
        resets: whether kept weights go back before each level. false: training goes on from where it stands (appendix B of
            the paper, strategy 2), and a branch `{mask: same}` goes back once, at its level.
        kernel: of masked Linear layers, if mask0 is zero: null, `dense` (w * m), `csr` (kept values alone), `auto` (the cheaper).
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        criterion: Criterion = "large_final",
        rate: Rate = 0.2,
        conv_rate: Rate | None = None,
        output_rate: Rate | None = None,
        layer_rates: Mapping[str, Rate] | None = None,
        scope: Scope = "layer",
        distribution: Distribution | None = None,
        dense: Layers = (),
        mask1: Mask1 | Dotted = "rewind",
        mask0: Mask0 | Dotted = "zero",
        rewind_step: Whole = 0,
        gradient_batch: Count = 128,
        mask_step: Count | None = None,
        resets: bool = True,
        kernel: Choice | None = None,
    ) -> None:
        if mask_step and rewind_step:
            raise UsageError("method.mask_step looks at one step of a training, method.rewind_step at another: set one of them")
        if not resets and (rewind_step or mask1 != "rewind"):
            raise UsageError("method.resets=false sets no weight back: leave method.mask1 and method.rewind_step as they are")
        if scopes.by_unit(scope) and mask0 != "zero":
            raise UsageError(
                f"method.scope={scope} takes units out, and method.mask0={mask0} keeps what they weighed: set method.mask0=zero"
            )
        super().__init__(net)
        self.sites, self.scope = masks.sites(net, skip=dense), scope
        self.units = units(net, self.sites) if scopes.by_unit(scope) else None
        self.follow, whole = (self.units.follow, self.units.whole) if self.units else (None, [])
        self.levels = Levels(
            {name: net.get_parameter(name).shape for name in self.sites},
            scope,
            rate=rate,
            conv_rate=conv_rate,
            output_rate=output_rate,
            layers=layer_rates,
            distribution=distribution,
            whole=whole,
        )
        self.criterion = named("method.criterion", criterion, criteria)
        self.mask0, self.kernel = mask0, Kernel(kernel or "dense")
        self.on_kept, self.on_pruned = actions.mask1(mask1), actions.mask0(mask0)
        self.rewind_step, self.gradient_batch, self.mask_step, self.resets = rewind_step, gradient_batch, mask_step, resets
        self.start = TensorStore()  # what kept weights (and biases, norms) go back to before each training
        self.begin = TensorStore()  # the first start, which criteria and controls refer to
        self.first = TensorStore()  # the dense net's end, for one-shot masks
        self.early = TensorStore()  # the weights at `mask_step` of the last training
        self.alive, self.held = TensorStore(), TensorStore()  # mask as floats, and the values of pruned weights
        self.living = TensorStore()  # under scope `unit` masks over biases, gains and shifts, as floats
        self.book = MaskBank({name: net.get_parameter(name).shape for name in self.sites})  # the mask of every level
        for name, value in net.state_dict().items():
            self.start.put(name, value)
            self.begin.put(name, value)
        for name in self.sites:
            self.alive.put(name, torch.ones_like(net.get_parameter(name)))
            self.held.put(name, torch.zeros_like(net.get_parameter(name)))
        self.silence()
        self.register_buffer("level", torch.tensor(0))

    # ---- training what is left

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        w = {name: self.net.get_parameter(name) for name in self.sites}
        if self.mask0 == "zero":
            vectors = {name: self.net.get_parameter(name) * self.living[name] for name in self.living.names()}
            compact = self.kernel.effective_weights(self.net)
            return compact | {name: w[name] * self.alive[name] for name in self.sites if name not in compact} | vectors
        return {name: torch.addcmul(self.held[name], w[name], self.alive[name]) for name in self.sites}

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return self.kernel.trainable_parameters(self.net)

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.rewind()
        late = self.rewind_step > 0
        look = ([self.mask_step], self.look) if self.mask_step else None
        if self.level == 0:
            fit(
                self,
                stage,
                order="tickets" if late else None,
                callbacks_at_steps=([self.rewind_step], self.remember) if late else look,
                shared=self.dense_phase(),
            )
            for name, value in (dict(self.net.state_dict()) | self.trained()).items():
                self.first.put(name, value)
            self.book.write(0, {name: self.alive[name].bool() for name in self.sites})
        else:
            with self.kernel.compacted(self.net, self.zeros()):
                fit(self, stage, order="tickets" if late else None, begin=self.rewind_step, callbacks_at_steps=look)

    def zeros(self) -> dict[str, Tensor]:
        """The masks whose zeros are zeros of the net, and not values that it keeps."""
        return {name: self.alive[name].bool() for name in self.sites} if self.mask0 == "zero" else {}

    def dense_phase(self) -> nn.Module | None:
        """What the training of the dense net, before anything is pruned, reads and writes: so runs that differ in what comes
        later have it in common. The net; with late rewinding also what is remembered on the way."""
        if self.mask_step:
            return None
        return self if self.rewind_step else self.net

    def look(self) -> None:
        """The weights now are what the next mask is drawn by."""
        self.kernel.settle(self.net)
        for name in self.sites:
            self.early.put(name, self.net.get_parameter(name))

    def trained(self) -> dict[str, Tensor]:
        """The weights that a training ended with, or those at `mask_step`.

        Raises:
            UsageError: it did not last so long.
        """
        if self.mask_step is None:
            return {name: self.net.get_parameter(name) for name in self.sites}
        if not self.early.names():
            raise UsageError(f"method.mask_step={self.mask_step} is beyond the steps of a training: take an earlier one")
        return {name: self.early[name] for name in self.sites}

    @torch.no_grad()
    def rewind(self) -> None:
        """Weights, biases and norm statistics as they were at the start."""
        for name, value in self.net.state_dict().items():
            value.copy_(self.start[name])

    def remember(self) -> None:
        """Late rewinding: the weights now are what later levels start from."""
        for name, value in self.net.state_dict().items():
            self.start.put(name, value)
            self.begin.put(name, value)

    # ---- the next level

    @torch.no_grad()
    def shrink(self, stage: Stage) -> None:
        """Prune one level: score what is alive, keep the best, act on the kept and on the pruned, and rewind."""
        before = {name: self.alive[name].bool() for name in self.sites}
        final = self.trained()
        init = {name: (self.start if self.resets else self.begin)[name] for name in self.sites}
        ended = {} if self.resets else {name: value.clone() for name, value in self.net.state_dict().items()}
        kept = self.draw(stage, init, final, before, self.fewer(self.counts(before)))
        self.act(init, final, kept, before)
        for name, value in ended.items():  # what the next level goes on from
            self.start.put(name, value)
        self.rewind()
        self.level += 1
        self.book.write(int(self.level), kept)

    def counts(self, alive: dict[str, Tensor]) -> dict[str, int]:
        """How many weights are alive, by layer (units, where these are ranked); under the name "" of all, where these are."""
        return scopes.living(alive, self.scope)

    def fewer(self, counts: dict[str, int], level: int | None = None) -> dict[str, int]:
        """The counts that are left after pruning number `level`, from 0; None: the next one."""
        return self.levels.fewer(counts, int(self.level) if level is None else level)

    def exhausted(self) -> bool:
        """Whether there is no further level, by the scope or the distribution."""
        alive = {name: self.alive[name].bool() for name in self.sites}
        return self.levels.exhausted(self.counts(alive), int(self.level))

    def draw(
        self,
        stage: Stage,
        init: dict[str, Tensor],
        final: dict[str, Tensor],
        alive: dict[str, Tensor],
        keep: dict[str, int],
        criterion: Callable | None = None,
    ) -> dict[str, Tensor]:
        """The mask that keeps the best of `alive` by the criterion: exact counts, ties broken at random."""
        scores = scoring.Scores(
            self.net,
            init,
            final,
            alive,
            at={name: self.begin[name] for name in self.begin.names()},
            batch=lambda: scoring.some_rows(stage, self.gradient_batch, self.level.device),
            loss=getattr(stage, "criterion", None),
            shape=getattr(stage, "shape", ()),
        )
        return scoring.draw(criterion or self.criterion, scores, self.scope, keep, self.follow)

    def act(self, init: dict[str, Tensor], final: dict[str, Tensor], kept: dict[str, Tensor], before: dict[str, Tensor]) -> None:
        """Apply the mask-1 and mask-0 actions: set start values, masks, and values of what is pruned now.

        What was pruned before keeps the value it was given then.
        """
        fresh = self.fresh()
        for name in self.sites:
            layer = actions.Layer(init[name].clone(), final[name].detach(), kept[name], lambda n=name: fresh()[n], before[name])
            held = torch.where(before[name], self.on_pruned(layer), self.held[name])
            self.held.put(name, held.masked_fill(kept[name], 0.0))
            start = self.on_kept(layer)
            if self.mask0 == "freeze_init_zero_all":
                start = start.masked_fill(layer.toward_zero, 0.0)
            self.start.put(name, start)
            self.alive.put(name, kept[name].float())
        self.silence()
        self.rewind()

    def silence(self) -> None:
        """Masks over the vectors of units, where whole units go: a dead one has no bias, gain or shift."""
        kept = {name: self.alive[name].bool() for name in self.sites}
        for name, living in (self.units.masks(kept) if self.units else {}).items():
            self.living.put(name, living.float())

    def fresh(self) -> Callable[[], dict[str, Tensor]]:
        """A function that draws all weights anew from the initial distribution, once."""
        made: dict[str, Tensor] = {}

        def values() -> dict[str, Tensor]:
            if not made:
                made.update(initial.fresh(self.net))
            return made

        return values

    # ---- controls: other nets of the same counts

    @torch.no_grad()
    def branch(
        self,
        stage: Stage,
        *,
        mask: BranchMask = "same",
        level: Whole | None = None,
        criterion: Criterion | None = None,
        mask1: Mask1 | Dotted = "rewind",
        mask0: Mask0 | Dotted = "zero",
    ) -> Self:
        """Turn this method into a control of itself.

        Args:
            mask: `same`; `random`: the counts of each layer at random places (under scope N:M another pattern, under `unit` other
                units); `random_global`: as many of the whole net; `random_even`: as many, the same share of each layer;
                `one_shot`: drawn at once from the dense net's end, with this level's counts; `same_sign`, `diff_sign`: all
                weights whose sign training kept or flipped (the `single` masks of Zhou et al., which have no rate or scope).
            level: whose counts a one-shot mask has (None: the present one's). criterion: of it (None: the method's own).
            mask1, mask0: actions, applied once to the first start; moves are judged on the dense training.
        """
        everywhere = {name: torch.ones_like(self.alive[name]).bool() for name in self.sites}
        first, begin = ({name: store[name] for name in store.names()} for store in (self.first, self.begin))
        kept = {name: self.alive[name].bool() for name in self.sites}
        for name in () if self.resets else self.begin.names():  # biases and norms, too, go back
            self.start.put(name, self.begin[name])
        if mask in ("random", "random_even", "random_global"):
            kept = levels.random(mask, kept, self.scope, self.follow, self.units.whole if self.units else [])
        elif mask in ("same_sign", "diff_sign"):
            kept = {n: begin[n] * first[n] * (1 if mask == "same_sign" else -1) > 0 for n in self.sites}
        elif mask == "one_shot":
            keep = self.counts(kept if level is None else everywhere)
            for number in range(level or 0):
                keep = self.fewer(keep, number)
            chosen = named("criterion", criterion, criteria) if criterion else self.criterion
            kept = self.draw(stage, begin, first, everywhere, keep, chosen)
        elif mask != "same":
            raise UsageError(f"task.branches: a branch's mask is one of {', '.join(get_args(BranchMask))}, not {mask}")
        self.mask0, self.on_kept, self.on_pruned = mask0, actions.mask1(mask1), actions.mask0(mask0)
        self.act(begin, first, kept, everywhere)
        self.book.rewrite(int(self.level), kept)
        return self

    # ---- for the record

    def masked_weights(self) -> list[str]:
        return list(self.sites)

    def masks(self) -> dict[str, Tensor]:
        return self.book.named()

    def extra_metrics(self) -> dict[str, float]:
        return masks.densities(self.net, {name: self.alive[name] for name in self.sites})

    def fingerprints(self) -> dict[str, Any]:
        return self.kernel.fingerprints(self.net, self.zeros()) if self.kernel.choice != "dense" else {}

    def ticket(self) -> dict[str, Tensor]:
        """The first start and the last mask: what `method=dense init=ticket:FILE` trains."""
        start = {name: self.begin[name] for name in self.begin.names()}
        start |= {name: start[name] * self.living[name] for name in self.living.names()}
        return start | {f"mask|{name}": self.alive[name].to(torch.uint8) for name in self.sites}
