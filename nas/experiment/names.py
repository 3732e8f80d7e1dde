"""What runs are called: their folders under runs/, and the plug-ins that lie beside what a GENOTYPE argument names."""

import os
from hashlib import sha256
from pathlib import Path

from cells.genotype_file import published_genotypes
from nas.config import SearchConfig, TrainConfig
from nas.run.folder import RunDir


def search_folder(config: SearchConfig) -> Path:
    """runs/search/<space>/seedN; a space in a YAML file goes by the name it has there."""
    name = config.space
    if name.endswith((".yaml", ".yml")):
        from search_spaces.plugins import load_plugin
        from search_spaces.space import load_space

        for plugin in config.plugin:
            load_plugin(plugin)
        name = load_space(name).name
    return Path("runs", "search", _file_name(name), f"seed{config.seed}")


def training_folder(config: TrainConfig, argument: str) -> Path:
    """runs/train/<genotype>/seedN."""
    return Path("runs", "train", genotype_name(argument), f"seed{config.seed}")


def genotype_name(argument: str) -> str:
    """What its run is called: the published name, the search's folder, the file's name, or a hash of the text."""
    path = _existing(argument)
    if path:
        path = path.resolve()
        folder = path.parent if path.name == "genotype.json" else path
        name = f"{folder.parent.name}-{folder.name}" if folder.is_dir() else path.stem
    elif "(" in argument or "{" in argument:
        name = f"genotype-{sha256(argument.encode()).hexdigest()[:8]}"
    else:
        name = argument.lower()
    return _file_name(name)


def plugins_beside(argument: str) -> tuple[Path, ...]:
    """The plug-ins of the search that found a genotype, if the argument is its run folder or the file in it."""
    path = _existing(argument)
    if path is not None and path.name == "genotype.json":
        path = path.parent
    return RunDir(path).plugins if path is not None and path.is_dir() else ()


def _existing(argument: str) -> Path | None:
    """The file or folder that a GENOTYPE argument names, if it does; a published name comes first."""
    is_path = argument.lower() not in published_genotypes() and os.path.exists(argument)
    return Path(argument) if is_path else None


def _file_name(name: str) -> str:
    """A name for one folder: nothing in it leads elsewhere."""
    name = "".join(letter if letter.isalnum() or letter in "._+-" else "_" for letter in name)
    return name.strip(".") or "unnamed"
