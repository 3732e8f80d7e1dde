"""A folder of images, `train/<class>/*` and `test/<class>/*`, decoded once.

Decoded images are kept in a cache file named by the SHA-256 of what they come from (size asked for, names, and every
file's bytes), so a changed image is never served from it, and a broken or missing cache costs time only.
"""

import hashlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from nas.data.images import _decode, _read
from search_spaces.errors import InputError

DECODER_VERSION = 1  # part of the cache key: raise it when decoding, resizing or the stored order changes
HELD_BYTES = 512 * 2**20  # files held in memory between hashing and decoding; what is beyond is read twice
SMALL_FILE_BYTES = 16 * 2**10  # decoding smaller files is mostly Python, which threads make 20 % slower
LAYOUT = "images are expected as train/<class>/* and test/<class>/*"

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")


def read_folder(
    folder: Path, image_size: int | None, cache: Path
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(classes, train images, train labels, test images, test labels); images uint8 (N,3,S,S), in a stratified order.

    Classes are sorted by name. Names that start with a dot are ignored, so are files beside the class folders; a folder
    inside a class folder is an error. Images are stretched to a square of `image_size`, or keep the size they have if
    it is None and all have one square size. Grey becomes three equal channels; transparency and EXIF are not applied.

    Raises InputError, naming the file or folder.
    """
    train, test = _list_classes(folder, "train"), _list_classes(folder, "test")
    if train.keys() != test.keys():
        raise InputError(
            f'train and test in "{folder}" must have the same classes; only in train: '
            f"{_names(train.keys() - test.keys())}; only in test: {_names(test.keys() - train.keys())}"
        )
    train_paths, train_labels = _stratified(train)
    test_paths, test_labels = _stratified(test)
    paths = train_paths + test_paths

    key, contents, total_bytes = _hash_files(folder, paths, image_size)
    cache_file = cache / f"{key}.npz"
    images = _load_cached(cache_file, len(paths))
    if images is None:
        images = _decode_files(paths, contents, image_size, threads=total_bytes > len(paths) * SMALL_FILE_BYTES)
        _store_cached(cache_file, images)
    return tuple(train), images[: len(train_paths)], train_labels, images[len(train_paths) :], test_labels


def measure_folder(folder: Path, image_size: int | None) -> tuple[int, int, int, int]:
    """(training images, test images, classes, pixels a side), the last from one image if no size is asked for."""
    train, test = _list_classes(folder, "train"), _list_classes(folder, "test")
    if image_size is None:
        first = next(iter(train.values()))[0]
        image_size = _decode(first, _read(first), None).shape[-1]
    train_images, test_images = (sum(map(len, classes.values())) for classes in (train, test))
    return train_images, test_images, len(train), image_size


def stratified_order(labels: np.ndarray) -> np.ndarray:
    """A fixed order of the images in which every prefix, and so each half, has nearly the proportions of the classes.

    Each class is shuffled, always in the same way, and its k-th image of n stands at (k + 1/2) / n of the whole.
    """
    shuffle = np.random.RandomState(0)  # the numpy generator whose numbers are promised never to change
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        position[shuffle.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(position, kind="stable")


def _list_classes(folder: Path, split: str) -> dict[str, list[Path]]:
    """Class name -> its files, both sorted by name."""
    names = [name for name, is_folder in _list_folder(folder) if is_folder]
    if split not in names:
        raise InputError(f'"{folder}" has no folder "{split}"; {LAYOUT}')
    classes = {}
    for name in (name for name, is_folder in _list_folder(folder / split) if is_folder):
        entries = _list_folder(folder / split / name)
        for entry, is_folder in entries:
            if is_folder:
                raise InputError(f'"{folder / split / name / entry}" is a folder inside a class folder; {LAYOUT}')
        if not entries:
            raise InputError(f'"{folder / split / name}" has no images; add some or remove the folder')
        classes[name] = [folder / split / name / entry for entry, _ in entries]
    if not classes:
        raise InputError(f'"{folder / split}" has no class folders; {LAYOUT}')
    if len(classes) == 1:
        raise InputError(f'"{folder / split}" has one class, "{next(iter(classes))}"; at least two are needed')
    return classes


def _list_folder(folder: Path) -> list[tuple[str, bool]]:
    """(name, is it a folder) of everything that is not hidden, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f'"{folder}" cannot be read: {error.strerror}') from error


def _names(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "none"


def _stratified(classes: dict[str, list[Path]]) -> tuple[list[Path], np.ndarray]:
    paths = [path for members in classes.values() for path in members]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(members) for members in classes.values()])
    order = stratified_order(labels)
    return [paths[i] for i in order], labels[order]


def _hash_files(folder: Path, paths: list[Path], image_size: int | None) -> tuple[str, list[bytes | None], int]:
    """(cache key, the files' bytes as far as HELD_BYTES reach, the bytes of all files together)."""
    key = hashlib.sha256(f"{DECODER_VERSION} {image_size} {len(paths)}".encode())
    contents, total_bytes = [], 0
    for path, (digest, content) in zip(paths, _map(_read_and_hash, paths), strict=True):
        total_bytes += len(content)
        contents.append(content if total_bytes <= HELD_BYTES else None)
        key.update(os.fsencode(path.relative_to(folder).as_posix()) + b"\0" + digest)
    return key.hexdigest(), contents, total_bytes


def _read_and_hash(path: Path) -> tuple[bytes, bytes]:
    content = _read(path)
    return hashlib.sha256(content).digest(), content


def _decode_files(paths: list[Path], contents: list[bytes | None], image_size: int | None, threads: bool) -> np.ndarray:
    """uint8 (N,3,S,S), in the order of `paths`."""

    def decode(i: int) -> np.ndarray:
        content = contents[i]
        return _decode(paths[i], _read(paths[i]) if content is None else content, image_size)

    def place(i: int) -> None:
        image = decode(i)
        if image.shape != images.shape[1:]:
            _, height, width = image.shape
            raise InputError(f'"{paths[i]}" is {width} x {height} pixels, "{paths[0]}" {S} x {S}; {advice}')
        images[i] = image

    advice = "give --image-size to bring all images to one square size"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on sizes, where MAX_PIXELS is stricter, and on EXIF, which is not used
        _, height, S = decode(0).shape
        if height != S:
            raise InputError(f'"{paths[0]}" is {S} x {height} pixels; {advice}')
        images = np.empty((len(paths), 3, S, S), np.uint8)
        for _ in _map(place, range(len(paths)), threads):
            pass
    return images


def _map(function: Callable[[Item], Result], items: Sequence[Item], threads: bool = True) -> Iterator[Result]:
    """function(item) for each item, in order; in threads, some items at a time."""
    if not threads:
        yield from map(function, items)
        return
    chunks = [items[i : i + 16] for i in range(0, len(items), 16)]
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:  # 8 images of MAX_PIXELS are 1.5 GB
        for results in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
            yield from results


def _load_cached(path: Path, count: int) -> np.ndarray | None:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            images = arrays["images"]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:2] != (count, 3):
            raise ValueError(f"it holds {images.dtype} {images.shape}")
        return images
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever is wrong with it, the images can be decoded again
        log.warning('the cache file "%s" cannot be used (%s); decoding again', path, error)
        return None


def _store_cached(path: Path, images: np.ndarray) -> None:
    """Writes beside, then renames: a process that dies or another that reads never leaves or sees half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.savez(file, images=images)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        log.warning('decoded images cannot be kept in "%s" (%s); the next run decodes again', path.parent, error)
