"""Batches of augmented images, each a function of (epoch, step), so that a run can go on from any step."""

from dataclasses import dataclass

import torch

from nas.config import SearchConfig, TrainConfig
from nas.data.augment import augment, batches, scaled
from nas.data.image_data import ImageData
from nas.data.randomness import Draw
from nas.machine import processes
from search_spaces.errors import InputError

Batch = tuple[torch.Tensor, torch.Tensor]  # images float32 (N, 3, H, W), labels int64 (N,)


@dataclass(frozen=True)
class Batches:
    """One set of images and how its batches are made; `stream` names its own random numbers."""

    images: torch.Tensor
    labels: torch.Tensor
    data: ImageData
    config: SearchConfig | TrainConfig
    stream: str
    cutout: int = 0  # pixels of a 32x32 image

    def __post_init__(self) -> None:
        """Raises InputError if a batch has fewer images than there are processes."""
        size, left_over = min(self.config.batch_size, len(self.images)), len(self.images) % self.config.batch_size
        smallest = left_over if left_over > 1 else size
        if smallest < processes.size():
            raise InputError(
                f"a batch of an epoch has {smallest} images (batch_size {self.config.batch_size}, {len(self.images)}"
                f" images), fewer than the {processes.size()} processes; give another --batch-size or --train-images"
            )

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return batches(len(self.images), self.config.batch_size)

    def shuffled(self, epoch: int, step: int) -> Batch:
        """Batch `step` of an epoch that visits every image once."""
        order = Draw(self.config.seed, self.stream, epoch).order(len(self.images), self.images.device)
        return self._batch(order[step * self.config.batch_size :][: self.config.batch_size], epoch, step)

    def drawn(self, epoch: int, step: int) -> Batch:
        """A batch of different images drawn from the whole set, whatever the steps before drew."""
        draw = Draw(self.config.seed, self.stream, epoch, step)
        return self._batch(draw.sample(len(self.images), self.config.batch_size, self.images.device), epoch, step)

    def _batch(self, indices: torch.Tensor, epoch: int, step: int) -> Batch:
        data, config = self.data, self.config
        images = augment(
            self.images[indices],
            data.mean,
            data.std,
            flip=data.flip if config.flip is None else config.flip,
            padding=scaled(config.crop_padding, data.image_size),
            cutout=scaled(self.cutout, data.image_size),
            generator=Draw(config.seed, self.stream, epoch, step).generator(indices.device),
        )
        return images, self.labels[indices]
