"""SupSup: supermasks in superposition (Wortsman et al. 2020, arXiv 2006.14769).

The net is random and never trained. Each stage learns one binary mask over its weights and is answered by f(x, W * M).
When the stage is not given, all masks are superposed, and the gradient of an uncertainty with respect to their
coefficients names it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones import initial, superposed
from maskbench.backbones.per_stage import NormStatistics
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, NonNegative, Positive
from maskbench.data.stage import Stage
from maskbench.masks.stores import MaskBank, TensorStore
from maskbench.methods.continual.superposition import Superposition
from maskbench.training import evaluate
from maskbench.training.method import Method
from maskbench.training.stand_in import call

Objective = Callable[[Tensor, int], Tensor]  # (logits [images, outputs], real classes) -> uncertainty [images]
Transfer = Literal["random", "previous", "nearest", "mean_scores", "mean_masks"]
Rule = Literal["one_shot_H", "one_shot_G", "binary_H", "binary_G", "brute_force_H", "brute_force_G"]


@final
class SupSup(Method):
    """A random net under one learned mask per stage; which stage inputs come from it can infer from them.

    Args:
        net: a backbone without biases and affine norms, its weights drawn once (the paper: signed Kaiming constant). Running
            norm statistics are kept per stage. Rules that superpose masks answer with their mean, which is of little use: they
            are for nets without (backbone.norm=batch_no_stats).
        inference: rules for finding the stage, `<search>_<objective>`, search one_shot, binary or brute_force, objective H
            or G. The first one's answers count as 'inferred'; []: stages are never inferred. By default all, one_shot_H first;
            of nets with running statistics brute_force alone, each mask with its own.
        density_scale: None: a mask is [score >= 0], about half of the weights (the paper's MNIST runs). c: per layer the top
            min(1/2, c (out + in) / (out in height width)) of |score| (the code's `sparsity`, larger is denser).
        transfer: where a stage's scores start: `random`, or from what was learnt: `previous` (the last stage's scores),
            `nearest` (the mask least uncertain about the new data), `mean_scores` (as the code), `mean_masks` (as the text).
        boundaries: `given`, or `unknown` (NNs): the batches themselves say whether they need a new mask.
        check_every: steps between two such questions, where boundaries are unknown.
        novelty: eps of their rule: how far the surest mask must stand out, k max nu >= 1 + eps, not to allocate a new one.
        floor: the rule counts at least so many masks, untrained ones among them.
        most: masks at most.
    """

    superposes: ClassVar = {"inference": ["one_shot_H", "one_shot_G", "binary_H", "binary_G"], "boundaries": {"unknown": "given"}}

    def __init__(
        self,
        net: nn.Module,
        *,
        inference: Sequence[Rule] = ("one_shot_H",),
        density_scale: Positive | None = None,
        transfer: Transfer = "random",
        boundaries: Literal["given", "unknown"] = "given",
        check_every: Count = 100,
        novelty: NonNegative = 0.125,
        floor: Count = 5,
        most: Count = 2500,
    ) -> None:
        super().__init__(net)
        self.inference_rules, self.transfer, self.boundaries = tuple(inference), transfer, boundaries
        self.check_every, self.novelty, self.floor, self.most = check_every, novelty, floor, most
        self.w = {name: net.get_parameter(name) for name in masks.sites(net)}
        self.count = {name: None if density_scale is None else budget(w, density_scale) for name, w in self.w.items()}
        self.cutters = {name: masks.Cutter() for name in self.w}
        self.scores = nn.ParameterDict({name.replace(".", "|"): torch.empty_like(w) for name, w in self.w.items()})
        self.book = MaskBank({name: w.shape for name, w in self.w.items()})
        self.totals = TensorStore()  # of the scores learnt so far, where they are transferred
        self.statistics = NormStatistics(net)
        self.superposed = Superposition(net, self.w, self.book, self.statistics)
        superposed.judge({"inference": inference, "boundaries": boundaries}, self.superposes, self.statistics.names)
        self.register_buffer("classes", torch.tensor(0))  # l, the real outputs; those after them are superfluous
        self.slots = TensorStore()  # which mask of the book answers a finished stage
        if boundaries == "unknown":
            self.begin_blind()

    # ---- learning a stage

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return iter(self.scores.values())

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.classes.fill_(stage.outputs)
        if self.boundaries == "unknown":
            return self.learn_blind(stage, fit)
        self.begin(stage)
        fit(self, stage)
        self.book.write(stage.index, {name: self.mask(name) for name in self.w})
        self.slots.put(str(stage.index), torch.tensor(stage.index))
        self.statistics.keep(self.net, stage.index)
        if self.transfer == "mean_scores":
            for name in self.w:
                self.totals.put(name, self.score(name) + (self.totals[name] if name in self.totals else 0))

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        if self.has_learned(stage):
            return self.answering(int(self.slots[str(stage.index)]))
        self.seen = x
        return {name: self.masked(name) for name in self.w}

    def masked(self, name: str) -> Tensor:
        """W * M of the scores in training, straight through."""
        if self.count[name] is None:
            return masks.threshold(self.w[name], self.score(name))
        return masks.top_share(self.w[name], self.score(name), self.cut(name), magnitude=True)

    def mask(self, name: str) -> Tensor:
        """The mask of a weight's present scores, bool."""
        score = masks.ranked(self.score(name))
        return score >= 0 if self.count[name] is None else masks.kept(score, self.cut(name), magnitude=True)

    def cut(self, name: str) -> masks.Cut:
        return self.cutters[name].cut(self.score(name), self.count[name], magnitude=True)

    def answering(self, stage: int) -> dict[str, Tensor]:
        """The tensors a finished stage computes with: its masked weights and its norm statistics."""
        weights = {name: self.w[name] * m for name, m in self.book.read(stage).items()}
        return weights | self.statistics.of(stage)

    @torch.no_grad()
    def begin(self, stage: Stage) -> None:
        """The scores and norm statistics that a stage starts from."""
        self.statistics.restart(self.net)
        known = len(self.book.stages)
        if known and self.transfer == "previous":
            return
        for score in self.scores.values():
            nn.init.kaiming_uniform_(score, a=math.sqrt(5))
        if not known or self.transfer == "random":
            return
        if self.transfer == "mean_scores":
            for name in self.w:
                self.score(name).copy_(self.totals[name] / known)
            return
        if self.transfer == "nearest":
            x, _ = stage.train.tensors(self.classes.device, first=128)
            self.eval()  # asked, not trained: in training mode norms would move the statistics of finished stages
            masks_of = {n: m.float() for n, m in self.book.read(int(self.infer(x[None], "brute_force_H"))).items()}
        else:
            masks_of = self.book.mean()
        for name in self.w:  # a mask says on which side of the threshold a score starts, the draw how far from it
            towards = 2 * masks_of[name] - 1 if self.count[name] is None else masks_of[name]
            self.score(name).copy_(self.score(name).abs() * towards)

    def score(self, name: str) -> nn.Parameter:
        return self.scores[name.replace(".", "|")]

    # ---- finding the stage

    def infer(self, groups: Tensor, rule: str) -> Tensor:
        search, objective = RULES[rule]
        surest = search(self, groups, objective).argmin(-1)  # the least uncertain stage is the answer
        return self.born[surest] if self.boundaries == "unknown" else self.book.store["stages"][surest]

    def one_shot(self, groups: Tensor, objective: Objective) -> Tensor:
        """d objective / d alpha_t at alpha = 1/k, mean over a group: [groups, images, ...] -> [groups, stages]."""
        every = torch.arange(len(self.book.stages), device=groups.device)
        return self.superposed.along(groups, every.expand(len(groups), -1), self.with_classes(objective))

    def binary(self, groups: Tensor, objective: Objective) -> Tensor:
        """Keep the half of the stages with the smallest slope until one is left: ceil(log2 k) rounds a group.

        [groups, images, ...] -> [groups, stages]: 0 for the one that is left, infinity for the others.
        """
        rows = torch.arange(len(self.book.stages), device=groups.device).expand(len(groups), -1)
        left = torch.full(rows.shape, torch.inf, device=groups.device)
        while rows.shape[1] > 1:
            along = self.superposed.along(groups, rows, self.with_classes(objective))
            rows = rows.gather(1, along.argsort(dim=1, stable=True)[:, : -(-rows.shape[1] // 2)])
        return left.scatter_(1, rows, 0.0)

    @torch.no_grad()
    def brute_force(self, groups: Tensor, objective: Objective) -> Tensor:
        """The objective under each stage's own masks and norm statistics, mean over a group: [groups, images, ...] ->
        [groups, stages]."""
        images, objective, scores = groups.flatten(0, 1), self.with_classes(objective), []
        for stage in self.book.stages:
            parts = images.split(evaluate.rows_at_once(self, images[0]))
            outputs = evaluate.answers(self, partial(call, self.net, self.answering(stage)), parts, groups.shape[1])
            scores.append(torch.cat([objective(some) for some in outputs]).reshape(groups.shape[:2]).mean(1))
        return torch.stack(scores, 1)

    def with_classes(self, objective: Objective) -> Callable[[Tensor], Tensor]:
        return partial(objective, classes=int(self.classes))

    # ---- when nobody says where a stage begins (NNs)

    def begin_blind(self) -> None:
        """Untrained masks that new data may prefer, and what is known of each mask allocated: its scores, its birth."""
        if self.transfer != "random":
            raise UsageError("method.boundaries=unknown goes with method.transfer=random")
        self.blanks = MaskBank({name: w.shape for name, w in self.w.items()})
        for blank in range(self.floor):
            self.blanks.write(blank, {name: torch.rand_like(w) < 0.5 for name, w in self.w.items()})
        self.saved = TensorStore()  # scores of every mask, to go on with when its data comes back
        self.register_buffer("live", torch.tensor(-1))  # the mask in training
        self.births = TensorStore()  # stage in which each mask was allocated
        self.births.put("stages", torch.zeros(0, dtype=torch.long))
        self.register_buffer("visits", torch.zeros(self.most, dtype=torch.long))  # by the present stage

    @property
    def born(self) -> Tensor:
        """Stage in which each mask was allocated, [masks]."""
        return self.births["stages"]

    def learn_blind(self, stage: Stage, fit: Callable) -> None:
        """Train a stage whose begin nobody tells: every `check_every` steps the last batch decides which mask is trained.

        The mask that most of these batches chose answers for the stage.
        """
        first, _ = stage.train.tensors(self.classes.device, first=128)
        steps = range(self.check_every, fit.length(len(stage.train), 1.0, stage.index), self.check_every)
        self.visits.zero_()
        self.settle(first, stage)
        fit(self, stage, callbacks_at_steps=(steps, lambda: self.settle(self.seen, stage)))
        self.store()
        self.slots.put(str(stage.index), self.visits.argmax())

    @torch.no_grad()
    def settle(self, x: Tensor, stage: Stage) -> None:
        """Train on the mask that the batch `x` belongs to, a new one if it belongs to none."""
        if self.live >= 0:
            self.store()
        slot = self.place(x)
        if slot == len(self.book.stages):
            for score in self.scores.values():
                nn.init.kaiming_uniform_(score, a=math.sqrt(5))
            self.births.put("stages", torch.cat([self.born, self.born.new_tensor([stage.index])]))
            self.live.fill_(slot)
            self.store()
        elif slot != int(self.live):
            for name in self.w:
                self.score(name).copy_(self.saved[f"{slot}/{name}"])
            self.live.fill_(slot)
        self.visits[slot] += 1

    def place(self, x: Tensor) -> int:
        """Which mask the batch `x` belongs to, an index; the number of masks stands for a new one.

        It is the largest of nu = softmax(-dH / dalpha) over k masks; a new one when nu is flat, k max nu < 1 + eps, or
        prefers an untrained mask (the paper's NNs).
        """
        known = len(self.book.stages)
        untrained = torch.arange(max(0, self.floor - known))
        k = known + len(untrained)
        mean = {}
        for name, m in self.blanks.mean(untrained).items():
            count = self.book.store[f"count/{name}"] + len(untrained) * m.nan_to_num()
            mean[name] = count / k
        grads = self.superposed.grads(self.superposed.weights(mean), x, self.with_classes(entropy), {})
        slopes = {name: (self.w[name] * grad)[None] for name, grad in grads.items()}
        along = torch.cat([self.book.dot(slopes)[0], self.blanks.dot(slopes, untrained)[0]])
        nu = (-along).softmax(0)
        fresh = k * nu.max() < 1 + self.novelty or int(nu.argmax()) >= known
        return known if fresh and known < self.most else int(nu[:known].argmax())

    def store(self) -> None:
        """Keep the scores in training and the mask they draw."""
        slot = int(self.live)
        self.book.rewrite(slot, {name: self.mask(name) for name in self.w})
        for name in self.w:
            self.saved.put(f"{slot}/{name}", self.score(name))

    # ---- for the record

    def has_learned(self, stage: Stage) -> bool:
        return str(stage.index) in self.slots

    @torch.no_grad()
    def forget(self, stage: Stage) -> None:
        """Drop the stage's mask and statistics; the net is random, so that there is no more to it."""
        if self.boundaries == "unknown" or self.transfer != "random":
            raise UsageError("a mask is a stage's alone with method.transfer=random and method.boundaries=given only")
        self.book.drop(stage.index)
        self.slots.drop(str(stage.index))
        self.statistics.drop(self.net, stage.index)
        for score in self.scores.values():  # of the stage trained last
            score.zero_()

    def masked_weights(self) -> list[str]:
        return list(self.w)

    def masks(self) -> dict[str, Tensor]:
        return {f"{slot}/{name}": m for slot in self.book.stages for name, m in self.book.read(slot).items()}

    def memory(self) -> dict[str, int]:
        """The weights are a seed, unless a file gave them; a stage is its masks and its norm statistics.

        A mask takes one bit a weight, or as many bytes as its known number of ones takes in compressed sparse columns, if
        that is less (below one in sixteen).
        """
        stored = [
            masks.packed_bytes(w) if self.count[n] is None else min(masks.packed_bytes(w), masks.sparse_bytes(w, self.count[n]))
            for n, w in self.w.items()
        ]
        return {"shared": initial.stored_bytes(self.net), "stage": sum(stored) + self.statistics.bytes}

    def extra_metrics(self) -> dict[str, float]:
        count = {"masks_found": len(self.book.stages)} if self.boundaries == "unknown" else {}
        return {"density": masks.density(self.book.read(self.book.stages[-1]).values())} | count


def budget(w: Tensor, density_scale: float) -> int:
    """How many weights of a layer stay: the top share min(1/2, c (out + in) / (out in height width)) of it."""
    fan_out, fan_in = w.shape[:2]
    share = min(0.5, density_scale * (fan_out + fan_in) / w.numel())
    return w.numel() - math.floor((1 - share) * w.numel())


def entropy(logits: Tensor, classes: int) -> Tensor:
    """The objective H: entropy of the softmax over all outputs. logits [images, outputs] -> [images]."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def superfluous(logits: Tensor, classes: int) -> Tensor:
    """The objective G: logsumexp of all outputs, with no gradient through the real ones (the first `classes`).

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
    "binary_H": (SupSup.binary, entropy),
    "binary_G": (SupSup.binary, superfluous),
    "brute_force_H": (SupSup.brute_force, entropy),
    "brute_force_G": (SupSup.brute_force, superfluous_share),
}
