"""The target net that a random one approximates: random itself, trained here, or read from an earlier run's directory."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from maskbench import masks
from maskbench.common.checksums import check
from maskbench.common.errors import UsageError
from maskbench.common.files import read_json
from maskbench.data.stage import Stage
from maskbench.methods.theory import certify

KINDS = ("random", "trained", "given")


class Target(nn.Module):
    """A bias-free fully connected ReLU net and where its weights come from.

    Args:
        net: the backbone; a chain of Linear layers with ReLUs between them.
        source: `random`: as the backbone was drawn; `given`: as `backbone.init` left it; `trained`: trained before anything
            else, within this run; or the run directory of a finished run on the same data, such as one of method=dense.

    Raises:
        UsageError: the backbone has biases or is no such chain, or the run does not fit.
    """

    def __init__(self, net: nn.Module, source: str) -> None:
        super().__init__()
        self.net, self.source = net, str(source)
        self.sites = masks.sites(net)
        self.shapes = [tuple(net.get_parameter(name).shape) for name in self.sites]
        self.depth = len(self.sites)
        biased = [name for name, _ in net.named_parameters() if name not in self.sites]
        if biased:
            raise UsageError(
                f"the theorems are for nets without biases and norms, and the backbone has {biased[0]}: backbone.bias=false"
            )
        if not self.chain():
            raise UsageError(
                "the theorems are for fully connected ReLU nets: take backbone=mlp, with backbone.widths of your choice"
            )
        self.config: dict = {}
        if source not in KINDS:
            if hasattr(net, "given"):
                raise UsageError(f"method.target={source} and backbone.init both give the target: take method.target=given")
            self.read(Path(self.source).expanduser())

    @property
    def size(self) -> int:
        """Weights."""
        return sum(o * i for o, i in self.shapes)

    def chain(self) -> bool:
        """Whether the net computes what its Linear layers with ReLUs between them compute, by trying."""
        if any(len(s) != 2 for s in self.shapes) or any(a[0] != b[1] for a, b in zip(self.shapes, self.shapes[1:], strict=False)):
            return False
        x = torch.linspace(-1, 1, 3 * self.shapes[0][1]).view(3, -1)
        with torch.no_grad():
            expected = certify.run([certify.linear(w) for w in self.weights()], x.double())
            return torch.allclose(self.net(x).double(), expected, rtol=1e-3, atol=1e-4)

    def weights(self) -> list[Tensor]:
        """[outputs, inputs] of each layer, float64."""
        return [self.net.get_parameter(name).detach().double() for name in self.sites]

    def norms(self) -> list[float]:
        """Spectral norms of the layers."""
        return [certify.norm(w) for w in self.weights()]

    def unit(self) -> list[Tensor]:
        """The layers, each divided by its spectral norm."""
        return [w / certify.norm(w) for w in self.weights()]

    def prepare(self, stage: Stage, train: Callable) -> None:
        """Train it where `source` says so, and check that it belongs to this data.

        Raises:
            UsageError: it was trained on other inputs, or a layer is zero.
        """
        data = self.config.get("data", {})
        own = (stage.origin.name, stage.origin.scale)
        if self.config and (data.get("base"), data.get("normalize")) != own:
            raise UsageError(
                f"the target in {self.source} was trained on other inputs than this run's {own[0]} ({own[1]}): "
                f"add data={data.get('name')} data.normalize={data.get('normalize')}"
            )
        if self.source == "trained":
            train()
        if any(norm == 0 for norm in self.norms()):
            raise UsageError("a layer of the target is zero, so there is nothing to approximate")

    def read(self, folder: Path) -> None:
        """Take the weights of a finished run.

        Raises:
            UsageError: there is no such run, or its net is another than this run's backbone.
        """
        about = read_json(folder / "run.json")
        if not (folder / "result.json").is_file() or not (folder / "weights.safetensors").is_file():
            raise UsageError(
                f"method.target={self.source} must be random, trained, given, or the directory of a finished run of method=dense"
            )
        check(folder, "weights.safetensors")
        held = load_file(folder / "weights.safetensors")
        values = {name.removeprefix("net."): value for name, value in held.items() if name.startswith("net.")}
        own = {name: p.shape for name, p in self.net.named_parameters()}
        if {name: value.shape for name, value in values.items()} != own:
            theirs = about.get("config", {}).get("backbone", {})
            mend = " ".join(f"backbone.{key}={_word(theirs[key])}" for key in ("widths", "bias") if key in theirs)
            raise UsageError(
                f"the net in {self.source} is another than this run's backbone: add {mend or 'its backbone'}, without biases "
                "on both sides"
            )
        self.net.load_state_dict(values)
        self.config = about.get("config", {})


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")
