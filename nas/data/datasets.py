"""Images in memory: CIFAR-10, scikit-learn's digits, or a folder of images, as uint8 tensors.

A data set is a handful of tensors that fit on the device; there is no loader (after KellerJordan/cifar10-airbench).
What happens to a batch of them is in nas/data/augment.py.
"""

import os
import pickle
import tarfile
import zlib
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from nas.data.image_data import DataSummary, ImageData, _fingerprint
from nas.data.image_folder import LAYOUT, measure_folder, read_folder, stratified_order
from nas.data.images import resized
from search_spaces.errors import InputError, suggest

NAMES = ("cifar10", "digits")

# DARTS, utils.py; of the 50,000 training images, for pixels in 0..1.
CIFAR10_MEAN = (0.49139968, 0.48215827, 0.44653124)
CIFAR10_STD = (0.24703233, 0.24348505, 0.26158768)


def load_data(source: str, image_size: int | None, *, root: Path | None = None) -> ImageData:
    """The images of `source`, on the CPU: "cifar10", "digits" or the path of a folder (see image_folder.read_folder).

    `image_size` None keeps the size they have: 32, 8, or the folder's if all its images are squares of one size; other
    sizes are antialiased. CIFAR-10 is found in, or downloaded to, `root` (default: "data" in cache_dir()), and keeps
    its official order; the other two are in a fixed stratified order, so that every prefix has all classes.

    Raises InputError if the data cannot be had or are not what they should be.
    """
    if image_size is not None and image_size < 1:
        raise InputError(f"the image size is {image_size}; it must be at least 1 pixel")
    if source == "cifar10":
        return _load_cifar10(image_size, Path(root) if root else cache_dir() / "data")
    if source == "digits":
        return _load_digits(image_size)
    return _load_folder(Path(source), image_size)


def summarize_data(source: str, image_size: int | None) -> DataSummary:
    """The sizes of what `load_data` would load, without downloading, decoding or writing anything."""
    if source == "cifar10":
        return DataSummary(50_000, 10_000, 10, image_size or 32)
    if source == "digits":
        data = _load_digits(image_size)
        return DataSummary(len(data.train_images), len(data.test_images), len(data.classes), data.image_size)
    _check_is_folder(source)
    return DataSummary(*measure_folder(Path(source), image_size))


def cache_dir() -> Path:
    """Where downloads and decoded images are kept: darts-blocks in $XDG_CACHE_HOME, or else in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "darts-blocks"


def _load_cifar10(image_size: int | None, root: Path) -> ImageData:
    from torchvision.datasets import CIFAR10  # here, as importing it takes a second

    try:
        train, test = (CIFAR10(str(root), train=is_train, download=True) for is_train in (True, False))
    except (
        OSError,  # no network, no space, no permission
        HTTPException,  # the connection broke
        RuntimeError,  # torchvision: the archive is not the one it knows
        EOFError,
        ValueError,
        tarfile.TarError,
        zlib.error,
        pickle.UnpicklingError,
    ) as error:
        reason = str(getattr(error, "reason", error))[:200] or type(error).__name__
        raise InputError(
            f'CIFAR-10 could not be read from "{root}" or downloaded to it ({reason}); '
            "give a folder of images with --data FOLDER (train/<class>/*, test/<class>/*), or type --preset quick"
        ) from error
    return _image_data(
        "cifar10",
        _to_size(train.data, image_size),
        np.asarray(train.targets),
        _to_size(test.data, image_size),
        np.asarray(test.targets),
        tuple(train.classes),
        flip=True,
        statistics=(CIFAR10_MEAN, CIFAR10_STD),
    )


def _load_digits(image_size: int | None) -> ImageData:
    """1,797 handwritten digits, 8x8; four fifths train. Never mirrored: a mirrored digit is another thing."""
    from sklearn.datasets import load_digits  # here, as importing it takes a second

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # 0..16 in the file
    images = _to_size(np.repeat(grey[..., None], 3, axis=3), image_size)
    order = stratified_order(digits.target)
    train, test = np.split(order, [len(order) * 4 // 5])
    classes = tuple(str(name) for name in digits.target_names)
    return _image_data(
        "digits", images[train], digits.target[train], images[test], digits.target[test], classes, flip=False
    )


def _check_is_folder(folder: str | Path) -> None:
    if not os.path.isdir(folder):
        raise InputError(
            f'--data "{folder}" is not a folder{suggest(str(folder), NAMES)} '
            f"known: {', '.join(NAMES)}, or the path of a folder, in which {LAYOUT}"
        )


def _load_folder(folder: Path, image_size: int | None) -> ImageData:
    _check_is_folder(folder)
    classes, train, train_labels, test, test_labels = read_folder(folder, image_size, cache_dir() / "folders")
    name = os.path.basename(os.path.abspath(folder))
    # A folder of the same name is not the data set that papers and this program call so.
    name = f"{name} (folder)" if name in NAMES else name
    return _image_data(name, train, train_labels, test, test_labels, classes, flip=True)


def _to_size(images: np.ndarray, image_size: int | None) -> np.ndarray:
    """uint8 (N,H,W,3) -> uint8 (N,3,S,S)."""
    if image_size is not None and image_size != images.shape[1]:
        images = np.stack([np.asarray(resized(Image.fromarray(image), image_size)) for image in images])
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _image_data(
    name: str,
    train_images: np.ndarray,
    train_labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    classes: tuple[str, ...],
    *,
    flip: bool,
    statistics: tuple[tuple, tuple] | None = None,
) -> ImageData:
    train = torch.from_numpy(train_images), torch.from_numpy(train_labels.astype(np.int64))
    test = torch.from_numpy(test_images), torch.from_numpy(test_labels.astype(np.int64))
    mean, std = statistics or _mean_and_std(train[0])
    return ImageData(name, *train, *test, classes, mean, std, flip, _fingerprint(classes, *train, *test))


def _mean_and_std(images: torch.Tensor) -> tuple[tuple, tuple]:
    """Of each channel, for pixels in 0..1; std at least 1e-3, so that one colour throughout does not divide by zero."""
    total, squares = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for chunk in images.split(1024):
        pixels = chunk.double()  # sums of whole numbers: exact, whatever the order and the number of threads
        total += pixels.sum(dim=(0, 2, 3))
        squares += pixels.square().sum(dim=(0, 2, 3))
    count = images.numel() // 3
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    return tuple((mean / 255).tolist()), tuple((std / 255).clamp_min(1e-3).tolist())
