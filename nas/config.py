"""Every knob of the two commands, with its default, its unit and where the default comes from.

A value comes from the first of: flag, `--config` file, preset, default. The defaults are the papers': "DARTS" is Liu
et al., ICLR 2019, as its reference code runs it. Unknown keys and values of the wrong type are errors.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from search_spaces.errors import InputError, check_known, shown
from search_spaces.yaml_mapping import read_mapping

PRESETS = ("paper", "cpu", "table9-cpu", "quick")
_PRESET_FOLDER = Path(__file__).parent / "presets"


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("it should be a number, not true or false")
    return value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else _not_bool(value)


def _tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Model = TypeVar("Model", bound=BaseModel)

Count = Annotated[int, BeforeValidator(_not_bool), Field(ge=1)]
CountOrZero = Annotated[int, BeforeValidator(_not_bool), Field(ge=0)]
Positive = Annotated[float, BeforeValidator(_not_bool), Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, BeforeValidator(_not_bool), Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, BeforeValidator(_not_bool), Field(ge=0, lt=1)]
Pixels = Annotated[int, BeforeValidator(_not_bool), Field(ge=4, le=1024)]


class Settings(BaseModel):
    """What both commands share."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    command: ClassVar[str]  # the command whose settings these are, and their section in a file

    data: str = Field("cifar10", description="cifar10, digits, or a folder with train/<class>/* and test/<class>/*")
    image_size: Pixels | None = Field(None, description="pixels a side; the data's own size if not given")
    train_images: Count | None = Field(None, description="use the first so many training images; all if not given")
    flip: bool | None = Field(None, description="mirror images at random; as suits the data if not given")
    crop_padding: CountOrZero = Field(4, description="pixels around a 32x32 image before the random crop (DARTS)")
    seed: CountOrZero = Field(0, description="seed of weights, alphas, data order and augmentation")
    plugin: Annotated[tuple[str, ...], BeforeValidator(_tuple)] = Field(
        (), description="a Python file that registers operators; may be repeated"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    threads: Count | None = Field(None, description="CPU threads; PyTorch's choice if not given")
    compile: bool | None = Field(
        None,
        description="on a CPU run operators as loops that Numba compiles and caches, on a CUDA device the step as one"
        " graph; yes if not given and it can",
    )
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32",
        description="of convolutions, products and, with bfloat16, activations; tf32 on NVIDIA's GPUs only. Weights,"
        " statistics and losses stay float32",
    )
    deterministic: bool = Field(
        False, description="the same bits in every run on one machine, on a GPU too, where it is slower"
    )
    sync_batch_norm: bool = Field(
        True, description="of several processes (torchrun), BatchNorm sees the whole batch and not each its share"
    )
    save_every: Positive = Field(10.0, description="minutes between two checkpoints within an epoch")
    stop_after: Positive | None = Field(None, description="minutes after which the run saves itself and stops")
    report: bool = Field(True, description="write report.html after each epoch, to watch the run and to show it")
    tensorboard: bool = Field(False, description="write what is measured for TensorBoard, too, after each epoch")


class SearchConfig(Settings):
    """Settings of a search; defaults of DARTS, section 3.1 and A.1, and its reference code."""

    command: ClassVar[str] = "search"

    space: str = Field("darts", description="darts, darts+ir, darts+sandglass, darts+NAME, or a YAML file")
    order: Annotated[Literal[1, 2], BeforeValidator(_whole)] = Field(
        2, description="gradient of the alphas: first or second order (DARTS, eq. 7)"
    )
    channels: Count = Field(16, description="initial channels of the supernet")
    layers: Annotated[Count, Field(ge=3)] = Field(
        8, description="cells of the supernet; of three, the fewest, the first is a normal cell, the others reduce"
    )
    epochs: Count = Field(50, description="passes over the half of the images that trains the weights")
    batch_size: Annotated[Count, Field(ge=2)] = Field(64, description="images in a batch, of either half")
    learning_rate: Positive = Field(0.025, description="of the weights' SGD at the start of the cosine schedule")
    learning_rate_min: NotNegative = Field(0.001, description="of the weights' SGD at the end of the schedule")
    momentum: Fraction = Field(0.9, description="of the weights' SGD")
    weight_decay: NotNegative = Field(3e-4, description="of the weights")
    gradient_clip: Positive = Field(5.0, description="largest norm of the weights' gradient")
    alpha_learning_rate: Positive = Field(3e-4, description="of the alphas' Adam, betas 0.5 and 0.999")
    alpha_weight_decay: NotNegative = Field(1e-3, description="of the alphas")
    hessian_every: CountOrZero = Field(
        0, description="epochs between two looks at the dominant eigenvalue of the alphas' Hessian; 0: never"
    )
    early_stop: bool = Field(
        False, description="stop when that eigenvalue rises steeply, and take the cell of before (RobustDARTS)"
    )
    memory: Literal["auto", "store", "recompute"] = Field(
        "auto", description="store all tensors for the backward pass, or recompute each cell's there; auto: as they fit"
    )


