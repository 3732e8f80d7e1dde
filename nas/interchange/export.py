"""A trained network in files for use elsewhere, each written only if it computes what the network computes."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from nas.interchange.graph import Runs, as_program, check_onnx, export_onnx, export_torch
from nas.interchange.python_file import export_python
from nas.run.files import write_atomically
from nas.training.weights_file import PixelClassifier, SavedNetwork
from search_spaces.errors import InputError, check_known

FORMATS = {"torch": "network.pt2", "onnx": "network.onnx", "python": "network.py"}
TOLERANCE = 1e-4  # of a logit, relative to the largest one where that is above 1
_CHECKED = (1, 3)  # images in the batches that are compared; graphs are traced with 2


@dataclass(frozen=True)
class Exported:
    """A file that was written, and the largest difference of its logits from PyTorch's, as measured."""

    path: Path
    difference: float


def export_network(trained: SavedNetwork, weights: Path, formats: Sequence[str], folder: Path) -> list[Exported]:
    """Writes the files of these `FORMATS`, and beside network.py a copy of `weights`, the file that `trained` is from.

    All of them map pixels in 0..1, float32 (N, 3, H, W), to logits (N, classes). Raises InputError, before anything is
    written, for an unknown format, for what a format cannot hold, and for logits that differ by more than `TOLERANCE`.
    """
    for name in formats:
        check_known("format", name, FORMATS)
    if "onnx" in formats:
        check_onnx()
    classifier = PixelClassifier(trained)
    exports: dict[str, Callable[[], tuple[bytes | str, Runs]]] = {"python": lambda: _checked_text(trained, weights)}
    if {"torch", "onnx"} & set(formats):
        program = as_program(trained, classifier)
        exports |= {"torch": lambda: export_torch(trained, program), "onnx": lambda: export_onnx(trained, program)}
    exported, contents = [], {}
    for name in dict.fromkeys(formats):
        content, runs = exports[name]()
        exported.append(Exported(folder / FORMATS[name], compare(trained, classifier, runs, f"format {name}")))
        contents[FORMATS[name]] = content
    if "python" in formats:
        contents["weights.pt"] = weights.read_bytes()
    for file, content in contents.items():
        write_atomically(folder / file, content)
    return exported


def compare(trained: SavedNetwork, network: Callable, other: Runs, what: str) -> float:
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


def _checked_text(trained: SavedNetwork, weights: Path) -> tuple[str, Runs]:
    """The stand-alone file, and the network that it loads. A plug-in's code in it is run, as when it was loaded."""
    text, module_name = export_python(trained), "_exported_network"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.py")
        path.write_text(text, encoding="utf-8")
        module: Any = ModuleType(module_name)
        module.__file__ = str(path)
        sys.modules[module_name] = module  # dataclasses look up the module of a class there
        try:
            SourceFileLoader(module_name, str(path)).exec_module(module)
            return text, module.load_network(weights)
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"format python: the file does not run on its own: {said}; nothing was written") from None
        finally:
            del sys.modules[module_name]
