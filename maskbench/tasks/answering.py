"""What an answer costs: the bytes that are kept for it, and the multiply-adds that one input takes through all members."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from maskbench.backbones.batch_statistics import answers_in_groups
from maskbench.data.stage import Stage
from maskbench.training import evaluate
from maskbench.training.method import Method


def cost(method: Method, stage: Stage) -> dict[str, float | None]:
    """`memory_bytes`, what is stored for answers; `answer_macs`, multiply-adds of one test input's answer, all members together.

    These are counted as they are carried out, in matrix products and convolutions (two FLOPs each; elementwise products with
    masks and gains are not among them): a mask that multiplies weights saves none. None where no input can be answered alone:
    nets that standardise by the rows at hand, or a split without rows.
    """
    numbers: dict[str, float | None] = {"memory_bytes": method.memory()["shared"], "answer_macs": None}
    if answers_in_groups(method.net) or not len(stage.test):
        return numbers
    with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counted:
        evaluate.members(method, stage, stage.test, first=1)
    return numbers | {"answer_macs": counted.get_total_flops() // 2}
