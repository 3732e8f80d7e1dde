"""WHAT is built from a choice: genotypes, the supernet, the discrete network and their pictures.

The public names load on first use, so that reading a genotype does not import torch.
"""

import sys
from importlib import import_module
from typing import Any

_HOME = {
    "CellGenotype": "genotype",
    "Edge": "genotype",
    "Genotype": "genotype",
    "load_genotype": "genotype_file",
    "parse_genotype": "genotype_file",
    "published_genotypes": "genotype_file",
    "discretize": "discretize",
    "draw_genotype": "pictures.diagram",
    "Network": "network",
    "Supernet": "supernet",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def _show_in_notebooks() -> None:
    """In IPython, a genotype as the last line of a cell shows the pictures of its two cells."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        formatter = shell.display_formatter.formatters["text/html"]
        formatter.for_type_by_name(
            "cells.genotype",
            "Genotype",
            lambda genotype: import_module("cells.pictures.display").genotype_html(genotype),
        )


_show_in_notebooks()
