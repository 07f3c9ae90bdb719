"""`backbone.init=file:PATH` on the command line: what is refused before torch is imported, and who the run is."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from maskbench.cli import command_line, preflight
from maskbench.common import given, identity
from maskbench.common.errors import UsageError

NO_NET = "method=dense data=cifar10 backbone=resnet20 logger=none"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"0123456789")  # no more is looked at before torch
    return path


def mistakes(line: str, starts: bool = True) -> list[str]:
    try:
        preflight.check(line.split(), starts=starts)
    except UsageError as error:
        return str(error).splitlines()
    return []


def composed(*words: str) -> OmegaConf:
    return command_line.parse(list(words)).compose(list(words))


# ---- who a run is


def test_a_run_is_known_by_what_the_file_holds_not_by_its_place(weights: Path, tmp_path: Path) -> None:
    def key(path: Path, *words: str) -> str:
        return identity.key(composed(*NO_NET.split(), f"backbone.init=file:{path}", *words))

    moved, other = tmp_path / "elsewhere.pth", tmp_path / "other.safetensors"
    moved.write_bytes(weights.read_bytes())
    other.write_bytes(b"0123456780")
    assert key(weights) == key(moved) != key(other)
    assert key(weights, "backbone.init_sha256=null") == key(weights)
    assert key(weights, "backbone.init_head=fresh") != key(weights) != identity.key(composed(*NO_NET.split()))
    before = key(weights)
    weights.write_bytes(b"0123456780")  # the same name and length
    assert key(weights) == key(other) != before


def test_a_rule_is_the_run_it_was() -> None:
    cfg = composed(*NO_NET.split())
    bare = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))
    del bare.backbone["init_head"], bare.backbone["init_sha256"]
    assert identity.key(cfg) == identity.key(bare) and cfg.backbone.init_sha256 is None


def test_a_record_says_the_content_and_is_compared_by_it(weights: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.th"
    moved.write_bytes(weights.read_bytes())
    configs = [composed(*NO_NET.split(), f"backbone.init=file:{path}") for path in (weights, moved)]
    one, other = (json.loads(json.dumps(identity.plain(cfg, without={"hydra"}))) for cfg in configs)
    assert one["backbone"]["init_sha256"] == other["backbone"]["init_sha256"] == given.of_file(weights)
    assert one["backbone"]["init"] != other["backbone"]["init"]
    assert identity.question(one) == identity.question(other)


# ---- what is refused


def test_a_file_is_looked_at_before_anything_starts(weights: Path, tmp_path: Path) -> None:
    assert mistakes(f"{NO_NET} backbone.init=file:{weights} paths.output={tmp_path}") == []
    gone = f"backbone.init=file:{tmp_path}/gone.th"
    assert mistakes(f"{NO_NET} {gone}") == [f"{gone}: there is no such file."]
    assert mistakes(f"{NO_NET} {gone}", starts=False) == []  # its config may be looked at
    (tmp_path / "folder.pt").mkdir()
    assert mistakes(f"{NO_NET} backbone.init=file:{tmp_path}/folder.pt")[0].endswith(
        "is a folder; name the file of weights in it."
    )
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "is a git-lfs pointer in the place of the weights" in mistakes(f"{NO_NET} backbone.init=file:{weights}")[0]
    weights.write_text("")
    assert mistakes(f"{NO_NET} backbone.init=file:{weights}")[0].endswith("is empty.")


@pytest.mark.full
def test_all_files_of_a_sweep_are_looked_at(weights: Path, tmp_path: Path) -> None:
    line = f"-m {NO_NET} backbone.init=torch,file:{weights},file:{tmp_path}/a.pt,file:{tmp_path}/b.pt"
    assert [text.rpartition("/")[2] for text in mistakes(line)] == [
        "a.pt: there is no such file.",
        "b.pt: there is no such file.",
    ]


REFUSED = {
    "backbone.init=file:net.bin": "backbone.init=file:net.bin must be one of glorot_normal,",
    "backbone.init=kaiming": "or a word such as imagenet, run:FOLDER of a finished run, or file:PATH, the path of a .safeten",
    "backbone.init_head=fresh": "backbone.init_head=fresh is about weights that a file gives, and here a rule draws them: leave",
    "backbone.init_sha256=ab": "backbone.init_sha256=ab is about weights that a file gives,",
    "backbone.init=file:FILE backbone.init_head=new": "backbone.init_head=new must be one of auto, fresh, load, or null.",
    "backbone.init=file:FILE backbone.init_sha256=ab": "not backbone.init_sha256=ab.",
    "backbone.init=file:FILE method=deep_ensembles": "its nets differ in their start, each a draw of its own,",
    "backbone.init=file:FILE method=mc_dropout_ensemble": "method=mc_dropout_ensemble: its nets differ in their start",
    "backbone.init=file:FILE method=meta_ticket data=glyph28": "method.masked: weights that are masked are drawn by",
    "backbone.init=file:FILE method=dense init=ticket:FILE": "both give the first weights: set one of them.",
}


@pytest.mark.parametrize("words", [pytest.param(w, marks=[pytest.mark.full] * (i % 3 != 0)) for i, w in enumerate(REFUSED)])
def test_refused(words: str, weights: Path) -> None:
    told = mistakes(f"{NO_NET} {words.replace('FILE', str(weights))}")
    assert len(told) == 1 and REFUSED[words] in told[0], told


FEW = ("method=piggyback",)  # the others: make test-full
DRAWN = {
    "method=piggyback": "method.backbone=random",
    "method=frozen_heads": "method.trunk=random",
    "method=batch_ensemble": "method.trunk=random",
    "method=malach": "method.target=random",
    "method=subset_sum": "method.target=random",
    "method=malach_neuron": "method.target=random",
}


@pytest.mark.parametrize("method", [name if name in FEW else pytest.param(name, marks=pytest.mark.full) for name in DRAWN])
def test_a_frozen_net_is_the_given_one_and_not_a_drawn_one(method: str, weights: Path) -> None:
    key = DRAWN[method].partition("=")[0]
    ways = {init: OmegaConf.select(composed(method, *init.split()), key) for init in ("", f"backbone.init=file:{weights}")}
    assert ways.popitem()[1] == "given" and ways[""] in ("first", "random")
    (told,) = mistakes(f"{method} {DRAWN[method]} backbone.init=file:{weights} logger=none", starts=False)
    assert f"{DRAWN[method]} is a net as a rule draws it" in told and told.endswith(f"take {key}=given.")


def test_piggybacks_own_file_is_looked_at_too(tmp_path: Path) -> None:
    (told,) = mistakes(f"method=piggyback method.backbone={tmp_path}/gone.safetensors logger=none")
    assert told == f"method.backbone={tmp_path}/gone.safetensors: there is no such file."


def test_settings_list_the_file_and_its_head(capsys: pytest.CaptureFixture) -> None:
    from maskbench.cli.commands import settings

    settings.show("backbone", "resnet20", [identity.conf_dir()])
    out = capsys.readouterr().out
    assert "file:PATH" in out and "\n  backbone.init_head" in out and "+backbone.init" not in out


@pytest.mark.full
def test_a_missing_file_ends_the_program_with_status_2(cli: Callable) -> None:
    done = cli(*NO_NET.split(), "backbone.init=file:gone.th")
    assert done.returncode == 2 and done.stderr == "maskbench: backbone.init=file:gone.th: there is no such file.\n", done.stderr
