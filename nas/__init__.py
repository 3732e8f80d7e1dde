"""HOW the choice is learned: data, bilevel gradients, the search and training loops, the run folder, the commands.

The public names load on first use, so that `--help` does not import torch.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "RunDir": "run.folder",
    "SearchConfig": "config",
    "TrainConfig": "config",
    "evaluate": "training.evaluation",
    "load_data": "data.datasets",
    "load_trained_network": "training.evaluation",
    "run_search": "search.search",
    "run_training": "training.training",
    "search_cell": "notebook.functions",
    "train_cell": "notebook.functions",
    "train_over_seeds": "notebook.functions",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
