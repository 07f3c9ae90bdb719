"""A stage that is forgotten is gone from the state, every other stage answers as before, and what cannot go is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import maskbench
from maskbench import masks
from maskbench.common import checksums
from maskbench.common.errors import UsageError
from maskbench.methods.continual.packnet import PackNet
from maskbench.runs import forgetting
from maskbench.runs.read_back import Saved
from maskbench.training import evaluate
from maskbench.training.journal import snapshot

TINY = (
    "data.base=synthetic",
    "data.stages=5",
    "backbone.widths=[12,8]",
    "task.probe=20",
    "task.trials=3",
    "budget.batch_size=64",
)
SHORT = ("budget.epochs=null", "budget.steps=6")
CAN = {  # words -> stages that can be forgotten
    "supsup": (("method=supsup", *SHORT), [0, 2, 4]),
    "piggyback": (("method=piggyback", *SHORT), [1, 4]),
    "piggyback-random": (("method=piggyback", "method.backbone=random", "method.ternary=true", *SHORT), [0, 2]),
    "packnet": (("method=packnet", *SHORT), [4]),
    "packnet-per-stage": (("method=packnet", "method.bias=per_stage", *SHORT), [4]),
    "hat": (("method=hat", "method.binary=true"), [4]),
    "wsn": (("method=wsn", *SHORT), [4]),
    "wsn-per-stage": (("method=wsn", "method.bias=per_stage", "method.scores=redrawn", *SHORT), [4]),
    "exssnet": (("method=exssnet", *SHORT), [4]),
    "exssnet-masks": (("method=exssnet", "method.weights_share=0", "method.transfer=kkt", *SHORT), [0, 2, 4]),
    "ssnet": (("method=exssnet", "method.exclusive=false", "method.weights_share=0", *SHORT), [1]),
}
OFTEN = ("supsup", "piggyback", "packnet", "hat", "wsn", "exssnet")


def trained(build: Callable, *words: str) -> Saved:
    bench = build(*words, *TINY).go()
    return Saved(bench.method.eval(), bench.stages, bench.cfg)


@pytest.mark.parametrize("name", [n if n in OFTEN else pytest.param(n, marks=pytest.mark.full) for n in CAN])
def test_all_other_answers_stay_to_the_last_bit_and_nothing_of_the_stage_is_left(name: str, build: Callable) -> None:
    words, stages = CAN[name]
    saved = trained(build, *words)
    before = snapshot(saved.method)
    for index in stages:
        stage, others = saved.stages[index], [s for s in saved.stages if s.index != index]
        logits = [evaluate.logits(saved.method, s, s.test) for s in others]
        method, proof = forgetting.forget(saved, stage)
        assert all(torch.equal(value, before[key]) for key, value in snapshot(saved.method).items()), "the run's own stays"
        assert not method.has_learned(stage) and all(method.has_learned(s) for s in others)
        assert all(torch.equal(x, evaluate.logits(method, s, s.test)) for x, s in zip(logits, others, strict=True))
        assert not [n for n in method.masks() if n.startswith(f"{index}/")]
        assert {n: m for n, m in method.masks().items()}.keys() == {
            n for n in saved.method.masks() if not n.startswith(f"{index}/")
        }
        assert all(torch.equal(m, saved.method.masks()[n]) for n, m in method.masks().items())
        left = snapshot(method)
        assert not [n for n in left if f".{index}/" in n or n.startswith(f"{index}/")], "no head, mask or copy has its name"
        assert [told["stage"] for told in proof["others"]] == [s.name for s in others]
        assert all(told["equal"] and told["sha256_before"] == told["sha256_after"] for told in proof["others"])
        assert proof["state_bytes"]["after"] < proof["state_bytes"]["before"] or "packnet" in name


@pytest.mark.parametrize(
    "words",
    [pytest.param(CAN[name][0], id=name, marks=pytest.mark.full if name == "hat" else ()) for name in ("packnet", "hat", "wsn")],
)
def test_what_the_stage_alone_computed_with_is_zero(words: tuple[str, ...], build: Callable) -> None:
    """As kept values, and as the optimiser left it."""
    saved = trained(build, *words)
    owners = saved.method.ledger if isinstance(saved.method, PackNet) else saved.method.owners
    own = {name: owners.owner[name] == 5 for name in owners.names}
    assert sum(int(mask.sum()) for mask in own.values()) > 10
    method, _ = forgetting.forget(saved, saved.stages[4])
    left = method.ledger if isinstance(method, PackNet) else method.owners
    assert all(left.free(name)[mask].all() and not left.kept[name][mask].any() for name, mask in own.items())
    assert not any(w.any() for w in method.trunk.values()) and int(max(o.max() for o in map(left.owner.__getitem__, own))) < 5


def test_masks_that_infer_the_stage_never_name_the_one_that_is_gone(build: Callable) -> None:
    saved = trained(build, *CAN["supsup"][0])
    _, proof = forgetting.forget(saved, saved.stages[2])
    assert proof["inferred"] == {"images": len(saved.stages[2].test.tensors(first=128)[1]), "named": 0}


REFUSED = [
    (("method=packnet", *SHORT), 1, "only the last stage can be forgotten"),
    (("method=piggyback", *SHORT), 0, "has trained the backbone that all stages compute with"),
    (("method=supsup", "method.transfer=mean_masks", *SHORT), 4, "method.transfer=random"),
    (("method=hat", "method.binary=true"), 0, r"stage \d computes with [\d,]+ weights that 0/1 has learnt"),
    (("method=hat", "method.smax=10"), 4, "has open gates"),
    (("method=wsn", "backbone.bias=true", *SHORT), 0, "all stages compute with the biases and norms that 0/1 has learnt"),
    (("method=wsn", *SHORT), 1, r"stage \d computes with [\d,]+ weights 2/3 has learnt"),
    (("method=exssnet", *SHORT), 0, r"stage \d computes with [\d,]+ weights 0/1 has trained"),
    (("method=exssnet", "method.exclusive=false", *SHORT), 4, r"stage \d computes with [\d,]+ weights 8/9 has trained"),
    (("method=heads", *SHORT), 1, "cannot forget a stage: what it has learnt is not apart by stages"),
]


@pytest.mark.sample(3)
@pytest.mark.parametrize("words, index, said", REFUSED, ids=[" ".join(words[:2]) for words, *_ in REFUSED])
def test_what_other_stages_compute_with_stays(words: tuple[str, ...], index: int, said: str, build: Callable) -> None:
    saved = trained(build, *words)
    with pytest.raises(UsageError, match=said):
        forgetting.forget(saved, saved.stages[index])
    assert saved.method.has_learned(saved.stages[index])


def test_a_stage_that_is_gone_cannot_be_forgotten_again(build: Callable) -> None:
    saved = trained(build, *CAN["supsup"][0])
    method, _ = forgetting.forget(saved, saved.stages[2])
    again = saved._replace(method=method)
    with pytest.raises(UsageError, match="has nothing of stage 2"):
        forgetting.forget(again, saved.stages[2])
    twice, proof = forgetting.forget(again, saved.stages[0])
    assert [told["stage"] for told in proof["others"]] == ["2/3", "6/7", "8/9"] and twice.book.stages == [1, 3, 4]


def test_a_method_that_spoils_another_stage_writes_nothing(build: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = trained(build, *CAN["packnet"][0])

    def careless(method: PackNet, stage: object) -> None:
        method.ledger.claimed.fill_(4)
        next(iter(method.heads.kept.parameters())).data.add_(1e-6)

    monkeypatch.setattr(PackNet, "forget", careless)
    with pytest.raises(UsageError, match="stages 0/1 answer otherwise without it"):
        forgetting.forget(saved, saved.stages[4])


def test_forget_on_the_command_line(cli: Callable, tmp_path: Path) -> None:
    words = ("method=supsup", *SHORT, *TINY, "logger=none")
    assert (done := cli(*words)).returncode == 0, done.stderr
    (run,) = (path.parent for path in tmp_path.glob("outputs/*/*/result.json"))
    files = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name != checksums.NAME}
    assert (done := cli("forget", str(run), "stage=4/5")).returncode == 0, done.stderr
    assert "4 stages answer" in done.stdout and "bit for bit" in done.stdout
    assert all((run / name).read_bytes() == content for name, content in files.items()), "the run's own files stay"
    made = run / "forget" / "stage-2"
    proof = json.loads((made / "forgotten.json").read_text())
    assert proof["forgotten"] == {"stage": "4/5", "index": 2} and all(told["equal"] for told in proof["others"])
    listed = checksums.recorded(run)
    assert {f"forget/stage-2/{name}" for name in ("weights.safetensors", "masks.safetensors", "forgotten.json")} <= listed.keys()
    assert cli("verify", str(run)).returncode == 0
    left = maskbench.load(run, weights=made / "weights.safetensors")
    assert [left.method.has_learned(stage) for stage in left.stages] == [True, True, False, True, True]
    assert not any(name.startswith("2/") for name in masks.load(made / "masks.safetensors"))
    assert load_file(made / "weights.safetensors").keys() == snapshot(left.method).keys()
    state = ("--weights", str(made / "weights.safetensors"))
    assert cli("export", str(run), *state, "--stage", "1", "--output", str(tmp_path / "one")).returncode == 0
    gone = cli("export", str(run), *state, "--stage", "2", "--output", str(tmp_path / "two"))
    assert gone.returncode == 2 and "has no answer for stage 2 (4/5)" in gone.stderr and not (tmp_path / "two").exists()


@pytest.mark.full
def test_what_is_no_stage_or_no_method_for_it_is_refused(cli: Callable, tmp_path: Path) -> None:
    for words in (("method=supsup",), ("method=finetune",)):
        assert cli(*words, *SHORT, *TINY, "task.matrix=final", "logger=none").returncode == 0
    runs = {path.parents[1].name.partition("-")[0]: path.parent for path in tmp_path.glob("outputs/*/*/result.json")}
    said = {
        ("supsup", "stage"): "'stage' must be stage=STAGE",
        ("supsup", "2"): "'2' must be stage=STAGE",
        ("supsup", "stage=7"): "it has no stage 7: name one by stage=: 0 (0/1)",
        ("finetune", "stage=2"): "method=finetune cannot forget a stage; method=exssnet, hat, packnet",
    }
    for (method, word), text in said.items():
        done = cli("forget", str(runs[method]), word)
        assert done.returncode == 2 and text in done.stderr, done.stderr
        assert not (runs[method] / "forget").exists()
