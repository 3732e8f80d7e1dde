"""A search space: which operators compete on an edge, and how large the cell is.

`--space` is a base space with operators appended (`darts+sandglass`) or a YAML file:

    extends: darts                  # optional: any --space
    operators: [sandglass]          # appended; without `extends`, the whole list
    remove: [dil_conv_5x5]
    plugins: [my_block.py]          # relative to the YAML file
    nodes: 4                        # intermediate nodes of a cell
    edges_per_node: 2               # edges that each node keeps
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from search_spaces.errors import InputError, check_known, shown
from search_spaces.plugins import load_plugin
from search_spaces.registry import OWN_OPERATOR, get_operator, operator_names
from search_spaces.yaml_mapping import read_mapping

NAMED_SETS = {"ir": ("inverted_residual",)}
_FOLDER = Path(__file__).parent
_KEYS = ("name", "extends", "operators", "remove", "plugins", "nodes", "edges_per_node")


@dataclass(frozen=True)
class SearchSpace:
    """The operators of every edge, in the order of the alphas' columns, and the size of a cell.

    Raises InputError if an operator is not registered or stands twice, or if none but "none" is left.
    """

    name: str
    operators: tuple[str, ...]
    nodes: int = 4
    edges_per_node: int = 2

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"\w[\w.+-]*", self.name):
            raise InputError(
                f"space name {shown(self.name)}: allowed are letters, digits and _ . + - (it names a folder)"
            )
        for name in self.operators:
            try:
                get_operator(name)
            except InputError as error:
                raise InputError(f"space {self.name}: {error}") from None
        twice = next((name for name in self.operators if self.operators.count(name) > 1), None)
        if twice:
            raise InputError(f'space {self.name} lists operator "{twice}" twice; list each operator once')
        if not any(name != "none" for name in self.operators):
            raise InputError(f'space {self.name} has no operator besides "none"; list at least one to search over')
        for key in ("nodes", "edges_per_node"):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 32:
                raise InputError(f"space {self.name}: {key} is {shown(value)}; it must be a whole number from 1 to 32")

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(source, target) of every edge, in the order of the alphas' rows; 0 and 1 are the cell's inputs."""
        return tuple((source, target) for target in range(2, self.nodes + 2) for source in range(target))

    def to_yaml(self, plugins: tuple[str, ...] = ()) -> str:
        """The resolved space as a file that `load_space` reads; `plugins` are paths relative to that file."""
        content: dict[str, Any] = {"name": self.name, "operators": list(self.operators)}
        content |= {"nodes": self.nodes, "edges_per_node": self.edges_per_node}
        if plugins:
            content["plugins"] = list(plugins)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def load_space(text: str | Path) -> SearchSpace:
    """The space that `--space` names: `darts`, `darts+ir+sandglass`, `darts+NAME`, or a YAML file.

    Raises InputError if a part of it is not known.
    """
    text = str(text)
    if text.endswith((".yaml", ".yml")):
        return _load_file(Path(text), parents=())
    return _load_names(text)


def base_spaces() -> tuple[str, ...]:
    """The spaces that ship with the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def _load_names(text: str) -> SearchSpace:
    base, *appended = text.split("+")
    where = f"--space {text}: "
    check_known("space", base, base_spaces(), where, "; append operators with +, or give a YAML file")
    space = _load_file(_FOLDER / f"{base}.yaml", parents=())
    known = (*NAMED_SETS, *operator_names())
    added: list[str] = []
    for name in appended:
        check_known("operator", name, known, where, OWN_OPERATOR)
        added += NAMED_SETS.get(name, (name,))
    return replace(space, name=text, operators=(*space.operators, *added))


def _load_file(path: Path, parents: tuple[Path, ...]) -> SearchSpace:
    content = read_mapping(path, "space", "give a YAML file or a name such as darts")
    if path.resolve() in parents:
        raise InputError(f"space {path} extends itself; remove the circle")
    for key in content:
        check_known("key", key, _KEYS, f"space {path}: ")
    lists = {key: _names(path, content, key) for key in ("operators", "remove", "plugins")}
    for plugin in lists["plugins"]:
        load_plugin(path.parent / plugin)

    base = None
    if "extends" in content:
        extends = content["extends"]
        if not isinstance(extends, str):
            raise InputError(
                f"space {path}: extends is {shown(extends)}; it must be one name such as darts or a YAML file"
            )
        if extends.endswith((".yaml", ".yml")):
            base = _load_file(path.parent / extends, (*parents, path.resolve()))
        else:
            base = _load_names(extends)
    elif "operators" not in content:
        raise InputError(f"space {path} lists no operators; give operators: […] or extends: darts")

    inherited = base.operators if base else ()
    operators = [*inherited, *lists["operators"]]
    for name in lists["remove"]:
        if name not in operators:
            raise InputError(f'space {path} removes "{name}", which it does not have; it has {", ".join(operators)}')
        operators.remove(name)
    sizes = {
        key: content.get(key, getattr(base, key, default)) for key, default in (("nodes", 4), ("edges_per_node", 2))
    }
    return SearchSpace(content.get("name", path.stem), tuple(operators), **sizes)


def _names(path: Path, content: dict, key: str) -> list[str]:
    value = content.get(key, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InputError(f"space {path}: {key} is {shown(value)}; it must be a list of names")
    return value
