"""What is refused before anything starts, and what is let through."""

import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from maskbench.cli import command_line, parts, preflight
from maskbench.common.errors import UsageError


def mistakes(line: str) -> list[str]:
    """The sentences for a command line, without starting it."""
    try:
        preflight.check(shlex.split(line))
    except UsageError as error:
        return str(error).splitlines()
    return []


GOOD = [
    "",
    "method=lottery +task.branches={a:{mask:random_global},b:{mask:random_even},c:{mask:same_sign},d:{mask:diff_sign}}",
    "method=packnet data=permutedmnist seed=3",
    "-m method=wsn,exssnet data=permutedmnist protocol=permuted_250",
    "optimizer.lr=1",  # a whole number where a real one stands
    "budget.steps=null budget.epochs=2",
    "budget.validate_every=10",  # null by default, an int by schema
    "loop.progress=true",  # a word that may be a switch
    "method=packnet method.prune=equal_share",  # a list that may be a word
    "method=packnet data=permutedmnist method.prune=[0.5,0]",  # and the other way round
    "method=dense backbone.outputs=12",  # null by default, free
    "data.source=folder",
    "data=mnist method=dense budget.steps=5",  # what the user gives wins over the data's epochs
    "budget.epochs=2",  # and over the data's steps
    "budget.epochs=[1,2,3] data.sizes=[2,3,5]",
    "data.order=[9,8,7,6,5,4,3,2,1,0]",  # dealt to five stages, as the data's file says
    "data.split=[[0,1,2],[3],[4,5,6,7,8,9]]",  # in whose place stages and order give way
    "data.split=[[0,1],[2,3]] data.rest=drop data.labels=kept data.blur=0.1 data.visits=2",
    "data=stream data.sets=[mnist,fashion_mnist,animals,glyph28] data.size=28 data.visits=[0,1,2,3,0]",
    "logger=[wandb,csv] logger.mode=disabled logger.tags=[x]",
    "logger=[wandb,none]",
    "+optimizer.dampening=0.1 optimizer=sgd",  # an argument that the file leaves out
    "method=meta_ticket optimizer=meta_ticket_sinusoid",  # optimisers inside an optimiser
    "method=supermask data=cubic task=uncertainty budget.epochs=2",  # whose pair with images sets a key of images
    "method=supsup data=splitmnist data.stages=1 +data.augment=true",
    "trainer.devices=auto trainer.precision=bf16-mixed +trainer.profiler=simple",
    "trainer.precision=32",
    "-m trainer.memory_format=contiguous,channels_last,null",
    "trainer=ddp hydra.run.dir=outputs/x hydra.job.name=train_ddp_process_1 hydra.output_subdir=null",
    "seed=${oc.env:SEED}",
    "'backbone={bias: false}'",
    "-m method=supsup,packnet seed=0,1,2 data=splitmnist",
    "method=supsup -m seed=range(0,3)",
    "-m trainer.devices=1 trainer.num_nodes=1 seed=0,1",
    "trainer=ddp trainer.devices=4",
    "-m method=glob(*net) budget.steps=10,20",
    "--cfg job paths.output=/dev/null/x",
    "--info defaults-tree",
    "-cp elsewhere anything=goes",
]


@pytest.mark.full
@pytest.mark.parametrize("line", GOOD)
def test_let_through(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "7")
    assert mistakes(line) == []


