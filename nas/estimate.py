"""How long a run will take and how much memory it will need, measured on two small batches before it starts."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nas.batches import Batch
from nas.config import SearchConfig, Settings, TrainConfig
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
    device = resolve_device(config.device)
    with _random_state_kept(device):
        state = SearchState(config, space, data.classes, device)

        def step(batch: Batch):
            bilevel_step(state, batch, batch, first_order, config.learning_rate)

        images = (config.train_images or data.train_images) // 2
        factor = FIRST_TO_SECOND_ORDER if config.order == 2 else 1.0
        return _estimate(state, step, data, images, config, factor)


def estimate_training(config: TrainConfig, genotype, data: DataSummary) -> Estimate:
    """What `run_training` with these arguments will take on this machine."""
    device = resolve_device(config.device)
    with _random_state_kept(device):
        state = TrainState(config, genotype, data.classes, device)

        def step(batch: Batch):
            training_step(state, batch, config, config.learning_rate, config.drop_path)

        return _estimate(state, step, data, config.train_images or data.train_images, config)


def _random_state_kept(device: torch.device):
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _estimate(
    state: RunState, step: Callable[[Batch], None], data: DataSummary, images: int, config: Settings, factor=1.0
) -> Estimate:
    """Of `config.epochs` passes over `images`; a whole step takes `factor` times as long as `step(batch)`."""
    device = state.sums.device
    saved, seconds = {}, {}
    for size in (SMALL, LARGE):
        x = torch.randn(size, 3, data.image_size, data.image_size, device=device)
        batch = x.contiguous(memory_format=torch.channels_last), torch.arange(size, device=device) % data.classes
        saved[size] = _largest_saved(step, batch)  # warms up, too
        seconds[size] = min(_seconds(step, batch) for _ in range(2))  # the least disturbed
    per_image = max(0.0, (seconds[LARGE] - seconds[SMALL]) / (LARGE - SMALL))
    batch_size = min(config.batch_size, images)
    step_seconds = factor * (seconds[SMALL] + per_image * (batch_size - SMALL))
    steps = config.epochs * images / batch_size

    learned = [part for part in state.parts.values() if isinstance(part, torch.nn.Module)]
    weights = sum(p.numel() * p.element_size() for module in learned for p in module.parameters())
    pixels = data.image_size**2 * 3 * (data.train_images + data.test_images)
    activations = TEMPORARY * (saved[LARGE] - saved[SMALL]) / (LARGE - SMALL) * batch_size
    return Estimate(steps * step_seconds, BASE_BYTES + 5 * weights + pixels + activations, 4 * weights + 1e6)


def _seconds(step: Callable[[Batch], None], batch: Batch) -> float:
    start = time.perf_counter()
    step(batch)
    batch[0].sum().item()  # waits for the device
    return time.perf_counter() - start


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
