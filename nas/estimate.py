"""How long a run will take and how much memory it will need, measured on two small batches before it starts."""

import time
from dataclasses import dataclass

import torch

from nas.batches import Batch
from nas.config import SearchConfig, TrainConfig
from nas.data import DataSummary
from nas.device import resolve_device
from nas.loop import RunState
from nas.search import SearchState, bilevel_step
from nas.train import TrainState, training_step
from search_spaces.space import SearchSpace

SMALL, LARGE = 2, 8  # images in the two batches: time and memory are taken as linear in the batch size
FIRST_TO_SECOND_ORDER = 2.4  # a second-order step has five passes, two without weight gradients; a first-order one two
BASE_BYTES = 450e6  # Python, PyTorch and its libraries, as seen on Linux
TEMPORARY = 1.15  # a backward pass holds some tensors beyond those that the forward pass saved


@dataclass(frozen=True)
class Estimate:
    """Seconds, peak memory in bytes, and bytes on disk of a whole run."""

    seconds: float
    memory_bytes: float
    disk_bytes: float


def estimate_search(config: SearchConfig, space: SearchSpace, data: DataSummary) -> Estimate:
    """What `run_search` with these arguments will take on this machine."""
    first_order = config.model_copy(update={"order": 1})
    state = SearchState(config, space, data.classes, resolve_device(config.device))

    def step(batch: Batch):
        bilevel_step(state, batch, batch, first_order, config.learning_rate)

    images = config.train_images or data.train_images
    steps = config.epochs * max(1, images // 2 / config.batch_size)
    factor = FIRST_TO_SECOND_ORDER if config.order == 2 else 1.0
    return _estimate(state, step, data, config.batch_size, steps * factor)


def estimate_training(config: TrainConfig, genotype, data: DataSummary) -> Estimate:
    """What `run_training` with these arguments will take on this machine."""
    state = TrainState(config, genotype, data.classes, resolve_device(config.device))

    def step(batch: Batch):
        training_step(state, batch, config, config.learning_rate, config.drop_path)

    images = config.train_images or data.train_images
    return _estimate(state, step, data, config.batch_size, config.epochs * max(1, images / config.batch_size))


def _estimate(state: RunState, step, data: DataSummary, batch_size: int, steps: float) -> Estimate:
    device = state.sums.device
    saved, seconds = {}, {}
    for size in (SMALL, LARGE):
        images = torch.randn(size, 3, data.image_size, data.image_size, device=device)
        batch = images.contiguous(memory_format=torch.channels_last), torch.arange(size, device=device) % data.classes
        saved[size] = _largest_saved(step, batch)  # warms up, too
        start = time.perf_counter()
        step(batch)
        state.sums.sum().item()  # waits for the device
        seconds[size] = time.perf_counter() - start
    per_image = max(0.0, (seconds[LARGE] - seconds[SMALL]) / (LARGE - SMALL))
    step_seconds = seconds[SMALL] + per_image * (batch_size - SMALL)

    learned = [part for part in state.parts.values() if isinstance(part, torch.nn.Module)]
    weights = sum(p.numel() * p.element_size() for module in learned for p in module.parameters())
    pixels = data.image_size**2 * 3 * (data.train_images + data.test_images)
    activations = TEMPORARY * (saved[LARGE] - saved[SMALL]) / (LARGE - SMALL) * batch_size
    return Estimate(steps * step_seconds, BASE_BYTES + 5 * weights + pixels + activations, 4 * weights + 1e6)


def _largest_saved(step, batch: Batch) -> int:
    """Runs a step; returns the most bytes that one of its forward passes had saved for its backward pass."""
    alive: dict[int, int] = {}
    largest = 0

    def pack(tensor):
        storage = tensor.untyped_storage()
        alive[storage.data_ptr()] = storage.nbytes()
        return tensor

    def unpack(tensor):
        nonlocal largest
        if alive:
            largest = max(largest, sum(alive.values()))
            alive.clear()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        step(batch)
    return largest
