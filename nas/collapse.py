"""What the literature watches to see a search collapse into skip connections."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from cells.genotype import CellGenotype
from cells.supernet import Supernet
from nas.architect import first_order_gradients
from nas.batches import Batch

DIFFERENCE = 1e-2  # of the alphas, between the two gradients of a Hessian-vector product
WINDOW = 5  # evaluations over which the eigenvalue is smoothed, and that the rule looks back
RATIO = 0.75


def skip_connections(cell: CellGenotype) -> int:
    """How many edges of a discrete cell are skip connections (P-DARTS, Chen et al., ICCV 2019, counts them)."""
    return sum(edge.operator == "skip_connect" for _, edge in cell.edges)


def mean_entropy(operator_weights: torch.Tensor) -> float:
    """Mean over the edges of -sum p log p, in nats, of (edges, operators); log(operators) if none is preferred."""
    p = operator_weights.detach().double().cpu()
    return torch.special.entr(p).sum(dim=1).mean().item()


def dominant_eigenvalue(supernet: Supernet, batch: Batch, seed: int = 0) -> float:
    """The largest eigenvalue of the Hessian of the loss with respect to the alphas, at one batch (validation images).

    Zela et al., Understanding and Robustifying Differentiable Architecture Search, ICLR 2020. By the Lanczos method, on
    products of the Hessian with a vector that are central differences of gradients: about 40 forward and backward
    passes. The supernet is left as it was.
    """
    alphas = supernet.alphas()
    center = torch.cat([table.detach().flatten() for table in alphas])
    sizes = [table.numel() for table in alphas]

    def move(to: torch.Tensor):
        with torch.no_grad():
            for table, values in zip(alphas, to.split(sizes), strict=True):
                table.copy_(values.view_as(table))

    def gradient(offset: torch.Tensor) -> torch.Tensor:
        move(center + offset)
        torch.manual_seed(seed)  # an operator that draws at random draws the same on both sides
        return torch.cat([g.flatten() for g in first_order_gradients(supernet, batch).gradients])

    def product(vector: np.ndarray) -> np.ndarray:
        step = DIFFERENCE * torch.from_numpy(vector.ravel() / np.linalg.norm(vector)).to(center)
        difference = gradient(step) - gradient(-step)
        return difference.double().cpu().numpy() * (np.linalg.norm(vector) / (2 * DIFFERENCE))

    size = len(center)
    start = np.random.default_rng(seed).standard_normal(size)
    hessian = LinearOperator((size, size), matvec=product, dtype=np.float64)
    try:
        with torch.random.fork_rng(devices=[center.device] if center.device.type == "cuda" else []):
            return float(eigsh(hessian, k=1, which="LA", v0=start, tol=1e-2, return_eigenvectors=False)[0])
    finally:
        move(center)


def epoch_before_collapse(eigenvalues: Sequence[tuple[int, float]]) -> int | None:
    """RobustDARTS' early stopping on (epoch, dominant eigenvalue): the epoch to go back to, or None to go on.

    With the eigenvalue smoothed over `WINDOW` evaluations, a search stops when that of `WINDOW` evaluations ago is less
    than 0.75 of the last, and takes the alphas of then (Zela et al., section 4.3).
    """
    values = [value for _, value in eigenvalues]
    smoothed = [np.mean(values[max(0, i + 1 - WINDOW) : i + 1]) for i in range(len(values))]
    for i in range(WINDOW, len(values)):
        if smoothed[i] > 0 and smoothed[i - WINDOW] < RATIO * smoothed[i]:
            return eigenvalues[i - WINDOW][0]
    return None
