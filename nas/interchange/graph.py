"""A trained network as a graph that runs without its Python code: a torch.export program, or ONNX.

Both take any number of images, and carry what a user has to know of them as metadata.
"""

import importlib
import io
import json
import warnings
from collections.abc import Callable
from typing import Any

import torch

from nas.training.weights_file import PixelClassifier, SavedNetwork
from search_spaces.errors import InputError

METADATA = "metadata.json"  # its name in the program's archive
Runs = Callable[[torch.Tensor], torch.Tensor]  # pixels -> logits, by what was exported


def describe_input(trained: SavedNetwork) -> dict:
    """The metadata of an exported graph."""
    size = trained.image_size
    return {
        "input": f"pixels: float32 (N, 3, {size}, {size}), RGB from 0 to 1; they are normalised inside",
        "output": f"logits: float32 (N, {len(trained.classes)})",
        "classes": trained.classes,
        "mean": trained.mean,
        "std": trained.std,
        "image_size": size,
        "channels": trained.channels,
        "layers": trained.layers,
        "genotype": json.loads(trained.parsed_genotype().to_json()),
    }


def as_program(trained: SavedNetwork, classifier: PixelClassifier) -> torch.export.ExportedProgram:
    """The graph of pixels -> logits, for any number of images. Raises InputError if an operator is no graph."""
    batch = torch.export.Dim("batch", min=1)
    try:
        with _quiet():
            program = torch.export.export(
                classifier, (trained.random_pixels(2),), dynamic_shapes={"pixels": {0: batch}}
            )
    except Exception as error:  # whatever an operator of the user's does that a graph cannot
        raise InputError(
            f"torch.export cannot turn this network into a graph: {_reason(error)}; use --format python, or change the"
            " operator that it is about"
        ) from None
    for node in program.graph.nodes:  # which line of which file here each is from, which others need not be told
        node.meta.pop("stack_trace", None)
    return program


def export_torch(trained: SavedNetwork, program: torch.export.ExportedProgram) -> tuple[bytes, Runs]:
    """A .pt2 file, which `torch.export.load` reads, and what it computes when it is loaded."""
    archive, metadata = io.BytesIO(), json.dumps(describe_input(trained))
    torch.export.save(program, archive, extra_files={METADATA: metadata})
    content = archive.getvalue()
    return content, torch.export.load(io.BytesIO(content)).module()


def check_onnx() -> None:
    """Raises InputError if a package that ONNX takes is not installed."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError:
            raise InputError(
                f"format onnx needs the package {package}, which is not installed; pip install 'darts-blocks[export]'"
            ) from None


def export_onnx(trained: SavedNetwork, program: torch.export.ExportedProgram) -> tuple[bytes, Runs]:
    """An .onnx file with the input "pixels" and the output "logits", and what it computes in ONNX Runtime.

    Raises InputError if ONNX has no operator for something in the graph.
    """
    import onnxruntime

    names: dict[str, Any] = {"input_names": ["pixels"], "output_names": ["logits"]}
    try:
        with _quiet():
            exported: Any = torch.onnx.export(program, dynamo=True, verbose=False, **names)
    except Exception as error:  # whatever ONNX has no word for
        raise InputError(f"ONNX cannot hold this network: {_reason(error)}; use another format") from None
    for name, value in describe_input(trained).items():
        exported.model.metadata_props[name] = value if isinstance(value, str) else json.dumps(value)
    content = exported.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(pixels: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(["logits"], {"pixels": pixels.numpy()})[0])

    return content, run


def _reason(error: BaseException) -> str:
    """The first line of what was at the root of an exporter's error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


def _quiet() -> warnings.catch_warnings:
    """Inside, warnings about the exporter's own innards are not shown."""
    return warnings.catch_warnings(action="ignore")
