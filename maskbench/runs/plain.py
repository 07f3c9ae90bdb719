"""The plain net that answers as a trained method does: the backbone with the method's masks, scales and statistics applied.

`method.net` is the backbone as the method holds it, whose weights stand before their masks. What is made here is held to the
method's own `predict` on real inputs.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from maskbench.backbones import memory_format
from maskbench.backbones.batch_statistics import answers_in_groups
from maskbench.backbones.compact.smaller import largest_difference
from maskbench.backbones.gate import Gate
from maskbench.common.errors import UsageError
from maskbench.data.stage import Stage
from maskbench.runs.loud import quiet
from maskbench.training.evaluate import GROUP
from maskbench.training.method import Method

ROWS, NUMBERS = 1000, 3_000_000  # inputs that a net is held to: so many rows, of so many numbers together, at most
LEAST = 16  # and at least
CLOSE = 1e-5  # times the largest output, or 1


@dataclass(frozen=True)
class Plain:
    """A plain net, and what it is held to.

    Attributes:
        net: in evaluation mode, with its own weights.
        masks: bool, by weight; empty where the method has none.
        raw: those weights before their masks.
        x, answers: real inputs, and the run's own outputs (before the link) for them, [rows, outputs].
        classes: whether the outputs are classes, whose largest counts.
    """

    net: nn.Module
    masks: dict[str, Tensor]
    raw: dict[str, Tensor]
    x: Tensor
    answers: Tensor
    classes: bool

    @property
    def tolerance(self) -> float:
        return CLOSE * max(1.0, float(self.answers.abs().max()))

    @property
    def gated(self) -> list[str]:
        """Gates with gains: masks over units, which no state dict of the backbone holds."""
        return [name for name, module in self.net.named_modules() if isinstance(module, Gate) and module.gain.ndim]

    def hold(self, answers: Tensor, what: str) -> str:
        """How far answers are from the run's own, in words.

        Raises:
            UsageError: further than the tolerance, or with another class on top.
        """
        apart = largest_difference(answers, self.answers) if answers.shape == self.answers.shape else torch.inf
        rows = f"the run's own answers to {len(self.x):,} test inputs"
        if not apart <= self.tolerance:
            raise UsageError(
                f"{what} differs from {rows} by up to {apart:.2g}, more than {self.tolerance:.2g}: nothing was written."
            )
        told = f"largest difference {apart:.2g} from {rows} (largest output {float(self.answers.abs().max()):.3g})"
        if not self.classes:
            return told
        top = self.answers.gather(-1, answers.argmax(-1, keepdim=True)).squeeze(-1)
        other = int((top < self.answers.amax(-1)).sum())
        if other:
            raise UsageError(f"{what} has another class on top for {other} of {len(self.x):,} test inputs: nothing was written.")
        return f"{told}, every arg-max the same"


@torch.no_grad()
def plain(method: Method, stage: Stage, *, member: int | None = None, mode: str = "", name: str = "") -> Plain:
    """The net that answers a stage, held to the method's `predict`: the backbone as the method holds it, or where that is no
    plain net the one of a member (`member_net`).

    Args:
        member: which one, of a method that answers by several. mode: one of its prediction modes. name: of the method, for
            refusals.

    Raises:
        UsageError: no one plain net answers so.
    """
    name = name or type(method).__name__
    method.eval()
    x = inputs(method, stage, name)
    answers = outputs(method, stage, x, mode, name)
    number = chosen(method, stage, x, answers, member, name)
    tensors = method.effective_weights(x, stage) if member is None else method.member(member)
    own = {key: value.detach() for key, value in tensors.items()}
    net = filled(method.member_net(member) if hasattr(method, "member_net") else method.net, own)
    masks = masks_of(method, stage, net, member)
    raw = {key: before(method.net.get_parameter(key), net.get_parameter(key), mask) for key, mask in masks.items()}
    made = Plain(net, masks, raw, x, answers[number], not stage.regression)
    made.hold(net(x), f"method={name}: its net, masks applied,")
    return made


def inputs(method: Method, stage: Stage, name: str) -> Tensor:
    """Test inputs of a stage, as many as are quickly answered.

    Raises:
        UsageError: the stage has no such inputs, or the method has not learnt it.
    """
    if not method.has_learned(stage):
        raise UsageError(f"method={name} has no answer for stage {stage.index} ({stage.name}).")
    rows = GROUP if answers_in_groups(method.net) else max(LEAST, min(ROWS, NUMBERS // torch.Size(stage.shape).numel()))
    x, _ = stage.test.tensors(first=rows)
    if not isinstance(x, Tensor):
        raise UsageError(f"method={name} answers episodes after adapting to each: no one net answers as it does.")
    return x


def outputs(method: Method, stage: Stage, x: Tensor, mode: str, name: str) -> Tensor:
    """The members' outputs before the link, [members, rows, outputs]."""
    modes = method.prediction_modes()
    if mode not in modes:
        raise UsageError(f"method={name} has no mode '{mode}'; its modes: {', '.join(filter(None, modes)) or 'none'}.")
    return modes[mode](x, replace(stage, link=as_they_are))


