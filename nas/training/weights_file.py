"""A trained network as its weights.pt keeps it: the weights, and all that is needed to build and to feed it.

What a training writes and what is read again are the fields of one class, `SavedNetwork`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import nn

from cells.architecture import parse_architecture
from cells.execution import Execution
from cells.genotype import Genotype
from cells.genotype_file import parse_genotype
from nas.run.checkpoint import load_checkpoint
from nas.run.folder import RunDir
from search_spaces.errors import InputError, shown

Size = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
Listed = Field(strict=False)  # a list in the file, as those of earlier versions have, is a tuple here


class SavedNetwork(BaseModel):
    """What weights.pt holds. `mean` and `std` are of the channels, for pixels in 0..1; `genotype` is a JSON text.

    In `state_dict` are tensors, and what a plug-in's modules give as their extra state.
    """

    model_config = ConfigDict(frozen=True, strict=True, arbitrary_types_allowed=True)

    state_dict: dict[str, Any]
    genotype: str
    channels: Size
    layers: Size
    auxiliary: bool
    classes: Annotated[tuple[str, ...], Listed, Field(min_length=1)]
    image_size: Size
    mean: Annotated[tuple[Number, Number, Number], Listed]
    std: Annotated[tuple[Positive, Positive, Positive], Listed]

    @field_validator("state_dict")
    @classmethod
    def _holds_tensors(cls, state_dict: dict[str, Any]) -> dict[str, Any]:
        for name, value in state_dict.items():
            if not isinstance(value, torch.Tensor) and not name.endswith("_extra_state"):
                raise ValueError(f"{name} should be a tensor")
        return state_dict

    def content(self) -> dict[str, Any]:
        """What a weights.pt holds."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    def parsed_genotype(self) -> Genotype:
        return parse_genotype(self.genotype)

    def build(self, compiled: bool) -> nn.Module:
        """The network in evaluation mode: normalised images (N, 3, H, W) -> (logits, None).

        Without `compiled`, it has PyTorch's own layers, which can be exported. Raises InputError if an operator is not
        registered or the weights are not those of this network.
        """
        size = self.channels, self.layers, len(self.classes), self.auxiliary
        network = parse_architecture(self.genotype).build(*size, Execution(compiled))
        try:
            network.load_state_dict(self.state_dict)
        except RuntimeError as error:
            raise InputError(f"the weights are not those of the genotype and the sizes beside them: {error}") from None
        return network.eval()

    def random_pixels(self, images: int) -> torch.Tensor:
        """(images, 3, H, W) in 0..1, the same at each call: to compare what should be the same network."""
        shape = (images, 3, self.image_size, self.image_size)
        return torch.rand(shape, generator=torch.Generator().manual_seed(images))


class PixelClassifier(nn.Module):
    """Pixels in 0..1, float32 (N, 3, H, W), RGB -> logits (N, classes): the normalisation and the network in one.

    In evaluation mode, without the auxiliary head.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, trained: SavedNetwork):
        super().__init__()
        network: Any = trained.build(compiled=False)
        network.auxiliary_head = None
        self.network: nn.Module = network
        self.register_buffer("mean", torch.tensor(trained.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(trained.std).view(1, 3, 1, 1))
        self.eval()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits, _ = self.network((pixels - self.mean) / self.std)
        return logits


def weights_file(argument: Path) -> Path:
    """The weights.pt that is meant: the file, or that of a training's run folder, which InputError says it has not."""
    if not argument.is_dir():
        return argument
    run = RunDir(argument)
    if run.is_search():
        raise InputError(f"{argument} is a search; train what it found first: train_genotype.py {argument}")
    if not run.weights.is_file():
        raise InputError(f"{argument} has no {run.weights.name}; give a finished training's folder, or the file")
    return run.weights


def load_trained(path: Path) -> SavedNetwork:
    """What a weights.pt holds, checked. Nothing in it is run. Raises InputError if it is none."""
    advice = "give the weights.pt of a finished training"
    try:
        content = load_checkpoint(path)
    except InputError as error:
        raise InputError(f"{str(error).partition('; ')[0]}; {advice}") from None
    if not isinstance(content, Mapping) or "state_dict" not in content:
        raise InputError(f"{path} is a checkpoint, but holds no trained network; {advice}")
    try:
        trained = SavedNetwork(**{name: content[name] for name in SavedNetwork.model_fields if name in content})
    except ValidationError as error:
        problem = error.errors()[0]
        what = ".".join(map(str, problem["loc"]))
        reason = problem["msg"].replace("Input should", "it should")
        raise InputError(f"{path}: {what} is {shown(problem['input'])}; {reason}; {advice}") from None
    try:
        trained.parsed_genotype()
    except InputError as error:
        raise InputError(f"{path}: genotype: {error}") from None
    return trained
