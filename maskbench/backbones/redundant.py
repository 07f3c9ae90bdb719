"""Redundant layers (Pensia et al. 2020, arXiv 2006.07990, experiment 2): r random links in the place of each weight."""

from torch import Tensor, nn
from torch.nn.functional import relu


class Links(nn.Conv1d):
    """[batch, inputs] -> [batch, inputs * r]: each input times r weights of its own, next to each other."""

    def __init__(self, inputs: int, r: int) -> None:
        super().__init__(inputs, inputs * r, 1, groups=inputs, bias=False)

    def matrices(self) -> list[Tensor]:
        return [self.weight]

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, None] * self.weight.view(self.in_channels, -1)
        return x.flatten(1)


class Joins(nn.Linear):
    """A linear map of r numbers for each input, whose initial weights are as large as those of a map of the inputs alone."""

    def __init__(self, inputs: int, outputs: int, r: int, bias: bool) -> None:
        super().__init__(inputs * r, outputs, bias=bias)
        self.r = r

    def matrices(self) -> list[Tensor]:
        return [self.weight[:, k :: self.r] for k in range(self.r)]


class Redundant(nn.Module):
    """[batch, inputs] -> [batch, outputs]: a linear map with r links in the place of each weight, as the theorem builds it.

    Args:
        inputs, outputs: of the map. bias: of it. r: links of an input.
        between: whether a ReLU stands between links and sums, as in the theorem; without it the map stays linear.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool, r: int, between: bool) -> None:
        super().__init__()
        self.links, self.joins, self.between = Links(inputs, r), Joins(inputs, outputs, r, bias), between

    def reset_parameters(self) -> None:
        """Draw all weights anew, as torch's layers do: asked of a head that starts again."""
        self.links.reset_parameters()
        self.joins.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        x = self.links(x)
        return self.joins(relu(x) if self.between else x)


def linear(inputs: int, outputs: int, bias: bool, r: int | None, between: bool) -> nn.Module:
    """A plain Linear layer, or with r a redundant one."""
    return nn.Linear(inputs, outputs, bias=bias) if r is None else Redundant(inputs, outputs, bias, r, between)
