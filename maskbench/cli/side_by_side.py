"""Which runs train side by side: those of a sweep or a table that differ in the seed alone, where one wide net is cheaper
(training/side_by_side.py). Imports no torch.
"""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from maskbench.cli import command_line, forks, jobs, parts
from maskbench.cli.command_line import Command
from maskbench.cli.jobs import Job
from maskbench.cli.launch import Outcome
from maskbench.cli.statuses import FAILED, INTERRUPTED, USER
from maskbench.common import declared, identity
from maskbench.runs.finished import PLAIN, title
from maskbench.tasks import fulfilment

KEEP, PAYS = 0.05, 0.1  # share of the weights that stays: where nobody says, and up to which it pays
ALONE = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "precision": None}  # keys of the trainer
OFF = (False, "off")
CHECKS = ("deterministic", "detect_anomaly")  # others, which are off


def group(cfg: DictConfig) -> str:
    """What is equal for runs that may train together: the question they ask, whatever the seed; "" for one that trains alone."""
    return identity.key(cfg) if cfg.loop.side_by_side not in OFF and able(cfg) else ""


def able(cfg: DictConfig) -> bool:
    """Whether such runs can train together, and whether that is cheaper: a net of Linear layers of which few weights stay, by a
    method that says which (`fixed_masks`), in one process on the CPU. What the config does not tell is seen as training begins.
    """
    method, backbone, trainer = (parts.plain(cfg, part) for part in ("method", "backbone", "trainer"))
    on_cpu = all(trainer.get(key) == value for key, value in ALONE.items()) and not any(trainer.get(key) for key in CHECKS)
    if not (on_cpu and cfg.loop.threads == 1 and of_a_kind(cfg) and unitwise(backbone)):
        return False
    if cfg.loop.compile or OmegaConf.select(cfg, "callbacks"):
        return False  # each by itself: what is compiled is one net, and callbacks would see one training of several runs
    if declared.setting(method, "kernel") not in ("auto", "csr"):
        return False
    return cfg.loop.side_by_side is True or share(method) <= PAYS


def of_a_kind(cfg: DictConfig) -> bool:
    """Whether the classes of method and backbone are of the kind, whatever their settings."""
    target = str(OmegaConf.select(cfg, "method._target_"))
    still = declared.setting({"_target_": target}, "kernel") is not None and not fulfilment.lacking(target, ["fixed_masks"])
    return still and declared.declared(parts.plain(cfg, "backbone"), "unitwise") is not None


def unitwise(backbone: Mapping[str, Any]) -> bool:
    """Whether a net is Linear layers with nothing between them but what acts on each unit by itself: its class says under which
    of its settings (`unitwise`)."""
    needs = declared.declared(backbone, "unitwise") or {}
    return all(declared.setting(backbone, name) == value for name, value in needs.items())


def share(method: Mapping[str, Any]) -> float:
    """Of a method's maskable weights, those that stay; 1 where that is not one number."""
    keep = declared.setting(method, "keep")
    if keep is None:
        return 1.0 if ":" in str(declared.setting(method, "scope")) else KEEP
    return float(keep) if isinstance(keep, int | float) else 1.0


# ---- in a sweep


def run(command: Command) -> dict[str, Outcome | None]:
    """Do those runs of a sweep that train side by side, before the sweep itself, which finds them finished; by their directory
    what kept one from its end, if something did."""
    done: list[Job] = []
    for made in groups(command):
        free = [job for job in made if not job.taken]  # those in other hands are left for the end of the sweep
        if len(free) > 1:
            jobs.run(free, 1)
            done += free
    return {str(job.folders[0]): outcome(job) for job in done}


def outcome(job: Job) -> Outcome | None:
    """What a sweep is to say of a job that is over; None: its result."""
    if job.status in ("finished", "earlier"):
        return None
    code = job.process.returncode if job.process is not None else FAILED
    return Outcome(" ".join(word for word in job.words if "=" in word), code if code in (USER, INTERRUPTED) else FAILED, job.note)


def groups(command: Command) -> list[list[Job]]:
    """The jobs of a sweep that train together: at least two a group, and none that is finished."""
    swept = any(override.key_or_group == "seed" and override.is_sweep_override() for override in command.overrides)
    if not (command.multirun and command.ours and swept) or command.args.cfg or command.args.info:
        return []
    alike: dict[tuple[str, ...], list[int]] = {}
    for words in command_line.jobs(command):
        seeds = [word.partition("=")[2] for word in words if word.startswith("seed=")]
        rest = tuple(word for word in words if not word.startswith("seed="))
        if seeds and seeds[-1].isdecimal():
            alike.setdefault(rest, []).append(int(seeds[-1]))
    found: list[list[Job]] = []
    others: set[tuple[str, ...]] = set()  # choices under which none can: composing a config takes a twentieth of a second
    for words, seeds in alike.items():
        chosen = tuple(word for word in words if "." not in word.partition("=")[0])
        if len(seeds) > 1 and chosen not in others:
            cfg = command.compose([*words, f"seed={seeds[0]}"])
            if not of_a_kind(cfg):
                others.add(chosen)
            found.append(members(command, cfg, list(words), seeds))
    return [made for made in found if len(made) > 1]


def members(command: Command, cfg: DictConfig, words: list[str], seeds: list[int]) -> list[Job]:
    """A job for each of these seeds that is to be done; none where they train alone. `cfg`: of the first."""
    kinds = (cfg.hydra.sweeper.get("_target_"), cfg.hydra.launcher.get("_target_"))
    own = [word for word in words if word.lstrip("+").partition("=")[0] != command_line.SWEEP]
    if kinds != PLAIN or not forks.able(own) or not (name := group(cfg)):
        return []
    if identity.run_dir(command.compose([*own, f"seed={seeds[0]}"])) != identity.run_dir(cfg):
        return []  # the file of the sweep says more than which values to run through
    flags = ["--config-dir", str(command.args.config_dir)] if command.args.config_dir else []
    made = []
    for cfg.seed in dict.fromkeys(seeds):
        place = identity.run_dir(cfg).absolute()
        made.append(Job(title(cfg), [*flags, *own, f"seed={cfg.seed}"], [place], bool(cfg.force), warm=True, group=name))
    return [job for job in made if not job.done]
