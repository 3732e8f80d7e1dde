"""Operators by name, and a user's plug-in: from a file to a space, or one line that says what is wrong with it."""

import os
import sys

import pytest
import torch
from torch import nn

from cells.network import Network
from cells.supernet import Supernet
from search_spaces import build_operator, get_operator, load_plugin, load_space, operator_names, register_operator
from search_spaces.plugins import PLUGINS, plugins_of
from search_spaces.registry import KINDS
from some_cells import genotype_of

DARTS = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5")
DARTS += ("dil_conv_3x3", "dil_conv_5x5")
SANDGLASSES = ("sandglass", "sandglass_released", "sandglass_half")
FIGURE_4 = ("bottleneck_depthwise", "bottleneck_depthwise2", "inverted_low_depthwise")
PUBLISHED_CELLS_NEED = ("sep_conv_7x7", "conv_7x1_1x7")

HEAD = """
import torch
from torch import nn
from search_spaces import register_operator
"""
BREACH = """
@register_operator("mine")
class Mine(nn.Module):
    def __init__(self, channels, stride, affine):
        super().__init__()
        self.stride = stride
        {init}

    def forward(self, x):
        {forward}
"""
DATACLASS = f"""
from __future__ import annotations
from dataclasses import dataclass
{HEAD}
@dataclass
class Size:
    kernel: int

for k in (3, 5):
    @register_operator(f"plain_{{k}}x{{k}}")
    def plain(channels, stride, affine, size=Size(k)):
        return nn.Conv2d(channels, channels, size.kernel, stride, size.kernel // 2)
"""
CONV = "self.conv = nn.Conv2d(channels, channels, 3, stride, 1)"


def breach(init="pass", forward="return x[:, :, :: self.stride, :: self.stride]"):
    return HEAD + BREACH.format(init=init, forward=forward)


def test_all_operators_of_the_papers_are_registered():
    expected = {*DARTS, *SANDGLASSES, *FIGURE_4, *PUBLISHED_CELLS_NEED, "inverted_residual", "inverted_residual_t3"}
    assert set(operator_names()) == expected


def test_a_new_operator_says_its_label_kind_and_norm():
    assert get_operator("sandglass").label == "SGBlock"
    assert get_operator("sep_conv_3x3").label == "sep_conv_3x3"
    assert {name for name in operator_names() if get_operator(name).supernet_norm} == {"max_pool_3x3", "avg_pool_3x3"}
    assert [name for name in operator_names() if get_operator(name).kind == "none"] == ["none"]
    assert {get_operator(name).kind for name in operator_names()} == set(KINDS) - {"block"}


def test_a_registered_class_is_built_by_its_name():
    @register_operator("twice", label="2x")
    class Twice(nn.Module):
        def __init__(self, channels, stride, affine):
            super().__init__()
            self.arguments = (channels, stride, affine)

    assert isinstance(Twice, type)  # the decorator returns the class
    assert build_operator("twice", 8, 2, False).arguments == (8, 2, False)
    assert get_operator("twice").kind == "block" and not get_operator("twice").supernet_norm


def test_an_unknown_operator_is_answered_with_the_closest_name(refused):
    with refused('unknown operator "sandglas"', 'did you mean "sandglass"?', "--plugin"):
        get_operator("sandglas")


@pytest.mark.parametrize("name", ["", "3x3", "with space", "a-b", "a/b", "a.b", "ünï", "a\n", None])
def test_a_name_that_is_no_word_is_refused(refused, name):
    with refused("allowed are a letter"):
        register_operator(name)


@pytest.mark.parametrize("name", ["half", "keys", "type", "training"])
def test_a_name_that_a_module_cannot_hold_is_refused(refused, name):
    with refused(f'operator name "{name}"', "another name"):
        register_operator(name)


def test_an_unknown_kind_and_a_taken_name_are_refused(refused):
    with refused('unknown kind "pool"', "pooling"):
        register_operator("mine", kind="pool")
    with refused('"sandglass" is registered already'):
        register_operator("sandglass")


def test_a_plugin_goes_from_its_file_into_a_space_a_supernet_and_a_network(write_plugin):
    plugin = load_plugin(write_plugin())
    assert plugin.operators == ("ghost_3x3",)
    space = load_space("darts+ghost_3x3")
    assert space.operators == (*DARTS, "ghost_3x3")
    images = torch.randn(2, 3, 8, 8)
    assert Supernet(space, channels=2, layers=2, classes=3)(images).shape == (2, 3)
    logits, _ = Network(genotype_of("ghost_3x3 0, ghost_3x3 1"), 4, 3, classes=3, auxiliary=False)(images)
    assert logits.shape == (2, 3) and torch.isfinite(logits).all()


def test_a_plugin_is_found_again_by_its_operators(write_plugin):
    plugin = load_plugin(write_plugin())
    assert plugins_of(["none", "ghost_3x3"]) == (plugin,)
    assert plugins_of(["none", "sandglass"]) == ()
    assert plugin.source == plugin.path.read_bytes() and len(plugin.sha256) == 64


def test_the_same_plugin_is_run_once_wherever_it_lies(write_plugin):
    assert load_plugin(write_plugin(name="here.py")) is load_plugin(write_plugin(name="there.py"))


