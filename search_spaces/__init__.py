"""WHAT may stand on an edge: operators, the registry that names them, and the spaces that list them.

The public names load on first use, so that reading a genotype or printing `--help` does not import torch.
"""

from search_spaces.public_names import public_names

__all__, __getattr__ = public_names(
    __name__,
    {
        "errors": "InputError",
        "registry": "Operator build_operator get_operator operator_names register_operator",
        "contract": "check_operator",
        "plugins": "load_plugin",
        "space": "SearchSpace load_space",
    },
)
