"""What happens to a batch of images, and the randomness behind it."""

import itertools

import pytest
import torch

from nas.data.augment import augment, normalize, scaled
from nas.data.randomness import Draw

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.1)
WHITE = [(1 - m) / s for m, s in zip(MEAN, STD, strict=True)]
BLACK = [-m / s for m, s in zip(MEAN, STD, strict=True)]


def white(count, height=8, width=8):
    return torch.full((count, 3, height, width), 255, dtype=torch.uint8)


def numbered(count, height=8, width=8):
    """Every pixel has a value of its own, none black."""
    values = torch.arange(1, 1 + height * width, dtype=torch.uint8).view(1, 1, height, width)
    return values.repeat(count, 3, 1, 1)


def run(images, seed=0, flip=False, padding=0, cutout=0, mean=MEAN, std=STD):
    generator = torch.Generator().manual_seed(seed)
    return augment(images, mean, std, flip=flip, padding=padding, cutout=cutout, generator=generator)


def pixels(images, **settings):
    """Augmented, in the units of the original: augment with a mean and std that undo nothing but the division."""
    return run(images, mean=(0.0,) * 3, std=(1 / 255,) * 3, **settings)


def test_normalize_is_the_formula():
    images = torch.randint(0, 256, (4, 3, 5, 7), dtype=torch.uint8)
    expected = (images.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    result = normalize(images, MEAN, STD)
    assert result.dtype == torch.float32 and result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5, check_stride=False)


def test_without_augmentation_images_are_only_normalised():
    images = torch.randint(0, 256, (4, 3, 5, 7), dtype=torch.uint8)
    assert torch.equal(run(images), normalize(images, MEAN, STD))


def test_augmented_images_are_channels_last_and_the_originals_unchanged():
    images = numbered(4, 6, 9)
    before = images.clone()
    result = run(images, flip=True, padding=2, cutout=3)
    assert result.shape == images.shape and result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


def test_crop_padding_is_black_before_normalisation():
    result = run(white(50), padding=2)
    for channel in range(3):
        values = result[:, channel].unique()
        torch.testing.assert_close(values, torch.tensor([BLACK[channel], WHITE[channel]]))
    assert BLACK[0] != 0


def test_every_crop_offset_occurs_and_the_image_is_only_moved():
    padding, images = 2, numbered(400)
    padded = torch.nn.functional.pad(images[0], (padding,) * 4).float()
    crops = {padded[:, y : y + 8, x : x + 8].flatten().numpy().tobytes() for y in range(5) for x in range(5)}
    got = {image.contiguous().numpy().tobytes() for image in pixels(images, padding=padding).contiguous()}
    assert len(crops) == 25 and got == crops


def test_half_of_the_images_are_mirrored_left_to_right():
    images = numbered(400)
    result = pixels(images, flip=True)
    mirrored = (result == images.flip(3)).flatten(1).all(1)
    same = (result == images).flatten(1).all(1)
    assert (mirrored ^ same).all()
    assert 150 < mirrored.sum() < 250


@pytest.mark.parametrize("cutout", [3, 4])
def test_cutout_is_a_square_of_zeros_centred_anywhere_and_clipped(cutout):
    result = run(white(3000), cutout=cutout)
    assert ((result == 0).all(1) == (result == 0).any(1)).all()
    torch.testing.assert_close(result[:, 0].unique(), torch.tensor([0.0, WHITE[0]]))
    holes = result[:, 0] == 0
    rows, columns = holes.any(2), holes.any(1)
    assert torch.equal(holes, rows[:, :, None] & columns[:, None, :])
    squares = {(tuple(r.tolist()), tuple(c.tolist())) for r, c in zip(rows, columns, strict=True)}
    expected = []
    for centre in range(8):
        start = centre - cutout // 2
        expected.append(tuple(start <= i < start + cutout for i in range(8)))
    assert squares == {(r, c) for r in expected for c in expected}
    assert len(squares) == 64


def test_the_same_generator_gives_the_same_batch_and_another_gives_another():
    settings = {"flip": True, "padding": 2, "cutout": 3}
    images = numbered(32)
    assert torch.equal(run(images, seed=1, **settings), run(images, seed=1, **settings))
    assert not torch.equal(run(images, seed=1, **settings), run(images, seed=2, **settings))


def test_augmentation_does_not_touch_the_global_generator():
    state = torch.get_rng_state()
    run(white(4), flip=True, padding=1, cutout=2)
    Draw(0, "weights").order(10, "cpu")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("at_32", "size", "expected"),
    [(4, 32, 4), (16, 32, 16), (4, 16, 2), (16, 16, 8), (4, 8, 1), (16, 8, 4), (4, 4, 1), (0, 8, 0), (4, 224, 28)],
)
def test_lengths_scale_with_the_image(at_32, size, expected):
    assert scaled(at_32, size) == expected


def test_step_generators_differ_between_seeds_streams_epochs_and_steps():
    keys = list(itertools.product((0, 1, 2**40), ("weights", "alphas"), range(4), range(4)))
    draws = {key: tuple(torch.rand(4, generator=Draw(*key).generator("cpu")).tolist()) for key in keys}
    assert len(set(draws.values())) == len(keys)
    again = torch.rand(4, generator=Draw(*keys[5]).generator("cpu"))
    assert tuple(again.tolist()) == draws[keys[5]]


def test_step_generator_seeds_are_the_same_on_every_machine():
    assert Draw(0, "weights").generator("cpu").initial_seed() == 18044132423894491359
