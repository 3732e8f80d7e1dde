"""A network that DARTS' own code has trained, as one of ours: its tensors under our names.

The names are those of the class NetworkCIFAR in github.com/quark0/darts, cnn/model.py, which its many ports kept:
`cells.0.preprocess0.op.1.weight`, `cells.0._ops.3.op.1.weight`, `auxiliary_head.features.2.weight`. Ours differ in the
words, in where the auxiliary head's layers count from, and in the factorized reduction, whose two convolutions conv_1
and conv_2 are one here with a group for each.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from cells.execution import Execution
from cells.genotype import Genotype
from cells.network import Network
from nas.data.datasets import CIFAR10_MEAN, CIFAR10_STD
from nas.training.weights_file import SavedNetwork
from search_spaces.darts_ops import DilatedConv, SeparableConv
from search_spaces.errors import InputError
from search_spaces.layers import FactorizedReduce, ReLUConvBN

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_SIZE = 32  # pixels a side
OPERATORS = (  # OPS in cnn/operations.py
    *("none", "avg_pool_3x3", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7"),
    *("dil_conv_3x3", "dil_conv_5x5", "conv_7x1_1x7"),
)
_COUNTER = "num_batches_tracked"  # of a BatchNorm; PyTorch before 0.4.1 had none, and nothing here depends on it


def read_reference(path: Path, genotype: Genotype, channels: int, layers: int) -> SavedNetwork:
    """The network of a checkpoint: a state_dict of NetworkCIFAR, also as the item "state_dict" of a dictionary.

    Nothing in the file is run. The data are taken to be CIFAR-10, normalised as the reference does. Raises InputError
    if the file is no such checkpoint, or if a name is missing, unknown or of another shape in the network asked for.
    """
    state = _read_state(path)
    auxiliary = any(name.startswith("auxiliary_head.") for name in state)
    with torch.device("meta"):
        network = Network(genotype, channels, layers, len(CIFAR10_CLASSES), auxiliary, Execution(compiled=False))
    _refuse_other_operators(genotype)
    try:
        translated = translate(state, network)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return SavedNetwork(
        state_dict=translated,
        genotype=genotype.to_json(),
        channels=channels,
        layers=layers,
        auxiliary=auxiliary,
        classes=CIFAR10_CLASSES,
        image_size=CIFAR10_SIZE,
        mean=CIFAR10_MEAN,
        std=CIFAR10_STD,
    )


def translate(state: Mapping[str, torch.Tensor], network: Network) -> dict[str, torch.Tensor]:
    """The reference's tensors under the names of `network`, which is not `compiled`, with their own precision.

    Raises InputError that names the first tensor that is missing, of another shape, or left over.
    """
    asked = "a network of this genotype, with these --channels and --layers"
    translated: dict[str, torch.Tensor] = {}
    used: set[str] = set()
    for name, ours in network.state_dict().items():
        theirs = reference_names(name, network)
        used.update(theirs)
        missing = next((their for their in theirs if their not in state), None)
        if missing and name.endswith(_COUNTER):
            translated[name] = torch.zeros((), dtype=torch.long)
            continue
        if missing:
            raise InputError(f"it has no {missing}, which {asked} needs")
        shape = (ours.shape[0] // len(theirs), *ours.shape[1:]) if ours.dim() else ()
        for their in theirs:
            if tuple(state[their].shape) != shape:
                raise InputError(f"{their} has shape {tuple(state[their].shape)}; in {asked} it has {shape}")
        parts = [state[their].detach() for their in theirs]
        translated[name] = parts[0].clone() if len(parts) == 1 else torch.cat(parts)
    unknown = next((their for their in state if their not in used), None)
    if unknown:
        raise InputError(f"it has {unknown}, which {asked} does not have")
    return translated


def reference_names(name: str, network: Network) -> tuple[str, ...]:
    """The reference's name of a tensor of ours; the two that are concatenated for a factorized reduction."""
    head = re.fullmatch(r"auxiliary_head\.features\.(\d+)\.(\w+)", name)
    if head:  # theirs has its ReLU and its pooling in front, as layers 0 and 1
        return (f"auxiliary_head.features.{int(head[1]) + 2}.{head[2]}",)
    place = re.fullmatch(r"(cells\.\d+)\.(?:inputs\.(preprocess[01])|operators\.(\d+))\.(.+)", name)
    if not place:
        return (name,)
    cell, inputs, operator, rest = place.groups()
    module = network.get_submodule(name.removesuffix(f".{rest}"))
    prefix = f"{cell}.{inputs or f'_ops.{operator}'}"
    if isinstance(module, FactorizedReduce):
        index, tensor = rest.split(".")
        return (f"{prefix}.conv_1.weight", f"{prefix}.conv_2.weight") if index == "2" else (f"{prefix}.bn.{tensor}",)
    if isinstance(module, ReLUConvBN | SeparableConv | DilatedConv):
        return (f"{prefix}.op.{rest}",)
    return (f"{prefix}.{rest}",)  # conv_7x1_1x7, a plain Sequential there, too


def _refuse_other_operators(genotype: Genotype) -> None:
    other = next((name for name in genotype.operators if name not in OPERATORS), None)
    if other:
        raise InputError(f'the reference code has no operator "{other}"; it has {", ".join(OPERATORS)}')


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    advice = "give a state_dict that torch.save wrote"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; {advice}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).strip().partition("\n")[0][:120]
        raise InputError(f"{path} is not a checkpoint of tensors alone ({reason}); {advice}") from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds no state_dict; {advice}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise InputError(f"{path} holds {str(name)[:80]}, which is no tensor; {advice}")
    if all(name.startswith("module.") for name in content):  # nn.DataParallel puts this in front of every name
        return {name.removeprefix("module."): value for name, value in content.items()}
    return dict(content)