BAD = {
    "+trainer.max_time=1": "trainer.max_time=1 is not taken: budget.steps or budget.epochs says how long a phase is",
    "+trainer.overfit_batches=1": "trainer.overfit_batches=1 is not taken: the keys of data say which rows",
    "+trainer.fast_dev_run=true": "trainer.fast_dev_run=True is not taken: budget.steps",
    "stale=kep": "stale=kep must be redo, keep, ask, or null.",
    "budget.step=3": "unknown key 'budget.step'. Did you mean 'budget.steps'?",
    "optimizer.lrr=1": "unknown key 'optimizer.lrr'. Did you mean 'optimizer.lr'?",
    "lr=1": "unknown key 'lr'. Did you mean 'optimizer.lr'?",
    "qqqq=1": "unknown key 'qqqq'. Groups: backbone, data,",
    "data.stages=abc": "data.stages=abc must be a whole number",
    "seed=x": "seed=x must be a whole number (it is 0).",
    "seed=1.5": "seed=1.5 must be a whole number",
    "seed=true": "seed=true must be a whole number",
    "seed=-1": "seed=-1 must be at least 0.",
    "force=maybe": "force=maybe must be true or false",
    "backbone.bias=3": "backbone.bias=3 must be true or false",
    "backbone.widths=[300,x]": "backbone.widths=[300,x] must be a list, each a whole number",
    "method=packnet method.prune=0.5": "method.prune=0.5 must be ",
    "budget=3": "budget=3 must be a mapping",
    "optimizer.lr=null": "optimizer.lr=null must be a number",
    "optimizer.lr=nan": "optimizer.lr=nan must be a number.",
    "optimizer.lr=0": "optimizer.lr=0 must be above 0.",
    "optimizer.weight_decay=-1": "optimizer.weight_decay=-1 must be at least 0.",
    "data.val=-1": "data.val=-1 must be ",
    "data.val=null": "data.val=null must be a whole number",
    "++data.val=null": "data.val=null must be a whole number",
    "budget.steps=0": "budget.steps=0 must be at least 1.",
    "budget.batch_size=0": "budget.batch_size=0 must be at least 1.",
    "loop.block=0": "loop.block=0 must be at least 1.",
    "loop.progress=maybe": "loop.progress=maybe must be auto, true or false.",
    "budget.epochs=[1,2]": "budget.epochs=[1,2] has 2 entries, and the data has 5 stages: give one for each",
    "budget.epochs=[1,2,0,1,1]": "budget.epochs=[1, 2, 0, 1, 1] must be a whole number, at least 1, or a list of them",
    "data=mnist method=dense budget.epochs=[1,1]": "has 2 entries, and the data has 1 stage",
    "data.split=[[0,1],[1,2]]": "data.split names class 1 twice",
    "data.split=[[0,1],[2,30]]": "data.split names class 30, and the data has the classes 0 to 9",
    "data.split=[[0,1],[2,3,4,5,6,7,8]]": "data.split leaves out class 9: name it too, or drop it with data.rest=drop",
    "data.split=[[0,1]] data.stages=2": "data.split lists the classes of each stage by itself: leave out data.stages",
    "data.split=[[0,1]] data.order=random data.sizes=[2]": "leave out data.order and data.sizes",
    "data.sizes=[2,3]": "data.sizes=[2,3] adds up to 5, and there are 10 classes",
    "data.sizes=[5,5] data.stages=2": "both say how many stages there are",
    "data.stages=3": "data.stages=3 does not divide the 10 classes evenly",
    "data.blur=0.1": "take data.labels=kept",
    "data.visits=[0,1]": "data.visits leaves out stage 2, 3 and 4",
    "data=stream data.sets=[mnist,mnits]": "data.sets names 'mnits'",
    "budget.steps=null": "budget.steps and budget.epochs are both null",
    "budget.steps=5 budget.epochs=5": "are both set; set one of them to null",
    "data=mnist method=dense budget.steps=5 budget.epochs=3": "are both set; set one of them to null",
    # a key that nothing reads
    "+zzz=3": "unknown key 'zzz'.",
    "+budget.foo=3": "unknown key 'budget.foo'.",
    "+verbose=fdr": "unknown key 'verbose'.",
    "debug=fst": "no debug 'fst'. Did you mean 'fast'?",
    "+optimizer.foo=1": "unknown key 'optimizer.foo'. It takes lr,",
    "+method.zzz=1": "unknown key 'method.zzz'.",
    "+logger.foo=1": "unknown key 'logger.foo'.",
    "+trainer.foo=1": "unknown key 'trainer.foo'.",
    "+trainer.max_epochs=1": "trainer.max_epochs is set by the program itself",
    "+data.seed=3": "data.seed is set by the program itself",
    "~optimizer": "~optimizer: no run is without it; choose one with optimizer=NAME.",
    "~data": "~data: no run is without it",
    "~logger": "choose logger=none.",
    "~budget.steps": "set budget.steps=VALUE instead",
    "~data.val": "data.val is missing: a whole number",
    "~method.name": "method.name is missing",
    "schedule=halfway ~schedule.factor": "schedule.factor is missing: a number",
    "~trainer.accelerator": "trainer.accelerator is missing: cpu, gpu, auto",
    "~trainer.devices": "trainer.devices is missing: how many",
    "optimizer=sgd +optimizer.dampening=nan": "optimizer.dampening=nan must be a number.",
    "=3": "'=3' has no key: write KEY=3.",
    "logger=csv +logger.foo=1": "unknown key 'logger.foo'. It takes none",
    "logger=[wandb,csv] +logger.foo=1": "unknown key 'logger.foo'.",
    "logger=[wandb,csv] logger.mode=offlin": "logger.mode=offlin must be one of online, offline, disabled.",
    "logger=[csv,nothing]": "no logger 'nothing'.",
    "method._target_=1": "method._target_=1 must be the dotted path of a class or function.",
    "method=masksembles_ensemble method.of._target_=maskbench.methods.uncertainty.masksembles.Mask": "there is no such class",
    "schedule._partial_=false": "schedule._partial_ is true: the program says when a part is made; leave it out.",
    # types and allowed values, by the signature of what is configured
    "method=packed_ensembles method.members=0": "method.members=0 must be a whole number at least 1.",
    "method=packed_ensembles method.alpha=0": "method.alpha=0 must be a number above 0.",
    "method=packed_ensembles method.gamma=0": "method.gamma=0 must be a whole number at least 1.",
    "method=packed_ensembles backbone.init=file:w.pth": "its members are thin nets, each drawn anew",
    "method=swag method.start=1": "method.start=1 must be a number at least 0 and below 1.",
    "method=laplace method.structure=diag": "method.structure=diag must be kron or full.",
    "method=laplace data=boston": "there is no value here for 'table', only for images: take other data (data=NAME).",
    "backbone.outputs=1e3": "backbone.outputs=1000.0 must be a whole number",
    "backbone.init=[]": "backbone.init=[] must be ",
    "backbone.widths=auto": "backbone.widths=auto must be a list",
    "method=edge_popup method.keep_warmup=None": "method.keep_warmup=None must be a whole number",
    "task.matrix=x": "task.matrix=x must be one of seen, full, final.",
    "task.probe=-1": "task.probe=-1 must be a whole number at least 1.",
    "optimizer=sgd +optimizer.differentiable=true": "optimizer.differentiable=True is not taken:",
    "+trainer.profiler=[1,2]": "trainer.profiler=[1,2] must be a word, or null.",
    "optimizer=adam +optimizer.betas=[x,0.9]": "optimizer.betas=[x,0.9] must be a list, each a number.",
    "trainer.memory_format=last": "trainer.memory_format=last must be contiguous, channels_last, or null",
    "trainer.detect_anomaly=[1,2]": "trainer.detect_anomaly=[1,2] must be true or false",
    "method=meta_ticket optimizer=meta_ticket_sinusoid +optimizer.recipes.scores.foo=1": "key 'optimizer.recipes.scores.foo'",
    "method=masksembles_ensemble method.of.members=x": "method.of.members=x must be a whole number",
    "-m method=edge_popup method.keep=0.5,x": "method.keep=x must be a number",
    "-m task.matrix=seen,x,final": "task.matrix=x must be one of",
    # keywords of a function of the method, held by a key of the task
    "method=lottery '+task.branches.a={maks: random}'": "unknown key 'task.branches.a.maks'. Did you mean 'mask'?",
    "method=lottery '+task.branches.a={mask: rndom}'": (
        "task.branches.a.mask=rndom must be one of same, random, random_global, random_even, one_shot, same_sign, diff_sign."
    ),
    "method=lottery '+task.branches.a={mask1: rewnd}'": "task.branches.a.mask1=rewnd must be one of rewind,",
    "method=lottery '+task.branches.a={level: -1}'": "task.branches.a.level=-1 must be a whole number at least 0",
    "method=lottery '+task.supermasks.a={criterion: nothing}'": "task.supermasks.a.criterion=nothing must be one of",
    "method=lottery '+task.supermasks.a={mask: random}'": "task.supermasks.a.mask is set by task=prune itself; leave it out.",
    "method=lottery '+task.supermasks.a={level: 2}'": "task.supermasks.a.level is set by task=prune itself",
    "method=lottery '+task.branches.a={_target_: os.getcwd}'": "unknown key 'task.branches.a._target_'",
    "method=lottery +task.branches.a.mask=randm": "task.branches.a.mask=randm must be one of",
    "-m experiment=lottery/mnist_quick task.branches.random.mask=random,randm": "task.branches.random.mask=randm must be one of",
    # what contradicts
    "method=lottery method.rewind_step=50 budget.steps=20": "method.rewind_step=50 and budget.steps=20",
    "method=packnet init=ticket:/does/not/exist": "method=packnet starts from no ticket; method=dense would.",
    "method=finetune init=ticket:/does/not/exist": "method=finetune starts from no ticket",
    "method=dense init=ticket:/does/not/exist": "there is no file /does/not/exist;",
    "method=dense init=model.pt": "init=model.pt must be ticket:FILE",
    "method=wsn data=permutedmnist data.stages=255": "data.stages=255: method=wsn learns 254 stages at most; take fewer",
    "method=packnet data=permutedmnist data.stages=300": "data.stages=300: method=packnet learns 254 stages at most; take fewer",
    "method=wsn method.keep=0": "method.keep=0 must be a number above 0 and at most 1",
    "method=exssnet method.transfer=knn": "method.transfer=knn must be random or kkt",
    "method=maml data=mnist": "data=mnist: task=meta takes data that come as episodes; data=aircraft,",
    "method=dense data=glyph28": "takes no data that come as episodes",
    "method=pac_net data=mnist": "takes a source and a target, and this data has 1",
    "method=packnet data=cubic": "the targets of this data are numbers",
    "method=dense data=splitmnist": "takes data of one stage, and this data has 5",
    "method=mc_dropout_ensemble method.of._partial_=false": "method.of._partial_ must be true",
    "method=edge_popup schedule=cosine schedule.stairs=0": "schedule.stairs=0 must be a whole number at least 1",
    "method=pac_net task.probe=0": "task.probe=0 must be a whole number at least 1",
    "method=mc_dropout_ensemble ~method.of._target_": "method.of has no _target_",
    "method=transfer_delta task.needs=-1": "task.needs=-1 must be the dotted name of a contract",
    "method=packnet task.needs=maskbench.tasks.Prunes": "task.needs=maskbench.tasks.Prunes must be the dotted name",
    "method=edge_popup task.levels=2": "task.levels needs a method with shrink, which method=edge_popup has not; method=lottery",
    "method=dense task=prune '++task.branches={a: {mask: random}}'": "task.branches needs a method with branch",
    # the cure in the sentence
    "--method supsup": "'--method' is no flag: write method=supsup.",
    "--optimizer.lr=3": "write optimizer.lr=3.",
    "method supsup": "is written as one word: method=supsup.",
    "data=SplitMNIST": "Did you mean 'splitmnist'?",
    "seed=0-3": "For one run each: -m seed=0,1,2,3.",
    "method=supsup,packnet": "'method=supsup,packnet' is a sweep: add -m",
    "logger=null": "no logger 'null'. Choices: csv, mlflow, none,",
    "pair=nothing": "no pair 'nothing'.",
    "experiment=mc_dropout/boston_4000": "is now: experiment=mc_dropout/uci_4000 data=boston (the same run, with the same key).",
    "experiment=mc_dropout/uci_grid data=year": "there is no value here for 'year', only for boston, concrete,",
    "seed=1 word": "'word' is neither key=value nor a flag",
    "-m trainer=ddp seed=0,1": "trainer.devices=2 would start the whole sweep once per device; start its runs one by one",
    "-m trainer.devices=2 seed=0,1": "trainer.strategy=auto trainer.devices=2 would start the whole sweep once per device",
    "-m trainer.devices=[0,1] seed=0,1": "would start the whole sweep once per device",
    "-m trainer.num_nodes=2 seed=0,1": "would start the whole sweep once per device",
    "-m trainer.devices=1,2 seed=0,1": "would start the whole sweep once per device",
    "-m trainer=ddp trainer.strategy=ddp_spawn seed=0,1": "trains in processes that end with each phase",
    "method=maml trainer=ddp trainer.sync_batchnorm=true": "those of episodes standardise each episode by itself; leave it out",
    "trainer.sync_batchnorm=1": "trainer.sync_batchnorm=1 must be true or false",
    "trainer.strategy=ddp_spawn": "trainer.strategy=ddp_spawn trains in processes that end with each phase",
    "trainer=ddp trainer.strategy=ddp_fork": "use trainer.strategy=ddp.",
    "trainer.strategy=ddp_notebook_find_unused_parameters_true": "use trainer.strategy=ddp.",
    "trainer.precision=bf16-true": "trainer.precision=bf16-true is not taken: weights, masks and inputs are of 32 bits here",
    "trainer.precision=64": "take trainer.precision=32-true, bf16-mixed or 16-mixed.",
    "paths.output=/proc/nowhere": "cannot write /proc/nowhere",
    "--config-dir /nowhere seed=1": "there is no folder /nowhere",
}


