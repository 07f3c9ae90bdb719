"""Numbers frozen from the original mechanisms (PROVENANCE.md), and the least that a method asks of a stage."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

HERE = Path(__file__).parent


@pytest.fixture
def frozen(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    """The tensors of the file named as the test's: test_parity_packnet.py reads packnet.safetensors."""
    return load_file(HERE / f"{request.path.stem.removeprefix('test_parity_')}.safetensors")


@pytest.fixture
def stage() -> Callable[..., SimpleNamespace]:
    """Makes a first stage of classes, or what `changes` says."""

    def make(**changes: object) -> SimpleNamespace:
        plain = {"index": 0, "total": 1, "last": True, "outputs": 3, "label_space": 0, "regression": False}
        plain |= {"own_head": {"outputs": None, "given": False}}
        return SimpleNamespace(**(plain | {"criterion": F.cross_entropy, "link": lambda y: y.softmax(-1)} | changes))

    return make
