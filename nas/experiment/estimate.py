"""How long a run will take and how much memory it will need, measured on two small batches before it starts."""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import psutil
import torch
from torch import nn

from cells.architecture import Architecture
from nas.config import SearchConfig, TrainConfig
from nas.data.batches import Batch
from nas.data.image_data import DataSummary
from nas.loop.state import RunState
from nas.machine import processes
from nas.machine.cuda_graph import runs_as_graph
from nas.machine.device import memory_format, resolve_device
from nas.search.bilevel import SearchState, bilevel_step
from nas.training.training import TrainState, training_step
from search_spaces.space import SearchSpace

SMALL, LARGE = 2, 8  # images in the two batches: time and memory are taken as linear in the batch size
# Measured by scripts/benchmark_search.py on two CPU cores: a first-order step took 4.3 s, a second-order one 11.6 s; at
# another time 10.4 s, and 16.4 s recomputing. The memory beyond what the process held was so many times what was saved.
FIRST_TO_SECOND_ORDER = 2.7
RECOMPUTING = 1.6
STORED_TO_PEAK, RECOMPUTED_TO_PEAK = 1.9, 2.4  # temporary tensors, and gaps between freed ones
GRAPH_AND_STEP = 2  # a CUDA graph's own memory, and that of a step that runs outside of it; not measured
MOST_OF_FREE = 0.8  # of the free memory, a search may fill this share before it recomputes


@dataclass(frozen=True)
class Estimate:
    """Seconds, peak memory in bytes and bytes on disk of a whole run.

    `saving_bytes` is the peak if each cell is recomputed; for a search, `memory` is its setting with "auto" decided,
    and `memory_bytes` the peak under it.
    """

    seconds: float
    memory_bytes: float
    disk_bytes: float
    saving_bytes: float
    memory: str | None = None


def estimate_search(config: SearchConfig, space: SearchSpace, data: DataSummary) -> Estimate:
    """What `run_search` with these arguments will take on this machine."""
    first_order = config.model_copy(update={"order": 1})
    device = resolve_device(config.device)
    with _random_state_kept(device):
        state = SearchState(config.model_copy(update={"memory": "store"}), space, data.classes, device)

        def step(batch: Batch) -> None:
            bilevel_step(state, batch, batch, first_order, config.learning_rate)

        images = (config.train_images or data.train_images) // 2
        factor = FIRST_TO_SECOND_ORDER if config.order == 2 else 1.0
        estimate = _estimate(state, step, data, images, config, factor, state.supernet.cells)
        return _decide_memory(estimate, config.memory, device)


def estimate_training(config: TrainConfig, architecture: Architecture, data: DataSummary) -> Estimate:
    """What `run_training` with these arguments will take on this machine."""
    device = resolve_device(config.device)
    with _random_state_kept(device):
        state = TrainState(config, architecture, data.classes, device)

        def step(batch: Batch) -> None:
            training_step(state, batch, config, config.learning_rate, config.drop_path)

        images = (config.train_images or data.train_images) - config.hold_out
        return _estimate(state, step, data, images, config)


def _decide_memory(estimate: Estimate, memory: str, device: torch.device) -> Estimate:
    if memory == "auto":
        memory = "store" if estimate.memory_bytes <= MOST_OF_FREE * _free_bytes(device) else "recompute"
    return replace(
        estimate,
        memory=memory,
        memory_bytes=estimate.saving_bytes if memory == "recompute" else estimate.memory_bytes,
        seconds=estimate.seconds * (RECOMPUTING if memory == "recompute" else 1),
    )


def _free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def _random_state_kept(device: torch.device) -> AbstractContextManager:
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _estimate(
    state: RunState,
    step: Callable[[Batch], None],
    data: DataSummary,
    images: int,
    config: SearchConfig | TrainConfig,
    factor: float = 1.0,
    cells: Iterable[nn.Module] = (),
) -> Estimate:
    """Of `config.epochs` passes over `images`; a whole step takes `factor` times as long as `step(batch)`.

    `cells` are the modules that could be recomputed.
    """
    device = state.sums.device
    held = psutil.Process().memory_info().rss if device.type == "cpu" else 0
    saved, seconds = {}, {}
    for size in (SMALL, LARGE):
        x = torch.randn(size, 3, data.image_size, data.image_size, device=device)
        batch = x.contiguous(memory_format=memory_format(device)), torch.arange(size, device=device) % data.classes
        saved[size] = torch.tensor(_saved_bytes(step, batch, cells), dtype=torch.float64)  # warms up, too
        seconds[size] = min(_seconds(step, batch) for _ in range(2))  # the least disturbed
    per_image = max(0.0, (seconds[LARGE] - seconds[SMALL]) / (LARGE - SMALL))
    batch_size = min(config.batch_size, images)
    steps = config.epochs * images / batch_size
    batch_size = -(-batch_size // processes.size())  # this process's share
    step_seconds = factor * (seconds[SMALL] + per_image * (batch_size - SMALL))

    if runs_as_graph(config, device):
        saved = {size: GRAPH_AND_STEP * amounts for size, amounts in saved.items()}
    learned = [part for part in state.parts.values() if isinstance(part, torch.nn.Module)]
    weights = sum(p.numel() * p.element_size() for module in learned for p in module.parameters())
    pixels = data.image_size**2 * 3 * (data.train_images + data.test_images)
    stored, recomputed = ((saved[LARGE] - saved[SMALL]) / (LARGE - SMALL) * batch_size).tolist()
    always = held + 5 * weights + pixels
    storing, saving = always + STORED_TO_PEAK * stored, always + RECOMPUTED_TO_PEAK * recomputed
    return Estimate(steps * step_seconds, storing, 4 * weights + 1e6, saving)


def _seconds(step: Callable[[Batch], None], batch: Batch) -> float:
    start = time.perf_counter()
    step(batch)
    batch[0].sum().item()  # waits for the device
    return time.perf_counter() - start


def _saved_bytes(step: Callable[[Batch], None], batch: Batch, cells: Iterable[nn.Module]) -> tuple[int, int]:
    """Runs a step; returns the most bytes that a forward pass saves for its backward pass, storing and recomputing.

    Recomputing, it saves what is outside the cells and the cells' outputs, and one cell's tensors at a time.
    """
    alive: dict[int, int] = {}
    inside: list[int] = []
    before = outputs = 0
    most = (0, 0)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        alive[storage.data_ptr()] = storage.nbytes()
        return tensor

    def unpack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal most, outputs
        if alive:  # the backward pass begins
            stored = sum(alive.values())
            recomputed = stored - sum(inside) + outputs + max(inside, default=0)
            most = max(most, (stored, recomputed))
            alive.clear()
            inside.clear()
            outputs = 0
        return tensor

    def enter(_cell: nn.Module, _inputs: tuple) -> None:
        nonlocal before
        before = sum(alive.values())

    def leave(_cell: nn.Module, _inputs: tuple, output: torch.Tensor) -> None:
        nonlocal outputs
        inside.append(sum(alive.values()) - before)
        outputs += output.numel() * output.element_size()

    hooks = [hook for c in cells for hook in (c.register_forward_pre_hook(enter), c.register_forward_hook(leave))]
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            step(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return most