SOME = [pytest.param(line, marks=pytest.mark.full if at % 4 else ()) for at, line in enumerate(BAD)]  # each composes a config


@pytest.mark.parametrize("line", SOME)
def test_refused(line: str) -> None:
    sentences = mistakes(line)
    assert len(sentences) == 1 and BAD[line] in sentences[0], sentences


def test_a_sweep_tells_all_bad_combinations_at_once() -> None:
    sentences = mistakes("-m method=supsup,packnet,dense task=continual,uncertainty seed=0,-1")
    assert sorted(line.split(":")[0] for line in sentences) == [
        "method=dense cannot do task=continual",
        "method=packnet cannot do task=uncertainty",
        "method=supsup cannot do task=uncertainty",
        "seed=-1 must be at least 0.",
    ]


def test_a_key_that_some_choices_lack_names_the_choice() -> None:
    assert mistakes("-m optimizer=adam,sgd optimizer.momentum=0.5")[0].startswith("optimizer=adam: unknown key")


def test_values_that_only_clash_together_are_found_in_a_sweep() -> None:
    assert "budget.steps=5 and budget.epochs=1 are both set" in mistakes("-m budget.steps=null,5 budget.epochs=1,1")[0]


def test_a_sweep_of_thousands_is_checked_in_a_few_compositions(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    compose = command_line.Command.compose
    monkeypatch.setattr(command_line.Command, "compose", lambda *args: composed.append(1) or compose(*args))
    assert mistakes("-m method=supsup,packnet seed=range(0,5000) optimizer.lr=0.1,0.2,0.3") == []
    assert len(composed) == 2


def test_a_task_mistake_names_what_would_work() -> None:
    (sentences,) = mistakes("method=supsup task=uncertainty")
    assert "it does task=continual" in sentences
    assert "dense" in sentences.split("task=uncertainty is done by method=")[1]


def test_groups_of_an_outside_folder(tmp_path: Path) -> None:
    (tmp_path / "mine" / "method").mkdir(parents=True)
    (tmp_path / "mine" / "method" / "wonder.yaml").write_text(
        "# @package _global_\nmethod:\n  _target_: mymod.Wonder\n  name: wonder\n  tasks: [continual]\n  depth: 3\n"
    )
    assert mistakes("--config-dir mine method=wonder method.depth=4") == []
    assert "must be a whole number" in mistakes("--config-dir mine method=wonder method.depth=x")[0]
    assert "method=wonder cannot do task=uncertainty" in mistakes("method=wonder task=uncertainty -cd mine")[0]
    assert ", wonder," in mistakes("-cd mine method=zzz")[0]


def test_a_mistake_that_combinations_share_is_said_once() -> None:
    (mistake,) = mistakes("-m method=supsup data=splitmnist,splitfashion optimizer=adam,sgd optimizer.momentum=0.5 seed=0,1")
    where, _, text = mistake.partition(": ")
    assert where == "data=splitmnist optimizer=adam, data=splitfashion optimizer=adam" and text.startswith("unknown key")


TASK = """# Accuracy after something else.
_target_: mine.run
name: robust
needs: {needs}
sigma: 0.1
"""
CODE = """
import torch
from typing import Protocol
from maskbench.tasks.contracts import takes

@takes("one", "classes")
class Peels(Protocol):
    depth: int
    def shrink(self, stage): ...
    def state_dict(self): ...

def run(method, stages, fit, journal, *, sigma: float): ...
"""


@pytest.mark.parametrize(
    ("words", "needs", "sentence"),
    [
        ("method=supsup data=mnist", "maskbench.tasks.contracts.Predicts", ""),
        ("method=mc_dropout", "maskbench.tasks.contracts.Predicts", ""),
        ("method=mc_dropout task.sigma=x", "maskbench.tasks.contracts.Predicts", "task.sigma=x must be a number"),
        ("method=supsup", "maskbench.tasks.contracts.Predicts", "takes data of one stage, and this data has 5"),
        ("method=dense", "maskbench.tasks.contracts.Adapts", "task=robust needs a method with after and test_count"),
        ("method=maml data=glyph28", "maskbench.tasks.contracts.Adapts", ""),
        ("method=dense", "mine.Peels", "needs a method with depth and shrink, which method=dense has not"),
        ("method=dense", "null", "task=robust is done by no method here"),
    ],
)
def test_a_task_from_outside_says_what_it_needs(words: str, needs: str, sentence: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "robust.yaml").write_text(TASK.format(needs=needs))
    (tmp_path / "mine.py").write_text(CODE)
    sentences = mistakes(f"--config-dir conf task=robust {words}")
    assert (len(sentences) == 1 and sentence in sentences[0]) if sentence else sentences == []


@pytest.mark.parametrize("group", ["data", "backbone", "optimizer", "schedule", "task", "logger"])
def test_no_packaged_choice_is_refused(group: str) -> None:
    for name, path in command_line.choices([preflight.identity.conf_dir()], group).items():
        content = OmegaConf.to_container(OmegaConf.load(path))
        node = {key: value for key, value in content.get(group, content).items() if key != "defaults" and "${" not in str(value)}
        wrong = [text for text in parts.part_mistakes(group, node) if "is missing" not in text]
        assert wrong == [], name


@pytest.mark.full
def test_every_packaged_method_composes_without_a_mistake() -> None:
    for method in command_line.choices([preflight.identity.conf_dir()], "method"):
        assert mistakes(f"method={method}") == []


def test_looking_for_a_writable_folder_leaves_nothing(tmp_path: Path) -> None:
    preflight.writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not a directory"):
        preflight.writable(tmp_path / "file" / "b")
