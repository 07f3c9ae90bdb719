"""The parts of one config, judged by the signatures of what they configure and by what task, method and data ask of each other.

Imports no torch: signatures and contracts are read from files (common/signatures.py, tasks/fulfilment.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from maskbench.backbones import superposed
from maskbench.cli import clashes
from maskbench.cli.command_line import choices, one_line
from maskbench.common import compilers, declared, every_method, given, identity, knobs, recipes, signatures, starts, yamls
from maskbench.common.errors import UsageError
from maskbench.common.knobs import WeightsFile
from maskbench.data.streams import plan
from maskbench.runs.build import TARGETS, WORDS, each_logger
from maskbench.tasks import fulfilment

PARTS = ("method", "data", "backbone", "optimizer", "schedule", "loss", "task", "trainer", "logger")
TRAINER = "pytorch_lightning.trainer.trainer.Trainer"  # a long file: read where a key of it was set, and only then
BUILT_IN = {"max_epochs", "logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps"}
HANDED = knobs.HANDED_OVER | {"method": {"net"}, "backbone": {"shape"}, "trainer": BUILT_IN}  # what no config may set
OWN = {"trainer": {"memory_format"}, "method": set(every_method.OWN)}  # keys of a part that are not for what it configures
LATER = {"optimizer", "schedule", "loss"}  # called in training: partial until then
COMPLETE = {"method", "data", "backbone", "task"} | LATER  # whose arguments without a default must all be there
GRAPHS = ("capturable", "differentiable")  # keys of torch's optimisers
UNTAKEN = "the loop's steps are neither differentiated nor captured in a CUDA graph"
SHOWN = 8  # choices that would do


def plain(cfg: DictConfig, part: str) -> dict[str, Any]:
    """The settings of one part as plain containers; {} where there are none.

    Raises:
        UsageError: a value does not follow from the others.
    """
    try:
        node = OmegaConf.to_container(cfg[part], resolve=True) if part in cfg else {}
    except OmegaConfBaseException as error:
        raise UsageError(one_line(error)) from error
    return node if isinstance(node, dict) else {}


# ---- by signature


def signature_mistakes(cfg: DictConfig) -> Iterator[str]:
    """What is wrong with the keys of all parts but the trainer, which Lightning itself judges when it is made."""
    for part in PARTS:
        if part == "trainer":
            continue
        try:
            yield from part_mistakes(part, plain(cfg, part))
        except UsageError as error:
            yield str(error)
    yield from callback_mistakes(cfg)


def callback_mistakes(cfg: DictConfig) -> Iterator[str]:
    """What is wrong with the callbacks: their signatures judge their arguments."""
    given_here = OmegaConf.select(cfg, "callbacks")
    if given_here is None:
        return
    node = plain(cfg, "callbacks") if isinstance(given_here, DictConfig) else {}
    if not node or not all(isinstance(one, Mapping) and "_target_" in one for one in node.values()):
        yield (
            f"callbacks={cfg.callbacks} must be null, or a name and a _target_ of each, such as "
            "callbacks={watch:{_target_:mymodule.Watch}}."
        )
        return
    for name, one in node.items():
        yield from knobs.made_mistakes(f"callbacks.{name}", one)


def part_mistakes(part: str, node: Mapping[str, Any]) -> Iterator[str]:
    """Unknown keys, keys that are the program's own, values of a wrong type or range, keys that are missing."""
    node = {"_target_": TRAINER, **node} if part == "trainer" else dict(node)
    if part == "logger" and TARGETS in node:
        chosen = each_logger(node)
        taken = {key for one in chosen for key in one} | {TARGETS}
        for one in [*chosen, {"_target_": node.get("_target_")} | {k: v for k, v in node.items() if k not in taken}]:
            yield from part_mistakes(part, one)
        return
    if part == "loss" and not node:
        return  # that of the data
    if "_target_" not in node:
        yield f"{part} has no _target_: choose one with {part}=NAME."
        return
    if part == "backbone":
        yield from given.mistakes(node)
        node = given.drawn(node)
    late = part in LATER
    if node.get("_partial_", late) is not late:
        yield f"{part}._partial_ is {str(late).lower()}: the program says when a part is made; leave it out."
        return
    handed = HANDED.get(part, set())
    for name in [name for name in node if name in handed - WORDS]:
        yield f"{part}.{name} is set by the program itself; leave it out."
        del node[name]
    if part == "method":
        yield from every_method.mistakes(node)
    yield from knobs.mistakes(part, node, WORDS | OWN.get(part, set()))
    if part == "optimizer":
        yield from (f"optimizer.{name}={node[name]} is not taken: {UNTAKEN}; leave it out." for name in GRAPHS if node.get(name))
    if part in COMPLETE:
        yield from knobs.missing(part, node, knobs.read(str(node["_target_"])), {"outputs", *handed})
    if part in ("method", "data", "task") and not isinstance(node.get("name"), str):
        yield f"{part}.name is missing: a word that runs are filed under."


