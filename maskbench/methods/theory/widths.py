"""How many candidates are enough? What a typical weight needs, and what is proved to do for all weights at once.

A candidate of a weight is a product x = |u| v that counts where u has the weight's side, so half of the time. Its density
falls with |x|, as that of the product of two uniform or of two normal numbers does. For subset sums the proof is the growth
of what is covered (Lueker 1998; here with constants):

Let S be the part of [-B, B] that some sum comes within eps / 2 of, f its share, c = 2 B, and h(c) the density at c. One more
candidate covers S shifted by x, too. So f grows to 2 f at most, and on average by rho f (1 - f) or more, rho = c h(c): from
a point outside of S, every point of S is at most c away. Along the chord of the convex (1 - f) / f from f to min(2 f, 1),

    E[(1 - f') / f'] <= (1 - rho / 2) (1 - f) / f.

It starts at f = eps / (2 B). What is left uncovered is shorter than eps / 2, and so all of [-B, B] within eps, unless
1 - f > eps / (4 B), whose probability after n candidates is at most 8 (B / eps)^2 (1 - rho / 2)^n (Markov). A weight beyond B
is first brought there by candidates between B and 2 B, each of which takes B or more off.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

MISS = 0.01  # probability that some weight is off by more than asked for


class Law(NamedTuple):
    """Of the random weights, by functions of x >= 0.

    Attributes:
        reach: beyond which no number lies.
        density: of the candidates that count. mass: the probability that one counts and lies between 0 and x.
        cdf: of a single number, of any x.
    """

    reach: float
    density: Callable[[float], float]
    mass: Callable[[float], float]
    cdf: Callable[[float], float]

    def between(self, low: float, high: float) -> float:
        """The probability that a candidate counts and lies between two numbers."""
        return self.mass(high) - self.mass(low)

    def near(self, x: float, e: float) -> float:
        """The probability that a single number is within e of x >= 0 and not negative."""
        return self.cdf(x + e) - self.cdf(max(0.0, x - e))


def uniform_mass(x: float) -> float:
    x = min(x, 1.0)
    return (x - x * math.log(x)) / 4 if x > 0 else 0.0


def normal_density(x: float) -> float:
    from scipy.special import k0

    return float(k0(x)) / (2 * math.pi)


def normal_mass(x: float) -> float:
    from scipy.special import iti0k0

    return float(iti0k0(x)[1]) / (2 * math.pi)


LAWS = {
    "uniform": Law(1.0, lambda x: -math.log(x) / 4 if x < 1 else 0.0, uniform_mass, lambda x: (min(max(x, -1.0), 1.0) + 1) / 2),
    "normal": Law(math.inf, normal_density, normal_mass, lambda x: (1 + math.erf(x / math.sqrt(2))) / 2),
}


def typical_width(rule: str, eps: float, weights: int, w: float = 0.1, miss: float = MISS) -> float:
    """Candidates at which a weight of typical size is within eps (pruning_theory.md section 2). It is no bound: `w` sets the
    density of products, and subsets count log2(1/eps) + 6 usable ones, half of all, however many weights there are."""
    rare = math.log(weights / miss)
    if rule == "two_coordinate":
        return 2 * rare / eps**2
    if rule == "product":
        return 2 * rare / (eps * math.log(1 / w))
    return 2 * (math.log2(1 / eps) + 6)


def sufficient_width(rule: str, eps: float, weights: int, largest: float, law: str = "uniform", miss: float = MISS) -> int:
    """Candidates N at which with probability 1 - miss every one of so many weights, none above `largest`, has a choice within
    eps. Of subsets it says that there is one: a search among 24 candidates may not see it."""
    one = miss / weights
    if rule == "two_coordinate":
        return single(both_coordinates(eps, largest, LAWS[law]), one)
    if rule == "product":
        return single(LAWS[law].between(max(0.0, largest - eps), largest + eps), one)
    return min(splits(eps, largest, LAWS[law], one))


def single(hit: float, miss: float) -> int:
    """Independent trials of which one succeeds with probability 1 - miss."""
    return math.ceil(math.log(miss) / math.log1p(-hit))


def both_coordinates(eps: float, largest: float, law: Law) -> float:
    """The least probability over |w| <= largest that u > 0 is near |w| and v near its sign, so that |u v - w| <= eps.

    With both within e, |u v - w| <= |u| e + e, and |u| is at most |w| + e and the law's reach.
    """
    e = eps / (1 + law.reach) if math.isfinite(law.reach) else (math.sqrt((1 + largest) ** 2 + 4 * eps) - 1 - largest) / 2
    return min(law.near(0.0, e), law.near(largest, e)) * law.near(1.0, e)


def left(c: float, law: Law) -> float:
    """What one more candidate leaves of (1 - f) / f, at most and on average."""
    return 1 - c * law.density(c) / 2


def splits(eps: float, largest: float, law: Law, miss: float) -> Iterator[int]:
    """Subsets: the candidates that do, for every B: so many cover [-B, B], and others bring larger weights there."""
    from scipy.stats import nbinom

    end = min(law.reach, 2.5)
    for c in (end * i / 100 for i in range(1, 100)):
        b = c / 2
        steps = max(0, math.ceil(largest / b - 1e-9) - 1)
        share = miss / 2 if steps else miss
        if b < eps / 2:
            continue
        cover = (math.log(8) + 2 * math.log(b / eps) - math.log(share)) / -math.log(left(c, law))
        bring = int(nbinom.isf(share, steps, law.between(b, 2 * b))) + steps if steps else 0
        yield math.ceil(cover) + bring
