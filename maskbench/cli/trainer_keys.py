"""Lightning's keys that would change what is computed, or how long, past the keys that a run's identity is made of; and those
that must be there."""

from collections.abc import Mapping
from typing import Any

LENGTH = "budget.steps or budget.epochs says how long a phase is"
ROWS = "the keys of data say which rows there are"
LOOP = "this program's loop has no such step"
OURS = "the run directory, its checkpoints and its loggers take its place"
REFUSED = {
    **dict.fromkeys(("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "fast_dev_run", "barebones"), LENGTH),
    **dict.fromkeys(("overfit_batches", *(f"limit_{part}_batches" for part in ("train", "val", "test", "predict"))), ROWS),
    **dict.fromkeys(("val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps"), "budget.validate_every says when"),
    **dict.fromkeys(("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"), LOOP),
    **dict.fromkeys(("reload_dataloaders_every_n_epochs", "use_distributed_sampler", "inference_mode"), LOOP),
    "callbacks": "callbacks={NAME:{_target_:...}}, without trainer, names them",
    **dict.fromkeys(("plugins", "logger", "enable_checkpointing", "default_root_dir", "model_registry"), OURS),
    **dict.fromkeys(
        ("enable_progress_bar", "enable_model_summary", "log_every_n_steps"), "loop.progress and loop.log_every do it"
    ),
}
PRECISIONS = ("32-true", "32", "bf16-mixed", "bf16", "16-mixed", "16")  # weights and masks are of 32 bits in each
NEEDED = {"accelerator": "cpu, gpu, auto or another of Lightning's", "devices": "how many, their numbers, or auto"}


def mistake(trainer: Mapping[str, Any]) -> str | None:
    """One sentence on the first key that is refused, or missing; null is none."""
    for name, reason in REFUSED.items():
        if trainer.get(name) is not None:
            return f"trainer.{name}={trainer[name]} is not taken: {reason}; leave it out."
    for name, what in NEEDED.items():
        if name not in trainer:
            return f"trainer.{name} is missing: {what}."
    if (precision := trainer.get("precision")) is not None and str(precision) not in PRECISIONS:
        return (
            f"trainer.precision={precision} is not taken: weights, masks and inputs are of 32 bits here; take "
            "trainer.precision=32-true, bf16-mixed or 16-mixed."
        )
    return None