def judge(cfg: DictConfig, key: str) -> Callable[[object], str | None]:
    """What says what is wrong with a value for a key of a part, by the part's signature; many values are judged quickly."""
    part, _, name = key.partition(".")
    if part not in PARTS or not name:
        return lambda value: None
    try:
        node = plain(cfg, part)
    except UsageError:  # reported of the whole config, with all that the user set
        return lambda value: None
    if (kind := kinds(cfg, part).get(name)) is not None and name not in HANDED.get(part, ()):
        return lambda value: knobs.mistake(key, value, kind)
    first = f"{part}.{name.partition('.')[0]}"  # a mistake of what stands below it counts, those of other keys do not

    def by_part(value: object) -> str | None:
        changed = with_value(node, name.split("."), value)
        wrong = list(part_mistakes(part, changed))
        if part == "task" and not wrong:
            wrong = list(keyword_mistakes(plain(cfg, "method"), changed))
        return next((text for text in wrong if f"'{first}" in text or text.startswith(first)), None)

    return by_part


def with_value(node: Mapping[str, Any], path: Sequence[str], value: object) -> dict[str, Any]:
    """A copy of nested mappings with a value at a path."""
    name, *rest = path
    if not rest:
        return {**node, name: value}
    inner = node.get(name)
    return {**node, name: with_value(inner if isinstance(inner, Mapping) else {}, rest, value)}


def kinds(cfg: DictConfig, part: str) -> dict[str | None, Any]:
    """Name -> what it takes, of the arguments of a part that tell."""
    node = cfg.get(part) if part in PARTS else None
    target = TRAINER if part == "trainer" else node.get("_target_") if isinstance(node, DictConfig) else None
    taken = {knob.name: knob for knob in (knobs.read(str(target)) if target else None) or ()}
    if part == "backbone":
        taken = given.described(taken)
    if part == "method":
        taken = every_method.OWN | taken
    return {name: knob.kind for name, knob in taken.items() if knob.kind is not Any}


# ---- what parts ask of each other


def pair_mistakes(cfg: DictConfig, folders: Sequence[Path]) -> Iterator[str]:
    """Parts and keys that are right alone and cannot be together. The parts themselves are in order."""
    method, task, data = (plain(cfg, part) for part in ("method", "task", "data"))
    folders = list(folders) or [identity.conf_dir()]
    wrong = list(filter(None, [contract_mistake(task)])) or list(task_mistakes(method, task, folders))
    wrong = wrong or list(keyword_mistakes(method, task))
    yield from wrong or filter(None, [data_mistake(task, data, folders)])
    yield from filter(None, [init_mistake(cfg, method, folders), superposed.mistake(method, plain(cfg, "backbone"))])
    yield from filter(None, [loss_mistake(plain(cfg, "loss"), data), given_mistake(method, plain(cfg, "backbone"))])
    yield from filter(None, [recipe_mistake(data, plain(cfg, "backbone"), folders)])
    yield from filter(None, [clashes.schedule_mistake(cfg.budget.steps, method), clashes.images_mistake(method, data)])
    yield from filter(None, [clashes.alone_mistake(plain(cfg, "task"), cfg.budget)])
    yield from filter(None, [clashes.outputs_mistake(method, data)])
    yield from filter(None, [clashes.stages_mistake(method, data)])
    steps, rewind = cfg.budget.steps, method.get("rewind_step")
    if isinstance(steps, int) and isinstance(rewind, int) and rewind >= steps:
        yield (
            f"method.rewind_step={rewind} and budget.steps={steps}: nothing would be left to retrain; "
            "choose an earlier step or a larger budget."
        )


def stream_mistakes(cfg: DictConfig) -> Iterator[str]:
    """Why there is no such stream of stages, or not so many epochs as stages."""
    data, epochs = plain(cfg, "data"), cfg.budget.epochs
    ours = str(data.get("_target_")).startswith("maskbench.")
    yield from (wrong := list(filter(None, [plan.mistake(data)])) if ours else [])
    if not wrong and isinstance(epochs, ListConfig):
        _, stages = fulfilment.kinds(data) or (set(), None)
        yield from filter(None, [plan.epochs_mistake(list(epochs), stages)])


