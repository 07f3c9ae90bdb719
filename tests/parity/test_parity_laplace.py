"""Last-layer Laplace: variances and marginal likelihood of laplace-torch 0.3, both structures, under two priors."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from maskbench.methods.uncertainty.laplace import Block, curvature

THEIRS = json.loads((Path(__file__).parent / "laplace.json").read_text())


def variances(block: Block, prior: float) -> Tensor:
    """Of each parameter of a block, by one draw along every eigenvector."""
    unit = torch.eye(block.values.numel(), dtype=torch.float64).unflatten(1, block.values.shape)
    return torch.stack([block.out(one / (block.values + prior).sqrt()) for one in unit]).square().sum(0)


@pytest.mark.parametrize("structure", ["full", "kron"])
@pytest.mark.parametrize("prior", [1.0, 0.3])
def test_posterior_and_evidence(structure: str, prior: float) -> None:
    weights = [torch.tensor(w, dtype=torch.float64) for w in THEIRS["weights"]]
    x, y = torch.tensor(THEIRS["inputs"], dtype=torch.float64), torch.tensor(THEIRS["targets"])
    features = nn.functional.linear(x, *weights[:2]).relu()
    head = nn.Linear(4, 3).double()
    head.load_state_dict(dict(zip(("weight", "bias"), weights[2:], strict=True)))
    with torch.no_grad():
        posterior = curvature(structure, [(features[:5], y[:5]), (features[5:], y[5:])], head)
    theirs = THEIRS["laplace"][f"{structure} {prior}"]
    evidence = posterior.evidence(prior, torch.cat([w.flatten() for w in weights[2:]]))
    assert evidence == pytest.approx(theirs["marglik"], abs=1e-6)
    parts = posterior.split([variances(block, prior) for block in posterior.blocks])
    ours = torch.cat([parts["weight"].flatten(), parts["bias"]])
    torch.testing.assert_close(ours, torch.tensor(theirs["variance"], dtype=torch.float64), rtol=0, atol=1e-6)
