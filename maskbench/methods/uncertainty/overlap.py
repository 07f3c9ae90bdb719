"""Sets of masks over units with a controlled overlap (Durasov et al. 2021, arXiv 2012.08334). Imports no torch.

M masks of K ones each are drawn on a line of P = K S positions, and positions that no mask uses go. What is left are C
columns, E[C] = K S (1 - (1 - 1/S)^M); two masks have an expected IoU of 1 / (2 S - 1), whatever M and K.
"""

import math
from typing import TYPE_CHECKING

from maskbench.common.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

FAR = 2**20  # positions beyond which two masks do not meet
TRIES = 1000  # of the original generator


def spread(members: int, scale: float) -> float:
    """S (1 - (1 - 1/S)^M): columns for each of a mask's ones, C / K; between 1 and M."""
    if scale == 1 or members == 1:
        return 1.0
    return float(members) if math.isinf(scale) else scale * -math.expm1(members * math.log1p(-1 / scale))


def width_factor(members: int, scale: float, width: str) -> float:
    """What a layer's width is multiplied by: 1 for `fixed`; for `capacity_matched` so that each mask keeps as many units
    as the layer had."""
    if width not in ("fixed", "capacity_matched"):
        raise UsageError(f"method.width={width} must be fixed or capacity_matched")
    check(members, scale)
    return 1.0 if width == "fixed" else spread(members, scale)


def check(members: int, scale: float) -> None:
    """Refuse numbers of which no masks can be drawn; a config may ask for a width before it makes the method.

    Raises:
        UsageError: members below 1, or a scale below 1.
    """
    if isinstance(members, bool) or not isinstance(members, int) or members < 1:
        raise UsageError(f"method.members={members} must be a whole number at least 1")
    if not scale >= 1:
        raise UsageError(f"method.scale={scale} must be at least 1; 1 gives one net, larger values less overlap")


def ones_of(columns: int, members: int, scale: float) -> int:
    """K for a layer of C columns: round(C K/C), and enough to cover all columns."""
    return min(columns, max(round(columns / spread(members, scale)), -(-columns // members)))


def repaired(columns: int, members: int, scale: float, rng: "np.random.Generator") -> "np.ndarray":
    """Masks [members, columns], bool: every one has equally many ones, every column has at least one. Always ends.

    Drawn as the paper does, on the line for which E[C] is `columns`; then single ones of a mask move, from columns with
    several to columns with none while there are too few, from columns with one to others while there are too many.
    """
    import numpy as np

    ones = ones_of(columns, members, scale)
    if ones == columns:
        return np.ones((members, columns), dtype=bool)
    masks = scattered(members, ones, positions(columns, members, ones), rng)
    while masks.shape[1] > columns:  # take one column away: its one goes to another column of the same mask
        rare = masks.sum(0).argmin()
        rest = np.delete(masks, rare, 1)
        for mask in masks[:, rare].nonzero()[0]:
            rest[mask, rng.choice((~rest[mask]).nonzero()[0])] = True
        masks = rest
    while masks.shape[1] < columns:  # add one: a mask's one comes from a column that keeps another
        mask, column = _choice(masks & (masks.sum(0) > 1), rng)
        masks = np.concatenate([masks, np.zeros((members, 1), dtype=bool)], 1)
        masks[mask, column], masks[mask, -1] = False, True
    return masks[:, rng.permutation(columns)]


def scattered(members: int, ones: int, line: int, rng: "np.random.Generator") -> "np.ndarray":
    """The paper's draw: so many ones a mask at distinct positions of a line, without the positions that no mask uses."""
    import numpy as np

    masks = np.zeros((members, line), dtype=bool)
    for mask in masks:
        mask[rng.choice(line, ones, replace=False)] = True
    return masks[:, masks.any(0)]


def _choice(where: "np.ndarray", rng: "np.random.Generator") -> "np.ndarray":
    """(row, column) of a True entry, each with equal chance."""
    entries = where.T.nonzero()
    pick = rng.integers(len(entries[0]))
    return entries[1][pick], entries[0][pick]


def positions(columns: int, members: int, ones: int) -> int:
    """The shortest line on which so many ones a mask cover `columns` positions or more in expectation; at most FAR."""
    low, high = ones, FAR
    while low < high:
        middle = (low + high) // 2
        covered = middle * -math.expm1(members * math.log1p(-ones / middle)) if ones < middle else middle
        low, high = (low, middle) if covered >= columns else (middle + 1, high)
    return low


def original(columns: int, members: int, scale: float, rng: "np.random.Generator") -> "np.ndarray":
    """Masks as the authors' package draws them, from its description: the scale is corrected between 0.8 and 1.2 of
    the given one by bisection, with a new draw at each step, until the width is right.

    Raises:
        UsageError: it does not get there, or refuses the numbers.
    """
    import numpy as np

    if columns < 10 or scale > 6:
        raise UsageError(f"method.generator=original refuses layers below 10 units and scales above 6 ({columns}, {scale})")
    ones = int(columns / spread(members, scale))
    if scale == 1 or members == 1:
        return np.ones((members, columns), dtype=bool)
    low, high = max(0.8 * scale, 1.0), 1.2 * scale
    for _ in range(TRIES):
        middle = (low + high) / 2
        masks = scattered(members, ones, max(ones, int(ones * middle)), rng)
        if masks.shape[1] == columns:
            return masks
        low, high = (middle, high) if masks.shape[1] < columns else (low, middle)
    raise UsageError(
        f"method.generator=original found no {members} masks for {columns} units at scale {scale}; method.generator=repaired does"
    )


def mean_iou(masks: "np.ndarray") -> float | None:
    """Intersection over union, mean over pairs of masks [members, columns]; None for one mask."""
    pairs = [(a, b) for i, a in enumerate(masks) for b in masks[i + 1 :]]
    return sum((a & b).sum() / (a | b).sum() for a, b in pairs) / len(pairs) if pairs else None


def effective_scale(iou: float) -> float:
    """The S whose expected IoU this is; infinite for masks that do not meet."""
    return (1 / iou + 1) / 2 if iou else math.inf
