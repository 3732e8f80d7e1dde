"""Batches of augmented images, each a function of (epoch, step), so that a run can go on from any step."""

from dataclasses import dataclass

import torch

from nas.augment import augment, batches, epoch_order, random_batch_indices, scaled, step_generator
from nas.config import SearchConfig, TrainConfig
from nas.data import ImageData

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

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return batches(len(self.images), self.config.batch_size)

    def shuffled(self, epoch: int, step: int) -> Batch:
        """Batch `step` of an epoch that visits every image once."""
        order = epoch_order(len(self.images), self.config.seed, self.stream, epoch, self.images.device)
        return self._batch(order[step * self.config.batch_size :][: self.config.batch_size], epoch, step)

    def drawn(self, epoch: int, step: int) -> Batch:
        """A batch of different images drawn from the whole set, whatever the steps before drew."""
        size, seed, device = self.config.batch_size, self.config.seed, self.images.device
        return self._batch(
            random_batch_indices(len(self.images), size, seed, self.stream, epoch, step, device), epoch, step
        )

    def _batch(self, indices: torch.Tensor, epoch: int, step: int) -> Batch:
        data, config = self.data, self.config
        images = augment(
            self.images[indices],
            data.mean,
            data.std,
            flip=data.flip if config.flip is None else config.flip,
            padding=scaled(config.crop_padding, data.image_size),
            cutout=scaled(self.cutout, data.image_size),
            generator=step_generator(config.seed, self.stream, epoch, step, indices.device),
        )
        return images, self.labels[indices]
