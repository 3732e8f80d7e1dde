"""A trained network in files for use elsewhere, each written only if it computes what the network computes."""

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nas.checkpoint import write_atomically
from nas.export_graph import Runs, as_program, check_onnx, export_onnx, export_torch
from nas.export_python import export_python
from nas.trained_network import PixelClassifier, TrainedNetwork
from search_spaces.errors import InputError, suggest

FORMATS = {"torch": "network.pt2", "onnx": "network.onnx", "python": "network.py"}
TOLERANCE = 1e-4  # of a logit, relative to the largest one where that is above 1
_CHECKED = (1, 3)  # images in the batches that are compared; graphs are traced with 2


@dataclass(frozen=True)
class Exported:
    """A file that was written, and the largest difference of its logits from PyTorch's, as measured."""

    path: Path
    difference: float


def export_network(trained: TrainedNetwork, weights: Path, formats: Sequence[str], folder: Path) -> list[Exported]:
    """Writes the files of these `FORMATS`, and beside network.py a copy of `weights`, the file that `trained` is from.

    All of them map pixels in 0..1, float32 (N, 3, H, W), to logits (N, classes). Raises InputError, before anything is
    written, for an unknown format, for what a format cannot hold, and for logits that differ by more than `TOLERANCE`.
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError(f'unknown format "{name}"{suggest(name, FORMATS)} known: {", ".join(FORMATS)}')
    if "onnx" in formats:
        check_onnx()
    classifier = PixelClassifier(trained)
    program = as_program(trained, classifier) if {"torch", "onnx"} & set(formats) else None
    exported, contents = [], {}
    for name in dict.fromkeys(formats):
        if name == "python":
            content = export_python(trained)
            runs = _run_text(content, weights)
            contents["weights.pt"] = weights.read_bytes()
        else:
            content, runs = (export_torch if name == "torch" else export_onnx)(trained, program)
        exported.append(Exported(folder / FORMATS[name], compare(trained, classifier, runs, f"format {name}")))
        contents[FORMATS[name]] = content
    for file, content in contents.items():
        write_atomically(folder / file, content)
    return exported


def compare(trained: TrainedNetwork, network: Callable, other: Runs, what: str) -> float:
    """The largest absolute difference of two networks' logits on random images. Raises InputError beyond TOLERANCE."""
    differences = []
    for images in _CHECKED:
        pixels = trained.random_pixels(images)
        with torch.no_grad():
            expected, logits = network(pixels), other(pixels)
        difference = (logits - expected).abs().max().item() if logits.shape == expected.shape else float("nan")
        if not difference <= TOLERANCE * max(1.0, expected.abs().max().item()):  # not <=, so that NaN is refused
            raise InputError(
                f"{what}: its logits differ from the network's by {difference:.2g}, more than {TOLERANCE:.0e} of the"
                " largest; nothing was written"
            )
        differences.append(difference)
    return max(differences)


def _run_text(text: str, weights: Path) -> Runs:
    """The network that a stand-alone file loads. A plug-in's code in it is run, as it was when it was loaded."""
    module_name = "_exported_network"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.py")
        path.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(module_name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module  # dataclasses look up the module of a class there
        try:
            spec.loader.exec_module(module)
            return module.load_network(weights)
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"format python: the file does not run on its own: {said}; nothing was written") from None
        finally:
            del sys.modules[module_name]
