"""Exports: what is written answers as the run does, is read by whoever it is for, and is refused by name where it cannot be."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils import prune

from maskbench.backbones import pretrained
from maskbench.backbones.compact.smaller import compact
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.masks import packing
from maskbench.masks.semi_structured import OF
from maskbench.methods.dense import Dense
from maskbench.runs import exports, onnx_file
from maskbench.runs.plain import Plain, plain
from maskbench.runs.read_back import Saved

WIDTHS = (24, 12)
TINY = ("data.base=synthetic", "budget.steps=8", "budget.epochs=null", "backbone=lenet_300_100", "backbone.widths=[24,12]")
WAYS = {  # method -> words, and how one net of it is chosen
    "lottery": (("task.levels=2", "method.rate=0.5"), {}),
    "edge_popup": ((), {}),
    "dense": ((), {}),
    "supsup": (("data=splitmnist", "data.stages=2", "task.probe=20"), {"stage": 1}),
    "packnet": (("data=splitmnist", "data.stages=2"), {"stage": 0}),
    "deep_ensembles": (("method.members=2", "data.ood=[]"), {"member": 1}),
    "supermask": (("method.samples=2",), {"mode": "threshold"}),
    "mc_dropout": (("method.passes=2", "data.ood=[]"), {"mode": "standard"}),
}
FEW = ("lottery", "supsup")


def made(build: Callable, method: str, *words: str, folder: str = "run", **which) -> Plain:
    bench = build(f"method={method}", *TINY, *WAYS.get(method, ((), {}))[0], *words, folder=folder).go()
    which = WAYS.get(method, ((), {}))[1] | which
    return plain(bench.method, bench.stages[which.pop("stage", 0)], name=method, **which)


def masked(seed: int = 0, most: int = 2) -> Plain:
    """A net under random masks that keep `most` of every four inputs."""
    torch.manual_seed(seed)
    net, masks = MLP((1, 4, 4), 5, widths=[8, 12]).eval(), {}
    raw = {name: p.detach().clone() for name, p in net.named_parameters() if p.ndim > 1}
    with torch.no_grad():
        for name, w in raw.items():
            masks[name] = (torch.rand(w.shape).unflatten(1, (-1, OF)).argsort(-1).argsort(-1) < most).flatten(1)
            net.get_parameter(name).copy_(w * masks[name])
        x = torch.randn(20, 1, 4, 4)
        return Plain(net, masks, raw, x, net(x), True)


# ---- of runs


@pytest.mark.parametrize("method", [name if name in FEW else pytest.param(name, marks=pytest.mark.full) for name in WAYS])
def test_the_net_of_a_run_in_every_form(method: str, build: Callable, tmp_path: Path) -> None:
    one = made(build, method)
    for form in ("safetensors", "torch", *(["torch-pruned"] if one.masks else [])):
        first, *_ = exports.write(one, form, tmp_path / form)
        assert "largest difference 0 from the run's own answers" in first and first.endswith("every arg-max the same")
    net = MLP((1, 28, 28), one.answers.shape[1], widths=WIDTHS, bias="hidden.0.bias" in one.net.state_dict())
    for state in (load_file(tmp_path / "safetensors/model.safetensors"), torch.load(tmp_path / "torch/model.pt")):
        net.load_state_dict(state)
        assert torch.equal(net(one.x), one.answers)
    if one.masks:
        masks = packing.load(tmp_path / "safetensors" / exports.MASKS)
        assert all(torch.equal(masks[name], mask) for name, mask in one.masks.items())
        assert all(not net.get_parameter(name)[~mask].any() for name, mask in masks.items())
        assert 0 < sum(int(mask.sum()) for mask in masks.values()) < sum(mask.numel() for mask in masks.values())
    small = compact(one.net, one.x)
    exports.write_compact(one, small, "A net.", tmp_path / "small")
    net = runpy.run_path(str(tmp_path / "small/net.py"))["Net"]()
    net.load_state_dict(load_file(tmp_path / "small/net.safetensors"))
    assert torch.allclose(net.eval()(one.x), one.answers, atol=one.tolerance)


def test_what_no_one_net_answers_is_refused_with_the_way(build: Callable, tmp_path: Path) -> None:
    bench = build("method=masksembles", *TINY, "method.width=fixed", "data.ood=[]").go()
    with pytest.raises(UsageError, match="answers by 4 members: name one by --member 0 to 3"):
        plain(bench.method, bench.stages[0], name="masksembles")
    one = plain(bench.method, bench.stages[0], member=2)
    with pytest.raises(UsageError, match="stand on units .gates.0, gates.1.* maskbench compact RUN"):
        exports.write(one, "safetensors", tmp_path)
    (line,) = exports.write_compact(one, compact(one.net, one.x), "A member.", tmp_path)
    assert "every arg-max the same" in line
    assert load_file(tmp_path / "net.safetensors")["hidden.0.weight"].shape[0] < WIDTHS[0]


@pytest.mark.full
def test_a_run_read_back_has_the_net_of_each_stage(build: Callable) -> None:
    bench = build("method=packnet", *TINY, *WAYS["packnet"][0]).go()
    saved = Saved(bench.method, bench.stages, bench.cfg)
    x, _ = bench.stages[1].test.tensors(first=5)
    for stage in (1, "1", bench.stages[1].name):
        answer = bench.stages[1].link(saved.plain_net(stage)(x))
        assert torch.equal(answer, bench.method.predict(x, bench.stages[1])[0])
    with pytest.raises(
        UsageError, match=r"each of its stages has a net of its own: name one by --stage .*: 0 \(0/1/2/3/4\), 1 \(5"
    ):
        saved.plain_net()
    with pytest.raises(UsageError, match="it has no stage 7: name one"):
        saved.plain_net(7)


@pytest.mark.full
def test_draws_stages_and_modes_are_refused_with_the_way(build: Callable) -> None:
    with pytest.raises(UsageError, match="mean of 2 draws or nets, which no one net gives; --mode standard is one net's"):
        made(build, "mc_dropout", mode="")
    with pytest.raises(UsageError, match="has no mode 'none'; its modes: threshold"):
        made(build, "supermask", folder="other", mode="none")
    bench = build("method=packnet", *TINY, "data=splitmnist", folder="packnet")
    with pytest.raises(UsageError, match="has no answer for stage 1 "):
        plain(bench.method, bench.stages[1])
    with pytest.raises(UsageError, match="answers by one net: leave --member out"):
        made(build, "dense", folder="dense", member=1)


@pytest.mark.full
def test_weights_that_are_frozen_where_they_are_pruned_leave_no_mask(build: Callable, tmp_path: Path) -> None:
    one = made(build, "lottery", "method.mask0=freeze_init")
    assert all(mask.all() for mask in one.masks.values())  # nothing of this net is 0
    assert "largest difference 0" in exports.write(one, "torch-pruned", tmp_path)[0]


# ---- forms


def test_torch_prunes_a_net_of_its_own_into_the_same(tmp_path: Path) -> None:
    one = masked()
    exports.write(one, "torch-pruned", tmp_path)
    state = torch.load(tmp_path / "model.pruned.pt")
    net = MLP((1, 4, 4), 5, widths=[8, 12])
    for layer in (*net.hidden, net.head):
        prune.random_unstructured(layer, "weight", 0.3)
    net.load_state_dict(state)
    assert torch.equal(net(one.x), one.answers)
    assert torch.equal(state["head.weight_orig"], one.raw["head.weight"])


def test_24_is_compressed_and_its_reader_gives_the_net_back(tmp_path: Path) -> None:
    one = masked()
    exports.write(one, "24", tmp_path)
    path = tmp_path / "model.24.safetensors"
    assert load_file(path)[f"hidden.0.weight{pretrained.VALUES}"].shape == (8, 8)
    assert all(torch.equal(value, pretrained.read(path)[name]) for name, value in one.net.state_dict().items())
    with pytest.raises(UsageError, match=r"mask of hidden.0.weight is no 2:4 \(output 0 keeps 3 of its inputs 0 to 3\)"):
        exports.write(masked(most=3), "24", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_net_without_masks_has_no_pruned_form(tmp_path: Path) -> None:
    one = masked()
    for form in ("torch-pruned", "24"):
        with pytest.raises(UsageError, match=f"--format {form} is for nets with masks"):
            exports.write(Plain(one.net, {}, {}, one.x, one.answers, True), form, tmp_path)


def test_what_answers_otherwise_is_not_written(tmp_path: Path) -> None:
    one = masked()
    far = Plain(one.net, one.masks, one.raw, one.x, one.answers + 1e-3, True)
    with pytest.raises(UsageError, match="differs from the run's own answers to 20 test inputs by up to"):
        exports.write(far, "safetensors", tmp_path / "far")
    assert not (tmp_path / "far").exists()
    two = Plain(one.net, {}, {}, one.x[:2], torch.tensor([[1.0, 1.000001], [2.0, 2.0]]), True)
    with pytest.raises(UsageError, match="it has another class on top for 1 of 2 test inputs"):
        two.hold(torch.tensor([[1.000001, 1.0], [2.0, 2.000001]]), "it")  # of two that were equal either may be


def test_an_absent_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx_file, "PACKAGES", ("torch", "no_such_package"))
    with pytest.raises(UsageError, match='needs no_such_package: pip install "maskbench.onnx."') as refused:
        exports.write(masked(), "onnx", tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.full
@pytest.mark.parametrize("keys", [(), ("backbone=vgg19", "backbone.blocks=[1,1]", "backbone.channels=[4,6]")])
def test_onnxruntime_answers_as_the_run_does(keys: tuple[str, ...], build: Callable, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    words = ("method=lottery", "data.base=synthetic", "budget.steps=8", "budget.epochs=null", "task.levels=1", *keys)
    bench = build(*words).go()
    one = plain(bench.method, bench.stages[0])
    exports.write(one, "onnx", tmp_path)
    found = onnx_file.answers((tmp_path / "model.onnx").read_bytes(), one)
    assert found.shape == one.answers.shape and float((found - one.answers).abs().max()) <= one.tolerance


# ---- and back


@pytest.mark.parametrize("form", ["safetensors", "torch-pruned", "24"])
def test_a_run_starts_from_what_was_exported(form: str, tmp_path: Path) -> None:
    one = masked()
    exports.write(one, form, tmp_path)
    path = tmp_path / exports.FORMS[form].file
    ticket = Dense(MLP((1, 4, 4), 5, widths=[8, 12]), init=f"ticket:{path}")
    assert torch.equal(ticket.logits(one.x, None), one.answers)
    assert all(torch.equal(ticket.masks()[f"0/{name}"], mask) for name, mask in one.masks.items())
    plainly = MLP((1, 4, 4), 5, widths=[8, 12])
    about = pretrained.start(plainly, path)
    assert torch.equal(plainly(one.x), one.answers) and about["unexpected"] == []


def test_a_run_starts_from_what_torch_pruned(tmp_path: Path) -> None:
    net = MLP((1, 4, 4), 5, widths=[8, 12])
    for layer in net.hidden:
        prune.l1_unstructured(layer, "weight", 0.6)
    torch.save({"state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}}, tmp_path / "net.pt")
    x = torch.randn(7, 1, 4, 4)
    ticket = Dense(MLP((1, 4, 4), 5, widths=[8, 12]), init=f"ticket:{tmp_path / 'net.pt'}")
    assert torch.equal(ticket.logits(x, None), net(x)) and list(ticket.masks()) == ["0/hidden.0.weight", "0/hidden.1.weight"]
    assert torch.equal(ticket.net.hidden[0].weight, net.hidden[0].weight_orig)
    plainly = MLP((1, 4, 4), 5, widths=[8, 12])
    pretrained.start(plainly, tmp_path / "net.pt")
    assert torch.equal(plainly(x), net(x))


def test_a_file_without_masks_is_no_ticket_and_damaged_parts_are_told(tmp_path: Path) -> None:
    net = MLP((1, 4, 4), 5, widths=[8, 12])
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(UsageError, match="holds no masks, and none lie beside it: backbone.init=file:"):
        Dense(net, init=f"ticket:{tmp_path / 'net.safetensors'}")
    state = net.state_dict()
    state |= {"head.weight_orig": state.pop("head.weight"), "head.weight_mask": torch.ones(3)}
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(UsageError, match="head.weight cannot be put together"):
        pretrained.start(net, tmp_path / "net.pt")


# ---- the program


@pytest.mark.full
def test_export_and_compact_on_the_command_line(cli: Callable, tmp_path: Path) -> None:
    words = ("method=lottery", *TINY, "task.levels=3", "method.rate=0.7", "logger=none")
    assert cli(*words).returncode == 0
    (run,) = (path.parent for path in tmp_path.glob("outputs/*/*/result.json"))
    listed = json.loads((run / "files.json").read_text())["files"]
    for form in exports.FORMS:
        done = cli("export", str(run), "--format", form)
        if form == "24":
            assert done.returncode == 2 and "is no 2:4" in done.stderr and done.stderr.count("\n") == 1
        else:
            assert done.returncode == 0 and "largest difference" in done.stdout, done.stderr
    done = cli("compact", str(run), "--output", "small")
    assert done.returncode == 0 and "weights 19,2" in done.stdout.replace("19,224 ->", "19,224") and "net.py" in done.stdout
    assert (tmp_path / "small/net.py").exists() and not (run / "compact").exists()
    now = json.loads((run / "files.json").read_text())["files"]
    assert set(now) - set(listed) == {f"export/{exports.FORMS[f].file}" for f in exports.FORMS if f != "24"} | {
        f"export/{exports.MASKS}"
    }
    assert cli("verify", str(run)).returncode == 0
    done = cli("method=dense", *TINY, "task=prune", "task.levels=0", f"init=ticket:{run}/export/model.pruned.pt", "logger=none")
    assert done.returncode == 0, done.stderr
