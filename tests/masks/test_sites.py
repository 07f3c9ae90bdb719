"""Where masks stand in nets of any of torch's layers: nothing is silently dense."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskbench import masks
from maskbench.common.errors import UsageError
from maskbench.methods.continual.packnet import PackNet
from maskbench.methods.prune.edge_popup import EdgePopup
from maskbench.methods.prune.lottery import Lottery
from maskbench.methods.transfer.pac_net import PacNet


class Attention(nn.Module):
    def __init__(self, width: int = 16, **knobs: object) -> None:
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True, **knobs)
        self.norm = nn.LayerNorm([3, width])
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:  # [batch, 3, 4]
        x = self.embed(x)
        return self.head(self.norm(x + self.attention(x, x, x)[0]).mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.cells = kind(4, 6, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x)[0].mean(1))


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose1d(3, 6, 2)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.up(x).mean(-1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.code, self.decode, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 5)
        self.decode.weight = self.code.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decode(self.code(x).relu()).mean(1))


class Words(nn.Module):
    """A table of vectors that the last layer shares."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(7, 4), nn.Linear(4, 7)
        self.out.weight = self.table.weight


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.place, self.mix, self.head = nn.Parameter(torch.ones(1, 1, 4)), nn.Parameter(torch.ones(4, 4)), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.place) @ self.mix).mean(1)


RECURRENT = [f"cells.weight_{kind}_l{layer}{way}" for layer in (0, 1) for way in ("", "_reverse") for kind in ("ih", "hh")]
NETS = {
    "attention": (Attention, ["embed.weight", "attention.in_proj_weight", "attention.out_proj.weight", "head.weight"]),
    "lstm": (Recurrent, [*RECURRENT, "head.weight"]),
    "gru": (lambda: Recurrent(nn.GRU), [*RECURRENT, "head.weight"]),
    "transposed": (Transposed, ["up.weight", "head.weight"]),
    "tied": (Tied, ["code.weight", "head.weight"]),
}


@pytest.mark.parametrize("name", NETS)
def test_every_matrix_weight_is_a_site_and_answers_depend_on_its_mask(name: str) -> None:
    make, wanted = NETS[name]
    net = make()
    assert masks.sites(net) == wanted
    rest = [p for n, p in net.named_parameters() if n not in wanted]
    assert all(p.ndim < 2 or "norm" in n for n, p in net.named_parameters() if n not in wanted) and rest
    x = torch.randn(2, 3, 4)
    for site in wanted:
        w = net.get_parameter(site).detach().requires_grad_()
        (slope,) = torch.autograd.grad(functional_call(net, {site: w}, (x,)).square().sum(), w)
        assert slope.abs().sum() > 0 and not torch.equal(functional_call(net, {site: w * 0}, (x,)), net(x))


def test_projections_of_their_own_widths_are_sites() -> None:
    own = [f"attention.{part}_proj_weight" for part in "qkv"]
    assert masks.sites(Attention(kdim=16, vdim=8))[1:4] == own


@pytest.mark.parametrize("name", NETS)
def test_methods_mask_all_of_it(name: str) -> None:
    make, wanted = NETS[name]
    x = torch.randn(2, 3, 4)
    lottery, packed = Lottery(make()), PackNet(make(), prune=[0.5], head="packed")
    for method, alive in ((lottery, lottery.alive), (packed, packed.ledger.alive)):
        for site in wanted:
            alive.put(site, torch.zeros_like(alive[site]))
        tensors = method.effective_weights(x, Stage)
        assert sorted(tensors) == sorted(wanted)
        answers = functional_call(method.net, tensors, (x,))
        assert torch.equal(answers[0], answers[1]), "without a weight no input reaches the output"


class Stage:
    index = 0


def test_biases_of_packnet_and_pac_net_are_vectors() -> None:
    packed = PackNet(Attention(), prune=[0.5])
    assert "attention.in_proj_weight" in packed.trunk
    assert all(packed.net.get_parameter(name).ndim < 2 or "norm" in name for name in packed.copies.biases)
    pac = PacNet(Attention(), prune={"ratio": 0.5, "scope": "global", "criterion": "magnitude"}, allocate={"share": 0.0},
                 calibrate={"lam": 0.0, "reset": "zero"})  # fmt: skip
    assert list(pac.trunk) == masks.sites(pac.net)


def test_a_shared_weight_is_one_and_left_out_with_either_layer() -> None:
    assert masks.sites(Words()) == ["table.weight"]
    assert masks.sites(Tied(), skip=["decode"]) == ["head.weight"]


def test_what_is_skipped_is_skipped_with_all_that_is_in_it() -> None:
    assert masks.sites(Attention(), skip=["attention"]) == ["embed.weight", "head.weight"]


def older(net: nn.Module) -> nn.Module:
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(net.head)
    return net


def parametrized(net: nn.Module) -> nn.Module:
    nn.utils.parametrizations.weight_norm(net.head)
    return net


@pytest.mark.parametrize("normed", [older, parametrized])
def test_a_computed_weight_is_refused_by_name_unless_it_is_skipped(normed) -> None:
    net = normed(Tied())
    with pytest.raises(UsageError, match=r"Tied: head.weight is computed.*remove_parametrizations\(net.head, \"weight\"\)"):
        EdgePopup(net)
    assert masks.sites(net, skip=["head"]) == ["code.weight"]


def test_a_matrix_of_no_known_layer_is_refused_unless_the_net_says_it_is_dense() -> None:
    with pytest.raises(UsageError, match=r"mix \[4, 4\] is a matrix in no layer of torch.nn.*dense_weights = \['mix'\]"):
        masks.sites(Bare())
    net = Bare()
    net.dense_weights = ["mix"]
    assert masks.sites(net) == ["head.weight"]
