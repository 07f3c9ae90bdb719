"""Encoders of text by the library transformers: tokens in, the mean of their vectors out, and our output layer.

The packages are an extra: pip install 'maskbench[text]'. Layers keep transformers' names, behind `trunk.`.
"""

import json
from typing import Any

import torch
from torch import Tensor, nn

from maskbench.backbones.gate import Gate
from maskbench.backbones.initial import Init, initialise
from maskbench.common import text_nets
from maskbench.common.errors import UsageError, first_line
from maskbench.common.knobs import Share
from maskbench.common.recipes import Recipe

CLOSE = 1e-3  # of the values that a recipe knows
UNUSED = ("pooler.", "embeddings.position_ids")  # in files, and no part of the mean


class Encoder(nn.Module):
    """[batch, tokens] of whole numbers -> [batch, outputs] by an encoder of transformers, with a gate before `head`. A text's
    vector, which `head` is given, is the mean of its tokens' last vectors. Texts of one length run together, without filling.

    Args:
        arch: a net that a package carries, such as `all-MiniLM-L6-v2`, or a folder with config.json.
        dropout: of its hidden vectors and attention in training, in the place of the published one.
        init: how weights are drawn (initial.py); `torch`: as transformers draws them.
    """

    reads_tokens = True

    def __init__(self, shape: tuple[int], outputs: int, *, arch: str, dropout: Share = 0.0, init: Init = "torch") -> None:
        super().__init__()
        if len(shape) != 1:
            raise UsageError(f"backbone.arch={arch} reads texts, not inputs of shape {list(shape)}: take data=fortunes.")
        self.arch = arch
        self.trunk = trunk(arch, dropout)
        width, longest = self.trunk.config.hidden_size, self.trunk.config.max_position_embeddings
        if shape[0] > longest:
            raise UsageError(f"backbone.arch={arch} reads {longest} tokens at most, not data.length={shape[0]}.")
        self.last = Gate(width)
        self.head = nn.Linear(width, outputs)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_floating_point():
            raise UsageError(f"backbone.arch={self.arch} reads tokens, and these inputs are numbers: take data=fortunes.")
        return self.head(self.last(self.vectors(x)))

    def vectors(self, x: Tensor) -> Tensor:
        """[batch, tokens], filled at their ends -> [batch, width]: the mean over tokens that are no filling."""
        lengths = (x != text_nets.FILLING).sum(1)
        rows = [(lengths == length).nonzero().squeeze(1) for length in lengths.unique()]
        parts = [self.trunk(input_ids=x[some, : int(lengths[some[0]])]).last_hidden_state.mean(1) for some in rows]
        return torch.cat(parts)[torch.cat(rows).argsort()]

    @staticmethod
    def own_name(name: str) -> str:
        """A tensor's name here, by the name that transformers gives it (pretrained.py)."""
        return name if name.startswith(("trunk.", "head.", "last.", *UNUSED)) else f"trunk.{name}"


def trunk(arch: str, dropout: float) -> nn.Module:
    """transformers' net of that name or folder, its weights drawn.

    Raises:
        UsageError: transformers is not installed, or there is no such net that it can make.
    """
    try:
        told: dict[str, Any] = json.loads(text_nets.read(arch, text_nets.CONFIG))
    except ValueError as error:
        raise UsageError(f"backbone.arch={arch}: its {text_nets.CONFIG} is no JSON ({error}).") from error
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError as error:
        raise UsageError(f"backbone.arch={arch} is a net of transformers, which is not installed: {text_nets.EXTRA}.") from error
    told |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    try:
        return AutoModel.from_config(AutoConfig.for_model(**told), add_pooling_layer=False)
    except Exception as error:  # whatever its many constructors raise
        reason = first_line(error)
        raise UsageError(
            f"backbone.arch={arch}: transformers makes no encoder of its {text_nets.CONFIG} ({reason[:120]})."
        ) from error


@torch.no_grad()
def self_test(net: Encoder, recipe: Recipe) -> None:
    """Hold a net that has taken a recipe's weights to the vector that its recipe knows.

    Raises:
        UsageError: it computes something else: an equal fit of names and shapes does not tell two architectures apart.
    """
    if recipe.answer is None:
        return
    tokens, known = recipe.answer
    training = net.training
    got = net.eval().vectors(torch.tensor([[*tokens, text_nets.FILLING]]))[0, : len(known)]
    net.train(training)
    if (got - torch.tensor(known)).abs().max() > CLOSE:
        shown = ", ".join(f"{value:.4f}" for value in got)
        raise UsageError(
            f"backbone.init=published: the weights loaded, but the net computes something else than {recipe.name} (the vector of "
            f"the test sentence begins {shown}, not {', '.join(map(str, known))}): take the backbone that the recipe is for."
        )
