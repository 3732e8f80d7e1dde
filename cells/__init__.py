"""WHAT is built from a choice: genotypes, the supernet, the discrete network and their pictures.

The public names load on first use, so that reading a genotype does not import torch.
"""

import sys
from importlib import import_module
from typing import Any

from search_spaces.public_names import public_names

__all__, __getattr__ = public_names(
    __name__,
    {
        "genotype": "CellGenotype Edge Genotype",
        "genotype_file": "load_genotype parse_genotype published_genotypes",
        "discretization": "discretize",
        "pictures.figure": "draw_genotype",
        "network": "Network",
        "supernet": "Supernet",
    },
)


def show_in_notebooks() -> None:
    """In IPython, a genotype as the last line of a cell shows the pictures of its two cells."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        formatter = shell.display_formatter.formatters["text/html"]
        formatter.for_type_by_name("cells.genotype", "Genotype", _pictures)


def _pictures(genotype: Any) -> str:
    return import_module("cells.pictures.display").genotype_html(genotype)


show_in_notebooks()
