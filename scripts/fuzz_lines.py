"""Command lines for scripts/fuzz.py, made from the config tree: right, nearly right and wrong; equal for equal seeds."""

import itertools
import random
import shlex
import typing
from collections.abc import Iterator
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from maskbench.cli import command_line, parts
from maskbench.common import identity, knobs

SEVERAL = 0.3  # chance of one more change
IMAGES = ("data.base=synthetic", "data.val=8")
EPISODES = ("data.val=2", "data.test=2", "budget.batch_size=2")
TINY_NET = "backbone.widths=[4]"
SMALL = {  # data set -> the words that make a run on it cheap
    "splitmnist": (*IMAGES, "data.stages=2", "task.probe=5", "task.trials=2"),
    "permutedmnist": (*IMAGES, "data.stages=2", "task.probe=5", "task.trials=2"),
    "rotatedmnist": (*IMAGES, "data.stages=2", "task.probe=5", "task.trials=2"),
    "mnist": IMAGES,
    "fashion_mnist": IMAGES,
    "cubic": ("data.grid=9",),
    "sinusoid": (*EPISODES, "data.test_shots=[2]"),
    "glyph28": ("data.base=synthetic", *EPISODES, "data.test_queries=2"),
    "friedman1_transfer": ("data.n_source=50", "data.n_target=20", "data.val=10", "data.test=20", "task.probe=5"),
    "mnist2fashion": (*IMAGES, "data.target_base=synthetic_other", "data.n_target=2", "task.probe=5"),
    "ball": (TINY_NET, "task.starts=2", "task.ascent=2", "task.samples=20"),
    "imagenet_samples": (),
    "fortunes_samples": (),
}
SMALL_NETS = {"lenet_300_100", "mlp", "mlp_100x3", "few_shot_mlp", "sinusoid_mlp", "fold_mlp"}
DATA = {  # task -> data that are cheap for it
    "continual": ("splitmnist", "permutedmnist", "rotatedmnist"),
    "prune": ("mnist", "fashion_mnist"),
    "uncertainty": ("mnist", "cubic"),
    "meta": ("sinusoid", "glyph28"),
    "transfer": ("friedman1_transfer", "mnist2fashion"),
    "theory": ("ball",),
    "agreement": ("imagenet_samples",),  # of a net that is given, which no line has
    "similarity": ("fortunes_samples",),  # the same
}
FEW = {"members": "2", "nets": "2", "passes": "2", "levels": "1", "every": "1"}  # by which a run would be long, or idle
ALWAYS = ("budget.steps=2", "logger=none", "loop.progress=false")
ODD = ("{a: 1}", *"x [] [1,2] null true None nan inf '' 0 -1 1 1.5 1e3 [x] [null] ~".split())
STRAY = (
    *("--method supsup", "method supsup", "seed 3"),
    *"""
    +zzz=3 zzz=3 +budget.foo=3 +debug=fdr +optimizer.foo=1 +method.foo.bar=1 +data.foo=[1] +logger.foo=1 +trainer.foo=1
    ~optimizer ~data ~method ~logger ~budget.steps ~seed ~task.name ~backbone.bias ~nothing method=null budget=3
    init=ticket:/does/not/exist init=x logger=[csv,none] logger=[csv,nothing] trainer=debug seed=0-3 --seed=3 data=SplitMNIST
    budget.epochs=1 budget.steps=null budget.epochs=null objective=validation objective=x stale=keep stale=x
    method.dense=[haed] method.dense=[conv99] method.dense=[head] method.criterion=rank method.rewind_step=50
    method.rewind_step=1 trainer.detect_anomaly=[1,2] +trainer.max_steps=5 +trainer.profiler=[1,2] paths.data=[1]
    paths.shared=null backbone.outputs=100 backbone.outputs=1e3 backbone.init=[] backbone.widths=auto task.matrix=x
    experiment=nothing pair=nothing protocol=5w1s sweep=nothing kind=table schedule=step optimizer=SGD
    hydra.run.dir=x hydra.foo=1 seed =3 seed= a.b.c=1 task.levels=2 data.val=0 data.stages=1
    """.split(),
)


def lines(count: int, seed: int) -> Iterator[list[str]]:
    """So many command lines as words, without the folders of data and results.

    Args:
        seed: of the choices; the same lines for the same config tree.
    """
    rng = random.Random(seed)
    methods = parts.methods([identity.conf_dir()])
    for number in range(count):
        yield line(rng, methods, rng.choice(list(methods)) if number >= len(methods) else list(methods)[number])


def line(rng: random.Random, methods: dict[str, dict[str, Any]], method: str) -> list[str]:
    """A method on cheap data, with one or more changes; seldom on any data, with any net, or as a sweep."""
    task = rng.choice(methods[method]["tasks"])
    data = rng.choice(DATA[task])
    start = [f"method={method}", f"task={task}", f"data={data}"]
    start += [f"{group}={_choice(rng, group)}" for group in ("optimizer", "schedule") if rng.random() < 0.1]
    if rng.random() < 0.05:
        group = rng.choice(("data", "backbone", "task", "experiment", "protocol", "trainer", "logger", "method"))
        start = [word for word in start if not word.startswith(f"{group}=")]
        start.append(f"{'+' * (rng.random() < 0.1)}{group}={_near(rng, _choice(rng, group))}")
    words = [*start, *SMALL[data], *ALWAYS]
    cfg = _composed(words)
    if cfg is None:
        return [*start, *ALWAYS]
    words += [f"{key}={value}" for key, value in _cheap(cfg, words)]
    while True:
        words = _without(words, change := _change(rng, cfg)) + change
        if rng.random() > SEVERAL:
            break
    if rng.random() < 0.05:
        words.append(rng.choice(("-m", "--multirun", "--cfg job")))
    return [word for text in words for word in (shlex.split(text) if text.startswith("-") else [text])]


