"""HopSupSup: supermasks over units in a Hopfield memory of constant size (Wortsman et al. 2020, arXiv 2006.14769).

The net is random and never trained. Each stage learns one binary mask over the hidden units; as patterns z = 2 m - 1
the masks of all stages are added up in one matrix a layer. At test time the mask is recalled: it descends an energy
that falls from the entropy of the answers to unlabelled test images into the nearest valley of that memory.

Recall is transductive: it reads the whole test set of one stage, though not its labels, nor which stage it is. With the
paper's net (backbone=fc2048_norm), which standardises over the batch at hand, answers to single images are meaningless.
"""

import math
from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskbench import masks
from maskbench.backbones import superposed
from maskbench.backbones.initial import stored_bytes
from maskbench.backbones.per_stage import NormStatistics
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, NonNegative, Share, Whole, Within
from maskbench.data.stage import Stage
from maskbench.masks.stores import MaskBank, TensorStore
from maskbench.methods.continual import hopfield
from maskbench.training.method import Method

RECALLED = 1000  # images at a time, where descents are compared


@final
class HopSupSup(Method):
    """A random net under masks over its units, recalled from a memory of constant size when the stage is not given.

    Args:
        net: a backbone with a gate after each of its `hidden` layers, its weights drawn once (the paper: signed constant).
        rule: how a pattern goes into the memory: `storkey` (as the code) or `hebb` (as the text).
        gamma: weight of the energy against the entropy in recall.
        recall_batch: test images a recall step reads at most; there are as many steps as batches.
        recall_lr: learning rate of the SGD on the scores of the mask that is recalled.
        recall_momentum: its momentum.
        recall_decay: its weight decay.
        recall_settle: further steps down the energy alone (the paper: none; its last step may end short of a valley).
        recall_tries: descents, each through the images in an order of its own, of which the one with the surest answers counts
            (the paper: one; which valley it ends in depends on the order).
    """

    superposes: ClassVar = {"rule": {"storkey": None, "hebb": None}}  # a mask is recalled from all of them

    def __init__(
        self,
        net: nn.Module,
        *,
        rule: Literal["storkey", "hebb"] = "storkey",
        gamma: NonNegative = 1.5e-3,
        recall_batch: Annotated[int, Within(least=2)] = 64,  # statistics are taken over the batch
        recall_lr: NonNegative = 500.0,
        recall_momentum: Share = 0.9,
        recall_decay: NonNegative = 1e-4,
        recall_settle: Whole = 0,
        recall_tries: Count = 1,
    ) -> None:
        super().__init__(net)
        superposed.judge({"rule": rule}, self.superposes, NormStatistics(net).names)
        self.rule, self.gamma, self.recall_batch = hopfield.RULES[rule], gamma, recall_batch
        self.recall_settle, self.recall_tries = recall_settle, recall_tries
        self.descent = {"lr": recall_lr, "momentum": recall_momentum, "weight_decay": recall_decay}
        widths = unit_gates(net)
        self.sites = list(widths)
        self.scores = nn.ParameterDict({name.replace(".", "|"): torch.zeros(d) for name, d in widths.items()})
        self.memories = TensorStore()  # all that recall reads: Psi and the sum of the stored patterns, by gate
        for name, d in widths.items():
            self.memories.put(f"psi/{name}", torch.zeros(d, d))
            self.memories.put(f"sum/{name}", torch.zeros(d))
        # the masks themselves, to measure with: answers with the stage given, and how far a recalled mask is off
        self.book = MaskBank({name: torch.Size([d]) for name, d in widths.items()})

    # ---- learning a stage

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return iter(self.scores.values())

    def learn(self, stage: Stage, fit: Callable) -> None:
        with torch.no_grad():
            for score in self.scores.values():
                score.zero_()  # mask all ones
        fit(self, stage)
        self.store(stage.index, {name: masks.ranked(self.score(name).detach()) >= 0 for name in self.sites})

    def store(self, stage: int, mask: dict[str, Tensor]) -> None:
        """Add a stage's masks (bool, by gate) to the memory."""
        self.book.write(stage, mask)
        for name, m in mask.items():
            z = 2 * m.float() - 1
            self.memories.put(f"psi/{name}", self.rule(self.psi(name), z))
            self.memories.put(f"sum/{name}", self.memories[f"sum/{name}"] + z)

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        if stage.index in self.book:
            return {name: m.float() for name, m in self.book.read(stage.index).items()}
        return {name: straight_through(self.score(name)) for name in self.sites}

    def score(self, name: str) -> nn.Parameter:
        return self.scores[name.replace(".", "|")]

    def psi(self, name: str) -> Tensor:
        return self.memories[f"psi/{name}"]

    # ---- recalling a mask

    def recall(self, x: Tensor) -> tuple[list[dict[str, Tensor]], Callable[[Tensor], Tensor]]:
        """The surest of `recall_tries` descents: the least mean entropy of the answers to x under the mask it ends in."""
        paths = [self.descend(x) for _ in range(self.recall_tries)]
        path = min(paths, key=lambda path: self.doubt(path[-1], x).item()) if len(paths) > 1 else paths[0]
        return path, lambda images: self.answer(path[-1], images)

    def descend(self, x: Tensor) -> list[dict[str, Tensor]]:
        """One descent to a mask; returns the masks (bool, by gate) at the start and after each step.

        Scores start at the mean of the stored patterns; each batch of x is one step down (1 - t/T) H + gamma (t/T) E. H is
        the mean entropy of the answers to the batch, E the energy summed over layers, t = 1 .. T; then come
        `recall_settle` steps down gamma E. Batches are of nearly equal size, so that none is too small for its statistics
        (the paper's last one is what is left).
        """
        scores = {name: (self.memories[f"sum/{name}"] / len(self.book.stages)).requires_grad_() for name in self.sites}
        optimizer = torch.optim.SGD(list(scores.values()), **self.descent)
        order = torch.randperm(len(x)).to(x.device)
        steps = -(-len(x) // self.recall_batch)
        batches = list(order.tensor_split(steps))
        path = [masks_of(scores)]
        for t, rows in enumerate(batches + batches[-1:] * self.recall_settle, start=1):
            with torch.enable_grad():
                objective = self.objective(scores, x[rows], min(1.0, t / steps))
                grads = torch.autograd.grad(objective, list(scores.values()))
            for score, grad in zip(scores.values(), grads, strict=True):
                score.grad = grad
            optimizer.step()
            path.append(masks_of(scores))
        return path

    def answer(self, mask: dict[str, Tensor], images: Tensor) -> Tensor:
        """Outputs [images, outputs] under masks, bool by gate."""
        return functional_call(self.net, {name: m.float() for name, m in mask.items()}, (images,))

    @torch.no_grad()
    def doubt(self, mask: dict[str, Tensor], x: Tensor) -> Tensor:
        """Mean entropy of the answers to all of x, in batches of at most RECALLED, so that statistics are of many."""
        return torch.cat([entropy(self.answer(mask, part)) for part in x.tensor_split(-(-len(x) // RECALLED))]).mean()

    def objective(self, scores: dict[str, Tensor], images: Tensor, done: float) -> Tensor:
        """(1 - done) H + gamma done E under the masks of `scores`, straight through; `done` is the share of steps, t/T."""
        gains = {name: straight_through(score) for name, score in scores.items()}
        energy = sum(hopfield.energy(self.psi(name), 2 * m - 1) for name, m in gains.items())
        if done == 1:
            return self.gamma * energy
        doubt = entropy(functional_call(self.net, gains, (images,))).mean()
        return (1 - done) * doubt + self.gamma * done * energy

    # ---- for the record

    def masked_weights(self) -> list[str]:
        return list(self.sites)

    def has_learned(self, stage: Stage) -> bool:
        return stage.index in self.book

    def masks(self) -> dict[str, Tensor]:
        return self.book.named()

    def memory(self) -> dict[str, int]:
        """The weights are a seed, unless a file gave them; Psi and the sum of patterns serve all stages, which add nothing."""
        return {"shared": stored_bytes(self.net) + sum(4 * (d * d + d) for d in self.widths()), "stage": 0}

    def extra_metrics(self) -> dict[str, float]:
        """`capacity_stages`: what the narrowest layer's memory holds. `break_even_stages`: from how many stages on the
        memory is smaller than the packed masks it stands for. Where that is the larger number, it never pays."""
        widths = self.widths()
        return {
            "density": masks.density(self.book.read(self.book.stages[-1]).values()),
            "capacity_stages": hopfield.capacity(min(widths)),
            "break_even_stages": float(math.ceil((self.memory()["shared"] - stored_bytes(self.net)) / self.book.bytes())),
        }

    def widths(self) -> list[int]:
        return [score.numel() for score in self.scores.values()]


def unit_gates(net: nn.Module) -> dict[str, int]:
    """Give each gate of the net a gain per unit, in the place of the scalar one; returns units by the name of the gain.

    Raises:
        UsageError: the net has no gate per hidden layer, or a layer too narrow for a memory.
    """
    gates, hidden = list(getattr(net, "gates", [])), list(getattr(net, "hidden", []))
    if not gates or len(gates) != len(hidden):
        raise UsageError("method=hopsupsup needs a fully connected backbone with a gate per hidden layer: backbone=fc2048_norm")
    if min(layer.out_features for layer in hidden) < 2:
        raise UsageError("method=hopsupsup needs at least 2 units in each hidden layer: raise backbone.widths")
    for gate, layer in zip(gates, hidden, strict=True):
        gate.gain = torch.ones(layer.out_features)
    return {f"gates.{i}.gain": layer.out_features for i, layer in enumerate(hidden)}


def straight_through(score: Tensor) -> Tensor:
    """The mask [score >= 0] as floats, with the gradient passed on to the score: d/dscore = d/dm."""
    return masks.threshold(torch.ones_like(score), score)


def masks_of(scores: dict[str, Tensor]) -> dict[str, Tensor]:
    """The masks of these scores, bool."""
    return {name: score.detach() >= 0 for name, score in scores.items()}


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax, in nats: [images, outputs] -> [images]."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)
