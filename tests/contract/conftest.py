"""Every method of conf/method, listed from the folder. `make test` holds one method of each mechanism to the contract, `make
test-full` all of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

METHODS = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "conf" / "method").glob("[!_]*.yaml"))
STEPS = 9  # of a phase; no multiple of any block size tried here but 1
MECHANISMS = {  # how a method comes by its masks or weights -> its methods; the first stands for the others
    "one net, all weights": ["dense", "finetune"],
    "one net, held at what it was": ["ewc", "si", "lwf"],
    "one net and images of earlier stages": ["replay", "joint"],
    "shared trunk, a head a stage": ["heads", "frozen_heads"],
    "a net a stage": ["separate"],
    "a mask a stage, learnt by scores": ["supsup", "hopsupsup", "piggyback", "signed_supermask"],
    "pruned weights, owned by stages": ["packnet"],
    "weights and scores together, owned by stages": ["wsn"],
    "a mask a stage, then weights of it": ["exssnet"],
    "a gate a unit and stage, learnt": ["hat"],
    "weights bound to a context": ["psp"],
    "a rank-one factor a stage or member": ["batch_ensemble", "batch_ensemble_members"],
    "pruned by magnitude, rewound": ["lottery"],
    "one mask from the first step": ["snip", "static_sparse", "grasp", "synflow", "magnitude_init", "random_sparse"],
    "trained, cut once, trained on": ["one_shot"],
    "a mask that moves in training": ["rigl", "set", "gradual"],
    "top scores": ["edge_popup", "biprop"],
    "masks drawn by probability": ["supermask"],
    "units drawn at every forward": ["mc_dropout"],
    "fixed masks of units": ["masksembles"],
    "draws of weights around those trained": ["swag", "laplace"],
    "several nets in one, one pass for all": ["packed_ensembles", "mimo"],
    "several nets": ["deep_ensembles", "mc_dropout_ensemble", "masksembles_ensemble"],
    "two loops": ["maml", "anil", "boil", "fomaml", "pretrained"],
    "two loops over scores": ["meta_ticket", "meta_ticket_boil"],
    "from a source, with a penalty": [
        "transfer_l2_sp", "transfer_finetune", "transfer_l2", "transfer_delta", "transfer_bss", "transfer_last_layer",
        "transfer_scratch",
    ],
    "from a source, with its mask": ["pac_net", "pac_net_no_allocate", "pac_net_no_penalty", "pac_net_random_mask"],
    "chosen, not trained": ["subset_sum", "malach", "malach_neuron"],
}  # fmt: skip
OFTEN = {  # those of them that `make test` trains for it, one of a kind of state
    "supsup", "packnet", "wsn", "lottery", "rigl", "masksembles", "maml", "pac_net",
}  # fmt: skip
TRAINS = {"calm", "build", "relay"}  # fixtures
ON_CPU = {"supsup", "rigl"}  # those that `make test` holds to the CPU on the CPU; with --device one of each mechanism


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = any("tiny" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "tiny" in metafunc.fixturenames and not chosen:
        stand = {methods[0] for methods in MECHANISMS.values()}
        if metafunc.definition.get_closest_marker("device"):
            stand &= stand if metafunc.config.option.device else ON_CPU
        elif TRAINS & set(metafunc.fixturenames):
            stand &= OFTEN
        cases = [pytest.param(name, marks=() if name in stand else pytest.mark.full) for name in METHODS]
        metafunc.parametrize("tiny", cases, indirect=True)


@pytest.fixture(scope="session")
def mechanisms() -> dict[str, list[str]]:
    return MECHANISMS


@pytest.fixture
def tiny(request: pytest.FixtureRequest, compose: Callable) -> tuple[str, ...]:
    """Overrides of one method's own experiment, made small: made-up images, few steps, a narrow net."""
    name = f"method={request.param}"
    cfg = compose(name)
    batch = 64 if "smax" in cfg.method else 32  # gates that harden over an epoch ask for one: six steps of 64 rows
    small = [name, f"budget.steps={STEPS}", "budget.epochs=null", f"budget.batch_size={batch}", "loop.log_every=4"]
    small += ["data.base=synthetic"] if "base" in cfg.data else []
    layers = len(cfg.backbone.get("widths", []))
    small += [f"backbone.widths={[24, 12, 8, 8][:layers]}"] if layers > 1 else []
    small += [f"backbone.channels={[4, 6, 8, 8][: len(cfg.backbone.channels)]}"] if "channels" in cfg.backbone else []
    # what only multiplies work: passes of one net, nets of one ensemble (also of an ensemble's own method)
    small += [f"method.{at}{key}=2" for at in ("", "of.") for key in ("passes", "nets") if OmegaConf.select(cfg.method, at + key)]
    small += ["method.every=2"] if "every" in cfg.method else []  # a mask that moves does so in few steps, too
    small += ["task.trials=5", "task.probe=20"] if cfg.task.name == "continual" else []
    small += ["data.test=40", "data.val=20", "task.curve=0"] if "ways" in cfg.data else []  # episodes, each a row
    small += ["task.target_share=2"] if "target_share" in cfg.task else []  # long enough to be interrupted several times
    return tuple(small)


_finished: dict[tuple[str, ...], object] = {}


@pytest.fixture
def calm(tiny: tuple[str, ...], build: Callable, tmp_path_factory: pytest.TempPathFactory):
    """The method's run that nobody disturbs, done once: look at it, do not train it on."""
    if tiny not in _finished:
        _finished[tiny] = build(*tiny, folder=tmp_path_factory.mktemp("calm")).go()
    return _finished[tiny]
