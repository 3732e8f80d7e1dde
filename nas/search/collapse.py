"""What the literature watches to see a search collapse into skip connections."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, eigsh

from cells.execution import Execution
from cells.genotype import CellGenotype
from cells.supernet import Supernet
from nas.config import SearchConfig
from nas.data.batches import Batch
from search_spaces.errors import InputError

HESSIAN_IMAGES = 16
WINDOW = 5  # evaluations over which the eigenvalue is smoothed, and that the rule looks back
LEAST_EVALUATIONS = 2 * WINDOW
RATIO = 0.75


def skip_connections(cell: CellGenotype) -> int:
    """How many edges of a discrete cell are skip connections (P-DARTS, Chen et al., ICCV 2019, counts them)."""
    return sum(edge.operator == "skip_connect" for _, edge in cell.edges)


def mean_entropy(operator_weights: torch.Tensor) -> float:
    """Mean over the edges of -sum p log p, in nats, of (edges, operators); log(operators) if none is preferred."""
    p = operator_weights.detach().double().cpu()
    return torch.special.entr(p).sum(dim=1).mean().item()


class AlphaHessian:
    """The Hessian of the loss with respect to the alphas of a supernet.

    It is differentiated twice, exactly: a difference of gradients would cross the kinks of ReLU and pooling, and seen
    was a hundred times the eigenvalue. The compiled loops differentiate once, so PyTorch's own layers compute it, in a
    second supernet that has no weights of its own.
    """

    def __init__(self, supernet: Supernet, channels: int, layers: int, classes: int):
        self.supernet = supernet
        with torch.device("meta"):
            self.plain = Supernet(supernet.space, channels, layers, classes, Execution(False), supernet.relax)

    def dominant_eigenvalue(self, batch: Batch, seed: int = 0) -> float:
        """Its largest eigenvalue at one batch of validation images, by the Lanczos method; the supernet is as before.

        Zela et al., Understanding and Robustifying Differentiable Architecture Search, ICLR 2020. Of the batch, the
        first `HESSIAN_IMAGES` are taken, as two derivatives take three times the memory of one.
        """
        device = batch[0].device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            alphas, gradient = self._gradient((batch[0][:HESSIAN_IMAGES], batch[1][:HESSIAN_IMAGES]))

        def product(vector: np.ndarray) -> np.ndarray:
            direction = torch.from_numpy(vector.ravel()).to(gradient)
            found = torch.autograd.grad(gradient @ direction, alphas, retain_graph=True)
            return torch.cat([part.flatten() for part in found]).double().cpu().numpy()

        size = len(gradient)
        start = np.random.default_rng(seed).standard_normal(size)
        hessian = LinearOperator((size, size), matvec=product, dtype=np.float64)
        return float(eigsh(hessian, k=1, which="LA", v0=start, tol=1e-3, return_eigenvectors=False)[0])

    def _gradient(self, batch: Batch) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The alphas, and the gradient for all of them as one vector that can be differentiated again."""
        alphas = {
            f"alphas_{kind}": table.detach().requires_grad_()
            for kind, table in zip(("normal", "reduce"), self.supernet.alphas(), strict=True)
        }
        state = {name: value.detach().clone() for name, value in self.supernet.state_dict().items()}
        images, labels = batch
        loss = F.cross_entropy(torch.func.functional_call(self.plain, state | alphas, (images,)), labels)
        tables = list(alphas.values())
        return tables, torch.cat([g.flatten() for g in torch.autograd.grad(loss, tables, create_graph=True)])


def epochs_between_eigenvalues(config: SearchConfig) -> int:
    """How many, or 0 for never: early stopping looks after each epoch if nothing else is said."""
    return config.hessian_every or int(config.early_stop)


def check_early_stop(config: SearchConfig) -> None:
    """Raises InputError if a search with these settings would end before its early stopping could act."""
    if config.early_stop and config.epochs // epochs_between_eigenvalues(config) < LEAST_EVALUATIONS:
        raise InputError(
            f"early_stop needs {LEAST_EVALUATIONS} looks at the eigenvalue; {config.epochs} epochs with hessian_every"
            f" {epochs_between_eigenvalues(config)} have {config.epochs // epochs_between_eigenvalues(config)}"
        )


def epoch_before_collapse(eigenvalues: Sequence[tuple[int, float]]) -> int | None:
    """RobustDARTS' early stopping on (epoch, dominant eigenvalue): the epoch to go back to, or None to go on.

    With the eigenvalue smoothed over `WINDOW` evaluations, a search stops when that of `WINDOW` evaluations ago is less
    than 0.75 of the last, and takes the alphas of then (Zela et al., section 4.3). Both means are of a whole window, so
    nothing stops before `LEAST_EVALUATIONS`: an eigenvalue that rises from the first alphas is no collapse.
    """
    values = [value for _, value in eigenvalues]
    smoothed = [np.mean(values[max(0, i + 1 - WINDOW) : i + 1]) for i in range(len(values))]
    for i in range(LEAST_EVALUATIONS - 1, len(values)):
        if smoothed[i] > 0 and smoothed[i - WINDOW] < RATIO * smoothed[i]:
            return eigenvalues[i - WINDOW][0]
    return None
