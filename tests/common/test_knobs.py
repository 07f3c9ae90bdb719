"""Knobs: what a signature says of an argument, read without importing its file; what fits, and what is said when it does not."""

import functools
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

import pytest
from hydra.utils import get_class, get_object
from omegaconf import OmegaConf

from maskbench.common import identity, knobs
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Dotted, FunctionIn, Length, OpenShare, Share, Within
from maskbench.runs.build import WORDS

GROUPS = ("method", "backbone", "data", "task")


@functools.cache
def nodes(group: str) -> dict[str, dict]:
    """The part of each shipped file of a group that configures it, by the file's name; references stay as they are."""
    files = {path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in (identity.conf_dir() / group).glob("*.yaml")}
    parts = {name: keys.get(group, keys) if group == "method" else keys for name, keys in files.items()}
    return {name: keys for name, keys in parts.items() if "_target_" in keys}


def spelled_out(node: dict) -> dict:
    """Its keys without those whose value is a reference, or has to be given."""
    return {key: value for key, value in node.items() if "${" not in str(value) and "???" not in str(value)}


TARGETS = sorted({node["_target_"] for node in nodes("method").values()})
NETS = sorted({node["_target_"] for node in nodes("backbone").values()})


def test_there_are_methods_to_read() -> None:
    assert len(TARGETS) > 15 and len(NETS) > 8


# ---- reading


@pytest.mark.parametrize("target", [*TARGETS, *NETS])
def test_what_is_read_is_what_python_says(target: str) -> None:
    made = get_object(target)  # a class, or a function that makes one
    hints = get_type_hints(made.__init__ if isinstance(made, type) else made, include_extras=True)
    for knob in knobs.read(target):
        kind = hints[knob.name]
        assert knob.kind == (Any if get_origin(kind) is Callable else kind), knob.name  # a Callable's types are of torch


@pytest.mark.parametrize("target", [*TARGETS, *NETS])
def test_every_knob_has_a_meaning(target: str) -> None:
    assert [knob.name for knob in knobs.read(target) if not knob.meaning] == []


@pytest.mark.parametrize("group", GROUPS)
def test_every_shipped_value_fits(group: str) -> None:
    for name, node in nodes(group).items():
        literal = spelled_out(node)
        assert list(knobs.mistakes(group, literal, WORDS)) == [], name


@pytest.mark.parametrize("target", [*TARGETS, *NETS])
def test_defaults_fit_their_own_kind(target: str) -> None:
    for knob in knobs.read(target):
        assert knob.default is knobs.NOTHING or knobs.fits(knob.default, knob.kind), knob.name


