"""Where masks stand: the maskable weights of a net, by name; and which of them a run leaves dense (`method.sites`)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from torch import Tensor, nn

from maskbench.common.errors import UsageError, did_you_mean
from maskbench.common.knobs import Layers

Choice = Literal["auto", "all"] | Layers
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # with one weight [outputs, inputs, *kernel] and one bias
CONVOLUTIONS = LAYERS[1:]
MATRICES = {  # torch's layers with matrix weights -> how the names of these begin
    (*LAYERS, nn.Bilinear, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d): ("weight",),
    (nn.MultiheadAttention,): ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"),  # out_proj is a Linear
    (nn.RNNBase, nn.RNNCellBase): ("weight_",),  # LSTM and GRU too
}
DENSE = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)  # tables of vectors and norms: no mask is meant for them


def sites(net: nn.Module, skip: Iterable[str] = ()) -> list[str]:
    """Names of the maskable tensors: the matrix weights of torch's layers that the net's choice (`choose`) takes, in the order
    of the forward pass; biases, norms and embeddings never. A weight that several layers share is one, under the name that
    `named_parameters` has for it.

    `skip` names modules left out (`["head"]`), with all that is in them.

    Raises:
        UsageError: there are none; a name of `skip` is no module's; or the net has a matrix weight that no mask could
            stand on: one that is computed (weight_norm), or a parameter of the net's own that it does not list as dense.
    """
    require_layers(net, skip)
    modules = dict(net.named_modules())
    owners = [name for name, module in modules.items() if patterns(module)]
    names = {id(weight): name for name, weight in net.named_parameters()}
    dense = [module for name in skip for module in modules[name].modules()] + [modules[name] for name in left_out(net)]
    seen = {id(weight) for module in dense for weight in module.parameters(recurse=False)}
    places = []
    for name in owners:
        if modules[name] not in dense:
            refuse_computed(net, name)
            fresh = [w for part, w in weights(modules[name]) if id(w) not in seen]
            seen |= {id(w) for w in fresh}
            places += [names[id(w)] for w in fresh]
    if not places and choice_of(net) != "auto":
        raise UsageError(f"method.sites={choice_of(net)} leaves this method no weight to mask: name other layers, or take all.")
    if not places:
        raise UsageError(
            f"{type(net).__name__} has no layer whose weights this method could mask: take another backbone, such as "
            "backbone=mlp_100x3 (for a table in divisions with data.fold=0, one of them)"
        )
    refuse_silently_dense(net, seen)
    return places


# ---- which of them


def choose(net: nn.Module, choice: Choice | None) -> None:
    """Let masks stand on the weights of `net` that a choice takes: `auto` (None: auto), all but depthwise convolutions and, in
    nets that have such, the first convolution; `all`; or those in the layers that are named.

    Raises:
        UsageError: the net has no layer of a name.
    """
    if choice not in (None, "auto", "all"):
        require_layers(net, choice, "method.sites")
    net.sites = choice


def choice_of(net: nn.Module) -> Choice:
    return getattr(net, "sites", None) or "auto"


def left_out(net: nn.Module) -> list[str]:
    """Names of the layers whose weights stay dense by the net's choice."""
    choice = choice_of(net)
    layers = {name: module for name, module in net.named_modules() if patterns(module)}
    if choice == "all":
        return []
    if choice != "auto":
        return [name for name in layers if not inside(name, choice)]
    deep = [name for name, module in layers.items() if depthwise(module)]
    stem = next((name for name, module in layers.items() if isinstance(module, CONVOLUTIONS)), None)
    return [name for name in layers if name in deep or (deep and name == stem)]


def inside(name: str, modules: Sequence[str]) -> bool:
    """Whether a layer is one of these modules, or in one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def depthwise(layer: nn.Module) -> bool:
    """Whether it is a convolution of the places of each channel by itself."""
    return isinstance(layer, CONVOLUTIONS) and layer.groups == layer.in_channels > 1 and max(layer.kernel_size) > 1


# ---- the weights there are


def maskable(net: nn.Module) -> list[str]:
    """Names of every matrix weight of torch's layers, those that a method keeps dense included, in the order of the forward
    pass: what the papers count as a net's weights."""
    names = {id(weight): name for name, weight in net.named_parameters()}
    found = (id(weight) for module in net.modules() for _, weight in weights(module))
    return [names[one] for one in dict.fromkeys(found)]


def require_layers(net: nn.Module, names: Iterable[str], key: str = "method.dense") -> None:
    """Hold names of layers to those of a net.

    Raises:
        UsageError: the net has no module of one of these names; tells the key that holds them, and the layers there are.
    """
    modules = dict(net.named_modules())
    layers = [name for name, module in modules.items() if patterns(module)]
    for name in names:
        if name not in modules:
            hint = did_you_mean(name, layers)
            raise UsageError(f"{key}: no layer of {type(net).__name__} is called '{name}'.{hint} Layers: {', '.join(layers)}.")


def patterns(layer: nn.Module) -> tuple[str, ...]:
    """How the names of a layer's matrix weights begin; empty for what is none of torch's layers with matrices."""
    return next((starts for kinds, starts in MATRICES.items() if isinstance(layer, kinds)), ())


def weights(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """(name, weight) of a layer's own matrix weights; none of layers inside it."""
    starts = patterns(layer)
    for name, weight in layer.named_parameters(recurse=False):
        if starts and name.startswith(starts):
            yield name, weight


def refuse_computed(net: nn.Module, name: str) -> None:
    """Refuse a layer whose weight is computed at each pass, as by weight_norm.

    Raises:
        UsageError: the layer's weight is no parameter but is made of others at each pass, which a mask cannot stand on.
    """
    layer = net.get_submodule(name)
    computed = [*getattr(layer, "parametrizations", {}), *(n[:-2] for n in layer._parameters if n.endswith(("_g", "_v")))]
    computed += [n.removesuffix("_orig") for n in layer._parameters if n.endswith("_orig")]
    for weight in computed:
        if weight.startswith(patterns(layer)):
            raise UsageError(
                f"{type(net).__name__}: {name}.{weight} is computed at each pass (weight_norm, spectral_norm, ...), and a mask "
                f'needs a plain weight: torch.nn.utils.parametrize.remove_parametrizations(net.{name}, "{weight}") in the '
                "backbone (of the older hooks remove_weight_norm), or another backbone"
            )


def refuse_silently_dense(net: nn.Module, known: set[int]) -> None:
    """Refuse a net with weights that no mask would cover and that it does not name itself.

    Raises:
        UsageError: a matrix of a module that is none of torch's would stay dense, and the net does not say so.
    """
    said = set(getattr(net, "dense_weights", ()))
    for owner, module in net.named_modules():
        for part, weight in module.named_parameters(recurse=False):
            name = f"{owner}.{part}".lstrip(".")
            matrix = sum(size > 1 for size in weight.shape) > 1
            if matrix and id(weight) not in known and not isinstance(module, DENSE) and name not in said:
                raise UsageError(
                    f"{type(net).__name__}: {name} {list(weight.shape)} is a matrix in no layer of torch.nn, so no mask would "
                    f"reach it: make it the weight of such a layer, or say that it stays dense: dense_weights = [{name!r}] in "
                    "the backbone's class"
                )
