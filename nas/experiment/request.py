"""What was asked for, by a command line, a call in a notebook or a table: settings, a folder, what may happen to it.

Nothing is decided in a request but that its settings are valid; `plan` decides the rest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from cells.genotype import Genotype
from nas.config import Settings, build_config, read_preset, read_settings

Config = TypeVar("Config", bound=Settings)
Layer = tuple[str, dict[str, Any]]  # (where it is from, settings)


@dataclass(frozen=True)
class Request(Generic[Config]):
    """`layers` are settings, the later ones winning; `genotype` is what a training is about, or the GENOTYPE argument.

    `folder` None keeps nothing. `resume` goes on with the run there if there is one, `force` overwrites it, `dry_run`
    only plans. `say` is told each line for people.
    """

    kind: type[Config]
    layers: tuple[Layer, ...]
    folder: Path | None = None
    genotype: Genotype | str | None = None
    plugins: tuple[Path, ...] = ()  # to be run before those of the settings
    preset: str | None = None
    resume: bool = False
    force: bool = False
    dry_run: bool = False
    progress: bool = True
    say: Callable[[str], None] = field(default=print, compare=False)

    @cached_property
    def config(self) -> Config:
        """The settings as given. Raises InputError that names the first bad one."""
        return build_config(self.kind, self.layers)

    def names(self, setting: str) -> bool:
        """Whether a preset, a file, a flag or the call gives this setting."""
        return any(setting in layer for _, layer in self.layers)


def settings_layers(section: str, preset: str | None, file: Path | None, flags: Mapping[str, Any]) -> tuple[Layer, ...]:
    """Those of a preset and of a settings file for a `section` ("search", "train", …), and those of flags."""
    layers: list[Layer] = []
    if preset:
        layers.append((f"preset {preset}", read_preset(preset, section)))
    if file:
        layers.append((f"--config {file}", read_settings(Path(file), section)))
    return (*layers, *((f"--{name.replace('_', '-')}", {name: value}) for name, value in flags.items()))
