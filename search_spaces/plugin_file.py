"""Runs a user's Python file as a module, from the bytes that were read, and says in one line what is wrong with it."""

import importlib.util
import sys
import traceback
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import NoReturn

from search_spaces.errors import InputError


class _PluginLoader(SourceFileLoader):
    """Runs the bytes that were read, and neither reads nor leaves byte code beside the user's file."""

    def __init__(self, module_name: str, path: Path, source: bytes):
        super().__init__(module_name, str(path.absolute()))
        self._source = source

    def get_data(self, path: str) -> bytes:
        return self._source

    def path_stats(self, path: str) -> NoReturn:
        raise OSError("no byte code is kept")


def run_plugin_file(path: Path, source: bytes, module_name: str) -> None:
    """Runs `source`, the content of the file, as a new module. Raises InputError with the line at which it fails."""
    loader = _PluginLoader(module_name, path, source)
    spec = ModuleSpec(module_name, loader, origin=loader.path)
    spec.has_location = True  # so that the module has its __file__
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look up the module of a class there
    try:
        loader.exec_module(module)
    except InputError as error:
        raise InputError(f"plug-in {path}: {error}") from None
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == spec.origin]
        if isinstance(error, SyntaxError) and error.filename == spec.origin:
            lines.append(error.lineno)
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        raise InputError(f"plug-in {where}: {type(error).__name__}: {error}") from None
