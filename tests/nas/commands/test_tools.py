"""The small commands print what is true, take every form of GENOTYPE, and answer a mistake in one line."""

import json
import runpy
import sys

import pytest

from nas.commands.genotypes import describe_genotype, draw_cells
from nas.commands.operators import check_operator, list_operators
from project_root import ROOT

SMALL = ("--channels", "4", "--layers", "3")  # counted in a moment


@pytest.fixture
def run_folder(tmp_path, write_plugin):
    """A search's run folder with a cell that uses a plug-in's operator, and the plug-in."""
    folder = tmp_path / "search"
    (folder / "plugins").mkdir(parents=True)
    write_plugin().rename(folder / "plugins" / "ghost.py")
    cell = {"nodes": [[["ghost_3x3", 0], ["skip_connect", 1]]], "concat": [2]}
    genotype = {"format": 1, "space": "mine", "normal": cell, "reduce": cell, "found_by": {"seed": 3}}
    (folder / "genotype.json").write_text(json.dumps(genotype))
    return folder


def test_describe_genotype_prints_the_published_counts_and_the_operators_of_each_cell(capsys):
    assert describe_genotype(["darts_v2"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["parameters"] == 3_349_342
    assert printed["parameters_with_auxiliary"] == 3_825_768
    assert printed["madds"] == 528_359_040
    assert printed["operators"] == {
        "normal": {"sep_conv_3x3": 5, "skip_connect": 2, "dil_conv_3x3": 1},
        "reduce": {"max_pool_3x3": 5, "skip_connect": 3},
    }


def test_describe_genotype_counts_the_network_that_is_asked_for(capsys):
    counts = []
    for size in ([], ["--classes", "11"], ["--image-size", "64"], ["--channels", "8"], ["--layers", "4"]):
        assert describe_genotype(["darts_v2", *SMALL, *size]) == 0
        counts.append(json.loads(capsys.readouterr().out))
    small, classes, pixels, wide, deep = counts
    assert classes["parameters"] - small["parameters"] == 4 * 4 * 4 + 1  # one more row of the classifier, with its bias
    assert pixels["parameters"] == small["parameters"] and 3.9 < pixels["madds"] / small["madds"] <= 4
    assert wide["channels"] == 8 and wide["parameters"] > 2 * small["parameters"]
    assert deep["layers"] == 4 and deep["parameters"] > small["parameters"]


def test_a_run_folder_brings_its_plugins(run_folder, capsys):
    assert describe_genotype([str(run_folder), *SMALL]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["operators"]["normal"] == {"ghost_3x3": 1, "skip_connect": 1}
    assert "ghost.py was run" in printed.err


def test_a_genotype_file_needs_the_plugin_that_its_operator_is_from(run_folder, tmp_path, mistake):
    file = tmp_path / "cell.json"
    (run_folder / "genotype.json").rename(file)
    assert "ghost_3x3" in mistake(describe_genotype, file)
    assert describe_genotype([str(file), "--plugin", str(run_folder / "plugins" / "ghost.py")]) == 0


def test_draw_cells_writes_the_formats_that_are_asked_for(tmp_path, capsys):
    assert draw_cells(["darts_v2", "--out", str(tmp_path / "new" / "pictures"), "--format", "svg"]) == 0
    names = {path.name for path in (tmp_path / "new" / "pictures").iterdir()}
    assert names == {"normal.dot", "normal.svg", "reduce.dot", "reduce.svg"}
    assert "normal.svg" in capsys.readouterr().out


def test_draw_cells_titles_a_published_cell_with_its_name_and_a_found_one_with_its_seed(run_folder, tmp_path):
    for argument, title in (("DARTS_V2", "darts_v2"), (str(run_folder), "mine, seed 3")):
        assert draw_cells([argument, "--out", str(tmp_path / "out"), "--format", "svg"]) == 0
        assert title in (tmp_path / "out" / "normal.dot").read_text()
    assert "Ghost" in (tmp_path / "out" / "normal.dot").read_text()  # the plug-in's label


def test_draw_cells_draws_a_figure_for_a_paper_with_both_cells_in_grey(tmp_path, capsys):
    arguments = ["darts_v2", "--out", str(tmp_path), "--width", "column", "--together", "--style", "grey"]
    assert draw_cells([*arguments, "--format", "svg", "pdf"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / f"cells.{kind}") for kind in ("dot", "svg", "pdf")]
    assert 'width="238.11pt"' in (tmp_path / "cells.svg").read_text()
    assert "#E69F00" not in (tmp_path / "cells.dot").read_text()


def test_draw_cells_draws_several_genotypes_each_in_a_folder_of_its_name(run_folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert draw_cells(["DARTS_V2", str(run_folder), "--out", str(out), "--format", "svg"]) == 0
    drawn = {path.relative_to(out).as_posix() for path in out.glob("*/*.svg")}
    names = ("darts_v2", f"{run_folder.parent.name}-search")
    assert drawn == {f"{name}/{kind}.svg" for name in names for kind in ("normal", "reduce")}
    assert "Ghost" in (out / names[1] / "normal.dot").read_text()


def test_list_operators_shows_names_labels_and_costs(write_plugin, capsys):
    assert list_operators(["--plugin", str(write_plugin())]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines[1:-1]}
    # Parameters at C=16 and C=36: the closed forms sandglass(h) = 2Ch + 2h + 24C and sep_3 = 2(9C + C^2 + 2C).
    assert rows["sandglass"][1:] == ["SGBlock", "bottleneck", "452", "360,448", "1,308", "1,105,920"]
    assert rows["sep_conv_3x3"][3] == "864" and rows["sep_conv_3x3"][5] == "3,384"
    assert rows["ghost_3x3"][1:3] == ["Ghost", "block"]
    assert len({len(line) for line in lines[:-1]}) == 1  # aligned


def test_check_operator_says_what_it_checked_and_what_the_operator_costs(write_plugin, capsys):
    assert check_operator(["ghost_3x3", "--plugin", str(write_plugin())]) == 0
    printed = capsys.readouterr().out
    for words in ("ghost_3x3", "Ghost", "stride 1 and 2", "in place", "gradients", "affine=False", "multiply-adds"):
        assert words in printed


def test_check_operator_refuses_an_operator_that_breaks_its_contract(write_plugin, mistake):
    source = """
from torch import nn
from search_spaces import register_operator

@register_operator("always_strided")
def always_strided(channels, stride, affine):
    return nn.AvgPool2d(2)
"""
    plugin = write_plugin(source, "strided.py")
    assert "must return (2, 16, 8, 8)" in mistake(check_operator, "always_strided", "--plugin", plugin)


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (describe_genotype, [], "GENOTYPE"),
        (describe_genotype, ["darts_v3"], "darts_v2"),
        (describe_genotype, ["darts_v2", "--channels", "0"], "at least 1"),
        (describe_genotype, ["darts_v2", "--layers", "many"], "whole number"),
        (describe_genotype, ["darts_v2", "--chanels", "4"], '"--channels"'),
        (describe_genotype, ["darts_v2", "--plugin", "missing.py"], "missing.py"),
        (draw_cells, ["darts_v2"], "--out"),
        (draw_cells, ["darts_v2", "--out", "x", "--format", "gif"], "svg, png, pdf"),
        (draw_cells, ["darts_v2", "--out", "x", "--width", "colum"], "column"),
        (draw_cells, ["darts_v2", "--out", "x", "--style", "gray"], "grey"),
        (draw_cells, ["darts_v2", "DARTS_V2", "--out", "x"], "would both be drawn"),
        (check_operator, ["sandglas"], '"sandglass"'),
        (list_operators, ["sandglass"], "sandglass"),
    ],
)
def test_a_mistake_is_answered_in_one_line(command, arguments, words, tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    assert words in mistake(command, *arguments)
    assert not list(tmp_path.iterdir())


COMMANDS = sorted(path for path in (ROOT / "scripts").glob("*.py") if path.stem != "textbook")


@pytest.mark.parametrize("script", COMMANDS, ids=lambda path: path.stem)
def test_every_script_is_a_command(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 0 and f"usage: {script.name}" in capsys.readouterr().out
