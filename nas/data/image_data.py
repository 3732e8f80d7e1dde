"""A training and a test set in memory, as uint8 tensors: a handful of tensors that fit on the device."""

import hashlib
from dataclasses import dataclass, replace

import torch

from search_spaces.errors import InputError


@dataclass(frozen=True)
class DataSummary:
    """What a run's cost depends on."""

    train_images: int
    test_images: int
    classes: int
    image_size: int


@dataclass(frozen=True, eq=False)
class ImageData:
    """A training and a test set of square images of one size, and what is needed to feed them to a network."""

    name: str  # what results call it: "cifar10", "digits" or the folder's name
    train_images: torch.Tensor  # uint8 (N,3,S,S)
    train_labels: torch.Tensor  # int64 (N,)
    test_images: torch.Tensor
    test_labels: torch.Tensor
    classes: tuple[str, ...]
    mean: tuple[float, float, float]  # of the channels, for pixels in 0..1
    std: tuple[float, float, float]
    flip: bool  # may images be mirrored in training?
    fingerprint: str  # SHA-256 over the four tensors and the class names

    @property
    def image_size(self) -> int:
        return self.train_images.shape[-1]

    def to(self, device: torch.device | str) -> "ImageData":
        tensors = ("train_images", "train_labels", "test_images", "test_labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})

    def first(self, train_images: int | None, test_images: int | None) -> "ImageData":
        """The first so many images of each set (None: all), with mean and std as they were.

        Raises InputError if there are fewer.
        """
        if train_images is None and test_images is None:
            return self
        for asked, images, kind in (
            (train_images, self.train_images, "training"),
            (test_images, self.test_images, "test"),
        ):
            if asked is not None and not 1 <= asked <= len(images):
                raise InputError(f"{asked} {kind} images were asked for; {self.name} has {len(images)}, give 1 to that")
        train = self.train_images[:train_images], self.train_labels[:train_images]
        test = self.test_images[:test_images], self.test_labels[:test_images]
        return self._with(train, test)

    def hold_out(self, count: int) -> "ImageData":
        """The last `count` training images in the place of the test images, which are not there; none are trained on.

        0 leaves all as it is. Raises InputError if no training image would be left.
        """
        if count == 0:
            return self
        if not 0 < count < len(self.train_images):
            most = len(self.train_images) - 1
            raise InputError(f"hold_out is {count}; {self.name} has {most + 1} training images, give 0 to {most}")
        train = self.train_images[:-count], self.train_labels[:-count]
        held = self.train_images[-count:], self.train_labels[-count:]
        return self._with(train, held)

    def _with(self, train: tuple[torch.Tensor, torch.Tensor], test: tuple[torch.Tensor, torch.Tensor]) -> "ImageData":
        """These (images, labels) in the place of its own."""
        return replace(
            self,
            train_images=train[0],
            train_labels=train[1],
            test_images=test[0],
            test_labels=test[1],
            fingerprint=_fingerprint(self.classes, *train, *test),
        )

    def search_halves(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(images, labels) for the weights, then for the alphas: the first and second half of the training set.

        Raises InputError if there are fewer than 2 training images.
        """
        half = len(self.train_images) // 2
        if half == 0:
            raise InputError(f"a search needs at least 2 training images; {self.name} has {len(self.train_images)}")
        return (
            self.train_images[:half],
            self.train_labels[:half],
            self.train_images[half:],
            self.train_labels[half:],
        )


def _fingerprint(classes: tuple[str, ...], *tensors: torch.Tensor) -> str:
    digest = hashlib.sha256("\0".join(classes).encode("utf-8", "surrogateescape"))
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.cpu().contiguous().numpy())  # type: ignore[arg-type]
    return digest.hexdigest()