def as_they_are(outputs: Tensor) -> Tensor:
    return outputs


def chosen(method: Method, stage: Stage, x: Tensor, answers: Tensor, member: int | None, name: str) -> int:
    """The place of a member among the answers.

    Raises:
        UsageError: there are several and none was named, or there is none of that number.
    """
    count = len(answers)
    if member is None and count == 1:
        return 0
    if not hasattr(method, "member") or count == 1:
        if member is not None and count == 1:
            raise UsageError(f"method={name} answers by one net: leave --member out.")
        others = [mode for mode in method.prediction_modes() if mode and len(outputs(method, stage, x[:1], mode, name)) == 1]
        way = f"; --mode {others[0]} is one net's answer" if others else ""
        raise UsageError(f"method={name} answers by the mean of {count} draws or nets, which no one net gives{way}.")
    if member is None or not 0 <= member < count:
        raise UsageError(f"method={name} answers by {count} members: name one by --member 0 to {count - 1}.")
    return member


def filled(net: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    """A copy of a net with other tensors, by name; gates that let everything pass have no gain."""
    net = copy.deepcopy(net).eval()
    memory_format.forget(net)
    for hooks in (net._forward_pre_hooks, net._state_dict_pre_hooks):
        for key in [key for key, hook in hooks.items() if hook is quiet]:
            del hooks[key]
    for name, value in tensors.items():
        owner, _, leaf = name.rpartition(".")
        module = net.get_submodule(owner)
        if isinstance(module, Gate):
            module.gain = value.clone()
        else:
            getattr(module, leaf).copy_(value)
    for module in net.modules():
        if isinstance(module, Gate) and bool((module.gain == 1).all()):
            module.gain = torch.ones(())
    return net.requires_grad_(True)


def masks_of(method: Method, stage: Stage, net: nn.Module, member: int | None) -> dict[str, Tensor]:
    """The masks that stand on the net's weights: those the method recorded that fit what it computes with, else what is not 0."""
    parameters = dict(net.named_parameters())
    names = [name for name in method.masked_weights() if name in parameters]
    for found in recorded(method, stage, member):
        if found.keys() >= set(names) and all(not parameters[n][~found[n].bool()].any() for n in names):
            return {name: found[name].bool().cpu() for name in names}
    return {name: (parameters[name] != 0).cpu() for name in names}


def recorded(method: Method, stage: Stage, member: int | None) -> Iterator[dict[str, Tensor]]:
    """Sets of masks by weight: those of the stage (or member), of the ticket, then the last ones first."""
    sets: dict[str, dict[str, Tensor]] = {}
    for name, mask in method.masks().items():
        at, _, weight = name.partition("/")
        sets.setdefault(at, {})[weight] = mask
    own = str(stage.index if member is None else member)
    if own in sets and (stage.total > 1 or member is not None):
        yield sets[own]
    yield {name.removeprefix("mask|"): mask for name, mask in method.ticket().items() if name.startswith("mask|")}
    yield from (sets[at] for at in reversed(sets))


def before(raw: Tensor, used: Tensor, mask: Tensor) -> Tensor:
    """A weight before its mask: the backbone's own where the mask makes of it what is used, else what is used."""
    same = torch.equal(raw.detach().cpu() * mask, used.detach().cpu())
    return (raw if same else used).detach().clone()
