"""How many weights each layer keeps when the whole net keeps a share of them: uniform, ER, ERK, smart ratio.

Exact: the counts add up to ceil(keep * N). A layer that would get more than it has is kept whole, and the rest is shared out
again among the others; what rounding down leaves over goes to the largest fractions, the first layer among equals.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import floor, prod
from typing import Literal

from maskbench.common.errors import UsageError
from maskbench.masks.cuts import kept_count

Distribution = Literal["erk", "er", "uniform", "smart", "smart_vgg"]
Shapes = Mapping[str, Sequence[int]]  # of the masked weights, [outputs, inputs, *kernel] each, in the order of the forward pass
LINEAR = Fraction(3, 10)  # of each matrix, under the smart ratio


def layer_counts(shapes: Shapes, keep: float, distribution: str) -> dict[str, int]:
    """How many weights each layer keeps, ceil(keep * N) in all.

    `uniform`: of each layer the same share. `er` (SET, arXiv 1707.04780): eps * kh * kw * (in + out). `erk` (RigL, arXiv
    1911.11134): eps * (in + out + kh + kw), a density of eps * sum(dims) / prod(dims); the same for linear nets. `smart` (Su
    et al., arXiv 2009.11094): of each matrix 0.3, of convolution l of L layers a density proportional to
    (L - l + 1)^2 + (L - l + 1); `smart_vgg` divides that by l^2, as its authors do except for residual nets.

    Raises:
        UsageError: the smart ratio cannot give that many, since the convolutions have fewer or the matrices take more.
    """
    return share_out(shapes, kept_count(keep, sum(map(prod, shapes.values()))), distribution)


def share_out(shapes: Shapes, total: int, distribution: str, most: Mapping[str, int] | None = None) -> dict[str, int]:
    """How many of `total` weights each layer keeps, at most as many as it has, or as `most` says; see `layer_counts`.

    Raises:
        ValueError: there are fewer. UsageError: the smart ratio cannot give that many.
    """
    sizes = {name: prod(shape) for name, shape in shapes.items()} if most is None else dict(most)
    if not 0 <= total <= sum(sizes.values()):
        raise ValueError(f"cannot keep {total} of {sum(sizes.values())} weights")
    if total == sum(sizes.values()):
        return sizes
    if distribution.startswith("smart"):
        return smart(shapes, sizes, total, distribution)
    raw = RAW[distribution]
    return divided(total, sizes, {name: Fraction(raw(shape)) for name, shape in shapes.items()})


RAW: dict[str, Callable[[Sequence[int]], int]] = {  # a layer's part, by its shape
    "uniform": prod,
    "er": lambda shape: prod(shape[2:]) * (shape[0] + shape[1]),
    "erk": sum,
}


def smart(shapes: Shapes, sizes: Mapping[str, int], total: int, distribution: str) -> dict[str, int]:
    """The smart ratio: matrices 0.3 (rounded down), convolutions the rest, the more the earlier they stand."""
    matrices = {n: min(sizes[n], floor(LINEAR * prod(shape))) for n, shape in shapes.items() if len(shape) == 2}
    convolutions = {name: size for name, size in sizes.items() if name not in matrices}
    least, most = sum(matrices.values()), sum(matrices.values()) + sum(convolutions.values())
    if not least <= total <= most:
        of = sum(map(prod, shapes.values()))
        raise UsageError(
            f"method.distribution={distribution} keeps {float(LINEAR)} of each matrix and shares out the rest among "
            f"convolutions, which in this net is {least / of:.3g} to {most / of:.3g} of all weights, not {total / of:.3g}: keep "
            "a share within that, or take method.distribution=erk"
        )
    raw = {}
    for place, name in enumerate(shapes, 1):  # matrices have places, too
        back = len(shapes) - place + 1
        density = Fraction(back**2 + back, place**2 if distribution == "smart_vgg" else 1)
        raw[name] = density * prod(shapes[name])
    counts = matrices | divided(total - least, convolutions, {name: raw[name] for name in convolutions})
    return {name: counts[name] for name in shapes}


def divided(total: int, sizes: Mapping[str, int], raw: Mapping[str, Fraction]) -> dict[str, int]:
    """`total` shared out in proportion to `raw`, at most `sizes` each; exactly, in fractions."""
    full: set[str] = set()
    while True:
        free = [name for name in sizes if name not in full]
        eps = Fraction(total - sum(sizes[name] for name in full)) / (sum(raw[name] for name in free) or 1)
        over = [name for name in free if eps * raw[name] > sizes[name]]
        if not over:
            break
        full.add(max(over, key=lambda name: raw[name] / sizes[name]))
    exact = {name: Fraction(sizes[name]) if name in full else eps * raw[name] for name in sizes}
    counts = {name: floor(value) for name, value in exact.items()}
    left = total - sum(counts.values())
    for name in sorted(sizes, key=lambda name: counts[name] - exact[name])[:left]:
        counts[name] += 1
    return counts
