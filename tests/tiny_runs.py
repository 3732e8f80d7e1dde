"""Searches and trainings of a second or less: random images, one operator that learns, and stops at any step."""

import json

import torch

from nas.config import SearchConfig, TrainConfig, config_to_yaml
from nas.data.image_data import ImageData
from nas.run.begin import create_run
from nas.run.folder import RunDir
from nas.run.stop import TIME_IS_UP, Stopped
from search_spaces.space import SearchSpace

SPACE = SearchSpace("tiny", ("none", "skip_connect", "dil_conv_3x3"), nodes=2)
SEARCH = SearchConfig(data="tiny", channels=2, layers=3, epochs=2, batch_size=8, threads=1, device="cpu", report=False)
TRAIN = TrainConfig(data="tiny", channels=2, layers=3, epochs=2, batch_size=8, threads=1, device="cpu", report=False)


def image_data(train: int = 28, test: int = 10, size: int = 8) -> ImageData:
    """Noise in three classes. 28 training images make 2 steps a search epoch (the last of 6), 4 a training epoch."""
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.randint(256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
        return pixels, torch.arange(count) % 3

    statistics = (0.5, 0.5, 0.5), (0.3, 0.3, 0.3)
    return ImageData("tiny", *images(train), *images(test), ("a", "b", "c"), *statistics, False, f"{train}+{test}")


class StopAfter:
    """In the place of a StopRequest: stops the run after so many steps."""

    def __init__(self, steps: int):
        self.left = steps

    def check(self, save):
        self.left -= 1
        if self.left == 0:
            save()
            raise Stopped(TIME_IS_UP)


def begin(folder, config, **subject) -> RunDir:
    """A new run folder; `subject` is a search's space or a training's genotype."""
    run = RunDir(folder)
    create_run(run, config_to_yaml(config), "fingerprint", **subject)
    return run


def learned(run: RunDir) -> dict[str, torch.Tensor]:
    """Every tensor of the run's checkpoint by its path: weights, alphas, BatchNorm statistics, optimizers."""
    found = {}

    def collect(value, path):
        if isinstance(value, torch.Tensor):
            found[path] = value
        elif isinstance(value, dict):
            for key, part in value.items():
                collect(part, f"{path}/{key}")

    collect(run.load_checkpoint(), "")
    return found


def differing(a: RunDir, b: RunDir) -> list[str]:
    """The tensors of two checkpoints that are not equal bit for bit."""
    first, second = learned(a), learned(b)
    assert first.keys() == second.keys()
    return [path for path in first if not torch.equal(first[path], second[path])]


def metrics(run: RunDir) -> list[dict]:
    """metrics.jsonl without the seconds."""
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]
