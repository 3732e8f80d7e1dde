"""Where a number that is not finite first came from: looked for once, when a run has to stop."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from cells.supernet import frozen_statistics
from nas.data.batches import Batch


def find_trouble(network: nn.Module, batches: Sequence[Batch]) -> str:
    """Words for the first output, in the order of computation, that is not finite, or else for the first gradient.

    `network` is a Supernet or a Network, with the weights as they are now; it is left as it was. What depended on other
    weights (of a second-order step's passes, or of steps before a GPU was looked at) may not come back.
    """
    for batch in batches:
        with frozen_statistics(network):
            outputs, gradients = _not_finite(network, batch)
        if outputs:
            return f"the first output that is not finite is that of {_place(network, outputs[0])}"
        if gradients:
            return f"all outputs are finite, but not the gradient of {_place(network, gradients[-1])}"
    return "it does not come back when the step is looked at again"


def _not_finite(network: nn.Module, batch: Batch) -> tuple[list[str], list[str]]:
    """Names of modules, as their outputs were computed, and of parameters, by their gradients."""
    outputs, hooks = [], []
    for name, module in network.named_modules():  # with hooks, layers run one by one and not as compiled units

        def note(_module: nn.Module, _inputs: Any, output: Any, name: str = name) -> None:
            if isinstance(output, torch.Tensor) and not output.isfinite().all():
                outputs.append(name)

        hooks.append(module.register_forward_hook(note))
    try:
        images, labels = batch
        outputs_of_network = network(images)  # of a Network, with auxiliary logits or None
        logits = outputs_of_network if isinstance(outputs_of_network, tuple) else (outputs_of_network,)
        loss = torch.stack([F.cross_entropy(part, labels) for part in logits if part is not None]).sum()
        names, parameters = zip(*network.named_parameters(), strict=True)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    gradients = [name for name, g in zip(names, found, strict=True) if g is not None and not g.isfinite().all()]
    return outputs, gradients


def _place(network: Any, name: str) -> str:
    """`name` of a module or a parameter, and the operator it belongs to if there is one."""
    for index, cell in enumerate(network.cells):
        for path, operator in cell.places().items():
            if name == f"cells.{index}.{path}" or name.startswith(f"cells.{index}.{path}."):
                return f"operator {operator} of cell {index + 1} ({name})"
    return name or "the network"