class TrainConfig(Settings):
    """Settings of retraining; defaults of DARTS, section 3.2 and A.2, and its reference code."""

    command: ClassVar[str] = "train"

    channels: Count = Field(36, description="initial channels of the network")
    layers: Count = Field(20, description="cells of the network")
    epochs: Count = Field(600, description="passes over the training images")
    batch_size: Annotated[Count, Field(ge=2)] = Field(96, description="images in a batch")
    test_images: Count | None = Field(None, description="use the first so many test images; all if not given")
    hold_out: CountOrZero = Field(
        0, description="judge by the last so many training images, not trained on, instead of the test images"
    )
    learning_rate: Positive = Field(0.025, description="of SGD at the start of the cosine schedule")
    learning_rate_min: NotNegative = Field(0.0, description="of SGD at the end of the schedule")
    momentum: Fraction = Field(0.9, description="of SGD")
    weight_decay: NotNegative = Field(3e-4, description="of the weights")
    gradient_clip: Positive = Field(5.0, description="largest norm of the gradient")
    auxiliary: bool = Field(True, description="train an auxiliary head at two thirds of the depth")
    auxiliary_weight: NotNegative = Field(0.4, description="weight of the auxiliary head's loss")
    cutout: CountOrZero = Field(16, description="side of the square that is cut out of a 32x32 image, in pixels")
    drop_path: Fraction = Field(0.2, description="probability to drop an edge, reached linearly at the last epoch")


# How a run is carried out, not what it computes, but for rounding: these may differ between a run and its continuation.
RUN_CONTROL = (
    "device",
    "threads",
    "compile",
    "deterministic",
    "save_every",
    "stop_after",
    "plugin",
    "memory",
    "tensorboard",
    "report",
)


def read_settings(path: Path, command: str) -> dict[str, Any]:
    """The settings in a YAML file for "search", "train", "select" or "table9".

    Those are the top-level keys, then the ones under `search:` or `train:`; for a short training that selects a cell,
    then those under `select:`; for the numbers of runs in a table, those under `table9:` alone.
    """
    content = read_mapping(path, "settings", "give a YAML file of names and values, such as epochs: 25")
    sections = {name: content.pop(name) or {} for name in ("search", "train", "select", "table9") if name in content}
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise InputError(f"settings {path}: {name} is {shown(section)}; it must be a mapping of names to values")
    if command == "table9":
        return sections.get(command, {})
    names = ("train", "select") if command == "select" else (command,)
    return {
        name: value for part in (content, *(sections.get(name, {}) for name in names)) for name, value in part.items()
    }


def read_preset(name: str, command: str) -> dict[str, Any]:
    """The settings that a preset changes, as `read_settings` reads them."""
    check_known("preset", name, PRESETS)
    return read_settings(_PRESET_FOLDER / f"{name}.yaml", command)


def build_config(kind: type[Model], layers: Sequence[tuple[str, dict[str, Any]]]) -> Model:
    """A checked config from layers of (where it is from, values), the later ones winning.

    Raises InputError that names the first bad key or value, where it came from and what is allowed.
    """
    values, origin = {}, {}
    for source, layer in layers:
        for key, value in layer.items():
            _check_setting(key, kind, source)
            values[key], origin[key] = value, source
    try:
        return kind(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0])
        reason = problem["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        described = kind.model_fields[key].description
        raise InputError(f"{origin[key]}: {key} is {shown(problem['input'])}; {reason} ({described})") from None


def _check_setting(key: str, kind: type[BaseModel], source: str) -> None:
    for command, other in (("search", SearchConfig), ("train", TrainConfig)):
        if key in other.model_fields and key not in kind.model_fields:
            hint = f"put it under {command}: in the file"
            raise InputError(f'{source}: "{key}" is a setting of the other command; {hint}')
    check_known("setting", key, kind.model_fields, f"{source}: ")


def config_to_yaml(config: Settings) -> str:
    """All settings of a run as a file that `--config` reads."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
