"""In a fresh process: load a finished run and answer its test rows. Set by the test: run, out (paths)."""
# ruff: noqa: F821 - the names it is given

from pathlib import Path

import torch

import maskbench
from maskbench.training import evaluate

run: Path
out: Path

saved = maskbench.load(run)
torch.save({str(stage.index): evaluate.members(saved.method, stage, stage.test)[0] for stage in saved.stages}, out)
