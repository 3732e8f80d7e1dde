"""What the tests share: one thread, a registry that every test leaves as it found it, and a user's plug-in."""

import os
import subprocess
import sys
from contextlib import contextmanager
from hashlib import sha256

import pytest
import torch
from hypothesis import settings

from cells.pictures.rendering import system_graphviz
from project_root import ROOT
from search_spaces.errors import InputError
from search_spaces.operator import OPERATORS
from search_spaces.plugins import PLUGINS

torch.set_num_threads(1)
settings.register_profile("tests", deadline=None, derandomize=True, database=None)
settings.load_profile("tests")


def pytest_configure(config):
    """Before the two workers of a whole run start, compiles the loops once for both, unless that was done before."""
    cache = getattr(config, "cache", None)  # missing with -p no:cacheprovider
    loops = b"".join((ROOT / "cells" / "compiled" / f"{name}.py").read_bytes() for name in ("kernels", "simd"))
    version = sha256(loops).hexdigest()
    is_whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS and not config.option.collectonly
    if is_whole and cache and config.getoption("numprocesses", None) and cache.get("loops", None) != version:
        command = [sys.executable, ROOT / "tests" / "warm_loops.py"]
        started = [
            subprocess.Popen([*command, name], env=os.environ | {"PYTHONPATH": str(ROOT)})
            for name in ("float32", "float64")
        ]
        if all([process.wait() == 0 for process in started]):
            cache.set("loops", version)


GHOST = """
from torch import nn
from search_spaces import register_operator

@register_operator("ghost_3x3", label="Ghost")
class Ghost(nn.Module):
    def __init__(self, channels, stride, affine):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x):
        return self.norm(self.conv(x))
"""


@pytest.fixture(autouse=True)
def _registry_as_before():
    operators, plugins, modules = dict(OPERATORS), dict(PLUGINS), set(sys.modules)
    yield
    for now, before in ((OPERATORS, operators), (PLUGINS, plugins)):
        now.clear()
        now.update(before)
    for name in set(sys.modules) - modules:
        if name.startswith("_plugin_"):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def _main_module_as_before():
    """IPython's shell puts a module of its own in its place, which multiprocessing cannot start from."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(params=["pip only", "system Graphviz"])
def renderer(request, monkeypatch, tmp_path):
    """Runs a test with no program on PATH, and again with the system's Graphviz where there is one."""
    if request.param == "pip only":
        monkeypatch.setenv("PATH", str(tmp_path))
    elif system_graphviz() is None:
        pytest.skip("no system Graphviz")
    return request.param


@pytest.fixture
def write_plugin(tmp_path):
    """Writes a plug-in file, by default one that registers ghost_3x3, and returns its path."""

    def write(source=GHOST, name="ghost.py"):
        path = tmp_path / name
        path.write_text(source, encoding="utf-8")
        return path

    return write


@pytest.fixture
def mistake(capsys):
    """`mistake(command, …)`: the one line that answers a command with these arguments, which must end with status 2."""

    def mistake(command, *arguments) -> str:
        capsys.readouterr()
        assert command(list(map(str, arguments))) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.startswith("error: ") and printed.err.count("\n") == 1
        return printed.err

    return mistake


@pytest.fixture
def refused():
    """`with refused("some words"):` asserts that the block raises InputError, in one line with those words."""

    @contextmanager
    def refusal(*words):
        with pytest.raises(InputError) as caught:
            yield caught
        message = str(caught.value)
        assert "\n" not in message and 10 < len(message) <= 2100
        for word in words:
            assert word in message

    return refusal


@pytest.fixture
def without_pictures(monkeypatch):
    """Searches in folders that draw nothing: each picture takes longer than a tiny search itself."""
    monkeypatch.setattr("nas.report.diagrams.draw_genotype", lambda *_: None)
