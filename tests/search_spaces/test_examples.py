"""The examples work as they are: each plug-in keeps the contract, learns in a supernet, and a folder is searched on."""

import re
import runpy
import sys

import pytest
import torch

import cli
from cells.supernet import Supernet
from project_root import ROOT
from search_spaces import check_operator, load_plugin
from search_spaces.complexity import count_parameters
from search_spaces.registry import build_operator
from search_spaces.space import SearchSpace

EXAMPLES = ROOT / "scripts" / "examples"
PLUGINS = sorted(path for path in EXAMPLES.glob("*.py") if "@register_operator" in path.read_text())


def test_the_readme_shows_the_ghost_module_that_is_here():
    (shown,) = re.findall(r"^```python\n(.*?)^```$", (EXAMPLES.parents[1] / "README.md").read_text(), re.M | re.S)
    assert (EXAMPLES / "ghost.py").read_text().endswith(shown)


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_an_example_keeps_the_contract_and_learns_in_a_supernet(path):
    operators = load_plugin(path).operators
    for name in operators:
        assert check_operator(name)["costs"][0]["parameters"] > 0
    supernet = Supernet(SearchSpace("examples", ("none", *operators), nodes=2), channels=4, layers=3, classes=2)
    supernet(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert all(alphas.grad.abs().max() > 0 for alphas in supernet.alphas())


def test_mbconv_has_the_parameters_of_its_closed_form():
    load_plugin(EXAMPLES / "mbconv_se.py")
    channels, wide, squeezed = 16, 64, 4
    gate = 2 * wide * squeezed + wide + squeezed
    for kernel in (3, 5):
        counted = count_parameters(build_operator(f"mbconv_se_{kernel}x{kernel}", channels, 1, True))
        assert counted == 2 * channels * wide + kernel**2 * wide + gate + 2 * (2 * wide + channels)


def test_a_search_on_a_folder_of_ones_own_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["small_photos.py", "photos"])
    runpy.run_path(str(EXAMPLES / "small_photos.py"), run_name="__main__")
    assert len(list(tmp_path.glob("photos/train/*/*.png"))) == 80 and len(list(tmp_path.glob("photos/test/*/*"))) == 20

    (tmp_path / "small.yaml").write_text("operators: [none, skip_connect, dil_conv_3x3]\nnodes: 2")
    small = ["--channels", "2", "--layers", "3", "--epochs", "1", "--image-size", "8", "--no-compile", "--threads", "1"]
    data = ["--data", "photos", "--device", "cpu"]
    assert cli.search(["--space", "small.yaml", "--order", "1", "--run-dir", "found", *small, *data]) == 0
    assert cli.train(["found", "--run-dir", "trained", *small, *data]) == 0
    assert "on 20 images of photos" in capsys.readouterr().out
