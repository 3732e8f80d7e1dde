"""A supernet and its textbook twin: the fast one is compared with DARTS as it is written."""

import torch

from cells.supernet import Supernet
from textbook import TextbookSupernet


def supernet_and_textbook_twin(space, channels=4, layers=3, classes=3, alpha_scale=1.0):
    """A float64 Supernet with alphas of that spread, and a TextbookSupernet with the same weights and alphas."""
    torch.manual_seed(0)
    supernet = Supernet(space, channels, layers, classes).double()
    with torch.no_grad():
        for alphas in supernet.alphas():
            alphas.copy_(alpha_scale * torch.randn(alphas.shape))
    textbook = TextbookSupernet(space, channels, layers, classes).double()
    textbook.copy_from(supernet)
    return supernet, textbook
