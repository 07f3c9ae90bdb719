"""Fine-tuning and its usual rivals: which weights move on the target, where they start, and what is added to the loss.

All of them train on the source first. From there: all weights move (fine-tuning), the head alone (feature extraction),
or all from the initial weights (from scratch); with L2, L2-SP (Li et al. 2018, arXiv 1802.01483), DELTA (Li et al. 2019,
arXiv 1901.09229) or BSS (Chen et al. 2019, NeurIPS), which add up where several are given.

A source that the net came trained on (Stage.given) is not trained: its solution is the net as it came.
"""

import copy
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal, Self, final

import torch
from torch import Tensor, nn

from maskbench.backbones import initial
from maskbench.backbones.features import layers, tapped
from maskbench.backbones.norm import freeze_batchnorm
from maskbench.backbones.per_stage import PrivateHeads, in_head
from maskbench.common import devices
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, NonNegative
from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore, number
from maskbench.methods.transfer import penalties
from maskbench.training import features
from maskbench.training.method import Method
from maskbench.training.stand_in import call


@final
class FineTuning(Method):
    """Train on the source, then on the target, with any of the usual regularisers of fine-tuning.

    No strength has a 1/2 in it (penalties.py). A target with other classes than the source gets a fresh head: in the place of
    the source's, or where it has another number of outputs beside it, so that the source is still answered by its own.

    Args:
        net: a backbone whose last layer is called `head`.
        start: the target starts from the `source` solution, or from the `init`ial weights; of a net that came trained on the
            source those are drawn anew.
        moves: `all` weights move on the target, or the `head` alone.
        bn: running statistics of batch norms `train` with the target, or they are the source's and `freeze`.
        l2: strength of sum w^2 over all that moves.
        l2_sp: strength of sum (w - w_S)^2 over all but a fresh head, which has no w_S.
        head_l2: strength of sum w^2 of a fresh head.
        delta: strength of the attention-weighted distance between feature maps of the net and of the source's net.
        bss: strength of the sum of the `bss_k` smallest squared singular values of the features before the head.
        bss_k: how many of these singular values.

    Raises:
        UsageError: `delta` with a backbone that has no gates to compare features at.
    """

    keeps_given_stage: ClassVar = True

    def __init__(
        self,
        net: nn.Module,
        *,
        start: Literal["source", "init"] = "source",
        moves: Literal["all", "head"] = "all",
        bn: Literal["train", "freeze"] = "train",
        l2: NonNegative = 0.0,
        l2_sp: NonNegative = 0.0,
        head_l2: NonNegative = 0.0,
        delta: NonNegative = 0.0,
        bss: NonNegative = 0.0,
        bss_k: Count = 1,
    ) -> None:
        super().__init__(net)
        if delta and not layers(net):
            raise UsageError("method.delta needs a backbone with a gate after each hidden layer; try backbone=mlp_100x3.")
        self.start, self.moves, self.bn = start, moves, bn
        self.l2, self.l2_sp, self.head_l2, self.delta, self.bss, self.bss_k = l2, l2_sp, head_l2, delta, bss, bss_k
        self.initial = TensorStore()
        if start == "init":
            for name, value in net.state_dict().items():
                self.initial.put(name, value)
        self.source = copy.deepcopy(net) if l2_sp or delta else None  # w_S, once it is known
        self.attention = TensorStore()  # by layer
        self.heads = PrivateHeads(getattr(net, "head", None), always=False)
        self.register_buffer("asked", torch.tensor(0))  # label space of the source
        self.register_buffer("answers", torch.tensor(0))  # label space that the head answers now
        self.stage, self.probing = 0, False  # follow from the stage that learns and the phase it is in

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.stage = stage.index
        if stage.index == 0:
            self.asked.fill_(stage.label_space)
            self.answers.fill_(stage.label_space)
            fit(self, stage, shared=self.net)
            if self.source is not None:
                self.source.load_state_dict(self.net.state_dict())
            return
        if self.start == "init":
            drawn = initial.fresh(self.net) if came_trained(stage) else None
            self.net.load_state_dict(drawn or {name: self.initial[name] for name in self.initial.names()})
        if stage.own_head["outputs"] is not None:
            self.heads.open(stage.index, self.net.head, **stage.own_head)
        elif self.fresh(stage):
            self.net.head.reset_parameters()
            self.answers.fill_(stage.label_space)
        if self.delta:
            self.attend(stage, fit)
        still = self.moves == "head" and came_trained(stage) and stage.index in self.heads and features.can_cache(stage)
        fit(self, features.cached(self, stage) if still and not self.penalises_features else stage)

    @property
    def penalises_features(self) -> bool:
        """Whether the loss asks for more of the net than its outputs."""
        return bool(self.delta or self.bss)

    def head(self, stage: int) -> dict[str, nn.Parameter]:
        """The output layer that a stage is answered by, by the net's names."""
        if stage in self.heads:
            return self.heads.of(stage)
        return {f"head.{name}": p for name, p in self.net.head.named_parameters()}

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return self.heads.of(stage.index) if stage.index in self.heads else {}

    def logits(self, x: Tensor, stage: Stage) -> Tensor:
        if isinstance(stage, features.Features) and stage.holds(x):
            return features.answer(x, self.head(stage.index))
        return super().logits(x, stage)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        head_only = self.stage > 0 and (self.moves == "head" or self.probing)
        yield from self.head(self.stage).values() if head_only else self.heads.trainable(self.net, self.stage)

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        """The criterion; on the target, with the penalties of this method."""
        if stage.index == 0 or self.probing:
            return super().loss(batch, stage)
        x, y = batch
        names = list(self.attention.names()) if self.delta else []
        with tapped(self.net, names, head=self.bss > 0) as seen:
            loss = stage.criterion(self.logits(x, stage), y)
        if self.delta:
            attention = {name: self.attention[name] for name in names}
            loss = loss + self.delta * penalties.delta(
                {name: seen[name] for name in names}, self.source_features(x, names), attention
            )
        if self.bss:
            loss = loss + self.bss * penalties.bss(devices.whole_batch(seen["head"]), self.bss_k)
        return loss + self.penalty(stage) if self.l2 or self.l2_sp or self.head_l2 else loss

    def penalty(self, stage: Stage) -> Tensor:
        """The penalties of the weights alone: l2 * sum w^2 + l2_sp * sum (w - w_S)^2 + head_l2 * sum of a fresh head's w^2."""
        terms = []
        if self.l2:
            terms.append(self.l2 * penalties.l2(self.trainable_parameters()))
        if self.l2_sp:
            known = [name for name, _ in self.net.named_parameters() if not (self.fresh(stage) and in_head(name))]
            pairs = [[module.get_parameter(name) for name in known] for module in (self.net, self.source)]
            terms.append(self.l2_sp * penalties.l2_sp(*pairs))
        if self.head_l2 and self.fresh(stage):
            terms.append(self.head_l2 * penalties.l2(self.head(stage.index).values()))
        return torch.stack(terms).sum() if terms else torch.zeros(())

    # ---- DELTA

    def attend(self, stage: Stage, fit: Callable) -> None:
        """The attention of every channel: how much the target's training loss grows when the source's net loses it.

        A fresh head knows nothing yet, so it is trained first, alone, as the paper does.
        """
        if self.fresh(stage):
            self.probing = True
            fit(self, stage, name="head", share=0.5)
            self.probing = False
        self.eval()
        x, y = stage.train.tensors(next(self.net.parameters()).device)
        names = layers(self.net)
        with torch.no_grad():
            with tapped(self.net, names) as seen:
                self.net(x)
            for name, channels in {name: seen[name].shape[1] for name in names}.items():

                def loss(j: int | None, name: str = name, channels: int = channels) -> Tensor:
                    gain = torch.ones(channels, device=x.device)
                    if j is not None:
                        gain[j] = 0
                    return stage.criterion(call(self.net, {f"{name}.gain": gain} | self.head(stage.index), x), y)

                self.attention.put(name, penalties.channel_attention(loss, channels))

    @torch.no_grad()
    def source_features(self, x: Tensor, names: list[str]) -> dict[str, Tensor]:
        """Feature maps of the source's net, by layer."""
        with tapped(self.source, names) as seen:
            self.source(x)
        return seen

    # ---- what stays as it is

    def fresh(self, stage: Stage) -> bool:
        """Whether the stage's head is not the source's."""
        return stage.index > 0 and number(self, "asked") != stage.label_space

    def has_learned(self, stage: Stage) -> bool:
        """There is one net: it answers the source until the target puts another head in the place of the source's."""
        return stage.index in self.heads or number(self, "answers") in (0, stage.label_space)

    def train(self, mode: bool = True) -> Self:
        """What does not move keeps its statistics too; the source's net only answers."""
        super().train(mode)
        if self.stage > 0 and (self.bn == "freeze" or self.moves == "head" or self.probing):
            freeze_batchnorm(self.net)
        if self.source is not None:
            self.source.eval()
        return self


def came_trained(target: Stage) -> bool:
    """Whether the net came trained on the source."""
    return any(stage.given for stage in target.earlier)
