"""Runs whose net starts from a file: what each method makes of it, what is recorded, and a run read back without the file."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from maskbench.backbones import initial
from maskbench.backbones.resnet import ResNet
from maskbench.cli.commands import show
from maskbench.common.errors import UsageError

WIDTHS = "backbone.widths=[24,12]"
SPLIT = ("data=splitmnist", "data.base=synthetic", "data.stages=5", "budget.steps=4", "budget.batch_size=32", WIDTHS)
WHOLE = ("data=mnist", "data.base=synthetic", "budget.steps=4", "budget.batch_size=32", WIDTHS)


def values(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def plain(method: str) -> tuple[str, ...]:
    """Keys with which a method has the tensors of the file, as they are."""
    keys = {"supermask": "method.constant=false", "masksembles": "method.width=fixed"}
    return ("backbone.bias=true", *([keys[method]] if method in keys else []))


CONTINUAL = ["packnet", "piggyback", "separate", "finetune", "heads", "frozen_heads", "batch_ensemble", "psp", "supsup"]
FEW = ("packnet", "edge_popup")  # the others: make test-full
ONE_STAGE = ["dense", "lottery", "edge_popup", "supermask", "masksembles", "mc_dropout", "batch_ensemble_members"]


@pytest.mark.parametrize(
    "method",
    [name if name in FEW else pytest.param(name, marks=pytest.mark.full) for name in (*CONTINUAL, *ONE_STAGE)],
)
def test_every_method_starts_from_the_given_values(method: str, build: Callable, file: Path) -> None:
    words = SPLIT if method in CONTINUAL else WHOLE
    bench = build(f"method={method}", "backbone=lenet_300_100", *words, *plain(method), f"backbone.init=file:{file}")
    own = bench.method.net.state_dict()
    trunk = {name: value for name, value in values(file).items() if not name.startswith("head.")}
    assert all(torch.equal(own[name], value) for name, value in trunk.items())
    about = bench.run.given
    assert about["source"] == f"file:{file}" and about["bytes"] == file.stat().st_size and len(about["sha256"]) == 64
    assert about["missing"] == about["unexpected"] == []
    loaded = torch.equal(own["head.weight"], values(file)["head.weight"])
    assert loaded == (about["head"] == "loaded") == (method in ONE_STAGE)


def test_a_frozen_given_net_never_moves_and_is_stored(build: Callable, file: Path) -> None:
    for method, share in (("piggyback", "density"), ("frozen_heads", None)):
        bench = build(f"method={method}", *SPLIT, f"backbone.init=file:{file}", folder=method).go()
        own, given = bench.method.net.state_dict(), values(file)
        assert all(torch.equal(own[name], value) for name, value in given.items() if not name.startswith("head."))
        assert bench.metrics["logit_drift"] == 0 and (share is None or share in bench.metrics)
        trunk = sum(4 * value.numel() for name, value in given.items() if not name.startswith("head."))
        assert bench.method.memory()["shared"] == trunk
        assert bench.run.given["head"] == "fresh: each stage has one of its own"


@pytest.mark.full
def test_packnet_trains_the_given_trunk_in_its_first_stage(build: Callable, file: Path) -> None:
    bench = build("method=packnet", *SPLIT, f"backbone.init=file:{file}")
    bench.method.learn(bench.stages[0], bench.fit)
    moved = (bench.method.net.get_parameter("hidden.0.weight") - values(file)["hidden.0.weight"]).abs()
    kept = bench.method.ledger.mask("hidden.0.weight", 0)
    assert 0 < moved[kept].mean() < 0.05  # from where it was, a few steps


@pytest.mark.full
def test_a_ticket_of_a_given_net_is_rewound_to_it_and_its_reinit_says_its_rule(
    build: Callable, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "maskbench")
    bench = build(
        "method=lottery", *WHOLE, "task.levels=1", f"backbone.init=file:{file}", "+task.branches.new={mask1: reinit}"
    ).go()
    assert torch.equal(bench.method.ticket()["hidden.0.weight"], values(file)["hidden.0.weight"])
    assert "weights are drawn anew by glorot_normal: those that file:" in caplog.text


@pytest.mark.full
def test_supsup_keeps_a_seed_of_a_drawn_net_and_all_of_a_given_one(build: Callable, file: Path) -> None:
    words = ("method=supsup", *SPLIT, *plain("supsup"), "backbone.outputs=10")
    assert build(*words).method.memory()["shared"] == 8
    given = build(*words, f"backbone.init=file:{file}", folder="given").method
    assert (
        given.memory()["shared"] == sum(4 * value.numel() for value in values(file).values()) == initial.stored_bytes(given.net)
    )


# ---- the head


def test_a_head_that_is_to_be_loaded_must_be_of_use(build: Callable, file: Path) -> None:
    with pytest.raises(UsageError, match="init_head=load: method=packnet draws a head for each stage; leave init_head out"):
        build("method=packnet", *SPLIT, f"backbone.init=file:{file}", "backbone.init_head=load", "data.stages=1")
    with pytest.raises(UsageError, match="its head does not fit .the file's has 10 classes, this net 2."):
        build("method=finetune", *SPLIT, f"backbone.init=file:{file}", "backbone.init_head=load")


def test_a_fresh_head_is_drawn_by_the_nets_usual_rule_and_the_seed(build: Callable, file: Path) -> None:
    def head(*words: str, folder: str) -> torch.Tensor:
        return build("method=dense", *WHOLE, *words, folder=folder).method.net.head.weight

    given = head(f"backbone.init=file:{file}", "backbone.init_head=fresh", folder="given")
    assert torch.equal(given, head("backbone.init=glorot_normal", folder="drawn"))
    assert not torch.equal(given, head(f"backbone.init=file:{file}", "backbone.init_head=fresh", "seed=1", folder="other"))


# ---- another net's file


@pytest.mark.parametrize(
    ("backbone", "mend"),
    [
        ("resnet20", "backbone.shortcut=pad"),
        pytest.param("conv2", "backbone=resnet20 backbone.shortcut=pad", marks=pytest.mark.full),
    ],
)
def test_the_backbone_that_would_fit_is_named(backbone: str, mend: str, build: Callable, tmp_path: Path) -> None:
    path = tmp_path / "net.th"
    net = ResNet((3, 32, 32), 10, base=16, blocks=[3, 3, 3], shortcut="pad")
    torch.save({f"module.{name}": value for name, value in net.state_dict().items()}, path)
    words = ("method=dense", "data=cifar10", "data.base=synthetic_cifar10", f"backbone.init=file:{path}")
    with pytest.raises(UsageError, match="is of another net") as refused:
        build(*words, f"backbone={backbone}")
    assert str(refused.value).endswith(f"; {mend} would fit.")


def test_a_file_that_changes_while_a_run_begins_is_not_taken_for_the_one_it_is_known_by(build: Callable, file: Path) -> None:
    with pytest.raises(UsageError, match="the file's SHA-256 is [0-9a-f]{64}, not backbone.init_sha256=ab"):
        build("method=dense", *WHOLE, f"backbone.init=file:{file}", "backbone.init_sha256=ab")


@pytest.mark.full
def test_coverage_is_shown_of_a_given_net(file: Path, capsys: pytest.CaptureFixture) -> None:
    show.main(["method=piggyback", *SPLIT, "logger=none", f"backbone.init=file:{file}", "--coverage"])
    rows = capsys.readouterr().out.splitlines()
    assert any(line.startswith("hidden.0.weight") and "masked" in line for line in rows), rows


# ---- inputs


@pytest.mark.full
def test_inputs_by_imagenets_constants(build: Callable) -> None:
    words = ("method=dense", "data=cifar10", "data.base=synthetic_cifar10", "backbone=conv2", "backbone.widths=[8]")
    unit, scaled = (build(*words, f"data.normalize={way}", folder=way).stages[0].test for way in ("unit", "imagenet"))
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(scaled.tensors(first=5)[0], (unit.tensors(first=5)[0] - mean) / deviation)
    with pytest.raises(UsageError, match="data.normalize=imagenet is for images in colour"):
        build("method=dense", *WHOLE, "data.normalize=imagenet")


# ---- a whole run


@pytest.mark.full
def test_a_run_records_its_start_is_found_again_and_read_back_without_the_file(cli: Callable, file: Path, tmp_path: Path) -> None:
    import maskbench

    words = ("method=piggyback", *SPLIT, "logger=none", "task.probe=50")
    done = cli(*words, f"backbone.init=file:{file}")
    assert done.returncode == 0, done.stderr
    assert f"file:{file}: 4 tensors; head fresh: each stage has one of its own" in done.stderr
    (run,) = tmp_path.glob("outputs/piggyback-splitmnist/*")
    about = json.loads((run / "run.json").read_text())
    assert about["init"]["sha256"] == about["config"]["backbone"]["init_sha256"] and about["init"]["mapped"] == 4
    moved = file.rename(tmp_path / "moved.safetensors")
    again = cli(*words, f"backbone.init=file:{moved}")
    assert again.returncode == 0 and "finished earlier" in again.stdout
    moved.unlink()
    saved = maskbench.load(run, data=tmp_path)
    assert saved.method.has_learned(saved.stages[-1])


@pytest.mark.full
def test_what_is_no_file_of_weights_ends_with_status_2_before_data_are_read(cli: Callable, tmp_path: Path) -> None:
    torch.save({"net": torch.nn.Linear(2, 2)}, tmp_path / "net.pt")
    done = cli(
        "method=dense", "data=mnist", "data.source=folder", "paths.data=nowhere", "logger=none", "backbone.init=file:net.pt"
    )
    assert done.returncode == 2 and "save its state_dict as safetensors." in done.stderr, done.stderr
    assert "weights_only" not in done.stderr and done.stderr.count("\n") == 1
