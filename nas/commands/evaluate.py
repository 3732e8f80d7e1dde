"""The command that uses a trained network: its errors on a data set, and the classes of image files."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.commands.command_line import command
from nas.commands.genotypes import aligned, tool_parser
from nas.config import TrainConfig, build_config, read_settings
from nas.run.files import write_atomically
from nas.run.folder import RunDir
from search_spaces.errors import InputError
from search_spaces.plugins import load_plugins

if TYPE_CHECKING:  # --help does not wait for torch
    from nas.training.evaluation import Evaluation, TrainedNetwork

WIDEST_TABLE = 30  # classes; the matrix of more is for --out


@command
def evaluate_network(argv: Sequence[str] | None) -> None:
    """`python scripts/evaluate_network.py RUN|WEIGHTS`: returns the exit status."""
    parser = tool_parser("evaluate_network.py", "Test a trained network, or let it classify images.")
    parser.add_argument("weights", metavar="RUN|WEIGHTS", type=Path, help="a training's run folder, or a weights.pt")
    parser.add_argument("--data", help="cifar10, digits or a folder; that of the training if no --image is given")
    parser.add_argument(
        "--image", nargs="+", action="extend", type=Path, default=[], metavar="FILE", help="image files to classify"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep what is printed: a .json, or the matrix as .csv")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    flags = parser.parse(argv)
    out, source = flags["out"], flags["data"]
    if out is not None and out.suffix not in (".json", ".csv"):
        raise InputError(f"--out {out}: the name must end in .json or .csv")
    if out is not None and out.suffix == ".csv" and source is None and flags["image"]:
        raise InputError(f"--out {out}: a .csv holds the confusion matrix, and no --data is given; name a .json")

    from nas.data.datasets import load_data
    from nas.machine.device import resolve_device
    from nas.training.evaluation import evaluate, load_trained_network
    from nas.training.weights_file import weights_file

    weights = weights_file(flags["weights"])
    run = RunDir(weights.parent)
    if source is None and not flags["image"]:
        source = _data_of(run, weights)
    load_plugins([*run.plugins, *flags["plugin"]])
    trained = load_trained_network(weights).to(resolve_device(flags["device"]))
    kept: dict[str, Any] = {}
    csv_text = ""
    if source is not None:
        found = evaluate(trained, load_data(source, trained.image_size))
        kept |= _as_json(found)
        csv_text = _as_csv(found)
        print("\n".join(_described(found)))
    if flags["image"]:
        kept["images"] = _classified(trained, flags["image"])
    if out is not None:
        write_atomically(out, csv_text if out.suffix == ".csv" else json.dumps(kept, indent=1) + "\n")
        print(f"written   {out}")


def _data_of(run: RunDir, weights: Path) -> str:
    """The data of the training that left the weights."""
    if not run.exists():
        raise InputError(f"{weights} lies in no run folder that names its data; give --data, or files with --image")
    config = build_config(TrainConfig, [(str(run.config), read_settings(run.config, "train"))])
    return str(config.data)


def _described(found: "Evaluation") -> list[str]:
    """An Evaluation for people: the error, that of each class, and the matrix unless it is too wide."""
    rows = [["class", "images", "error %"]]
    for (name, error), row in zip(found.class_error_percent.items(), found.confusion, strict=True):
        rows.append([name, f"{sum(row):,}", "-" if error is None else f"{error:.2f}"])
    lines = [f"test error {found.test_error_percent:.2f} % on {found.images} images of {found.data}", ""]
    lines += aligned(rows, texts=1)
    if len(found.classes) > WIDEST_TABLE:
        return [*lines, "", f"the confusion matrix of {len(found.classes)} classes is for --out FILE.csv"]
    matrix = [["is \\ taken for", *found.classes]]
    matrix += [[name, *map(str, row)] for name, row in zip(found.classes, found.confusion, strict=True)]
    return [*lines, "", *aligned(matrix, texts=1)]


def _as_json(found: "Evaluation") -> dict[str, Any]:
    return {
        "data": found.data,
        "test_images": found.images,
        "test_error_percent": found.test_error_percent,
        "class_error_percent": found.class_error_percent,
        "classes": list(found.classes),
        "confusion": [list(row) for row in found.confusion],
    }


def _as_csv(found: "Evaluation") -> str:
    """One row a true class, one column a predicted one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *found.classes])
    writer.writerows([name, *row] for name, row in zip(found.classes, found.confusion, strict=True))
    return text.getvalue()


def _classified(trained: "TrainedNetwork", files: Sequence[Path]) -> list[dict[str, Any]]:
    """Prints and returns the likeliest classes of each file."""
    import torch

    from nas.data.images import read_image
    from nas.training.evaluation import classify

    kept = []
    for file in files:
        best = classify(trained, torch.tensor(read_image(file, trained.image_size)))
        print(f"{file}  " + ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in best), flush=True)
        kept.append({"file": str(file), "classes": [{"class": name, "probability": p} for name, p in best]})
    return kept
