"""The stage of images that nobody names, by a rule that every net with masks or heads has: each stage's own net is asked, and the
one with the surest answers counts (SupSup's brute force, 2006.14769, with each mask's own norm statistics).

Entropies of unequal stages do not compare: one of few classes is sure at no merit, one of a single class always.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from maskbench.data.stage import Stage
from maskbench.training import evaluate
from maskbench.training.method import Method

RULE = "brute_force_H"


def infer_by_entropy(method: Method, stages: Sequence[Stage], groups: Tensor) -> Tensor:
    """The stage under whose net the answers to a group have the least entropy: [groups, images, ...] -> indices [groups].

    Asks stages that have been learnt, one pass each; of equal ones the first counts. Nets that standardise by the images at
    hand are asked group by group, so that groups of one image say what an image alone says.
    """
    known = [stage for stage in stages if method.has_learned(stage)]
    surest = torch.stack([doubt(method, stage, groups) for stage in known], 1).argmin(1)
    return torch.tensor([stage.index for stage in known], device=surest.device)[surest]


@torch.no_grad()
def doubt(method: Method, stage: Stage, groups: Tensor) -> Tensor:
    """Entropy in nats of the answers when `stage` is named, mean over a group: [groups, images, ...] -> [groups], float64."""
    method.eval()
    predict, images = method.prediction_modes()[""], groups.flatten(0, 1)
    parts = images.split(evaluate.rows_at_once(method, stage))
    log_p = torch.cat(list(evaluate.answers(method, partial(evaluate.logs, predict, stage=stage), parts, groups.shape[1])), 1)
    log_p = log_p.logsumexp(0) - math.log(len(log_p))
    return torch.special.entr(log_p.exp()).sum(-1).view(groups.shape[:2]).mean(1)