def test_a_plugin_may_hold_dataclasses_and_several_operators(write_plugin):
    assert load_plugin(write_plugin(DATACLASS)).operators == ("plain_3x3", "plain_5x5")


BROKEN = {
    "a syntax error": ("x = 1\ndef f(:\n", ["line 2", "SyntaxError"]),
    "an exception": ("x = 1\n\nx / 0\n", ["line 3", "ZeroDivisionError"]),
    "a missing import": ("import no_such_module\n", ["line 1", "no_such_module"]),
    "an exit": ("raise SystemExit(3)\n", ["line 1", "SystemExit"]),
    "an exception of several lines": ("raise ValueError('first\\nsecond\\n')\n", ["first second"]),
    "null bytes": ("x = '\0'\n", ["null byte"]),
    "nothing registered": ("from torch import nn\n", ["registers no operator", "@register_operator"]),
    "a taken name": (HEAD + "register_operator('sandglass')(nn.Identity)\n", ["registered already"]),
    "a bad name": (HEAD + "register_operator('my-block')(nn.Identity)\n", ["my-block", "allowed"]),
    "wrong arguments": (HEAD + "register_operator('mine')(lambda channels: nn.Identity())\n", ["cannot be built"]),
    "no module": (HEAD + "register_operator('mine')(lambda *a: torch.relu)\n", ["torch.nn.Module"]),
    "stride ignored": (breach(forward="return x"), ["stride 2", "(2, 16, 8, 8)", "must return (2, 16, 4, 4)"]),
    "wrong channels": (breach(forward="return torch.cat([x, x], 1)"), ["(2, 32, 8, 8)", "must return (2, 16, 8, 8)"]),
    "no tensor returned": (breach(forward="return [x]"), ["list"]),
    "only for 16 channels": (breach("self.conv = nn.Conv2d(16, 16, 1, stride)", "return self.conv(x)"), ["C=36"]),
    "an in-place write": (breach(CONV, "return self.conv(x.relu_())"), ["in place"]),
    "an in-place write behind autograd": (
        breach("self.conv = nn.Conv2d(channels, channels, 1, stride)", "return self.conv(x).sigmoid().mul_(2)"),
        ["backward pass"],
    ),
    "numbers that are not finite": (breach(forward="return x[:, :, :: self.stride, :: self.stride] / 0"), ["finite"]),
    "an unused parameter": (breach("self.unused = nn.Linear(2, 2)"), ["no gradient", "unused.weight"]),
    "a detached parameter": (breach(CONV, "return self.conv(x).detach()"), ["no gradient", "conv.weight"]),
    "a frozen parameter": (breach("self.k = nn.Parameter(torch.ones(1), False)"), ["k is not learned", "buffer"]),
    "a lazy layer": (breach("self.conv = nn.LazyConv2d(channels, 1, stride)", "return self.conv(x)"), ["no shape"]),
    "affine ignored": (
        breach(CONV + "; self.norm = nn.BatchNorm2d(channels)", "return self.norm(self.conv(x))"),
        ["norm learns a scale or shift", "affine=False"],
    ),
    "dependence on values": (
        breach(forward="return x[:, :, :: self.stride, :: self.stride] * x.max().item()"),
        ["multiply-adds", "values"],
    ),
}


@pytest.mark.parametrize("source, words", BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_gets_one_line_and_leaves_nothing_behind(write_plugin, refused, source, words):
    path = write_plugin(source)
    before, modules = operator_names(), set(sys.modules)
    for _ in range(2):  # the second time it is no better
        with refused(*words):
            load_plugin(path)
        assert operator_names() == before and not PLUGINS
        assert not [name for name in set(sys.modules) - modules if name.startswith("_plugin")]


def test_the_second_of_two_operators_breaks_the_first_one_too(write_plugin, refused):
    good = "register_operator('good')(lambda channels, stride, affine: nn.AvgPool2d(stride))\n"
    with refused('"bad"'):
        load_plugin(write_plugin(HEAD + good + "register_operator('bad')(nn.Identity)\n"))
    assert "good" not in operator_names()


def test_a_line_number_is_given_for_a_relative_path_too(write_plugin, refused, monkeypatch):
    path = write_plugin("x = 1\n\nx / 0\n")
    monkeypatch.chdir(path.parent)
    with refused("ghost.py, line 3"):
        load_plugin("ghost.py")


def test_a_file_that_is_no_plugin_is_refused(tmp_path, write_plugin, refused):
    with refused("No such file", "Python file"):
        load_plugin(tmp_path / "missing.py")
    with refused("cannot read plug-in"):
        load_plugin(tmp_path)
    with refused("cannot read plug-in"):
        load_plugin("a\0b.py")
    with refused("must end in .py"):
        load_plugin(write_plugin(name="ghost.txt"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads any file")
def test_a_plugin_without_read_permission_is_refused(write_plugin, refused):
    path = write_plugin()
    path.chmod(0)
    with refused("Permission denied"):
        load_plugin(path)


def test_an_interrupted_plugin_leaves_nothing_behind(write_plugin):
    source = HEAD + "register_operator('mine')(nn.Identity)\nraise KeyboardInterrupt\n"
    with pytest.raises(KeyboardInterrupt):
        load_plugin(write_plugin(source))
    assert "mine" not in operator_names()
