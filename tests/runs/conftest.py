"""What tests of given nets begin with."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from maskbench.backbones.mlp import MLP


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of a small net of ten classes."""
    torch.manual_seed(3)
    path = tmp_path / "net.safetensors"
    save_file(MLP((1, 28, 28), 10, widths=[24, 12]).state_dict(), path)
    return path
