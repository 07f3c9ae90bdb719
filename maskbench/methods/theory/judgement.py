"""How near a masked random net comes to its target: the certificate, errors of weights, sizes, for the record."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.methods.theory import certify
from maskbench.methods.theory.widths import sufficient_width, typical_width

LISTED = 20  # weights that are named, at most


class Constructed(Protocol):
    """What is read of a finished construction (strong_ticket.py)."""

    book: Any
    target: Any
    plan: Any
    eps_net: float
    eps_weight: float | None
    strict: bool
    scale: float
    both: list[bool]
    shapes: list[tuple[int, int]]

    def goals(self) -> list[Tensor]: ...
    def maps(self) -> list[Any]: ...
    def tolerances(self) -> list[float]: ...
    def masks(self) -> dict[str, Tensor]: ...
    def outputs(self, x: Tensor) -> Tensor: ...
    def guess(self) -> int: ...
    def search(self, start: int, fit: Callable, floor: int = 0) -> Any: ...


class Judgement:
    """Target and stand-in as they stand at the end, in float64, and the distance between them."""

    def __init__(self, ticket: "Constructed") -> None:
        self.ticket, self.goals, self.maps = ticket, ticket.goals(), ticket.maps()
        self.certificate: float | None = certify.certificate(self.goals, self.maps)
        self.scale, self.nonnegative = ticket.scale, not ticket.both[0]
        self.dimension = self.goals[0].shape[1]
        self.target_map = [certify.linear(w) for w in self.goals]

    def difference(self, x: Tensor) -> Tensor:
        """Stand-in minus target through their matrices: cheap, with gradients."""
        return certify.run(self.maps, x) - certify.run(self.target_map, x)

    def real_difference(self, x: Tensor) -> Tensor:
        """The same through the masked random net itself."""
        return self.ticket.outputs(x) - certify.run(self.target_map, x)

    def target(self, x: Tensor) -> Tensor:
        """The approximated target in the inputs' own precision."""
        return certify.run([certify.Map(w.to(x.dtype), -w.to(x.dtype)) for w in self.goals], x.flatten(1))

    def errors(self) -> Iterator[tuple[float, Tensor]]:
        """(tolerance, |errors| of all weights and sides) of each layer."""
        for eps, w, stand_in in zip(self.ticket.tolerances(), self.goals, self.maps, strict=True):
            sides = [stand_in.plus - w] + ([] if stand_in.minus is None else [stand_in.minus + w])
            yield eps, torch.cat([side.abs().flatten() for side in sides])

    def check(self, fit: Callable) -> None:
        """Refuse a stand-in that is not certified within eps_net, where that is required.

        Raises:
            UsageError: it is not; names a width that would be.
        """
        ticket, width = self.ticket, int(self.ticket.book["width"])
        if not ticket.strict or self.certificate <= ticket.eps_net:
            return
        bracket = ticket.search(max(width + 1, ticket.guess()), fit, floor=width)
        mend = "no width that fits here would do" if bracket is None else (
            f"method.width={bracket.width} would do (measured: {bracket.error:.3g})"
        )  # fmt: skip
        raise UsageError(
            f"method.width={width} is too narrow for method.eps_net={ticket.eps_net}: the certificate is "
            f"{self.certificate:.3g}; {mend}, and method.strict=false measures without asking."
        )

    def numbers(self) -> dict[str, float | None]:
        """Sizes and errors for the record (pruning_theory.md section 3)."""
        ticket, plan = self.ticket, self.ticket.plan
        width, shapes, weights = int(ticket.book["width"]), ticket.shapes, ticket.target.size
        per_layer = list(self.errors())
        all_errors = torch.cat([errors for _, errors in per_layer])
        over = sum(int((errors > eps).sum()) for eps, errors in per_layer)
        kept = sum(int(mask.sum()) for mask in ticket.masks().values())
        candidates, entries = plan.candidates(shapes, width), plan.entries(shapes, width)
        quantiles = {f"weight_error/q{round(100 * q)}": quantile(all_errors, q) for q in (0.5, 0.95, 0.99)}
        finest = min(eps for eps, _ in per_layer)
        layers = [out for shape in shapes for out in plan.widths(shape, width)]
        return {
            "eps_net": ticket.eps_net,
            "eps_weight": finest,
            **quantiles,
            "weight_error/max": all_errors.max().item(),
            "weights_over_tolerance": over / len(all_errors),
            "weights_over_tolerance_count": over,
            "width": width,
            **self.formula_widths([eps for eps, _ in per_layer], len(all_errors)),
            **{f"random_width/{i + 1}": out for i, out in enumerate(layers)},
            "kept": kept,
            "kept_per_target_weight": kept / weights,
            "kept_per_candidate": kept / candidates,
            "kept_per_drawn": kept / entries,
            "candidates_per_target_weight": candidates / weights,
            "drawn_per_target_weight": entries / weights,
        }

    def formula_widths(self, tolerances: list[float], weights: int) -> dict[str, int | float | None]:
        """What formulas say (widths.py); nothing of candidates that no random net has."""
        plan = self.ticket.plan
        if not plan.normalised:
            return {"typical_width": None, "sufficient_width": None}
        needed = [
            sufficient_width(plan.rule.name, eps, weights, w.abs().max().item(), plan.distribution)
            for eps, w in zip(tolerances, self.goals, strict=True)
        ]
        return {"typical_width": typical_width(plan.rule.name, min(tolerances), weights), "sufficient_width": max(needed)}

    def table(self) -> list[dict[str, Any]]:
        """A line for each target layer."""
        ticket, rows = self.ticket, []
        for layer, ((eps, errors), w) in enumerate(zip(self.errors(), self.goals, strict=True)):
            layer_masks = [ticket.masks()[name] for name in ticket.plan.names(layer)]
            rows.append(
                {
                    "layer": f"{w.shape[1]}-{w.shape[0]}",
                    "norm": ticket.target.norms()[layer],
                    "median error": quantile(errors, 0.5),
                    "worst": errors.max().item(),
                    "tolerance": eps,
                    "over it": int((errors > eps).sum()),
                    "layer error": certify.layer_error(w, self.maps[layer]),
                    "kept/weight": int(sum(mask.sum() for mask in layer_masks)) / w.numel(),
                }
            )
        return rows

    def notes(self) -> list[str]:
        """Sentences for the record."""
        ticket, plan = self.ticket, self.ticket.plan
        widths = [out for shape in ticket.shapes for out in plan.widths(shape, int(ticket.book["width"]))]
        sentences = [f"Random net {'-'.join(map(str, [ticket.shapes[0][1], *widths]))}; solver: {plan.rule.solver}."]
        if plan.normalised and not bool(ticket.book["dense"]):
            sentences.append(
                "Of the first random layer of each pair only entries that a mask can keep are stored (storage=block); "
                "drawn_per_target_weight counts the dense random net."
            )
        if ticket.eps_weight is not None:
            sentences += self.exceptions()
        if not plan.normalised:
            sentences.append(
                "faithful_code: candidates as in the authors' code, shared by an output's weights; no random net has these."
            )
        return sentences

    def exceptions(self) -> list[str]:
        """The weights that are off by more than eps_weight, worst first."""
        exceptions = []
        for layer, (eps, w, stand_in) in enumerate(zip(self.ticket.tolerances(), self.goals, self.maps, strict=True)):
            off = (stand_in.plus - w).abs()
            if stand_in.minus is not None:
                off = torch.maximum(off, (stand_in.minus + w).abs())
            for j, i in (off > eps).nonzero().tolist():
                exceptions.append((off[j, i].item(), f"layer {layer + 1} [{j}, {i}] w = {w[j, i]:.4f} by {off[j, i]:.2g}"))
        if not exceptions:
            return []
        listed = [words for _, words in sorted(exceptions, reverse=True)[:LISTED]] + ["..."] * (len(exceptions) > LISTED)
        return [f"{len(exceptions)} weights are off by more than eps_weight={self.ticket.eps_weight}: {'; '.join(listed)}"]


def quantile(values: Tensor, q: float) -> float:
    """The empirical quantile, by selection: torch.quantile takes at most 16 million values."""
    return values.kthvalue(max(1, math.ceil(q * len(values)))).values.item()
