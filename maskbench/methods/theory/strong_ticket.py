"""The construction of a strong lottery ticket: a target net, a random net, and the masks that make the one of the other.

The method registers the three as its own modules; this object works on them, layer by layer, and measures the result.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.common.errors import UsageError
from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore
from maskbench.methods.theory import certify
from maskbench.methods.theory.certify import Map
from maskbench.methods.theory.construct import SharedSums, TwoLayers, Watch
from maskbench.methods.theory.judgement import Judgement
from maskbench.methods.theory.scaling import Bracket, narrowest
from maskbench.methods.theory.targets import Target

MOST = 400_000_000  # candidate entries of the widest net that is tried


class StrongTicket:
    """Masks over a random net that make it compute a target, built layer by layer, with a certificate of the error.

    Args:
        net: the random net of `plan`, empty.
        target: what is approximated.
        book: an empty TensorStore for widths and masks, part of the method's state.
        plan: how layers are drawn, chosen and stored.
        width, eps_net, eps_weight, inputs, strict: as of the method (strong_tickets.py).
    """

    def __init__(
        self,
        net: nn.Module,
        target: Target,
        book: TensorStore,
        plan: TwoLayers | SharedSums,
        *,
        width: int | Literal["auto"],
        eps_net: float,
        eps_weight: float | None,
        inputs: Literal["auto", "ball", "nonnegative"],
        strict: bool,
    ) -> None:
        if width == "auto" and eps_weight is not None and eps_weight > eps_net:
            raise UsageError(
                f"method.eps_weight={eps_weight:g} is more than method.eps_net={eps_net:g}, within which no width would be "
                "certified: set method.width, or ask for less of a weight"
            )
        self.net, self.target, self.book, self.plan = net, target, book, plan
        self.width, self.eps_net, self.eps_weight, self.inputs, self.strict = width, eps_net, eps_weight, inputs, strict
        self.root = int(torch.randint(2**62, (1,)))  # names the streams of the random weights
        self.pieces = [f"layer {layer + 1}" for layer in range(target.depth)]

    # ---- target and tolerances

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """[outputs, inputs] of the target's layers."""
        return self.target.shapes

    @property
    def both(self) -> list[bool]:
        """Whether a layer's inputs may be negative, so that both sides are needed."""
        return [bool(self.book["both"]), *[False] * (self.target.depth - 1)]

    @property
    def done(self) -> bool:
        return all(f"bits/{name}" in self.book for layer in range(self.target.depth) for name in self.plan.names(layer))

    def trainable(self) -> list[nn.Parameter]:
        """A target that is to be trained before anything else; nothing later."""
        return list(self.target.parameters()) if self.target.source == "trained" and "width" not in self.book else []

    def goals(self) -> list[Tensor]:
        """The target's layers as they are approximated, float64."""
        return self.target.unit() if self.plan.normalised else self.target.weights()

    @property
    def scale(self) -> float:
        """Factor from the error of the approximated target to that of the target itself."""
        return math.prod(self.target.norms()) if self.plan.normalised else 1.0

    def tolerances(self) -> list[float]:
        """Of one weight, layer by layer."""
        if self.eps_weight is not None:
            return [self.eps_weight] * self.target.depth
        reach = 1.0 if self.plan.normalised else max(1.0, math.prod(self.target.norms()))
        return certify.tolerances(self.eps_net / reach, self.shapes, self.both)

    # ---- step 1: the target, and how wide

    def aim(self, stage: Stage, fit: Callable, train: Callable[[], Any]) -> dict[str, Any]:
        """Settle target and width; `train` trains the target, where `target=trained`.

        Raises:
            UsageError: inputs are negative where that was excluded, or no width is certified within eps_net.
        """
        self.target.prepare(stage, train)
        smallest = min(float(x.min()) for x, _ in stage.train.batches(10_000))
        if self.inputs == "nonnegative" and smallest < 0:
            raise UsageError(
                f"method.inputs=nonnegative, but inputs go down to {smallest:.3g}: take ball, or data.normalize=unit"
            )
        both = self.inputs == "ball" or (self.inputs == "auto" and smallest < 0)
        self.book.put("both", torch.tensor(both))
        width, tried = self.width, 0
        if width == "auto":
            bracket = self.search(self.guess(), fit)
            if bracket is None:
                raise UsageError(f"no random net that fits here is certified within method.eps_net={self.eps_net}: ask for less")
            width, tried = bracket.width, bracket.tried
        self.book.put("width", torch.tensor(width))
        self.book.put("dense", torch.tensor(self.plan.dense(self.shapes, width)))
        return {"widths_tried": tried, "headline": {"width": width, "weights": self.target.size}}

    def search(self, start: int, fit: Callable, floor: int = 0) -> Bracket | None:
        """The narrowest width above `floor` that is certified within eps_net; None: none that fits in memory is."""
        most = max(1, MOST // self.plan.candidates(self.shapes, 1))

        def measure(width: int) -> float:
            fit.watch(f"trying width {width}", 0, 1, {})
            return self.certified(width, lambda done, total: fit.watch(f"trying width {width}", done, total, {}))

        return narrowest(measure, self.eps_net, start, growth=self.plan.rule.growth, most=most, resolution=0.05, floor=floor)

    def guess(self) -> int:
        """Where a search starts: for subsets so wide that the input with fewest usable candidates has enough for its column
        of errors to be within a layer's share of eps; for single pairs narrow, as trying those costs next to nothing."""
        if self.plan.rule.growth >= 2:
            return 16
        from scipy.stats import binom

        d_out = max(shape[0] for shape in self.shapes)
        inputs = sum(shape[1] * (1 + two) for shape, two in zip(self.shapes, self.both, strict=True))
        enough = math.log2(math.sqrt(d_out) * self.target.depth / self.eps_net) + 1
        return next(n for n in range(4, 1000) if binom.cdf(enough, n, 0.5) <= 1 / inputs)

    def certified(self, width: int, watch: Watch) -> float:
        """The certificate of a random net of this width, without building it."""
        goals, maps = self.goals(), []
        for layer in range(len(goals)):
            candidates, kept = self.choose(layer, goals, width, watch)
            maps.append(self.plan.effect(candidates, kept, self.both[layer]))
        return certify.certificate(goals, maps)

    def choose(self, layer: int, goals: list[Tensor], width: int, watch: Watch) -> tuple[Any, Tensor]:
        """(random candidates of the layer, which of them are kept), as the plan has them."""
        candidates = self.plan.draw(goals, layer, width, self.root)
        return candidates, self.plan.choose(goals[layer], candidates, self.both[layer], self.tolerances()[layer], watch)

    # ---- step 2: a layer

    def build(self, piece: str, stage: Stage, fit: Callable) -> dict[str, Any]:
        """Draw a target layer's random layers and their masks; the numbers of the layer."""
        layer, width, dense = self.pieces.index(piece), int(self.book["width"]), bool(self.book["dense"])
        goals = self.goals()
        w = goals[layer]
        candidates, kept = self.choose(layer, goals, width, lambda done, total: fit.watch(piece, done, total, {}))
        tensors, layer_masks = self.plan.tensors(candidates, dense, self.root, layer), self.plan.masks(kept, dense)
        for name, weight, mask in zip(self.plan.names(layer), tensors, layer_masks, strict=True):
            self.net.get_submodule(name.removesuffix(".weight")).weight = weight
            self.book.put(f"bits/{name}", masks.pack(mask))
        error = certify.layer_error(w, self.plan.effect(candidates, kept, self.both[layer]))
        return {"headline": {"layer_error": error, "kept": int(sum(mask.sum() for mask in layer_masks)) / w.numel()}}

    # ---- the result, read back from the random net and the masks

    def masks(self) -> dict[str, Tensor]:
        """Bool, by the random net's own names."""
        held = [name for name in self.book.names() if name.startswith("bits/")]
        packed = {name.removeprefix("bits/"): self.book[name] for name in held}
        return {name: masks.unpack(bits, self.net.get_buffer(name).shape) for name, bits in packed.items()}

    def effective_weights(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        return {name: self.net.get_buffer(name).to(dtype) * mask for name, mask in self.masks().items()}

    def maps(self) -> list[Map]:
        """What each masked layer computes, as matrices."""
        by_name, maps = self.masks(), []
        for layer in range(self.target.depth):
            names = self.plan.names(layer)
            weights = [self.net.get_buffer(name) for name in names]
            maps.append(self.plan.read(weights, [by_name[name] for name in names], self.both[layer]))
        return maps

    def outputs(self, x: Tensor) -> Tensor:
        """The masked random net itself in float64, [points, outputs]."""
        return torch.func.functional_call(self.net, self.effective_weights(torch.float64), (x.double(),))

    def judge(self, stage: Stage) -> Judgement:
        """Target and stand-in side by side, for the record.

        Raises:
            UsageError: test inputs lie outside the domain that the masks were built for.
        """
        smallest = min(float(x.min()) for x, _ in stage.test.batches(10_000))
        if smallest < 0 and not self.both[0]:
            raise UsageError(f"test inputs go down to {smallest:.3g}, but no training input is negative: add method.inputs=ball")
        return Judgement(self)
