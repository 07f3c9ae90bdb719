"""A net as an ONNX file, by torch's exporter, and what onnxruntime answers with it. The packages are an extra of their own."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor

from maskbench.common.errors import UsageError, first_line
from maskbench.runs.plain import Plain

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def encode(made: Plain) -> bytes:
    """The net as ONNX, with any number of rows; inputs are called `x`, outputs `outputs`.

    Raises:
        UsageError: a package is missing, or torch's exporter cannot follow the net.
    """
    need()
    try:
        with quiet():
            program = torch.onnx.export(
                made.net,
                (made.x[:2],),
                dynamo=True,
                input_names=["x"],
                output_names=["outputs"],
                dynamic_shapes=({0: torch.export.Dim("rows")},),
                verbose=False,
            )
    except Exception as error:  # whatever the exporter meets
        reason = first_line(error)
        raise UsageError(f"--format onnx: torch.onnx cannot export {type(made.net).__name__} ({reason}).") from error
    return program.model_proto.SerializeToString()


def answers(content: bytes, made: Plain) -> Tensor:
    """What onnxruntime says to the net's inputs."""
    runtime = import_module("onnxruntime")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["outputs"], {"x": made.x.numpy()})[0])


def need() -> None:
    """Raises UsageError where a package is missing; names them and the cure."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise UsageError(
            f'--format onnx needs {", ".join(missing)}: pip install "maskbench[onnx]" or pip install {" ".join(missing)}.'
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter prints on its way."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
