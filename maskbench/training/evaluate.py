"""A method's predictions over a whole split, and their loss and accuracy: without gradients, in evaluation mode.

A net that standardises by the rows at hand (backbone.norm=batch_no_stats) is asked in groups of a stated size, in the order of
the split, the last one filled up with rows from the start whose second answers are dropped. Small groups go through the net
together, always as many of them: neither memory nor device nor BATCH has a part in an answer.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from maskbench.backbones.batch_statistics import answers_in_groups, in_groups
from maskbench.data.stage import Split, Stage, log_probabilities, probabilities
from maskbench.training.method import Method

BATCH = 1000  # rows at a time: large enough for a CPU, small enough for convolutions of small images
IMAGES, LARGE = 100, 3 * 32 * 32  # at a time, of images so large, through convolutions on a CPU: their layers fit into its cache
GROUP = 128  # images that share an inference of their stage (the SupSup paper's protocol), or an answer that standardises by them
ROWS = 128  # of small groups that go through such a net at a time


def device_of(method: Method) -> torch.device:
    return next(method.parameters()).device


def rows_at_once(method: Method, stage: Stage | Tensor) -> int:
    """How many inputs of a stage, or of the shape of one that is given, are answered at a time: whichever split they are from."""
    large = math.prod(stage.shape) >= LARGE and any(isinstance(module, nn.Conv2d) for module in method.net.modules())
    return IMAGES if large and device_of(method).type == "cpu" else BATCH


def answers(
    method: Method, answer: Callable[[Tensor], Tensor], parts: Iterable[Tensor], group: int | None = None
) -> Iterator[Tensor]:
    """`answer` (inputs -> [..., rows, outputs]) to inputs that come in `parts` [rows, ...]; in groups where the net asks for
    them, of `group` rows (None: GROUP)."""
    if not answers_in_groups(method.net):
        return map(answer, parts)
    return grouped(method.net, answer, parts, group or GROUP)


def grouped(net: nn.Module, answer: Callable[[Tensor], Tensor], parts: Iterable[Tensor], group: int) -> Iterator[Tensor]:
    """`answer` to inputs that come in parts, dealt into groups that stand alone: [groups, group, ...] in one pass."""
    for x, count in groups_of(parts, group * max(1, ROWS // group)):
        with in_groups(net, group):
            made = answer(x)
        yield made[..., :count, :]


def groups_of(parts: Iterable[Tensor], size: int) -> Iterator[tuple[Tensor, int]]:
    """Rows that come in parts, dealt anew: (`size` rows, how many of them count). The last group is filled up with rows from the
    start, again and again if need be, which do not count."""
    start, rest = None, []
    for part in parts:
        rest = [*rest, part]
        if sum(map(len, rest)) < size:
            continue
        groups = torch.cat(rest).split(size)
        start = groups[0] if start is None else start
        yield from ((group, size) for group in groups[:-1])
        rest = [groups[-1]]
    if rest:
        last = torch.cat(rest)
        start = last if start is None else start
        yield torch.cat([last, start[torch.arange(size - len(last), device=last.device) % len(start)]]), len(last)


def pieces(
    method: Method, answer: Callable[[Tensor], Tensor], stage: Stage, split: Split, first: int | None, group: int | None = None
) -> tuple[list[Tensor], Tensor]:
    """(answers in pieces, targets [n]) on a split, or on its `first` rows."""
    targets = []

    def inputs() -> Iterator[Tensor]:
        for x, y in split.batches(rows_at_once(method, stage), device_of(method), first):
            targets.append(y)
            yield x

    made = list(answers(method, answer, inputs(), group))
    return made, torch.cat(targets)


@torch.no_grad()
def members(
    method: Method, stage: Stage, split: Split, first: int | None = None, mode: str = "", group: int | None = None
) -> tuple[Tensor, Tensor]:
    """(predictions [members, n, outputs], targets [n]) on a split, or on its `first` rows, by one of `prediction_modes`."""
    method.eval()
    predict = method.prediction_modes()[mode]
    parts, y = pieces(method, lambda x: predict(x, stage), stage, split, first, group)
    return torch.cat(parts, 1), y


@torch.no_grad()
def log_members(
    method: Method, stage: Stage, split: Split, first: int | None = None, mode: str = "", group: int | None = None
) -> tuple[Tensor, Tensor]:
    """(log-probabilities [members, n, classes], float64, targets [n]), of classes what `members` gives as probabilities."""
    method.eval()
    predict = method.prediction_modes()[mode]
    parts, y = pieces(method, lambda x: logs(predict, x, stage), stage, split, first, group)
    return torch.cat(parts, 1), y


def log_mean(method: Method, stage: Stage, split: Split, group: int | None = None) -> tuple[Tensor, Tensor]:
    """(logarithms of the mean over members [n, classes], float64, targets [n]): they tell apart what float32 rounds to 1."""
    log_p, y = log_members(method, stage, split, group=group)
    return log_p.logsumexp(0) - math.log(len(log_p)), y


def logs(predict: Callable[[Tensor, Stage], Tensor], x: Tensor, stage: Stage) -> Tensor:
    """Log-probabilities [members, batch, classes], float64, of a function that predicts probabilities.

    A prediction is `stage.link` of a net's outputs, so a link that takes logarithms makes it log p, exact where p itself
    would be 0. What makes probabilities in another way answers that with no distribution, and is asked for probabilities;
    one that became 0 counts as the smallest number of its type.
    """
    if stage.link is probabilities:
        log_p = predict(x, replace(stage, link=log_probabilities))
        if log_p.is_floating_point() and bool((log_p.isfinite().all(-1) & (log_p.logsumexp(-1).abs() < 1e-6)).all()):
            return log_p.double()
    p = predict(x, stage)
    return p.clamp_min(torch.finfo(p.dtype).tiny).double().log()


@torch.no_grad()
def logits(method: Method, stage: Stage, split: Split, first: int | None = None, group: int | None = None) -> Tensor:
    """The network's outputs [n, outputs] on a split, or on its `first` rows."""
    method.eval()
    return torch.cat(pieces(method, lambda x: method.logits(x, stage), stage, split, first, group)[0])


