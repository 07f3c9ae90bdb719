"""Nets of the library timm by name: its trunk as it stands, our output layer, and gates where masks over units meet it.

The package is an extra: pip install 'maskbench[pretrained]'. Its layers keep timm's names, behind `trunk.`.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor, nn

from maskbench.backbones.gate import Gate
from maskbench.backbones.initial import Init, initialise
from maskbench.backbones.norm import need_images
from maskbench.common.errors import UsageError, first_line
from maskbench.common.knobs import Count
from maskbench.common.recipes import EXTRA
from maskbench.masks.sites import DENSE, patterns

EMBEDDINGS = ("pos_embed", "cls_token", "reg_token", "dist_token", "relative_position_bias_table")  # no layers: no masks
STANDARDISED = "StdConv"  # in the names of timm's convolutions whose weights are standardised at each pass
HEADS = ("classifier", "fc", "head")  # timm's names of last layers


class Timm(nn.Module):
    """[batch, channels, height, width] -> [batch, outputs] by a net of timm; a gate after each of its stages and before `head`.

    Args:
        arch: timm's name of it, such as `resnet18` or `tf_efficientnet_lite0`; with the weights' tag behind a dot, as
            `resnet18.a1_in1k`, it is those that `backbone.init=imagenet` takes.
        patch: pixels a side of a transformer's patches; null: timm's own.
        init: how weights are drawn (initial.py); `torch`: as timm draws them.
    """

    def __init__(
        self, shape: tuple[int, int, int], outputs: int, *, arch: str, patch: Count | None = None, init: Init = "torch"
    ) -> None:
        super().__init__()
        need_images(shape, least=1)
        self.arch = arch
        self.inlet = Gate(prod(shape), inlet=True)
        self.trunk = trunk(arch, shape, patch)
        features = getattr(self.trunk, "head_hidden_size", self.trunk.num_features)
        self.gates = nn.ModuleList(StageGate(info["num_chs"]) for info in self.trunk.feature_info)
        for gate, info in zip(self.gates, self.trunk.feature_info, strict=True):
            # a method of a module, which a copy of the net has as one of its own
            self.trunk.get_submodule(info["module"]).register_forward_hook(gate.after)
        self.last = Gate(features)
        self.head = nn.Linear(features, outputs)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.trunk(self.inlet(x))))

    @property
    def dense_weights(self) -> list[str]:
        """Matrices in no layer of torch.nn that are tables of vectors, one a place (sites.py)."""
        loose = (
            f"{owner}.{part}"
            for owner, module in self.named_modules()
            if not patterns(module) and not isinstance(module, DENSE)
            for part, _ in module.named_parameters(recurse=False)
        )
        return [name for name in loose if name.endswith(EMBEDDINGS)]

    @staticmethod
    def own_name(name: str) -> str:
        """A tensor's name here, by the name that timm gives it (pretrained.py)."""
        return name if name.startswith("trunk.") or name.rpartition(".")[0] in HEADS else f"trunk.{name}"


class StageGate(Gate):
    """A gate on what a stage of a net puts out: channels [batch, units, ...], or tokens [batch, ..., units]."""

    def after(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        (units,) = self.shape
        if output.ndim == 4 and output.shape[1] == units:
            return self(output)
        return self(output.movedim(-1, 1)).movedim(1, -1)


def trunk(arch: str, shape: Sequence[int], patch: int | None) -> nn.Module:
    """timm's net of that name without its last layer, for inputs [channels, height, width].

    Raises:
        UsageError: timm is not installed, has no such net, or has it not for these inputs; or no mask could stand on its weights.
    """
    try:
        import timm
    except ImportError as error:
        raise UsageError(f"backbone.arch={arch} is a net of timm, which is not installed: {EXTRA}.") from error
    knobs = {} if patch is None else {"patch_size": patch}
    if "img_size" in timm_arguments(timm, arch):  # of a transformer, whose positions are learnt
        knobs["img_size"] = tuple(shape[1:])
    try:
        net = timm.create_model(arch, pretrained=False, num_classes=0, in_chans=shape[0], **knobs)
    except Exception as error:  # whatever its many constructors raise
        reason = first_line(error)
        raise UsageError(f"backbone.arch={arch}: timm cannot make it for inputs of {list(shape)} ({reason}).") from error
    if any(STANDARDISED in type(module).__name__ for module in net.modules()):
        raise UsageError(
            f"backbone.arch={arch} computes its weights anew at each pass, and a mask needs plain ones: take another."
        )
    return net


def timm_arguments(timm: Any, arch: str) -> set[str]:
    """Which of `img_size` a net of timm is made with.

    Raises:
        UsageError: timm has no net of that name.
    """
    if not timm.is_model(arch.partition(".")[0]):
        near = timm.list_models(f"*{arch.partition('.')[0].partition('_')[0]}*")[:6]
        hint = f" Some that it has: {', '.join(near)}." if near else ""
        raise UsageError(f"backbone.arch={arch}: timm has no net of that name.{hint}")
    fixed = timm.get_pretrained_cfg(arch, allow_unregistered=True)
    return {"img_size"} if fixed is not None and fixed.fixed_input_size else set()
