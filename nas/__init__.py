"""HOW the choice is learned: data, bilevel gradients, the search and training loops, the run folder, the commands.

The public names load on first use, so that `--help` does not import torch.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "RunDir": "run_dir",
    "SearchConfig": "config",
    "TrainConfig": "config",
    "evaluate": "evaluation",
    "load_data": "data",
    "load_trained_network": "evaluation",
    "run_search": "search",
    "run_training": "train",
    "search_cell": "library",
    "train_cell": "library",
    "train_over_seeds": "library",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
