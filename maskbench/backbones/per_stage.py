"""Parts of a net that each stage has for itself: output layers and norm statistics, kept as training goes on."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from maskbench.backbones.norm import BATCH_NORMS, freeze_batchnorm
from maskbench.masks.stores import TensorStore

Biases, Norms = Literal["first", "per_stage", "none"], Literal["first", "per_stage", "given"]  # who learns them


def in_head(name: str) -> bool:
    """Whether a tensor is the output layer's, by its name in the net."""
    return name.startswith("head.")


class PrivateHeads(nn.Module):
    """An output layer of its own for each stage, which stands in for the backbone's `head`.

    Args:
        head: the backbone's layer; None: all stages share it, so that there is nothing to put in its place.
        always: whether every stage has one; else those alone that need another number of outputs.
    """

    def __init__(self, head: nn.Module | None, always: bool = True) -> None:
        super().__init__()
        self.always = always
        self.parts = [] if head is None else [name for name, _ in head.named_parameters()]
        self.bytes = 0 if head is None else sum(p.numel() * p.element_size() for p in head.parameters())  # of the net's own
        self.kept = TensorStore(moving=True)
        self.fresh = False  # the last one opened has not been trained; follows from `open`

    def open(self, stage: int, head: nn.Module, outputs: int | None = None, given: bool = False) -> None:
        """A head for a stage, drawn as `head` draws itself: nothing is shared with other stages' heads.

        Args:
            head: the net's. outputs: of the stage, where the net's head has another number. given: the stage is answered by the
                net's head as it came.
        """
        if not self.parts:
            return
        self.fresh = not given
        if outputs is not None and len(head.weight) != outputs:  # drawn as it is made; the net's own stays
            head = type(head)(head.in_features, outputs, bias="bias" in self.parts, device=head.weight.device)
        elif not given:
            head.reset_parameters()
        for part in self.parts:
            self.kept.put(f"{stage}/{part}", head.get_parameter(part))

    def of(self, stage: int) -> dict[str, nn.Parameter]:
        """A stage's head, by the backbone's names; empty where heads are shared."""
        return {f"head.{part}": self.kept[f"{stage}/{part}"] for part in self.parts}

    def trainable(self, net: nn.Module, stage: int) -> Iterator[nn.Parameter]:
        """All of the net's parameters, with the stage's head in the place of the net's where it has one."""
        if stage not in self:
            yield from net.parameters()
            return
        yield from self.of(stage).values()
        yield from (p for name, p in net.named_parameters() if not in_head(name))

    def drop(self, stage: int) -> None:
        """Keep a stage's head no longer."""
        for part in self.parts:
            self.kept.drop(f"{stage}/{part}")

    def bytes_upto(self, stage: int) -> int:
        """Bytes of the heads that stages have of their own, up to and with this one."""
        heads = [self.of(index) for index in range(stage + 1) if index in self]
        return sum(p.numel() * p.element_size() for head in heads for p in head.values())

    def __contains__(self, stage: int) -> bool:
        return bool(self.parts) and f"{stage}/{self.parts[0]}" in self.kept


