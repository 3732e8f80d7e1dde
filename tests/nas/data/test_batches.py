"""Batches as functions of (epoch, step): every image once an epoch, validation batches drawn anew, nothing dropped."""

import pytest
import torch

from nas.config import SearchConfig, TrainConfig
from nas.data.batches import Batches
from tiny_runs import image_data


def plain(count: int, config) -> Batches:
    """`count` images of which pixel (0, 0) tells which one it is; no crop, so that batches show it."""
    data = image_data(train=2, size=2)
    images = torch.zeros(count, 3, 2, 2, dtype=torch.uint8)
    numbers = torch.arange(count)
    images[:, 0, 0, 0], images[:, 1, 0, 0] = numbers % 256, numbers // 256
    return Batches(images, numbers, data, config.model_copy(update={"crop_padding": 0}), "stream")


@pytest.mark.parametrize(
    ("count", "config", "steps", "last"),
    [(25_000, SearchConfig(), 391, 40), (50_000, TrainConfig(), 521, 80)],
    ids=["search", "train"],
)
def test_partial_batches_are_kept(count, config, steps, last):
    batches = plain(count, config)
    assert batches.steps == steps  # facts of the reference code: 391 and 521
    assert len(batches.shuffled(0, steps - 2)[0]) == config.batch_size
    assert len(batches.shuffled(0, steps - 1)[0]) == last


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own():
    batches = plain(100, SearchConfig(batch_size=16))
    orders = [torch.cat([batches.shuffled(epoch, step)[1] for step in range(batches.steps)]) for epoch in (0, 1)]
    assert all(torch.equal(order.sort().values, torch.arange(100)) for order in orders)
    assert not torch.equal(*orders)


def test_a_batch_keeps_each_image_with_its_label():
    batches = plain(600, SearchConfig(batch_size=200))
    for images, labels in (batches.shuffled(2, 1), batches.drawn(2, 1)):
        pixels = (images * 0.3 + 0.5) * 255  # the mean and std of `image_data`
        assert torch.equal((pixels[:, 0, 0, 0] + 256 * pixels[:, 1, 0, 0]).round().long(), labels)
        assert images.dtype == torch.float32 and images.shape == (200, 3, 2, 2)


def test_validation_batches_are_drawn_anew_at_each_step():
    batches = plain(100, SearchConfig(batch_size=16))
    drawn = [batches.drawn(0, step)[1] for step in range(batches.steps)]
    assert all(len(labels) == len(labels.unique()) == 16 for labels in drawn)
    assert len(torch.cat(drawn).unique()) < 100  # with replacement across steps: some images come twice, some not
    assert not torch.equal(drawn[0], batches.drawn(1, 0)[1])


def test_a_validation_half_smaller_than_a_batch_is_drawn_whole():
    assert len(plain(10, SearchConfig(batch_size=16)).drawn(0, 0)[1]) == 10


def test_a_batch_depends_on_seed_epoch_and_step_alone():
    batches, again = (plain(100, SearchConfig(batch_size=16)) for _ in range(2))
    again.shuffled(0, 0), torch.rand(5)  # whatever was drawn before
    for kind in ("shuffled", "drawn"):
        first, second = (getattr(made, kind)(3, 2) for made in (batches, again))
        assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    other = plain(100, SearchConfig(batch_size=16, seed=1))
    assert not torch.equal(other.shuffled(3, 2)[1], batches.shuffled(3, 2)[1])
    assert not torch.equal(other.drawn(3, 2)[1], batches.drawn(3, 2)[1])


def test_the_two_halves_of_a_search_draw_different_numbers():
    data = image_data(train=100)
    weights, alphas = (
        Batches(data.train_images, data.train_labels, data, SearchConfig(batch_size=16), stream)
        for stream in ("weights", "alphas")
    )
    assert not torch.equal(weights.shuffled(0, 0)[0], alphas.shuffled(0, 0)[0])


@pytest.mark.parametrize(("flip", "expected"), [(None, True), (True, True), (False, False)])
def test_images_are_mirrored_if_the_data_say_so_or_the_setting_does(flip, expected, monkeypatch):
    seen = {}

    def record(images, mean, std, **kwargs):
        seen.update(kwargs)
        return images

    monkeypatch.setattr("nas.data.batches.augment", record)
    data = image_data()
    object.__setattr__(data, "flip", True)
    Batches(data.train_images, data.train_labels, data, SearchConfig(flip=flip), "weights", cutout=16).shuffled(0, 0)
    assert seen["flip"] is expected
    assert (seen["padding"], seen["cutout"]) == (1, 4)  # 4 and 16 pixels of 32, at 8 pixels
