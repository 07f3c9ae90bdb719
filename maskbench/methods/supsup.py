"""SupSup: supermasks in superposition (Wortsman et al. 2020, arXiv 2006.14769).

The net is random and never trained. Each stage learns one binary mask over its weights and is answered by f(x, W * M).
When the stage is not given, all masks are superposed, and the gradient of an uncertainty with respect to their
coefficients names it. Scores and masks are drawn as in the paper's MNIST experiments: [score >= 0], straight through.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskbench import masks
from maskbench.data.stage import Stage
from maskbench.errors import UsageError, did_you_mean
from maskbench.method import Method
from maskbench.shelf import Book


@final
class SupSup(Method):
    """Args:
    net: a backbone without biases, its weights drawn once (the paper: signed Kaiming constant).
    inference: rules for finding the stage, `<search>_<objective>`, search one_shot or brute_force, objective H or G.
        The first one's answers count as 'inferred'.
    """

    def __init__(self, net: nn.Module, *, inference: Sequence[str] = ("one_shot_H",)) -> None:
        super().__init__(net)
        for rule in inference:
            if rule not in RULES:
                raise UsageError(f"no inference rule '{rule}'.{did_you_mean(rule, RULES)} Rules: {', '.join(RULES)}")
        self.inference_rules = tuple(inference)
        self.w = {name: net.get_parameter(name) for name in masks.sites(net)}
        self.scores = nn.ParameterDict({name.replace(".", "|"): torch.empty_like(w) for name, w in self.w.items()})
        self.book = Book({name: w.shape for name, w in self.w.items()})
        self.register_buffer("classes", torch.tensor(0))  # l, the real outputs; those after them are superfluous

    # ---- learning a stage (section 3b)

    def movable(self) -> Iterator[nn.Parameter]:
        return iter(self.scores.values())

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.classes.fill_(stage.outputs)
        for score in self.scores.values():
            nn.init.kaiming_uniform_(score, a=math.sqrt(5))
        fit(self, stage)
        self.book.write(stage.index, {name: self.score(name) >= 0 for name in self.w})

    def effective(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        if stage.index in self.book:
            return {name: self.w[name] * m for name, m in self.book.read(stage.index).items()}
        return {name: masks.threshold(w, self.score(name)) for name, w in self.w.items()}

    def score(self, name: str) -> nn.Parameter:
        return self.scores[name.replace(".", "|")]

    # ---- finding the stage (section 4)

    def infer(self, groups: Tensor, rule: str) -> Tensor:
        search, objective = RULES[rule]
        scores = search(self, groups, objective)  # the least uncertain stage is the answer
        return self.book.store["stages"][scores.argmin(-1)]

    def one_shot(self, groups: Tensor, objective: Callable, chunk: int = 16) -> Tensor:
        """d objective / d alpha_t at alpha = 1/k, mean over a group: [groups, images, ...] -> [groups, stages].

        One forward and one backward a group. By the chain rule the derivative is sum_l <d objective / d W_eff, W * M_t>,
        so the superposition is a running mean of masks and every further stage costs one dot product.
        """
        superposed = {name: (self.w[name] * m).requires_grad_() for name, m in self.book.mean().items()}
        found = []
        for some in groups.split(chunk):
            gradients = [self.gradient(superposed, images, objective) for images in some]
            along = {name: torch.stack([g[name] for g in gradients]) * self.w[name] for name in self.w}
            found.append(self.book.dot(along))
        return torch.cat(found)

    def gradient(self, weights: dict[str, Tensor], images: Tensor, objective: Callable) -> dict[str, Tensor]:
        with torch.enable_grad():
            uncertainty = objective(functional_call(self.net, weights, (images,)), int(self.classes)).mean()
            return dict(zip(weights, torch.autograd.grad(uncertainty, list(weights.values())), strict=True))

    def brute_force(self, groups: Tensor, objective: Callable) -> Tensor:
        """The objective under each stage's own mask, mean over a group: [groups, images, ...] -> [groups, stages]."""
        images, scores = groups.flatten(0, 1), []
        for stage in self.book.stages:
            own = {name: self.w[name] * m for name, m in self.book.read(stage).items()}
            values = objective(functional_call(self.net, own, (images,)), int(self.classes))
            scores.append(values.reshape(groups.shape[:2]).mean(1))
        return torch.stack(scores, 1)

    # ---- for the record

    def knows(self, stage: Stage) -> bool:
        return stage.index in self.book

    def masks(self) -> dict[str, Tensor]:
        return {f"{stage}/{name}": m for stage in self.book.stages for name, m in self.book.read(stage).items()}

    def facts(self) -> dict[str, float]:
        return {"density": masks.density(self.book.read(self.book.stages[-1]).values())}


def entropy(logits: Tensor, classes: int) -> Tensor:
    """H: entropy of the softmax over all outputs. logits [images, outputs] -> [images]."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def superfluous(logits: Tensor, classes: int) -> Tensor:
    """G: logsumexp of all outputs, with no gradient through the real ones (the first `classes`).

    Its gradient is p_v on a superfluous output v, as in the training loss (Lemma 1). logits [images, outputs] -> [images].
    """
    return torch.cat([logits[:, :classes].detach(), logits[:, classes:]], -1).logsumexp(-1)


def superfluous_share(logits: Tensor, classes: int) -> Tensor:
    """log of the probability on superfluous outputs: what G's gradient pushes down, as a value to compare.

    G itself is of no use to brute force: a confident real output raises it under the right mask.
    """
    return logits.log_softmax(-1)[:, classes:].logsumexp(-1)


RULES = {
    "one_shot_H": (SupSup.one_shot, entropy),
    "one_shot_G": (SupSup.one_shot, superfluous),
    "brute_force_H": (SupSup.brute_force, entropy),
    "brute_force_G": (SupSup.brute_force, superfluous_share),
}
