"""Show that the parity tests can fail: break the package in one way after another, and say which test notices.

python scripts/mutate.py [TEST ...]    runs tests/parity, and TEST beside it, on a temporary copy of the package

Prints one row a mutation; ends with 1 if one was noticed by no test, or the unbroken copy fails.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).parents[1]
COPIED = ("maskbench", "conf", "tests", "pyproject.toml")


class Mutation(NamedTuple):
    """One wrong line: in `file` of the package, `wrong` in the place of `right`, which stands there once."""

    what: str
    file: str
    right: str
    wrong: str


MUTATIONS = [
    Mutation(
        "bound: scores start sqrt(6) too small", "methods/meta/episodic.py",
        'kaiming_uniform_(score, nonlinearity="relu")', "kaiming_uniform_(score, a=5**0.5)",
    ),
    Mutation(
        "sign: the gradient of |score| without its sign", "masks/cuts.py",
        "to_score.mul_(torch.sign(score, out=_scratch(score)))", "pass",
    ),
    Mutation(
        "tie rule: ties at the pruning cut stay", "masks/pruning.py",
        "(w.detach().abs() > smallest(magnitudes, k))", "(w.detach().abs() >= smallest(magnitudes, k))",
    ),
    Mutation(
        "batch norm: statistics move in later stages", "methods/continual/packnet.py",
        'if self.norm == "first" and self.stage > 0:', "if False:",
    ),
    Mutation(
        "reduction: MAML's sum is a mean", "methods/meta/episodic.py",
        "return loss * (outputs.shape[-1] * len(y) / support) if", "return loss if",
    ),
]  # fmt: skip


def run(top: Path, tests: list[str]) -> list[str]:
    """Names of the tests that fail on the copy in `top`."""
    environment = os.environ | {"PYTHONPATH": str(top), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rfE", *tests]
    done = subprocess.run(command, cwd=top, env=environment, capture_output=True, text=True, check=False)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if done.returncode and not failed:
        sys.exit(f"the tests did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return failed


def noticed(top: Path, mutation: Mutation, tests: list[str]) -> list[str]:
    """Names of the tests that fail under a mutation; the copy is whole again afterwards."""
    path = top / "maskbench" / mutation.file
    whole = path.read_text()
    if whole.count(mutation.right) != 1:
        sys.exit(f"{mutation.file} has not once: {mutation.right}")
    path.write_text(whole.replace(mutation.right, mutation.wrong))
    try:
        return run(top, tests)
    finally:
        path.write_text(whole)


def main(more: list[str]) -> int:
    tests, missed = ["tests/parity", *more], 0
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        for name in COPIED:
            copy = shutil.copytree if (TOP / name).is_dir() else shutil.copy
            copy(TOP / name, top / name)
        if failed := run(top, tests):
            sys.exit(f"the unbroken copy fails: {', '.join(failed)}")
        for mutation in MUTATIONS:
            failed = noticed(top, mutation, tests)
            missed += not failed
            print(
                f"| {mutation.what} | {', '.join(name.rpartition('/')[2] for name in failed) or 'NOTICED BY NONE'} |", flush=True
            )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
