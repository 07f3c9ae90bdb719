"""How many weights each level of pruning leaves where: rates by level and by layer, under every scope."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor

from maskbench import masks
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Length, OpenShare
from maskbench.masks import distributions, scopes

Rate = OpenShare | Annotated[Sequence[OpenShare], Length(least=1)]  # of every level; or one a level, the last of them goes on
Shapes = distributions.Shapes


class Levels:
    """Counts of what is left, from level to level: of weights, of units under the scope `unit`; under `global` of all as "".

    Args:
        shapes: of the masked weights. scope, distribution: as masks/scopes.py has them; None: each layer has its own rate.
        rate: share of what is left that a level prunes. conv_rate: in convolutions; output_rate: in `head`, None: half of `rate`.
        layers: rates of single layers by their names, which win. whole: layers that keep all their units (masks/units.py).

    Raises:
        UsageError: keys contradict each other, a layer of a rate has no mask, M does not divide a layer's inputs, or the
            distribution cannot be had.
    """

    def __init__(
        self,
        shapes: Shapes,
        scope: str,
        *,
        rate: Rate,
        conv_rate: Rate | None = None,
        output_rate: Rate | None = None,
        layers: Mapping[str, Rate] | None = None,
        distribution: str | None = None,
        whole: Sequence[str] = (),
    ) -> None:
        self.shapes, self.scope, self.distribution, self.whole = shapes, scope, distribution, whole
        self.pattern = scopes.of_each(scope)
        own = {"method.conv_rate": conv_rate, "method.output_rate": output_rate, "method.layer_rates": layers}
        refuse(scope, distribution, [key for key, value in own.items() if value is not None])
        if self.pattern:
            scopes.require_divisible(shapes, scope)
        rate = steps(rate)
        self.rates = {"": rate}
        for name, shape in shapes.items():
            self.rates[name] = rate if conv_rate is None or len(shape) < 3 else steps(conv_rate)
            if name == "head.weight":
                self.rates[name] = [share / 2 for share in rate] if output_rate is None else steps(output_rate)
        for layer, share in (layers or {}).items():
            mine = [name for name in shapes if name.rpartition(".")[0] == layer]
            if not mine:
                known = ", ".join(name.rpartition(".")[0] for name in shapes)
                raise UsageError(f"method.layer_rates: no layer called '{layer}' has a mask here. Layers with one: {known}.")
            if scopes.by_unit(scope) and set(mine) <= set(whole):
                raise UsageError(
                    f"method.layer_rates.{layer}: its units are the net's outputs, which method.scope={scope} keeps; leave it out"
                )
            self.rates |= dict.fromkeys(mine, steps(share))
        if distribution:
            self.fewer({name: torch.Size(shape).numel() for name, shape in shapes.items()}, 0)

    def share(self, name: str, level: int) -> float:
        """The share of what is left that goes from a layer, or under the name "" from the whole net, at a level from 0."""
        return self.rates[name][min(level, len(self.rates[name]) - 1)]

    def fewer(self, counts: Mapping[str, int], level: int) -> dict[str, int]:
        """The counts after pruning number `level`, from 0."""
        if self.pattern:
            n, m = self.pattern
            return {name: torch.Size(shape).numel() * n // m for name, shape in self.shapes.items()}
        if self.scope == "layer" and self.distribution:
            left = sum(counts.values())
            return distributions.share_out(self.shapes, left - round(self.share("", level) * left), self.distribution, counts)
        return {name: self.left(name, count, level) for name, count in counts.items()}

    def left(self, name: str, count: int, level: int) -> int:
        if scopes.by_unit(self.scope):
            return count if name in self.whole else max(1, count - round(self.share(name, level) * count))
        rows = self.shapes[name][0] if self.scope == "row" else 1
        return rows * (count // rows - round(self.share(name, level) * (count // rows)))

    def exhausted(self, counts: Mapping[str, int], level: int) -> bool:
        """Whether there is no pruning number `level`, from 0: N:M has one, and the smart ratio needs 0.3 of matrices."""
        try:
            self.fewer(counts, level)
        except UsageError:
            return True
        return self.pattern is not None and level > 0


def refuse(scope: str, distribution: str | None, rates: Sequence[str]) -> None:
    """Hold keys to each other.

    Args:
        rates: the keys of rates by layer that are set.

    Raises:
        UsageError: one has no meaning beside another.
    """
    if rates and scopes.of_each(scope):
        raise UsageError(f"{rates[0]} contradicts method.scope={scope}, which says what every layer keeps: leave it null")
    if distribution and scope != "layer":
        raise UsageError(
            f"method.distribution={distribution} says what each layer keeps, and method.scope={scope} does not rank by layer: "
            "leave method.distribution null, or take method.scope=layer"
        )
    if rates and distribution:
        raise UsageError(
            f"{rates[0]} and method.distribution={distribution} both say what each layer keeps: leave one of them null"
        )
    if scope == "global" and "method.layer_rates" in rates:
        raise UsageError(
            "method.layer_rates has no meaning under method.scope=global, which ranks all layers as one: leave it null"
        )


def steps(rate: Rate) -> Sequence[float]:
    return [rate] if isinstance(rate, float | int) else list(rate)


# ---- masks of these counts at random places


def random(
    kind: str, kept: Mapping[str, Tensor], scope: str, follow: scopes.Follow | None = None, whole: Sequence[str] = ()
) -> dict[str, Tensor]:
    """As many weights as `kept` has, at random: `random` in each layer, `random_even` the same share of each layer,
    `random_global` of the whole net.

    A scope that is a pattern keeps it: under N:M all three are random N:M masks; under `unit` units are counted and drawn. Under
    `row`, `random` has the counts of every row.
    """
    everywhere = {name: torch.ones_like(m) for name, m in kept.items()}
    if scopes.of_each(scope) or scopes.by_unit(scope) or (scope == "row" and kind == "random"):
        lots = {name: torch.rand_like(m, dtype=torch.float) for name, m in kept.items()}
        counts = scopes.living(kept, scope)
        if scopes.by_unit(scope) and kind != "random":
            counts |= units_anywhere(kind, counts, {name: len(m) for name, m in kept.items() if name not in whole})
        return scopes.best(lots, everywhere, scope, counts, follow)
    if kind == "random_global":
        lots = {name: torch.rand_like(m, dtype=torch.float) for name, m in kept.items()}
        return scopes.best(lots, everywhere, "global", {"": sum(int(m.sum()) for m in kept.values())})
    counts = {name: int(m.sum()) for name, m in kept.items()}
    counts = counts if kind == "random" else evenly(counts, {name: m.numel() for name, m in kept.items()})
    return {n: masks.keep_best(torch.rand_like(m, dtype=torch.float), everywhere[n], counts[n]) for n, m in kept.items()}


def units_anywhere(kind: str, counts: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, int]:
    """As many units of hidden layers in all, evenly or by lot; of each layer one at least."""
    counts = {name: counts[name] for name in sizes}
    if kind == "random_even":
        return {name: max(1, count) for name, count in evenly(counts, sizes).items()}
    ends = list(running(sizes.values()))
    drawn = torch.randperm(ends[-1])[: sum(counts.values())]
    return {
        name: max(1, int(((drawn >= end - size) & (drawn < end)).sum()))
        for (name, size), end in zip(sizes.items(), ends[1:], strict=True)
    }


def evenly(counts: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, int]:
    """As many in all, and of each layer the same share, to one weight."""
    share, ends = sum(counts.values()) / sum(sizes.values()), list(running(sizes.values()))
    return {
        name: round(share * end) - round(share * (end - size)) for (name, size), end in zip(sizes.items(), ends[1:], strict=True)
    }


def running(sizes: Sequence[int]) -> Iterator[int]:
    """0, and the sum after each."""
    total = 0
    yield total
    for size in sizes:
        total += size
        yield total
