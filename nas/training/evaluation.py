"""A trained network put to use: on a whole test set, and on single images.

Its weights.pt (nas/training/weights_file.py) says how an image is prepared for it, which is as in its training.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nas.data.augment import EVALUATION_BATCH, Floats, normalize
from nas.data.image_data import ImageData
from nas.machine.device import memory_format
from nas.training.weights_file import SavedNetwork, load_trained, weights_file
from search_spaces.errors import InputError


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network in evaluation mode, its classes, and the size, mean and spread of the images it was trained on."""

    network: nn.Module
    classes: tuple[str, ...]
    image_size: int
    mean: Floats
    std: Floats

    def to(self, device: torch.device | str) -> "TrainedNetwork":
        """The same, there."""
        self.network.to(device).to(memory_format=memory_format(torch.device(device)))
        return self

    @torch.no_grad()
    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 3, S, S) with S = `image_size` -> (N, classes); each row sums to 1."""
        if images.shape[-2:] != (self.image_size, self.image_size):
            height, width = images.shape[-2:]
            raise InputError(
                f"the images are {width} x {height} pixels; the network was trained on {self.image_size} x"
                f" {self.image_size}, bring them to that size"
            )
        device = next(self.network.parameters()).device
        parts = [normalize(part.to(device), self.mean, self.std) for part in images.split(EVALUATION_BATCH)]
        return torch.cat([self.network(part)[0].softmax(dim=1) for part in parts])


@dataclass(frozen=True)
class Evaluation:
    """What a network makes of a test set: `confusion[true][predicted]` images, in the order of `classes`."""

    data: str
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def images(self) -> int:
        return sum(map(sum, self.confusion))

    @property
    def test_error_percent(self) -> float:
        """Percent of all images that are taken for another class."""
        right = sum(row[index] for index, row in enumerate(self.confusion))
        return 100 * (self.images - right) / self.images

    @property
    def class_error_percent(self) -> dict[str, float | None]:
        """The same for the images of each class; None for a class of which there are none."""
        rows = zip(self.classes, enumerate(self.confusion), strict=True)
        return {name: 100 * (sum(row) - row[index]) / sum(row) if sum(row) else None for name, (index, row) in rows}


def load_trained_network(path: str | Path) -> TrainedNetwork:
    """The network in a weights.pt, or in a training's run folder, on the CPU.

    No code in the file is run; an operator of a plug-in must be registered. Raises InputError if the file is not what
    `run_training` saves, or names an operator that is not known.
    """
    file = weights_file(Path(path))
    try:
        return trained_network(load_trained(file))
    except InputError as error:
        raise InputError(str(error) if str(file) in str(error) else f"{file}: {error}") from None


def trained_network(saved: SavedNetwork) -> TrainedNetwork:
    """The network that was saved, on the CPU. Raises InputError if an operator of it is not registered."""
    network = saved.build(compiled=True)
    return TrainedNetwork(network, saved.classes, saved.image_size, saved.mean, saved.std).to("cpu")


def evaluate(trained: TrainedNetwork, data: ImageData) -> Evaluation:
    """The confusion of the network's classes on the test images.

    Raises InputError if the data have other classes or another size than the network was trained on.
    """
    if data.classes != trained.classes:
        others = [name for name in data.classes if name not in trained.classes][:3]
        which = f"such as {', '.join(others)}" if others else "in another order, or fewer"
        raise InputError(
            f"{data.name} has {len(data.classes)} classes, {which}, and the network was trained on"
            f" {len(trained.classes)}: {', '.join(trained.classes[:10])}; give data with those"
        )
    predicted = trained.probabilities(data.test_images).argmax(dim=1).cpu()
    count = len(trained.classes)
    pairs = torch.bincount(data.test_labels.cpu() * count + predicted, minlength=count**2).view(count, count)
    return Evaluation(data.name, trained.classes, tuple(map(tuple, pairs.tolist())))


def classify(trained: TrainedNetwork, image: torch.Tensor, most: int = 3) -> list[tuple[str, float]]:
    """(class, probability) of one image, uint8 (3, S, S), the likeliest first; at most so many."""
    probabilities = trained.probabilities(image[None])[0]
    best = probabilities.topk(min(most, len(trained.classes)))
    return [(trained.classes[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