class NormStatistics(nn.Module):
    """A net's running norm statistics: a set for each stage, and one as they were before all training.

    They follow the data a stage sees, so that a finished stage must answer with its own (2006.14769 section 3: shared
    ones leave chance accuracy on all but the last).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        parameters = dict(net.named_parameters())
        self.names = [name for name in net.state_dict() if name not in parameters]
        self.kept = TensorStore()
        for name, value in self.live(net):
            self.kept.put(f"start/{name}", value)
        self.bytes = sum(value.numel() * value.element_size() for _, value in self.live(net))  # of one stage

    def live(self, net: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """The net's present statistics, which training moves, by name."""
        return ((name, net.get_buffer(name)) for name in self.names)

    def restart(self, net: nn.Module) -> None:
        """Set the net's statistics to what they were before all training."""
        for name, value in self.live(net):
            value.copy_(self.kept[f"start/{name}"])

    def keep(self, net: nn.Module, stage: int) -> None:
        """Keep the net's present statistics as those of a stage."""
        for name, value in self.live(net):
            self.kept.put(f"{stage}/{name}", value)

    def of(self, stage: int) -> dict[str, Tensor]:
        """The statistics kept for a stage, by the backbone's names."""
        return {name: self.kept[f"{stage}/{name}"] for name in self.names}

    def mean(self, stages: Sequence[int]) -> dict[str, Tensor]:
        """The mean of the statistics kept for these stages, by the backbone's names; whole numbers (counters) are left out."""
        own = {name: [self.kept[f"{stage}/{name}"] for stage in stages] for name in self.names}
        return {name: torch.stack(values).mean(0) for name, values in own.items() if values[0].is_floating_point()}

    def drop(self, net: nn.Module, stage: int) -> None:
        """Keep the statistics of a stage no longer; the net's present ones, which may be its own, go back to the start."""
        self.restart(net)
        for name in self.names:
            self.kept.drop(f"{stage}/{name}")

    def __contains__(self, stage: int) -> bool:
        return bool(self.names) and f"{stage}/{self.names[0]}" in self.kept


class Unmasked(TensorStore):
    """The biases and batch norms of a net whose other weights are masked, and what finished stages keep of them.

    Each kind is learnt with the `first` stage and frozen, has a copy `per_stage`, which goes on from the stage before, or is
    never learnt (`none`; norms as they came: `given`). Norms are affine parameters and statistics.

    Args:
        net: the backbone. others: names of its parameters that are kept elsewhere: those with masks, the private head's.
    """

    def __init__(self, net: nn.Module, others: Iterable[str], *, bias: Biases, norm: Norms) -> None:
        super().__init__()
        self.bias, self.norm = bias, norm
        self.norms = {f"{n}.{k}" for n, m in net.named_modules() if isinstance(m, BATCH_NORMS) for k in m.state_dict()}
        others = {*others, *self.norms}
        self.biases = [name for name, _ in net.named_parameters() if name not in others]
        self.copied = [*(self.biases if bias == "per_stage" else []), *(sorted(self.norms) if norm == "per_stage" else [])]
        state = net.state_dict()
        self.bytes = sum(state[name].numel() * state[name].element_size() for name in self.copied)  # of one stage

    def trainable(self, net: nn.Module, stage: int) -> Iterator[nn.Parameter]:
        """Those that the stage may move."""
        names = {*self.norms, *self.biases}
        for name, p in net.named_parameters():
            policy = self.norm if name in self.norms else self.bias
            if name in names and (policy == "per_stage" or (policy == "first" and stage == 0)):
                yield p

    def freeze(self, net: nn.Module, stage: int) -> None:
        """Put norms that the stage leaves as they are in evaluation mode, so that their statistics stay, too."""
        if self.norm == "given" or (self.norm == "first" and stage > 0):
            freeze_batchnorm(net)

    def keep(self, net: nn.Module, stage: int) -> None:
        """Keep the present ones as those of a stage, where each has its own."""
        state = net.state_dict()
        for name in self.copied:
            self.put(f"{stage}/{name}", state[name])

    def of(self, stage: int) -> dict[str, Tensor]:
        """Those kept for a stage, by the backbone's names."""
        return {name: self[f"{stage}/{name}"] for name in self.copied}

    def forget(self, net: nn.Module, stage: int, others: Sequence[int]) -> None:
        """Drop those of a stage; the net's present ones, which may be its own, are those of the last of the others then."""
        state = net.state_dict()
        for name in self.copied:
            self.drop(f"{stage}/{name}")
            if others:
                state[name].copy_(self[f"{others[-1]}/{name}"])

    @property
    def shares_first(self) -> bool:
        """Whether there are biases or norms that the first stage learns for all."""
        return bool((self.bias == "first" and self.biases) or (self.norm == "first" and self.norms))
