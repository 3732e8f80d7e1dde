"""Run folders as a search, a training and a Table 9 leave them, written in a moment, and a page taken apart."""

import json
from html.parser import HTMLParser
from pathlib import Path

import torch

from cells.discretization import discretize
from cells.genotype_file import load_genotype
from cells.random_cells import random_genotype
from nas.run.folder import RunDir
from tiny_runs import SEARCH, SPACE, TRAIN, begin

COSTS = {"parameters": 2_500_000, "parameters_with_auxiliary": 2_900_000, "madds": 400_000_000}


def search_run(folder, epochs=3, finished=True, space=SPACE, **settings) -> RunDir:
    """A search in which the operators of the space are the strongest on all edges in turn, epoch by epoch."""
    run = begin(folder, SEARCH.model_copy(update={"epochs": epochs, **settings}), space=space)
    for epoch in range(epochs if finished else epochs - 1):
        row = [float(column == epoch % len(space.operators)) for column in range(len(space.operators))]
        alphas = [row] * len(space.edges)
        weights = torch.tensor(alphas).softmax(1)
        run.append("alphas", {"epoch": epoch, "normal": alphas, "reduce": alphas})
        run.append("cells", {"epoch": epoch, **discretize(weights, weights, space).cells_as_json()})
        losses = {"train_loss": 2.0 - 0.1 * epoch, "train_error_percent": 50.0 - epoch}
        watched = {"validation_error_percent": 60.5 - epoch, "normal_skip_connections": epoch, "normal_entropy": 1.0}
        run.append("metrics", {"epoch": epoch, "seconds": 1.5, **losses, **watched})
    run.write_genotype(random_genotype(space, 0))
    if finished:
        run.finish({"genotype_after_epochs": epochs, "seconds": 90.0, "network_36_channels_20_layers": COSTS})
    return run


def training_run(folder, epochs=3, finished=True, error=21.25, genotype=None, **result) -> RunDir:
    run = begin(folder, TRAIN.model_copy(update={"epochs": epochs}), genotype=genotype or load_genotype("darts_v2"))
    for epoch in range(epochs if finished else epochs - 1):
        run.append("metrics", {"epoch": epoch, "train_loss": 1.0, "train_error_percent": 30.0, "seconds": 2.0})
    if finished:
        run.finish({"test_error_percent": error, "test_images": 1234, "hold_out": 0, "seconds": 6.0, **COSTS, **result})
    return run


def table_runs(folder) -> Path:
    """A Table 9 with few finished jobs and no table yet: in darts a search and two random cells, one search begun."""
    search_run(folder / "darts/search/seed0")
    search_run(folder / "darts/search/seed1", finished=False)
    for seed, error in enumerate((25.0, 27.0)):
        training_run(folder / f"darts/random/seed{seed}", error=error, genotype=random_genotype(SPACE, seed))
    return Path(folder)


class Page(HTMLParser):
    """What stands in a page: (tag, attributes) of every element, its text, and the JSON that its script reads."""

    def __init__(self, text: str):
        super().__init__()
        self.source, self.elements, self.text, self.data = text, [], "", []
        self.inside = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = [tag, dict(attrs)]

    def handle_data(self, data):
        if self.inside and self.inside[0] == "script" and self.inside[1].get("type") == "application/json":
            self.data.append(json.loads(data))
        elif not self.inside or self.inside[0] not in ("script", "style"):
            self.text += data

    def handle_endtag(self, tag):
        self.inside = []

    def all(self, tag: str, **attributes) -> list[dict]:
        """The attributes of the elements with that tag, and with these values of attributes."""
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]

    def ids(self) -> list[str]:
        return [found["id"] for _, found in self.elements if "id" in found]
