"""In a fresh process: build a method, load its state, answer. Sets by the test: config, state, out (paths), first."""
# ruff: noqa: F821 - the names it is given

from pathlib import Path

import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from maskbench.common.streams import seeded
from maskbench.runs.assemble import Run
from maskbench.training import evaluate

config: Path
state: Path
out: Path
first: int

run = Run(OmegaConf.load(config), out.parent)
stages = run.stages()
method = run.method(stages)
method.load_state_dict(load_file(state) if state.suffix == ".safetensors" else torch.load(state, weights_only=True))
known = [stage for stage in stages if method.has_learned(stage)]
with seeded("answers"):
    logits = {str(stage.index): evaluate.logits(method, stage, stage.test, first) for stage in known}
    told = {str(stage.index): evaluate.members(method, stage, stage.test, first)[0] for stage in known}
torch.save({"logits": logits, "members": told, "masks": method.masks()}, out)
