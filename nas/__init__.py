"""HOW the choice is learned: data, bilevel gradients, the search and training loops, the run folder, the commands.

The public names load on first use, so that `--help` does not import torch.
"""

from search_spaces.public_names import public_names

__all__, __getattr__ = public_names(
    __name__,
    {
        "config": "SearchConfig TrainConfig",
        "run.folder": "RunDir",
        "data.datasets": "load_data",
        "search.search": "run_search",
        "training.training": "run_training",
        "training.evaluation": "evaluate load_trained_network",
        "notebook.functions": "search_cell train_cell train_over_seeds",
    },
)
