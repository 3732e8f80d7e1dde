"""What a search's supernet loses without an operator: its validation error with the operator taken off all edges.

The strength of an operator in this sense need not be that of its alpha (Wang et al., Rethinking Architecture Selection
in Differentiable NAS, ICLR 2021, who remove it from one edge at a time).
"""

import math

import torch

from cells.supernet import Supernet
from nas.config import SearchConfig, build_config, read_settings
from nas.data.datasets import load_data
from nas.data.image_data import ImageData
from nas.loop.steps import error_percent
from nas.run.folder import RunDir
from nas.search.search import Search
from search_spaces.errors import InputError
from search_spaces.space import load_space


def removal_errors(run: RunDir) -> dict:
    """Validation error in percent of a finished search's supernet: whole, and without each operator.

    Of the half of the training images that trained the alphas, not augmented, with BatchNorm's running statistics. The
    other operators share the removed one's weight, as the softmax does. Its plug-ins must be loaded. What was computed
    once is read from the run's folder. Raises InputError if the run has no checkpoint, or its images are gone.
    """
    kept = run.removal()
    if kept is not None:
        return kept
    checkpoint = run.load_checkpoint()
    if checkpoint is None:
        raise InputError(f"{run.path} has no {run.checkpoint.name} to read its supernet from; search anew with --force")
    config = build_config(SearchConfig, [(str(run.config), read_settings(run.config, "search"))])
    config = config.model_copy(update={"memory": "store", "device": "auto"})  # on this machine
    space = load_space(run.space)
    search = Search(config, space, load_data(config.data, config.image_size), None)
    search.state.load_state_dict(checkpoint)
    supernet, batches = search.state.supernet.eval(), search.alpha_batches
    errors = {
        name: _error_percent(supernet, column, search.data, batches.images, batches.labels)
        for name, column in [("", None), *((name, column) for column, name in enumerate(space.operators))]
        if name != "none" and len(space.operators) > 1
    }
    found = {"error_percent": errors.pop("", None), "without": errors}
    run.write_removal(found)
    return found


@torch.no_grad()
def _error_percent(
    supernet: Supernet, column: int | None, data: ImageData, images: torch.Tensor, labels: torch.Tensor
) -> float:
    """With the alphas of that column, if any, at minus infinity."""
    before = [table.clone() for table in supernet.alphas()]
    if column is not None:
        for table in supernet.alphas():
            table[:, column] = -math.inf
    error = error_percent(supernet, images, labels, data)
    for table, values in zip(supernet.alphas(), before, strict=True):
        table.copy_(values)
    return error