def _composed(words: list[str]) -> DictConfig | None:
    try:
        return command_line.parse(words).compose(words)
    except Exception:  # one of the wrong choices that are to be tried
        return None


def _cheap(cfg: DictConfig, words: list[str]) -> Iterator[tuple[str, str]]:
    given = {word.partition("=")[0] for word in words}
    if "widths" in cfg.backbone and "backbone.widths" not in given:
        yield "backbone.widths", "[4,4]"
    for part, name in itertools.product(("method", "task"), FEW):
        if name in cfg[part] and isinstance(cfg[part][name], int):
            yield f"{part}.{name}", FEW[name]


def _without(words: list[str], change: list[str]) -> list[str]:
    """The words but those whose keys are set again: a key that is given twice is another mistake."""
    keys = {word.lstrip("+").partition("=")[0] for word in change}
    return [word for word in words if word.partition("=")[0] not in keys]


def _choice(rng: random.Random, group: str) -> str:
    return rng.choice(list(command_line.choices([identity.conf_dir()], group)))


def _near(rng: random.Random, word: str) -> str:
    """The word, seldom with a slip in it."""
    if len(word) < 3 or rng.random() < 0.9:
        return word
    i = rng.randrange(len(word) - 1)
    return rng.choice((word[:i] + word[i + 1] + word[i] + word[i + 2 :], word[:i] + word[i + 1 :], word.upper(), f"{word}s"))


# ---- changes


def _change(rng: random.Random, cfg: DictConfig) -> list[str]:
    kind = rng.random()
    if kind < 0.12:
        return [rng.choice(STRAY)]
    part = rng.choice(("method", "method", "data", "task", "backbone", "optimizer", "schedule", "budget", ""))
    keys = _keys(cfg)
    key, default, knob = rng.choice([row for row in keys if row[0].startswith(part)] or keys)
    if kind < 0.2:
        return [f"~{key}"]
    if kind < 0.25:
        return [f"{key}={_value(rng, default, knob)},{_value(rng, default, knob)}"]
    if kind < 0.3:
        key = f"{key.rpartition('.')[0]}.{_near(rng, key.rpartition('.')[2])}".lstrip(".")
    plus = "+" if default is knobs.NOTHING else ("++" if rng.random() < 0.03 else "")
    return [f"{plus}{key}={_value(rng, default, knob)}"]


def _keys(cfg: DictConfig) -> list[tuple[str, Any, Any]]:
    """(key, default or NOTHING where it stands in no file, kind) of all that can be set."""
    listed = []
    for part in (*parts.PARTS, "budget", "loop", "seed", "objective"):
        node = cfg.get(part)
        if not isinstance(node, DictConfig):
            listed.append((part, node, Any))
            continue
        kinds = parts.kinds(cfg, part)
        for name in node:
            value = OmegaConf.to_container(node)[name]
            inside = value.items() if isinstance(value, dict) else ()
            listed += [(f"{part}.{name}", value, kinds.get(name, Any)), *((f"{part}.{name}.{n}", v, Any) for n, v in inside)]
        listed += [(f"{part}.{name}", knobs.NOTHING, kind) for name, kind in kinds.items() if name and name not in node]
    devices = ("trainer.devices", "trainer.num_nodes", "trainer.strategy")  # processes of their own
    return [row for row in listed if not row[0].startswith(devices)]


def _value(rng: random.Random, default: Any, kind: Any) -> str:
    """A value that is right, on an edge of what the kind takes, or odd."""
    choices = [*ODD] if rng.random() < 0.2 else list(_right(default, kind)) or [*ODD]
    return _near(rng, rng.choice(choices))


def _right(default: Any, kind: Any) -> Iterator[str]:
    yield from _of_kind(kind)
    if isinstance(default, bool):
        yield from ("true", "false")
    elif isinstance(default, int | float):
        yield from _different(default, default / 2, default // 1, -default, min(default * 2, default + 8))
    elif isinstance(default, list):
        yield from _different(default, default[:1], default * 2 if len(default) < 4 else default[1:], [*default, None])
    elif isinstance(default, str) and "${" not in default:
        yield default


def _different(*values: Any) -> Iterator[str]:
    """Each spelling once, in the order given: a set's order is another in every process."""
    yield from dict.fromkeys(map(_spelled, values))


def _of_kind(kind: Any) -> Iterator[str]:
    """Values at and beside the edges of a kind's range, and each of its words."""
    args = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        yield from map(_spelled, args)
        return
    for arg in args:
        if isinstance(arg, knobs.Within):
            ends = [end for end in (arg.above, arg.least, arg.below, arg.most) if end is not None]
            yield from (_spelled(v) for end in ends for v in (end, end + 1, end - 1, end + 0.1, end - 0.1))
        elif isinstance(arg, knobs.FunctionIn):
            yield from arg.names()
        else:
            yield from _of_kind(arg)


def _spelled(value: object) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_spelled, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {_spelled(v)}' for k, v in value.items())}}}"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"'{value}'" if isinstance(value, str) and not value.replace("_", "").replace(".", "").isalnum() else str(value)
