"""What a stranger's record says is never called: not by rerun, its --dry, maskbench.load, or the commands that show runs."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import maskbench
from maskbench.common import identity
from maskbench.common.errors import UsageError
from maskbench.runs import trust

TOUCH = "touch CANARY"
OVERRIDES = {  # name -> an override that a stranger put into the record
    "mb_call of os.system": "+x=${mb_call:os.system,'touch CANARY'}",
    "oc.env": "paths.data=${oc.env:HOME}",
    "a resolver whose name is computed": "+x=${${y}:os.system,'touch CANARY'}",
    "target os.system": "method._target_=os.system",
    "target in a mapping": "+method.of={_target_:os.system,command:'touch CANARY'}",
    "target of a private function": "method._target_=maskbench.common.identity._call",
    "target of a public function that is no part": "data._target_=maskbench.data.sources.find.find",
    "numpy.load": "data._target_=numpy.load",
    "a function by its dotted path": "+method.criterion=os.system",
    "hydra.searchpath": "hydra.searchpath=[file://CANARY]",
    "a launcher": "hydra/launcher=joblib",
    "a sweeper's target": "+hydra.sweeper._target_=os.system",
    "hydra as a mapping": "+hydra={launcher:{_target_:os.system}}",
    "a package": "experiment@hydra.launcher=x",
    "--config-dir": "--config-dir=CANARY",
    "a choice outside conf": "sweep=../../CANARY",
    "a choice by its path": "data=/CANARY",
    "a target with a backslash": "method._target_=os\\.system",
}


def override(run: Path, text: str, canary: Path) -> str:
    text = text.replace("CANARY", str(canary))
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(about | {"overrides": [*about["overrides"], text]}))
    return text


@pytest.mark.parametrize("case", OVERRIDES)
def test_rerun_refuses_and_names_it(case: str, foreign: Path, canary: Path, call: Callable) -> None:
    override(foreign, OVERRIDES[case], canary)
    status, out, err = call("rerun", foreign)
    assert status == 2 and "is no part of maskbench" in err and "--trust" in err and err.count("\n") == 1
    status, out, err = call("rerun", foreign, "--dry")
    assert status == 0 and "no part of maskbench" in out and "maskbench method=packnet" in out


@pytest.mark.parametrize("where", ["hydra", "yaml tags", "aliases", "argv"])
def test_rerun_reads_the_other_places_as_text_too(where: str, foreign: Path, canary: Path, call: Callable) -> None:
    (foreign / ".hydra").mkdir()
    file = foreign / ".hydra" / "overrides.yaml"
    if where == "hydra":
        file.write_text("- method=packnet\n- +x=${mb_call:os.system,touch}\n")
    elif where == "yaml tags":
        file.write_text(f"- !!python/object/apply:os.system ['touch {canary}']\n")
    elif where == "aliases":
        lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
        file.write_text("\n".join(lines))
    else:
        about = json.loads((foreign / "run.json").read_text())
        (foreign / "run.json").write_text(json.dumps(about | {"argv": ["maskbench", "--config-dir", str(canary)]}))
    status, _, err = call("rerun", foreign)
    assert status == 2 and err.count("\n") == 1


def test_what_a_saved_config_says_is_not_resolved(foreign: Path, canary: Path, call: Callable) -> None:
    (foreign / ".hydra").mkdir()
    (foreign / ".hydra" / "config.yaml").write_text(f"x: ${{mb_call:os.system,'touch {canary}'}}\n")
    status, out, err = call("rerun", foreign, "--dry")
    assert status == 0, err
    assert "maskbench method=packnet" in out


def test_a_sound_record_needs_no_trust(foreign: Path, call: Callable) -> None:
    status, out, err = call("rerun", foreign, "--dry")
    assert (status, err) == (0, "") and "force=true" in out and "no part" not in out


CONFIGS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "target os.system": lambda c, touch: c["method"].update(_target_="os.system", command=touch),
    "target of data": lambda c, touch: c["data"].update(_target_="subprocess.check_output", args=touch),
    "numpy.load of a pickle": lambda c, touch: c["data"].update(_target_="numpy.load", allow_pickle=True),
    "a private function": lambda c, touch: c["data"].update(_target_="maskbench.common.identity._call"),
    "nested in method.of": lambda c, touch: c["method"].update(of={"_target_": "os.system", "command": touch}),
    "nested in a list": lambda c, touch: c["backbone"].update(widths=[{"_target_": "os.system", "command": touch}]),
    "mb_call": lambda c, touch: c["method"].update(x=f"${{mb_call:os.system,'{touch}'}}"),
    "oc.env": lambda c, touch: c["paths"].update(data="${oc.env:HOME}"),
    "a function by its path": lambda c, touch: c["method"].update(criterion="os.system"),
    "a target that is computed": lambda c, touch: c.update(x="os", method=c["method"] | {"_target_": "${x}.system"}),
    "a target that is no word": lambda c, touch: c["method"].update(_target_=["os.system"]),
    "a module through ours": lambda c, touch: c["method"].update(_target_="maskbench.methods.dense.torch.load"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_load_refuses_and_names_it(case: str, foreign: Path, canary: Path, config: dict) -> None:
    (foreign / "weights.safetensors").write_bytes(b"")
    about = json.loads((foreign / "run.json").read_text())
    CONFIGS[case](about["config"], TOUCH.replace("CANARY", str(canary)))
    (foreign / "run.json").write_text(json.dumps(about))
    with pytest.raises(UsageError, match=r"is no part of maskbench.*trust=True"):
        maskbench.load(foreign)


def test_load_of_ours_gets_as_far_as_its_weights(foreign: Path) -> None:
    about = json.loads((foreign / "run.json").read_text())
    about["config"]["data"]["base"] = "synthetic"
    (foreign / "run.json").write_text(json.dumps(about))
    (foreign / "weights.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(UsageError, match="weights.safetensors (does not fit|is damaged)"):
        maskbench.load(foreign)


def test_load_tells_a_result_that_cannot_be_read_from_one_that_is_not_there(foreign: Path) -> None:
    (foreign / "weights.safetensors").write_bytes(b"")
    (foreign / "result.json").unlink()
    with pytest.raises(UsageError, match="is no directory of a finished run"):
        maskbench.load(foreign)
    (foreign / "result.json").mkdir()
    with pytest.raises(UsageError, match=r"s0-k1 cannot be loaded: result\.json cannot be read \(no regular file\)"):
        maskbench.load(foreign)


def test_only_what_shipped_files_call_is_called(canary: Path) -> None:
    with pytest.raises(UsageError, match="os.system.* is not called"):
        identity._call("os.system", f"touch {canary}")
    texts = [file.read_text() for file in identity.conf_dir().rglob("*.yaml")]
    called = {text.split(",")[0] for content in texts for text in content.split("${mb_call:")[1:]}
    assert called == identity.CALLED


def test_every_target_of_the_shipped_files_is_ours() -> None:
    files = [file for file in identity.conf_dir().rglob("*.yaml") if "hydra" not in file.parts]  # Hydra's node is in no record
    texts = [re.sub(r"\s#.*", "", file.read_text()) for file in files]
    targets = {line.split()[1] for text in texts for line in text.split("_target_:")[1:] for line in [f"x {line}"]}
    assert len(targets) > 50 and [target for target in targets if not trust.ours(target.strip("},"))] == []


def test_a_lock_that_is_a_link_leaves_its_file_alone(foreign: Path, tmp_path: Path, call: Callable) -> None:
    kept = tmp_path / "kept"
    kept.write_text("mine")
    (foreign / "result.json").unlink()
    (foreign / "run.json").write_text(json.dumps({"status": "running"}))
    (foreign / ".lock").symlink_to(kept)
    assert call("results")[0] == 0 and kept.read_text() == "mine"


def test_a_redo_that_is_a_link_moves_nothing(foreign: Path, good: Path) -> None:
    (foreign / ".redo").symlink_to(good)
    with pytest.raises(UsageError):
        maskbench.load(foreign)
    assert (good / "result.json").exists() and (good / "run.json").exists()
