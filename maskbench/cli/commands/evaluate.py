"""`maskbench evaluate net=MODULE:FUNCTION weights=FILE KEY=VALUE ...`: a net that is there already, judged without training."""

import re
from collections.abc import Sequence

from maskbench.cli.start import start
from maskbench.common.errors import UsageError
from maskbench.common.given import FILE, RUN, gives

HELP = """maskbench evaluate net=MODULE:FUNCTION weights=FILE [KEY=VALUE ...]: all that task=uncertainty says about a net that is
there already, without training: accuracy, NLL, calibration, conformal sets, unknown classes, what an answer costs.

  net      what makes your torch module, imported from where you are; called with shape and outputs (or num_classes) where
           it takes them. Left out: a net of maskbench by backbone=NAME, for what maskbench export wrote.
  weights  its state dict (.safetensors, .pt, .pth, .bin; tensors alone are read), or run:FOLDER of a finished run

  maskbench evaluate net=mymodule:build weights=net.pt data=mnist
  maskbench evaluate backbone=lenet5 weights=export/model.safetensors data=mnist data.ood=near_far

It is a run as any other, method=dense method.first=given, with a run directory, a record and figures. Validation rows calibrate:
a net that was trained on them is judged too well."""
PLAIN = re.compile(r"[\w./:@+-]+")  # what Hydra reads as it stands
OWN = ("net", "weights")
FIXED = {"method": "dense", "task": "uncertainty"}


def main(argv: list[str]) -> int:
    if not argv or any(word in ("--help", "-h") for word in argv):
        print(HELP)
        return 0
    return start(words(argv))


def words(argv: Sequence[str]) -> list[str]:
    """The overrides of the run that the command stands for.

    Raises:
        UsageError: no weights, neither a net nor a backbone or both, or another method or task.
    """
    own = {key: value for key, _, value in (word.partition("=") for word in argv) if key in OWN}
    rest = [word for word in argv if word.partition("=")[0] not in OWN]
    chosen = {key: value for key, _, value in (word.partition("=") for word in rest)}
    for key, only in FIXED.items():
        if chosen.pop(key, only) != only:
            raise UsageError(f"evaluate trains nothing and is method=dense task=uncertainty: leave {key}= out.")
    if not own.get("weights"):
        raise UsageError("evaluate needs the weights of the net: weights=FILE, its state dict, or weights=run:FOLDER.")
    if ("net" in own) == ("backbone" in chosen):
        raise UsageError("evaluate needs one net: net=mymodule:function of your own, or backbone=NAME of maskbench.")
    rest = [word for word in rest if word.partition("=")[0] not in FIXED]
    return [
        *(f"{key}={value}" for key, value in FIXED.items()),
        "method.first=given",
        *made(own),
        *started(own["weights"]),
        *rest,
    ]


def made(own: dict[str, str]) -> list[str]:
    """The words for the user's own net; none for one of maskbench.

    Raises:
        UsageError: it is not MODULE:FUNCTION.
    """
    if "net" not in own:
        return []
    module, colon, function = own["net"].partition(":")
    if not colon or not all(word.isidentifier() for word in (*module.split("."), function)):
        raise UsageError(f"net={own['net']} must be MODULE:FUNCTION, such as net=mymodule:build of a file mymodule.py here.")
    return ["backbone=foreign", f"backbone.build={module}.{function}"]


def started(weights: str) -> list[str]:
    """The words for where the weights come from."""
    init = weights if weights.startswith(RUN) or gives(weights) else f"{FILE}{weights}"
    quoted = init if PLAIN.fullmatch(init) else "'" + init.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return [f"backbone.init={quoted}"]
