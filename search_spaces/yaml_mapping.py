"""A YAML file of settings: a mapping in which each key stands once."""

from pathlib import Path

import yaml

from search_spaces.errors import InputError


def read_mapping(path: Path, what: str, advice: str) -> dict:
    """The mapping in a YAML file; {} if the file is empty.

    Raises InputError, in which `what` names the kind of file and `advice` says what to give instead, if it cannot be
    read, is not YAML, is not a mapping, or gives a key twice.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise InputError(f"cannot read {what} {path}: {error.strerror}; {advice}") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # PyYAML's constructors raise any of these for values such as 2001-99-99 or !!bool x
        raise InputError(f"{what} {path} is not valid YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{what} {path} is not a YAML mapping of names to values; {advice}")
    return content


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which of a key that is given twice would keep the last."""

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict:
        names = [key.value for key, _ in getattr(node, "value", ()) if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1 and name != "<<":
                raise yaml.constructor.ConstructorError(None, None, f'the key "{name}" stands twice', node.start_mark)
        return super().construct_mapping(node, deep)
