"""Where modules stood before the package was divided into rooms, so that old names keep working. Imports no torch.

Measures that got another name since a run was recorded are read under the new one (METRICS).

Three readers: `import maskbench.shelf` (and a `_target_` outside this repository that says so) finds what is now
maskbench.masks.stores; a run's key spells each `_target_` as it was first spelled (identity.py), so that moving a file moves
no result; CHANGELOG.md lists the same moves.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

ROOMS = {  # where -> what came there: the old module's path below maskbench, `=new name` where that changed
    "common": "errors files named streams identity provenance",
    "masks": "shelf=stores ledger=owners criteria",
    "backbones": "features",
    "data": "gaussian",
    "data.sources": "data.clients data.sets data.folder data.folders data.cifar data.rtable data.known_tables",
    "data.images": "data.augment data.celeba data.corrupt data.glyph_scripts data.glyphs data.imagenet data.labels "
    "data.letters data.ood data.pairs data.permuted data.rotated data.shift data.split data.streamed",
    "data.tables": "data.ball data.friedman data.generated data.ode data.regression data.tabular data.toy",
    "data.episodes": "data.bank data.few_shot data.few_shot_folders data.glyph28 data.sinusoid",
    "training": "method learner=lightning fit journal shared=phase_cache evaluate optimizers schedules",
    "methods.prune": "methods.lottery methods.supermask methods.edge_popup actions",
    "methods.continual": "methods.supsup methods.packnet methods.piggyback methods.batch_ensemble methods.psp "
    "methods.heads methods.separate methods.hopsupsup hopfield",
    "methods.transfer": "methods.pac_net methods.fine_tuning penalties",
    "methods.meta": "methods.episodic inner",
    "methods.uncertainty": "methods.masksembles methods.mc_dropout methods.deep_ensembles methods.batch_ensemble_members "
    "methods.ensemble_of overlap",
    "methods.theory": "methods.malach_neuron methods.strong_tickets strong_ticket neurons construct certify subset_sums "
    "targets scaling judgement",
    "tasks.metrics": "metrics=continual uncertainty",
    "runs": "run=assemble build finished saved=read_back record machine console loggers",
    "runs.loggers": "loggers.files loggers.sink=fail_safe loggers.wandb_run",
    "cli": "cmdline=command_line preflight overrides schema jobs warm=forks preloaded commands",
}
# modules whose old name is now a folder's: the folder hands on what stood in the file
FOLDERS = {
    "maskbench.data.images": "maskbench.data.images.whole_sets",
    "maskbench.data.sources": "maskbench.data.sources.find",
    "maskbench.data.tables": "maskbench.data.sources.find_tables",
    "maskbench.data.episodes": "maskbench.data.episodes.stages",
}


def _moves() -> Iterator[tuple[str, str]]:
    for room, names in ROOMS.items():
        for entry in names.split():
            old, _, new = entry.partition("=")
            yield f"maskbench.{old}", f"maskbench.{room}.{new or old.rpartition('.')[2]}"


MOVED = dict(_moves())  # old module -> new module
FIRST = {new: old for old, new in {**MOVED, **FOLDERS}.items()}  # new module -> the name it had first
RENAMED = {  # new module -> {old name in it: new name}
    "maskbench.masks.stores": {"Shelf": "TensorStore", "Book": "MaskBank"},
    "maskbench.masks.owners": {"Ledger": "WeightOwners"},
    "maskbench.runs.loggers": {"Sink": "FailSafeLogger"},
    "maskbench.runs.loggers.fail_safe": {"Sink": "FailSafeLogger"},
    "maskbench.training.phase_cache": {"Shared": "PhaseCache"},
}

METRICS = {"bound_width": "typical_width"}  # old name in result.json -> new name; it never was a bound


def first_name(target: str) -> str:
    """A `_target_` as it was spelled before its module moved; any other as it is."""
    module, _, name = target.rpartition(".")
    return f"{FIRST[module]}.{name}" if module in FIRST else target


def attribute(module: str, name: str) -> object:
    """What an old module's `name` is now, for a folder that took the module's place (FOLDERS).

    Raises:
        AttributeError: the old module had no such name.
    """
    if name.startswith("__") or find_spec(f"{module}.{name}"):  # a file of the folder, about to be imported
        raise AttributeError(name)
    return getattr(importlib.import_module(FOLDERS[module]), name)


class _Old(ModuleType):
    """A moved module under its old name."""

    def __getattr__(self, name: str) -> object:
        new = MOVED[self.__name__]
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(new), RENAMED.get(new, {}).get(name, name))


class _OldLoader:  # importlib.abc, which would say what it is, brings a third of what imports this
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Old(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        importlib.import_module(MOVED[module.__name__])  # what fails there fails here


class _OldNames:
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in MOVED:
            return None
        return ModuleSpec(name, _OldLoader(), is_package=any(old.startswith(f"{name}.") for old in MOVED))


def keep_old_names() -> None:
    """Let old module names be imported, after all real ones."""
    if not any(isinstance(finder, _OldNames) for finder in sys.meta_path):
        sys.meta_path.append(_OldNames())
