"""Piggyback (Mallya, Davis & Lazebnik 2018, arXiv 1801.06519): one frozen backbone, a learned binary mask per stage.

Every weight has a real score. The mask is [score > tau], or with `ternary` {-1, 0, 1}, and its gradient goes straight to the
score. Each stage has a private head, trained along. With a random backbone, tau = 0, random scores and a masked head it
would be SupSup, which can then find the stage by itself.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, final

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones import pretrained
from maskbench.backbones.norm import freeze_batchnorm
from maskbench.backbones.per_stage import PrivateHeads, in_head
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Length, NonNegative, Positive, Weights
from maskbench.data.stage import Stage
from maskbench.masks.stores import MaskBank
from maskbench.training.method import Method

log = logging.getLogger("maskbench")


@final
class Piggyback(Method):
    """A frozen net under a learned mask for each stage, and a trained output layer for each.

    Args:
        net: a backbone whose last layer is called `head`.
        backbone: the frozen weights: `first`, the first stage trains them plainly and keeps them all; `random`, as drawn;
            `given`, as `backbone.init` left them; or a FILE that `backbone.init=file:FILE` would take, which is how to say it
            now. Biases and norms are frozen with them, statistics included.
        head: `private`, a trained one per stage; `masked`, one frozen head for all, masked like the other layers.
        tau: a weight is kept where its score is above it. Strictly, as in the authors' code: equality drops it (SupSup keeps it).
        start: the score every weight starts a stage with; above tau, so that all weights are in. Of two, [least, most], scores
            are drawn evenly between them; null: [tau + 1e-5, 11 tau] over a given net, else 2 tau. Adam moves each score by
            about the rate at each step, so equal scores reach tau together: none in a short training, or very many at once.
        ternary: masks are 1 above tau, -1 below zero, else 0; two bits a weight.
    """

    keeps_given_stage: ClassVar = True
    drawn_by_rule: ClassVar = {"backbone": {"random": "given"}}  # cli/parts.py

    def __init__(
        self,
        net: nn.Module,
        *,
        backbone: Literal["first", "random", "given"] | Weights = "first",
        head: Literal["private", "masked"] = "private",
        tau: NonNegative = 5e-3,
        start: Positive | Annotated[Sequence[Positive], Length(least=2, most=2)] | None = 1e-2,
        ternary: bool = False,
    ) -> None:
        super().__init__(net)
        if start is None:
            start = (
                [tau + 1e-5, 11 * tau or 1e-2]
                if hasattr(net, "given") or backbone not in ("first", "random")
                else 2 * tau or 1e-2
            )
        self.least, self.most = start if isinstance(start, Sequence) else (start, start)
        if not tau < self.least <= self.most:
            raise UsageError(
                f"method.start={start} must be above method.tau={tau}, its second value no less than the first: else all weights "
                "are out and no mask can learn"
            )
        self.backbone, self.private, self.ternary = backbone, head == "private", ternary
        # [score > tau] is [score >= the next float32 above tau]
        self.tau = torch.nextafter(torch.tensor(tau), torch.tensor(torch.inf)).item()
        self.w = {name: net.get_parameter(name) for name in masks.sites(net, skip=["head"] if self.private else [])}
        if backbone not in ("first", "random", "given"):
            self.take(Path(backbone).expanduser())
        self.scores = nn.ParameterDict({name.replace(".", "|"): torch.full_like(w, self.least) for name, w in self.w.items()})
        shapes = {name: w.shape for name, w in self.w.items()}
        self.book = MaskBank(shapes | ({f"{name}.negative": shape for name, shape in shapes.items()} if ternary else {}))
        self.heads = PrivateHeads(net.head if self.private else None)
        self.stage = 0  # in training; follows from the stage that learns

    # ---- learning a stage

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.stage = stage.index
        self.begin(stage)
        fit(self, stage, shared=self if self.trains_backbone else None)  # whatever masks it gets
        for score in self.scores.values():
            masks.ranked(score)
        self.warn(stage)
        self.book.write(stage.index, self.signs())

    @torch.no_grad()
    def begin(self, stage: Stage) -> None:
        """Scores and head that a stage starts from: all weights in, and nothing of other stages."""
        for score in self.scores.values():
            if self.least == self.most:
                score.fill_(self.least)
            else:
                score.uniform_(self.least, self.most)
        self.heads.open(self.stage, self.net.head, **stage.own_head)

    def warn(self, stage: Stage) -> None:
        """Say so where no score reached tau: steps times rate are too few for where they start."""
        if not (self.trains_backbone or stage.given) and all(bool(mask.all()) for mask in self.signs().values()):
            log.warning(
                "Piggyback: no weight of stage %s is out: scores start at %g, and steps times rate could not bring one down to "
                "tau=%g; take a higher optimizer.lr, more steps, or method.start=[%g,%g]",
                stage.name, self.least, self.tau, self.tau + 1e-5, 11 * self.tau,
            )  # fmt: skip

    @property
    def trains_backbone(self) -> bool:
        return self.backbone == "first" and self.stage == 0

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.heads.of(self.stage).values()
        if self.trains_backbone:
            yield from (p for name, p in self.net.named_parameters() if not (self.private and in_head(name)))
        else:
            yield from self.scores.values()

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        head = self.heads.of(stage.index)
        if stage.index in self.book:
            kept = self.book.read(stage.index)
            return {name: w * self.factor(kept, name) for name, w in self.w.items()} | head
        if self.trains_backbone:
            return head
        return {name: self.masked(name) for name in self.w} | head

    def masked(self, name: str) -> Tensor:
        """W * M of the scores in training, straight through: d/dscore = W * d/d(W * M)."""
        w, score = self.w[name], self.scores[name.replace(".", "|")]
        if not self.ternary:
            return masks.threshold(w, score, self.tau)
        hard = self.factor(self.signs(), name)
        return w * (hard + (score - score.detach()))  # what is added is exactly 0

    def signs(self) -> dict[str, Tensor]:
        """The masks of the present scores, bool: the weights that are in, and with `ternary` those that change sign."""
        scores = {name: self.scores[name.replace(".", "|")].detach() for name in self.w}
        above = {name: score >= self.tau for name, score in scores.items()}
        if not self.ternary:
            return above
        negative = {f"{name}.negative": score < 0 for name, score in scores.items()}
        return {name: m | negative[f"{name}.negative"] for name, m in above.items()} | negative

    def factor(self, mask: dict[str, Tensor], name: str) -> Tensor:
        """What a weight is multiplied with: its mask, or with `ternary` floats of {-1, 0, 1}."""
        if not self.ternary:
            return mask[name]
        return mask[name].float() - 2 * mask[f"{name}.negative"].float()

    @torch.no_grad()
    def forget(self, stage: Stage) -> None:
        """Drop the stage's mask and head; the backbone is frozen, so that there is no more to it."""
        if self.backbone == "first" and stage.index == 0:
            raise UsageError(
                f"stage {stage.name} has trained the backbone that all stages compute with (method.backbone=first); with "
                "method.backbone=given or random every stage can be forgotten."
            )
        self.book.drop(stage.index)
        self.heads.drop(stage.index)
        for score in self.scores.values():  # of the stage trained last
            score.zero_()

    # ---- the backbone

    def train(self, mode: bool = True) -> Self:
        """Once the backbone is frozen its norms stay in evaluation mode, so that their statistics are frozen too."""
        super().train(mode)
        if not self.trains_backbone:
            freeze_batchnorm(self.net)
        return self

    def take(self, path: Path) -> None:
        """Start from a pretrained net's file; a private head needs none, so the file's is left out.

        Raises:
            UsageError: the net is given already, or the file is of no use or of another net.
        """
        if hasattr(self.net, "given"):
            raise UsageError(f"method.backbone={path} and backbone.init both give the frozen net: take method.backbone=given.")
        pretrained.start(self.net, path, head="fresh" if self.private else "load", key=f"method.backbone={path}")
        log.info("method.backbone=%s is backbone.init=file:%s now, by which a run is known by what the file holds", path, path)

    # ---- for the record

    def has_learned(self, stage: Stage) -> bool:
        return stage.index in self.book

    def masked_weights(self) -> list[str]:
        return list(self.w)

    def masks(self) -> dict[str, Tensor]:
        """With `ternary`, `<weight>` says what is in and `<weight>.negative` what of it changes sign."""
        return self.book.named()

    def memory(self) -> dict[str, int]:
        """One net (a random one is a seed); a stage is one or two bits a weight and its private head."""
        head = self.heads.bytes
        net = sum(value.numel() * value.element_size() for value in self.net.state_dict().values())
        return {"shared": 8 if self.backbone == "random" else net - head, "stage": self.book.bytes() + head}

    def memory_after(self, stage: Stage) -> int:
        """Bytes once a stage is learnt: heads have as many outputs as their stage; one that is given has no mask."""
        masked = sum(not one.given for one in (*stage.earlier, stage))
        return self.memory()["shared"] + self.heads.bytes_upto(stage.index) + masked * self.book.bytes()

    def extra_metrics(self) -> dict[str, float]:
        last = self.book.read(self.book.stages[-1])
        densities = {"density": masks.density(last[name] for name in self.w)}
        if self.ternary:
            densities["density_negative"] = masks.density(last[f"{name}.negative"] for name in self.w)
        return densities