def test_reading_imports_no_torch() -> None:
    program = (
        "import sys\n"
        "from maskbench.common import knobs\n"
        "by_name = {knob.name: knob for knob in knobs.read('maskbench.methods.prune.lottery.Lottery')}\n"
        "assert 'large_final' in knobs.words(by_name['criterion'].kind)\n"
        "assert list(knobs.mistakes('optimizer', {'_target_': 'torch.optim.SGD', 'momentun': 0.9}))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`module(text)`: a module `mine` of the user's own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda text: (tmp_path / "mine.py").write_text(text) and None


def kinds(target: str) -> dict[str, Any]:
    return {knob.name: knob.kind for knob in knobs.read(target)}


def test_names_of_kinds_aliases_and_strangers_are_read(module: Callable) -> None:
    module(
        "from collections.abc import Sequence\n"
        "from typing import Literal\n"
        "import numpy as np\n"
        "from maskbench.common import knobs\n"
        "from maskbench.common.knobs import Count as Number\n"
        "from maskbench.methods.continual.supsup import Transfer\n"
        "Mode = Literal['a', 'b']\n"
        "class Mine:\n"
        "    '''Args:\n    mode: which way. n, share: how many,\n        and how much.\n    '''\n"
        "    def __init__(self, net, *, mode: Mode, n: Number = 2, share: knobs.Share = 0.5, w: np.ndarray = None,\n"
        "                 some: Sequence[Mode] | None = None, start: Transfer = 'random'): ...\n"
    )
    assert kinds("mine.Mine") == {
        "mode": Literal["a", "b"],
        "n": Count,
        "share": Share,
        "w": Any,
        "some": Sequence[Literal["a", "b"]] | None,
        "start": Literal["random", "previous", "nearest", "mean_scores", "mean_masks"],
    }
    first, second, third, *_ = knobs.read("mine.Mine")
    assert (first.meaning, first.default) == ("which way", knobs.NOTHING)
    assert (second.meaning, third.meaning) == ("how many, and how much",) * 2


def test_a_constructor_may_be_inherited_or_a_dataclass_or_imported(module: Callable) -> None:
    module(
        "from dataclasses import dataclass\n"
        "from maskbench.backbones.mlp import MLP as Net\n"
        "class Wider(Net): pass\n"
        "class Plain: pass\n"
        "@dataclass(frozen=True)\n"
        "class Pair:\n    '''left: one side. right: the other.'''\n    left: int\n    right: float = 2.0\n"
        "class Unknown(somewhere.Else): pass\n"
    )
    assert kinds("mine.Wider") == kinds("mine.Net") == kinds("maskbench.backbones.mlp.MLP")
    assert kinds("mine.Plain") == {}
    assert [(k.name, k.kind, k.default, k.meaning) for k in knobs.read("mine.Pair")] == [
        ("left", int, knobs.NOTHING, "one side"),
        ("right", float, 2.0, "the other"),
    ]
    assert knobs.read("mine.Unknown") is None
    assert knobs.read("mine.Nowhere") is None and knobs.read("nowhere.at_all.X") is None


def test_what_the_program_hands_over_is_no_knob(module: Callable) -> None:
    module("class Net:\n    def __init__(self, shape, outputs, *, width: float = 1.0): ...\ndef plain(rows, noise=1): ...\n")
    assert list(kinds("mine.Net")) == ["width"]
    assert list(kinds("mine.plain")) == ["rows", "noise"]
    assert not list(knobs.mistakes("backbone", {"_target_": "mine.Net", "outputs": None, "width": 2}))


def test_a_file_that_changes_is_read_again(module: Callable) -> None:
    module("def one(a): ...\n")
    assert list(kinds("mine.one")) == ["a"]
    module("def one(a, longer): ...\n")
    assert list(kinds("mine.one")) == ["a", "longer"]


# ---- what fits

RATE = Annotated[float, Within(above=0)]


@pytest.mark.parametrize(
    ("value", "kind", "good"),
    [
        (1, float, True),
        (True, float, False),
        (True, int, False),
        (2.0, int, False),
        ("1", int, False),
        (None, int | None, True),
        (0.0, OpenShare, False),
        (0, Share, True),
        (1.0, Share, False),
        (float("nan"), RATE, False),
        (float("inf"), RATE, False),
        (float("inf"), Annotated[float, Within(least=1, infinite=True)], True),
        (float("nan"), Annotated[float, Within(least=1, infinite=True)], False),
        ("a", Literal["a", "b"], True),
        (1, Literal[True], False),
        ([1, 2], Sequence[Count], True),
        ((1, 0), Sequence[Count], False),
        ("ab", Sequence[str], False),
        ([], Annotated[Sequence[int], Length(least=1)], False),
        ([0.1, 0.2], tuple[Share, Share], True),
        ([0.1], tuple[Share, Share], False),
        ([1, 2, 3], tuple[int, ...], True),
        ({"a": 1}, Mapping[str, int], True),
        ({"a": "x"}, dict[str, int], False),
        ("auto", Literal["auto"] | bool, True),
        ("large_final", Annotated[str, FunctionIn("maskbench.masks.criteria")], True),
        ("maskbench.criteria.large_final", Dotted, True),  # by the name that the module had first
        ("maskbench.masks.criteria.nothing", Dotted, False),
        ("large_final", Dotted, False),
        ("nowhere.at_all", Dotted, False),
    ],
)
def test_fits(value: object, kind: Any, good: bool) -> None:
    assert knobs.fits(value, kind) is good


# ---- what is said


@pytest.mark.parametrize(
    ("method", "keys", "parts"),
    [
        ("lottery", {"rate": 1.5}, ["method.rate=1.5", "above 0 and below 1"]),
        ("lottery", {"criterion": "large_fina"}, ["method.criterion=large_fina", "Did you mean 'large_final'?"]),
        ("lottery", {"scope": "net"}, ["method.scope=net", "one of layer, global, row,", "or a word N:M such as 2:4"]),
        ("lottery", {"dense": "head"}, ["method.dense=head", "a list, each a word"]),
        ("lottery", {"mask1": "signed_rewnd"}, ["method.mask1=", "Did you mean 'signed_rewind'?"]),
        ("supsup", {"inference": ["one_shot_h"]}, ["method.inference=[one_shot_h]", "Did you mean 'one_shot_H'?"]),
        ("supsup", {"density_scale": "high"}, ["method.density_scale=high", "a number above 0, or null"]),
        ("packnet", {"prune": []}, ["method.prune=[]", "(1 or more entries)", "equal_share"]),
        ("supermask", {"constant": 1}, ["method.constant=1", "true or false"]),
        ("masksembles_ensemble", {"of": {"_target_": TARGETS[0], "wonder": 1}}, ["method.of.wonder"]),
        ("piggyback", {"tua": 0.1}, ["unknown key 'method.tua'", "Did you mean 'tau'?", "~method.tua"]),
        ("psp", {"rate": 1}, ["unknown key 'method.rate'", "takes none"]),
    ],
)
def test_a_wrong_value_is_told_in_one_sentence_with_its_key(method: str, keys: dict, parts: list[str]) -> None:
    (sentence,) = knobs.mistakes("method", spelled_out(nodes("method")[method]) | keys, WORDS)
    assert all(part in sentence for part in parts), sentence


def test_a_target_that_takes_anything_or_cannot_be_read_has_no_unknown_keys(module: Callable) -> None:
    module("def run(*, n: int = 1, **more): ...\n")
    assert not list(knobs.mistakes("method", {"_target_": "mine.run", "x": 1, "n": 2}))
    assert list(knobs.mistakes("method", {"_target_": "mine.run", "n": "two"})) == ["method.n=two must be a whole number."]
    assert not list(knobs.mistakes("method", {"_target_": "nowhere.run", "x": 1}))


def test_parts_are_judged_at_any_depth_and_must_be_complete(module: Callable) -> None:
    module("class Part:\n    def __init__(self, *, n: int, m: int = 1): ...\n\ndef run(*, steps, names=None): ...\n")
    part = {"_target_": "mine.Part", "n": 1}

    def wrong(**inner: object) -> list[str]:
        return list(knobs.mistakes("task", {"_target_": "mine.run", "steps": [{"a": {"b": part | inner}}]}))

    assert wrong() == []
    assert wrong(m="x") == ["task.steps[0].a.b.m=x must be a whole number."]
    assert wrong(k=1)[0].startswith("unknown key 'task.steps[0].a.b.k'.")
    assert list(knobs.mistakes("task", {"_target_": "mine.run", "steps": {"_target_": "mine.Part"}})) == [
        "task.steps.n is missing: a whole number."
    ]
    late = {"_target_": "mine.Part", "_partial_": True}  # what calls it hands over the rest
    assert list(knobs.mistakes("task", {"_target_": "mine.run", "steps": late})) == []


# ---- from Python


class Part:
    @knobs.checked
    def __init__(self, net: object, *, share: Share = 0.5, more: "Sequence[Count]" = (), **rest: int) -> None:
        self.given = (net, share, more, rest)


def test_a_checked_constructor_refuses_by_the_same_words() -> None:
    assert Part(1, share=0, more=[2], other="x").given == (1, 0, [2], {"other": "x"})
    with pytest.raises(UsageError, match=r"method.share=1 must be a number at least 0 and below 1"):
        Part(None, share=1)
    with pytest.raises(UsageError, match=r"method.more=\[0\]"):
        Part(None, more=[0])
    with pytest.raises(TypeError, match="net"):
        Part(share=0.1)


def test_every_method_is_checked_where_it_is_made() -> None:
    for target in TARGETS:
        assert hasattr(get_class(target).__init__, "__wrapped__"), target
