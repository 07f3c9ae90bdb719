"""BatchEnsemble in lifelong learning (Wen et al. 2020, arXiv 2002.06715), as SupSup's baseline BatchE uses it.

One net is trained on the first stage and frozen, or never trained. Each stage learns two vectors per layer, s over outputs
and t over inputs, and computes with W * outer(s, t). The output layer is shared and modulated like the others. When the
stage is not given, all stages answer and the surest one counts, or the gradient through their superposition names it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.func import functional_call

from maskbench import masks
from maskbench.backbones import superposed
from maskbench.backbones.batch_statistics import answers_in_groups
from maskbench.backbones.per_stage import NormStatistics
from maskbench.common.knobs import NonNegative
from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore, number
from maskbench.training.method import Method

Rule = Literal["lowest_entropy", "highest_probability", "one_shot_H"]
CHUNK = 1000  # images at a time, where all stages answer


@final
class BatchEnsemble(Method):
    """One net whose weights each stage scales by two vectors a layer of its own.

    Args:
        net: any backbone. Its biases and affine norms are shared, as the first stage left them; running norm statistics
            are kept per stage.
        trunk: where W comes from: `first`, trained with the first stage and its factors; `random`, never trained; `given`, as
            `backbone.init` left it.
        weights_lr: times the learning rate, in the phase that trains W.
        inference: rules for finding the stage: lowest_entropy and highest_probability let all stages answer, one_shot_H
            takes one backward pass. The first one's answers count as 'inferred'; []: the stage is never inferred.
    """

    superposes: ClassVar = {"inference": ["one_shot_H"]}
    drawn_by_rule: ClassVar = {"trunk": {"random": "given"}}  # cli/parts.py

    def __init__(
        self,
        net: nn.Module,
        *,
        trunk: Literal["first", "random", "given"] = "first",
        weights_lr: NonNegative = 0.01,
        inference: Sequence[Rule] = ("lowest_entropy",),
    ) -> None:
        super().__init__(net)
        self.trunk, self.weights_lr, self.inference_rules = trunk, weights_lr, tuple(inference)
        self.w = {name: net.get_parameter(name) for name in masks.sites(net)}
        self.factors = TensorStore(moving=True)  # <stage>/s/<weight> [outputs], <stage>/t/<weight> [inputs]
        self.statistics = NormStatistics(net)
        superposed.judge({"inference": inference}, self.superposes, self.statistics.names)
        self.register_buffer("learnt", torch.tensor(0))  # stages finished so far
        self.stage = 0  # in training; follows from the stage that learns

    # ---- learning a stage

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.stage = stage.index
        self.begin()
        fit(self, stage, lr=self.weights_lr if self.trains_weights else 1.0)
        self.statistics.keep(self.net, stage.index)
        self.learnt.fill_(stage.index + 1)

    @torch.no_grad()
    def begin(self) -> None:
        """Factors of random signs for the stage in training, and norm statistics as they were before all training."""
        for name, w in self.w.items():
            for kind, size in zip("st", w.shape, strict=False):
                self.factors.put(f"{self.stage}/{kind}/{name}", torch.randint(2, (size,), device=w.device) * 2.0 - 1)
        self.statistics.restart(self.net)

    @property
    def trains_weights(self) -> bool:
        return self.trunk == "first" and self.stage == 0

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        yield from (self.factors[f"{self.stage}/{kind}/{name}"] for name in self.w for kind in "st")
        if self.trains_weights:
            yield from self.net.parameters()

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return self.answering(stage.index)

    def answering(self, stage: int) -> dict[str, Tensor]:
        """W * outer(s, t) of a stage, for a convolution at every place of its kernel; a finished one's norm statistics."""
        factors = {name: (self.factor("s", stage, name), self.factor("t", stage, name)) for name in self.w}
        weights = {name: w * spread(torch.outer(*factors[name]), w) for name, w in self.w.items()}
        return weights | (self.statistics.of(stage) if stage < number(self, "learnt") else {})

    def factor(self, kind: str, stage: int, name: str) -> Tensor:
        return self.factors[f"{stage}/{kind}/{name}"]

    # ---- finding the stage

    @torch.no_grad()
    def infer(self, groups: Tensor, rule: str) -> Tensor:
        return RULES[rule](self, groups).argmin(-1)  # finished stages are 0 .. learnt - 1

    def lowest_entropy(self, groups: Tensor) -> Tensor:
        """Entropy of each stage's answers, mean over a group: [groups, images, ...] -> [groups, stages]."""
        return self.all_answer(groups, lambda logits: Categorical(logits=logits, validate_args=False).entropy())

    def highest_probability(self, groups: Tensor) -> Tensor:
        """Minus the probability of each stage's favourite class, mean over a group: [groups, images, ...] -> [groups, stages]."""
        return self.all_answer(groups, lambda logits: -logits.softmax(-1).amax(-1))

    def all_answer(self, groups: Tensor, doubt: Callable[[Tensor], Tensor]) -> Tensor:
        """`doubt` (logits [images, outputs] -> [images]) under each stage, mean over a group; one forward a stage."""
        scores = []
        for stage in range(number(self, "learnt")):
            tensors = self.answering(stage)
            together = groups if answers_in_groups(self.net) else groups.flatten(0, 1).split(CHUNK)
            values = [doubt(functional_call(self.net, tensors, (x,))) for x in together]
            scores.append(torch.cat(values).reshape(groups.shape[:2]).mean(1))
        return torch.stack(scores, 1)

    def one_shot(self, groups: Tensor) -> Tensor:
        """d entropy / d alpha_i at W * sum_i alpha_i outer(s_i, t_i), alpha = 1/k: [groups, images, ...] -> [groups, stages].

        By the chain rule it is sum over layers of s_i^T (d entropy / d W_eff * W) t_i: one forward and one backward a group.
        """
        k, slopes = number(self, "learnt"), []
        weights, norms = {}, self.statistics.mean(range(k))
        s, t = ({n: torch.stack([self.factor(kind, i, n) for i in range(k)]) for n in self.w} for kind in "st")
        for name, w in self.w.items():
            weights[name] = (w * spread(s[name].T @ t[name] / k, w)).requires_grad_()
        for images in groups:
            with torch.enable_grad():
                outputs = functional_call(self.net, weights | norms, (images,))
                entropy = Categorical(logits=outputs, validate_args=False).entropy().mean()
                grads = torch.autograd.grad(entropy, list(weights.values()))
            slope = groups.new_zeros(k)
            for (name, w), grad in zip(self.w.items(), grads, strict=True):
                slope += torch.einsum("ko,oi,ki->k", s[name], (grad * w).reshape(*w.shape[:2], -1).sum(-1), t[name])
            slopes.append(slope)
        return torch.stack(slopes)

    # ---- for the record

    def has_learned(self, stage: Stage) -> bool:
        return stage.index < number(self, "learnt")

    def memory(self) -> dict[str, int]:
        """One net (a random one is a seed); a stage is outputs + inputs floats a layer and its norm statistics."""
        net = sum(p.numel() * p.element_size() for p in self.net.parameters())
        factors = sum(w.element_size() * (w.shape[0] + w.shape[1]) for w in self.w.values())
        return {"shared": 8 if self.trunk == "random" else net, "stage": factors + self.statistics.bytes}


def spread(matrix: Tensor, w: Tensor) -> Tensor:
    """[outputs, inputs] so that it multiplies w [outputs, inputs, *kernel]."""
    return matrix.reshape(*matrix.shape, *[1] * (w.ndim - 2))


RULES = {
    "lowest_entropy": BatchEnsemble.lowest_entropy,
    "highest_probability": BatchEnsemble.highest_probability,
    "one_shot_H": BatchEnsemble.one_shot,
}
