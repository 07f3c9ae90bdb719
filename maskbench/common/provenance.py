"""What a result came from and what it cost: commit, versions, machine, argv; seconds and memory. Imports no torch.

A field that cannot be known here (no git, a wheel, an unusual system) is None: looking never fails and never prints.
"""

import difflib
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath

import maskbench

PACKAGES = (
    "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf", "wandb",
    "numpy", "scipy", "pandas", "safetensors", "rich",
)  # fmt: skip
DIFF_LIMIT = 200_000  # characters of untracked files that a diff copies; the rest it names
# hooks export these, and they would point every command at another repository
REDIRECTS = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX"}
_BORN = time.perf_counter()


def collect(repo: str | Path | None = None) -> dict:
    """All that identifies the code and the machine of this run, as plain JSON values.

    Args:
        repo: a folder inside the checkout to describe; None: the checkout that maskbench was imported from, if any.
    """
    return {
        "maskbench": maskbench.__version__,
        **(commit(repo) if repo else imported()[0]),
        "versions": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "argv": list(sys.argv),
    }


# ---- the code


def checkout(repo: str | Path | None = None) -> Path | None:
    """Top folder of the git checkout that holds `repo`, by default the imported package; None from a wheel.

    A virtual environment often lies inside somebody's checkout; what is installed there does not come from its commit.
    """
    start = Path(repo).resolve() if repo else Path(maskbench.__file__).resolve().parent
    if not repo and {"site-packages", "dist-packages"} & set(start.parts):
        return None
    return next((folder for folder in (start, *start.parents) if (folder / ".git").exists()), None)


def commit(repo: str | Path | None = None) -> dict:
    """`commit` (full hash), `branch`, `dirty`: changed or untracked files, ignored ones and results aside. All None without
    git."""
    unknown = {"commit": None, "branch": None, "dirty": None}
    root = checkout(repo)
    status = root and git(root, "status", "--porcelain=v2", "--branch", "--untracked-files=all", "-z")
    if not status:
        return unknown
    lines = status.split("\0")[:-1]
    untracked = [line[2:] for line in lines if line.startswith("? ")]
    heads = dict(line[len("# branch.") :].split(" ", 1) for line in lines if line.startswith("# branch."))
    return {
        "commit": None if heads["oid"] == "(initial)" else heads["oid"],
        "branch": None if heads["head"] == "(detached)" else heads["head"],
        "dirty": any(line[:2] not in ("# ", "? ") for line in lines) or bool(code_of(untracked)),
    }


@cache
def imported() -> tuple[dict, str]:
    """`commit()` and `diff()` as they were when this process, or the one it was forked from, first asked: a checkout that changes
    later does not change what was imported."""
    return commit(), diff()


def code(about: Mapping, patch: str) -> str:
    """One short name for the code that ran: the hash of the modules that compute; of a record that has none the commit."""
    closure = about.get("code")
    return closure["closure"] if isinstance(closure, Mapping) and closure.get("closure") else committed(about, patch)


def committed(about: Mapping, patch: str) -> str:
    """The commit, with the hash of what was not committed; of a wheel its version. Then the hash of the user's own modules, where
    an older record has some."""
    modules = json.dumps(about.get("own_code"), sort_keys=True)
    own = f" with {hashlib.sha256(modules.encode()).hexdigest()[:8]}" if about.get("own_code") else ""
    if not about.get("commit"):
        return f"maskbench {about.get('maskbench', 'of an unknown version')}{own}"
    changed = f"+{hashlib.sha256(patch.encode()).hexdigest()[:8]}" if about.get("dirty") else ""
    return about["commit"][:10] + changed + own


def diff(repo: str | Path | None = None) -> str:
    """What `git apply` needs to turn the recorded commit into the code that ran, untracked files included.

    Empty when there is nothing uncommitted, or no commit to differ from.
    """
    root = checkout(repo)
    tracked = root and git(root, "diff", "HEAD", "--no-ext-diff", "--no-color")
    if root is None or tracked is None:
        return ""
    parts, room = [tracked], DIFF_LIMIT
    names = (git(root, "ls-files", "--others", "--exclude-standard", "-z") or "").split("\0")
    for name in code_of(list(filter(None, names))):
        part = _new_file(root, name, room)
        room -= len(part)
        parts.append(part)
    return "".join(parts)


