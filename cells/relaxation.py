"""The continuous relaxation of the choice of an operator (DARTS, eq. 2): from alphas to weights, in one place."""

import torch


def softmax(alphas: torch.Tensor) -> torch.Tensor:
    """(edges, operators) -> the same shape, each row positive with sum 1."""
    return alphas.softmax(dim=-1)