def accuracy(method: Method, stage: Stage, split: Split, group: int | None = None) -> float:
    """Share of the split that the mean over members gets right, of the stage's own outputs alone.

    group: images answered together, where the net asks for it.
    """
    p, y = members(method, stage, split, group=group)
    return share(chosen(p.mean(0), stage.own) == y)


def chosen(scores: Tensor, outputs: Sequence[int]) -> Tensor:
    """The one of these outputs that scores most: [..., all outputs] -> [...]."""
    among = torch.tensor(outputs, device=scores.device)
    return among[scores[..., among].argmax(-1)]


def share(right: Tensor) -> float:
    return right.double().mean().item()


def member_accuracy(method: Method, stage: Stage, split: Split, mode: str = "") -> float:
    """Mean over members of the share each gets right (a sampled mask is judged by its samples, not by their vote)."""
    p, y = members(method, stage, split, mode=mode)
    return (p.argmax(-1) == y).double().mean().item()


def validation(method: Method, stages: Sequence[Stage]) -> float:
    """What a search may maximise: accuracy on the validation splits (of reals minus the loss), averaged over stages."""
    values = [loss_and_accuracy(method, stage, stage.val) for stage in stages]
    return sum(value.get("accuracy", -value["loss"]) for value in values) / len(values)


def loss_and_accuracy(method: Method, stage: Stage, split: Split) -> dict[str, float]:
    """`loss` of the mean over members (NLL in nats for classes; for reals the mean squared error of the values, whatever
    variances stand beside them), and `accuracy` for classes."""
    if stage.regression:
        p, y = members(method, stage, split)
        return {"loss": (p.mean(0).double()[..., : y.shape[-1]] - y).square().mean().item()}
    log_p, y = log_mean(method, stage, split)
    nll = -log_p.gather(-1, y[..., None]).mean()
    return {"loss": nll.item(), "accuracy": share(chosen(log_p, stage.own) == y)}
