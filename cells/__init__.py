"""WHAT is built from a choice: genotypes, the supernet, the discrete network and their pictures.

The public names load on first use, so that reading a genotype does not import torch.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "CellGenotype": "genotype",
    "Edge": "genotype",
    "Genotype": "genotype",
    "load_genotype": "genotype",
    "parse_genotype": "genotype",
    "published_genotypes": "genotype",
    "discretize": "discretize",
    "draw_genotype": "diagram",
    "Network": "network",
    "Supernet": "supernet",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
