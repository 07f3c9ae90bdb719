"""What tasks ask of methods and of data: the same answer from their files, from the class and when the task begins."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
from omegaconf import open_dict

from maskbench.cli import parts
from maskbench.cli.command_line import choices
from maskbench.common import identity
from maskbench.common.errors import UsageError
from maskbench.tasks import contracts, fulfilment, needs
from maskbench.tasks.fulfilment import Asked

HERE = "maskbench.tasks.contracts"
FOLDERS = [identity.conf_dir()]


def test_each_task_names_the_contract_that_is_read_from_its_file() -> None:
    by_task = {
        name: fulfilment.read(parts.own(choices(FOLDERS, "task"), name, "task")["needs"]) for name in choices(FOLDERS, "task")
    }
    keywords = (("branches", ("branch",)), ("supermasks", ("branch", "mask", "level")))
    more = (("levels", f"{HERE}.Shrinks"), ("branches", f"{HERE}.Branches"), ("supermasks", f"{HERE}.Branches"))
    assert by_task == {
        "continual": Asked((), ("classes",)),
        "prune": Asked((), ("one",), more, keywords),
        "uncertainty": Asked((), ("one",)),
        "transfer": Asked((), ("pair",)),
        "agreement": Asked((), ("samples", "classes")),
        "similarity": Asked((), ("samples",)),
        "meta": Asked(("after", "net", "test_count"), ("one", "episodes")),
        "theory": Asked(("construction",), ("one",)),
    }


@pytest.mark.parametrize("contract", [*contracts.TAKES, contracts.Shrinks, contracts.InfersStage, contracts.Recalls])
def test_a_file_and_the_class_say_the_same_of_a_contract(contract: type) -> None:
    contract_read = fulfilment.read(f"{HERE}.{contract.__name__}")
    assert set(contract_read.members) == set(needs.members(contract))
    assert contract_read.takes == contracts.TAKES.get(contract, ())
    assert dict(contract_read.keywords) == {k: tuple(v.split()) for k, v in contracts.KEYWORDS.get(contract, {}).items()}
    assert dict(contract_read.when) == {key: f"{HERE}.{c.__name__}" for key, c in contracts.WHEN.get(contract, {}).items()}


@pytest.mark.parametrize("name", choices(FOLDERS, "method"))
def test_a_method_fulfils_the_contracts_of_the_tasks_it_lists(name: str) -> None:
    method = parts.own(choices(FOLDERS, "method"), name, "method")
    for task in method["tasks"]:
        settings = parts.own(choices(FOLDERS, "task"), task, "task")
        assert list(fulfilment.unmet(settings["needs"], settings, method["_target_"])) == []


HIDDEN = """
class Base:
    def shrink(self): ...

hidden = [Base][0]

class Wonder(hidden):
    def __init__(self):
        self.depth = 1
"""
LACKING = [
    ("maskbench.methods.dense.Dense", ["after", "shrink", "learn", "state_dict", "net"], ["after", "shrink"]),
    ("maskbench.methods.lottery.Lottery", ["shrink", "branch", "after"], ["after"]),  # by the name it had
    ("maskbench.methods.meta.episodic.Episodic", ["after", "test_count", "net"], []),
    ("maskbench.methods.continual.supsup.SupSup", ["infer", "inference_rules", "recall"], ["recall"]),
    ("maskbench.methods.theory.strong_tickets.StrongTickets", ["construction"], []),
    ("nowhere.Wonder", ["after"], []),  # what cannot be read is checked later
]


@pytest.mark.parametrize(("target", "members", "missing"), LACKING)
def test_what_a_method_lacks(target: str, members: list[str], missing: list[str]) -> None:
    assert fulfilment.lacking(target, members) == missing
    if target != "nowhere.Wonder":
        assert fulfilment.lacking(target, members, imported=True) == missing


def test_a_class_whose_base_cannot_be_read_is_asked_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wonder_of_mine.py").write_text(HIDDEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    members = ["shrink", "depth", "after"]
    assert fulfilment.lacking("wonder_of_mine.Wonder", members) == []
    assert "wonder_of_mine" not in sys.modules
    assert fulfilment.lacking("wonder_of_mine.Wonder", members, imported=True) == ["after"]


def test_before_data_are_read_the_class_is_asked() -> None:
    task = {"name": "meta", "needs": f"{HERE}.Adapts"}
    with pytest.raises(UsageError, match="task=meta needs a method with after and test_count, and .*Dense has none"):
        fulfilment.require(task, "maskbench.methods.dense.Dense")
    fulfilment.require(task, "maskbench.methods.meta.episodic.Episodic")
    fulfilment.require({"name": "mine"}, "maskbench.methods.dense.Dense")  # no contract, nothing asked


def test_optional_members_are_told_from_the_instance(build: Callable) -> None:
    names = {"supsup": contracts.InfersStage, "hopsupsup": contracts.Recalls}
    for name, contract in names.items():
        bench = build(f"method={name}", "data=splitmnist", "data.base=synthetic")
        assert isinstance(bench.method, contract)
        assert not any(isinstance(bench.method, other) for other in {*names.values(), contracts.Shrinks} - {contract})


@pytest.mark.parametrize(
    ("gives", "kinds"),
    [
        ({"gives": ["one", "classes"]}, ({"one", "classes"}, 1)),
        ({"gives": ["stream", "classes"], "stages": 5}, ({"stream", "classes"}, 5)),
        ({"gives": ["stream", "classes"], "stages": 1}, ({"stream", "one", "classes"}, 1)),
        ({"gives": ["stream", "classes"], "stages": 2}, ({"stream", "pair", "classes"}, 2)),
        ({"gives": ["episodes"]}, ({"episodes", "one"}, 1)),
        ({}, None),
    ],
)
def test_what_data_say_they_give(gives: dict, kinds: tuple | None) -> None:
    assert fulfilment.kinds(gives) == kinds


GENERATED = ["sinusoid", "ball", "cubic", "friedman1_transfer", "pendulum", "planted_circle", "planted_helix"]


@pytest.mark.parametrize("name", GENERATED)
def test_data_give_what_they_say(name: str, compose: Callable) -> None:
    from maskbench.runs.build import make

    cfg = compose(f"data={name}")
    stages = make(cfg.data, root=Path(cfg.paths.data), seed=0)
    words, count = fulfilment.kinds(parts.plain(cfg, "data"))
    assert (words - {"episodes"} <= needs.kinds(stages)) and count == len(stages)
    assert ("episodes" in words) == ("episodes" in needs.kinds(stages))


def test_every_data_set_says_what_it_gives() -> None:
    words = {"one", "pair", "stream", "episodes", "samples"}, {"classes", "numbers", "vectors"}
    for name in choices(FOLDERS, "data"):
        gives = set(parts.own(choices(FOLDERS, "data"), name, "data")["gives"])
        assert len(gives & words[0]) == 1 and gives <= words[0] | words[1], name
        assert gives == {"episodes"} or len(gives & words[1]) == 1, name


def test_a_contract_and_what_data_give_are_no_part_of_a_runs_key(compose: Callable) -> None:
    cfg = compose("method=dense")
    key = identity.key(cfg)
    with open_dict(cfg):
        del cfg.task["needs"], cfg.data["gives"]
    assert identity.key(cfg) == key


def test_a_contract_may_be_made_from_another() -> None:
    class More(contracts.Adapts, Protocol):
        def further(self) -> None: ...

    assert set(needs.members(More)) == {"after", "test_count", "net", "further"}
