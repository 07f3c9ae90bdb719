"""What task=uncertainty leaves for figures alone: risk at every coverage, and the images on which members differ most."""

from typing import Any

import torch
from torch import Tensor

from maskbench.data.stage import Stage
from maskbench.tasks.metrics import uncertainty

Rows = list[dict[str, Any]]
PLACES = 100  # of a curve of risk
IMAGES = 12  # that are kept
VOICES = 16  # members whose answers are kept, the first ones
LARGEST = 64  # pixels a side of an image that is kept


def risk(sure: Tensor, right: Tensor) -> Rows:
    """Error among the surest inputs, at PLACES shares of all of them; of equally sure ones the mean over their orders.

    sure, right: [n], the largest probability and whether its class is the true one.
    """
    if not len(right):
        return []
    _, wrong = uncertainty.by_rank(sure, ~right, descending=True)
    mean = wrong.cumsum(0) / torch.arange(1, len(wrong) + 1, device=wrong.device)
    shares = [(place + 1) / PLACES for place in range(PLACES)]
    counts = [max(1, round(share * len(wrong))) for share in shares]
    return [{"coverage": share, "risk": mean[count - 1].item()} for share, count in zip(shares, counts, strict=True)]


def disputed(stage: Stage, members: Tensor) -> Rows:
    """The test images about which members say most different things (mutual information of answer and member), the most first.

    Each as grey levels or colours from 0 to 255 (`pixels`, [height][width] or [height][width][3], stretched over the image's
    own range), its `label`, and the first members' probabilities (`members`, [members][classes]). None of one member, or of
    inputs that are no images of up to LARGEST pixels a side.

    members: log-probabilities [members, n, classes] of the test split's rows.
    """
    differ = uncertainty.scores(members)["mi"]
    if differ is None or len(stage.shape) != 3 or stage.shape[0] not in (1, 3) or max(stage.shape[1:]) > LARGEST:
        return []
    chosen = differ.cpu().argsort(descending=True, stable=True)[:IMAGES]
    images, labels = stage.test.pick(chosen)
    rows = []
    for index, image, label in zip(chosen.tolist(), images.double(), labels.tolist(), strict=True):
        low, high = image.min(), image.max()
        levels = (255 * (image - low) / (high - low).clamp_min(1e-12)).round().long()
        answers = members[:VOICES, index].exp()
        rows.append({
            "index": index,
            "label": label,
            "information": differ[index].item(),
            "pixels": (levels[0] if stage.shape[0] == 1 else levels.movedim(0, -1)).tolist(),
            "members": [[round(p, 4) for p in one] for one in answers.tolist()],
        })  # fmt: skip
    return rows
