"""A few steps of a search and of a training in float64: by one process, or by those that torchrun starts.

As a program, `some_steps.py FILE`, the first process saves what was learned; each checks that all hold the same.
"""

import sys

import torch

from cells.architecture import CellArchitecture
from cells.genotype_file import load_genotype
from nas.loop.state import RunState
from nas.machine import processes
from nas.machine.sync_batch_norm import SynchronizedBatchNorm2d
from nas.search.bilevel import SearchState, bilevel_step
from nas.training.training import TrainState, training_step
from tiny_runs import SEARCH, SPACE, TRAIN, image_data

STEPS = 3
SIZES = (8, 7)  # of the batches: two processes share the second unevenly


def all_learned(sync_batch_norm: bool = True) -> dict[str, torch.Tensor]:
    """Everything in the states of searches of both orders and of a training, after `STEPS` steps."""
    found = {}
    device = torch.device("cpu")
    for order in (1, 2):
        config = SEARCH.model_copy(update={"order": order, "compile": False, "sync_batch_norm": sync_batch_norm})
        state = SearchState(config, SPACE, 3, device)
        state.supernet.double()
        for step in range(STEPS):
            train, validation = (processes.share(batch(step, shift)) for shift in (0, 10))
            state.add(bilevel_step(state, train, validation, config, 0.025))
        found |= {f"order {order}/{name}": value for name, value in tensors(state, "supernet").items()}
    config = TRAIN.model_copy(update={"compile": False, "sync_batch_norm": sync_batch_norm})
    state = TrainState(config, CellArchitecture(load_genotype("darts_v2")), 3, device)
    state.network.double()
    for step in range(STEPS):
        state.add(training_step(state, processes.share(batch(step, 0, 16)), config, 0.025, 0.0))
    return found | {f"training/{name}": value for name, value in tensors(state, "network").items()}


def batch(step: int, shift: int, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    data = image_data(size=size)
    count = SIZES[step % len(SIZES)]
    chosen = slice(shift + step, shift + step + count)
    return data.train_images[chosen].double() / 255, data.train_labels[chosen]


def tensors(state: RunState, part: str) -> dict[str, torch.Tensor]:
    return {**state.parts[part].state_dict(), "sums": state.sums}


def main(path: str):
    learned = all_learned()
    first = processes.from_first(learned)
    assert learned.keys() == first.keys() and all(torch.equal(learned[name], first[name]) for name in first)
    local = all_learned(sync_batch_norm=False)
    norm = SynchronizedBatchNorm2d(3).double()
    x = torch.arange(2 * 7 * 3 * 4, dtype=torch.float64).sin().view(7, 3, 2, 4).requires_grad_()
    y = norm(*processes.share((x,)))
    (gradient,) = torch.autograd.grad(y.pow(3).sum(), x)
    statistics = {name: value for name, value in norm.state_dict().items() if value.is_floating_point()}
    normed = {"gradient": processes.total(gradient), "sum of cubes": processes.total(y.detach().pow(3).sum())}
    if processes.is_first():
        torch.save({"learned": learned, "local": local, "norm": normed | statistics}, path)


if __name__ == "__main__":
    main(sys.argv[1])