def code_of(names: list[str]) -> list[str]:
    """Of untracked files those that are no results: what lies below a folder of runs (paths.output) came out of the code."""
    runs = [PurePosixPath(name).parent for name in names if PurePosixPath(name).name in ("run.json", ".lock")]
    # <output>/<method>-<data>/s<seed>-<key>; where <output> is the repository itself, the run directories alone
    roots = {run.parents[1] if len(run.parents) > 2 else run for run in runs}
    return [name for name in names if not roots & set(PurePosixPath(name).parents)]


def _new_file(root: Path, name: str, room: int) -> str:
    """An untracked file as a diff against nothing; a link, a binary file or one larger than `room` by name alone."""
    path = root / name
    try:
        if path.is_symlink() or path.stat().st_size > room:
            raise ValueError
        lines = re.findall(r"[^\n]*\n|[^\n]+", path.read_bytes().decode())  # splitlines knows too many line ends
    except (OSError, ValueError):
        return f"# untracked, not copied: {name}\n"
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n\\ No newline at end of file\n"
    head = f"diff --git a/{name} b/{name}\nnew file mode 100644\n"
    return head + "".join(difflib.unified_diff([], lines, "/dev/null", f"b/{name}"))


def git(root: Path, *words: str) -> str | None:
    """Output of a git command that only reads; None when git is missing, refuses or takes more than five seconds."""
    env = {key: value for key, value in os.environ.items() if key not in REDIRECTS} | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(["git", *words], cwd=root, env=env, capture_output=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def versions() -> dict[str, str | None]:
    """Installed versions of the packages that can move a number, without importing them; None: not installed."""
    from importlib import metadata  # a tenth of what listing runs imports, which never asks

    installed: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = None
    return installed


# ---- the machine


def cpu_model() -> str | None:
    """The processor as its maker calls it."""
    names = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return names[1].strip() if names else platform.processor() or platform.machine() or None


BF16 = ("amx_bf16", "avx512_bf16", "bf16")  # instructions of Intel, of Intel and AMD, of ARM, as Linux names them

EMULATED = "this CPU has no instructions for bf16: trainer.precision=bf16-mixed is many times as slow here as float32"


def bf16_instructions() -> list[str] | None:
    """Which instructions for bfloat16 this processor has, [] for none; None where that cannot be read."""
    return bf16_among(_read("/proc/cpuinfo"))


def bf16_among(cpuinfo: str) -> list[str] | None:
    told = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return [name for name in BF16 if name in told[1].split()] if told else None


def cores() -> int | None:
    """Logical cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def memory_bytes() -> int | None:
    """Main memory of the machine."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


# ---- the cost


def cost(since: Mapping[str, float] | None = None) -> dict[str, float]:
    """`wall_seconds`, `cpu_seconds` (all threads, and children that ended), `peak_memory_bytes` of this process.

    Totals since the process began (wall: since this module was imported). Given an earlier answer as `since`, the
    seconds are those in between, as a sweep of several runs in one process needs; the peak stays that of the process.
    """
    before = since or {"wall_seconds": 0.0, "cpu_seconds": 0.0}
    return {
        "wall_seconds": time.perf_counter() - _BORN - before["wall_seconds"],
        "cpu_seconds": sum(os.times()[:4]) - before["cpu_seconds"],
        "peak_memory_bytes": peak_memory_bytes(),
    }


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far."""
    # Linux hands ru_maxrss on from the parent through exec, so a small child of a large parent looks large; VmHWM not
    high = re.search(r"^VmHWM:\s*(\d+) kB$", _read("/proc/self/status"), re.MULTILINE)
    if high:
        return int(high[1]) * 1024
    import resource  # absent on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, the others kilobytes