def contract_mistake(task: Mapping[str, Any]) -> str | None:
    """Why what a task names as its contract is none."""
    needs = task.get("needs")
    if needs is None or (isinstance(needs, str) and needs and fulfilment.exists(needs)):
        return None
    given = f"'{needs}'" if needs == "" else needs
    return f"task.needs={given} must be the dotted name of a contract, such as maskbench.tasks.contracts.Prunes, or null."


def task_mistakes(method: Mapping[str, Any], task: Mapping[str, Any], folders: Sequence[Path]) -> Iterator[str]:
    """Why a method cannot do a task.

    A method lists the tasks of this package that it is for. Of a task that no method of the package lists, a new one or one
    from outside, its contract decides.
    """
    name, able, needs = task.get("name"), method.get("tasks"), task.get("needs")
    listed = any(name in (node.get("tasks") or []) for node in methods([identity.conf_dir()]).values())
    ours = not needs or listed
    if able is not None and name not in able and ours:
        others = [other for other, node in methods(folders).items() if name in (node.get("tasks") or [])]
        does = " or ".join(f"task={one}" for one in able)
        done = f"is done by method={', '.join(others)}" if others else "is done by no method here"
        yield f"method={method.get('name')} cannot do task={name}: it does {does}, and task={name} {done}."
    elif needs:
        for what, missing in fulfilment.unmet(needs, task, str(method.get("_target_"))):
            others = {n: node for n, node in methods(folders).items() if not ours or name in (node.get("tasks") or [name])}
            can = [n for n, node in others.items() if not fulfilment.lacking(str(node["_target_"]), missing)]
            have = f"method={', '.join(can[:SHOWN])}" if can else "no method here"
            verbs = fulfilment.named(missing)
            yield f"{what} needs a method with {verbs}, which method={method.get('name')} has not; {have} would do."


