"""Image files as pixels: what is read, what is refused, and how an image is brought to a size."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from search_spaces.errors import InputError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # all others stay shut; EPS would start Ghostscript
MAX_PIXELS = 64_000_000


def read_image(path: Path, image_size: int | None) -> np.ndarray:
    """One image file as uint8 (3,H,W), prepared as `read_folder` does. Raises InputError, naming the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _decode(path, _read(path), image_size)


def resized(image: Image.Image, size: int) -> Image.Image:
    """The image stretched to size x size; bilinear over all pixels that are merged (antialiased)."""
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def _read(path: Path) -> bytes:
    if not os.path.isfile(path):
        raise InputError(f'"{path}" cannot be read: it is not a file, or a link to none')  # a pipe would wait for ever
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f'"{path}" cannot be read: {error.strerror}') from error


def _decode(path: Path, content: bytes, image_size: int | None) -> np.ndarray:
    """One image as uint8 (3,H,W)."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as file:
            width, height = file.size
            if width * height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image = _rgb(file)
        return np.asarray(image if image_size is None else resized(image, image_size)).transpose(2, 0, 1)
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise InputError(f'"{path}" is not an image; remove it, or convert it to one of {known}') from error
    except Image.DecompressionBombError as error:
        limit = MAX_PIXELS // 1_000_000
        raise InputError(f'"{path}" has more than {limit} million pixels; shrink or remove it') from error
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise InputError(f'"{path}" cannot be decoded ({error}); replace or remove it') from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip 16-bit grey at 255: nearly all white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("it has 32 bits a pixel, of unknown range; save it with 8 bits a channel")
    return image.convert("RGB")
