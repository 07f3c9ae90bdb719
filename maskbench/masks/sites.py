"""Where masks stand: the maskable weights of a net, by name."""

from collections.abc import Iterable

from torch import nn

from maskbench.common.errors import UsageError, did_you_mean

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # whose weights can be masked


def sites(net: nn.Module, skip: Iterable[str] = ()) -> list[str]:
    """Names of the maskable tensors: every Linear and Conv weight, in the order of the forward pass; biases and norms never.

    `skip` names modules left out (`["head"]`).

    Raises:
        UsageError: there are none, or a name of `skip` is no module's.
    """
    modules = dict(net.named_modules())
    for name in skip:
        if name not in modules:
            layers = [own for own, module in modules.items() if isinstance(module, LAYERS)]
            hint = did_you_mean(name, layers)
            raise UsageError(
                f"method.dense: no layer of {type(net).__name__} is called '{name}'.{hint} Layers: {', '.join(layers)}."
            )
    layers = [name for name, module in modules.items() if isinstance(module, LAYERS) and name not in set(skip)]
    if not layers:
        raise UsageError(
            f"{type(net).__name__} has no layer whose weights this method could mask: take another backbone, such as "
            "backbone=mlp_100x3 (for a table in divisions with data.fold=0, one of them)"
        )
    return [f"{name}.weight" for name in layers]