def keyword_mistakes(method: Mapping[str, Any], task: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the keywords that keys of the task hold for a function of the method, by that function's signature:
    `task.branches`, for one."""
    contract = fulfilment.read(str(task.get("needs")))
    for key, (function, *handed) in contract.keywords if contract else ():
        taken = signatures.read_member(str(method.get("_target_")), function)
        entries = task.get(key)
        for name, words in entries.items() if isinstance(entries, Mapping) else ():
            if not isinstance(words, Mapping):
                yield f"task.{key}.{name} must be a mapping: keywords of {function} of the method."
                continue
            where = f"task.{key}.{name}"
            yield from (
                f"{where}.{word} is set by task={task.get('name')} itself; leave it out." for word in handed if word in words
            )
            own = {word: value for word, value in words.items() if word not in handed}
            yield from knobs.keyword_mistakes(where, own, taken, handed)
            yield from knobs.missing(where, own, taken, handed)


def methods(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Each method's own settings, read from its file; of one that is made from another, with those of the other below."""
    files = choices(list(folders), "method")
    return {name: node for name in files if "_target_" in (node := own(files, name, "method"))}


def own(files: Mapping[str, Path], name: str, group: str) -> dict[str, Any]:
    """The settings of one choice of a group, unresolved: its file's, over those of the choices its defaults list names."""
    content = yamls.parse(files[name].read_text()) or {}
    below = [entry for entry in content.get("defaults", ()) if isinstance(entry, str) and entry in files and entry != name]
    settings = {key: value for entry in below for key, value in own(files, entry, group).items()}
    return settings | {key: value for key, value in (content.get(group, content) or {}).items() if key != "defaults"}


def data_mistake(task: Mapping[str, Any], data: Mapping[str, Any], folders: Sequence[Path]) -> str | None:
    """Why a task cannot take data of that kind, by what their files say."""
    contract, kinds_given = fulfilment.read(str(task.get("needs"))), fulfilment.kinds(data)
    if contract is None or kinds_given is None or not (wrong := fulfilment.mismatch(contract.takes, *kinds_given)):
        return None
    files = choices(list(folders), "data")
    others = [name for name in files if (its := fulfilment.kinds(own(files, name, "data")))
              and fulfilment.mismatch(contract.takes, *its) is None]  # fmt: skip
    more = ", ..." if len(others) > SHOWN else ""
    would = f"data={', '.join(others[:SHOWN])}{more} would do" if others else "no data here would do"
    return f"data={data.get('name')}: task={task.get('name')} {wrong}; {would}."


def loss_mistake(loss: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    """Why data cannot be learnt by a loss that says which targets it needs."""
    needs, gives = loss.get("needs"), data.get("gives")
    if needs is None or not isinstance(gives, list) or needs in gives or not {"classes", "numbers"} & set(gives):
        return None
    name = str(loss["_target_"]).rpartition(".")[2]
    has = f"data={data.get('name')} has none; loss=cross_entropy leaves the data's own"
    return f"loss={name} needs targets that are {needs}, and {has}."


def init_mistake(cfg: DictConfig, method: Mapping[str, Any], folders: Sequence[Path]) -> str | None:
    """Why the run cannot start from the ticket that `init` names: the method does not read it, or there is no such file."""
    init = cfg.get("init")
    if init is not None and method.get("init") != init:
        able = [name for name, node in methods(folders).items() if node.get("init") == "${init}"]
        return f"init={init}: method={method.get('name')} starts from no ticket; method={', '.join(able)} would."
    start = method.get("init")
    if init is not None and not str(start).startswith("ticket:"):
        return f"init={start} must be ticket:FILE, the ticket.safetensors in a finished run's directory."
    return None


def given_mistake(method: Mapping[str, Any], backbone: Mapping[str, Any]) -> str | None:
    """Why the weights that a file gives cannot go with a method: it has others given, or draws its own.

    Its class says when it does (`drawn_by_rule`): why, if always; or a knob -> why, once that is set; or a knob -> its values
    that mean a drawn net -> the one to take instead.
    """
    init = backbone.get("init")
    if not given.gives(init):
        return None
    if str(method.get("init")).startswith("ticket:"):
        return f"init={method['init']} and backbone.init={init} both give the first weights: set one of them."
    drawn = declared.declared(method, "drawn_by_rule") or {}
    if isinstance(drawn, str):
        return f"method={method.get('name')}: {drawn}, and backbone.init={init} gives one: take a rule, as backbone.init=torch."
    for knob, told in drawn.items():
        value = method.get(knob)
        if isinstance(told, str) and value:
            return f"method.{knob}: {told}, and backbone.init={init} gives them: take a rule, as backbone.init=torch."
        if isinstance(told, Mapping) and isinstance(value, str) and value in told:
            return (
                f"method.{knob}={value} is a net as a rule draws it, and backbone.init={init} gives its weights: "
                f"take method.{knob}={told[value]}."
            )
    return None


def recipe_mistake(data: Mapping[str, Any], backbone: Mapping[str, Any], folders: Sequence[Path]) -> str | None:
    """Why a net cannot start from a recipe, or inputs be scaled by one."""
    init = backbone.get("init")
    if init != given.IMAGENET and data.get("normalize") == "net":
        return (
            f"data.normalize=net is for backbone.init=imagenet, whose recipe scales inputs; with backbone.init={init} take unit."
        )
    if init == starts.PUBLISHED and not recipes.of_text(backbone):
        return f"backbone.init=published is for nets of text: take backbone=hf, or for backbone={backbone.get('name')} imagenet."
    if init == given.IMAGENET and (not backbone.get("recipe") or recipes.of_text(backbone)):
        files = choices(list(folders), "backbone")
        each = {name: own(files, name, "backbone") for name in files}
        able = [name for name, its in each.items() if its.get("recipe") and not recipes.of_text(its)]
        return f"backbone={backbone.get('name')} has no weights of ImageNet for backbone.init=imagenet; {', '.join(able)} have."
    return None


def start_mistakes(cfg: DictConfig) -> Iterator[str]:
    """What is wrong with the files that the run starts from; asked where one is to start."""
    method = plain(cfg, "method")
    yield from filter(None, [ticket_mistake(cfg), given.start_mistake(plain(cfg, "backbone"))])
    if OmegaConf.select(cfg, "loop.compile"):
        yield from filter(None, [compilers.lacking()])
    for knob in knobs.read(str(method.get("_target_"))) or ():
        for value, _ in knobs.ruled(method.get(knob.name), knob.kind, WeightsFile):
            key = f"method.{knob.name}={value}"
            yield from filter(None, [given.file_mistake(key, Path(value).expanduser())])


def ticket_mistake(cfg: DictConfig) -> str | None:
    """What is wrong with the file of the ticket that the method starts from."""
    kind, _, path = str(OmegaConf.select(cfg, "method.init")).partition(":")
    if kind != "ticket" or Path(path).is_file():
        return None
    return f"init=ticket:{path}: there is no file {path}; name the ticket.safetensors in a finished run's directory."
