"""Pictures of cells: complete, well formed whatever a label holds, and drawn with nothing but what pip installs."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import struct
import sys
import xml.etree.ElementTree as ET
import zlib

import pytest

from cells.genotype import CellGenotype, Edge, Genotype
from cells.genotype_file import load_genotype, published_genotypes
from cells.pictures.diagram import cell_dot, cell_title
from cells.pictures.figure import draw_genotype
from cells.pictures.operator_looks import LOOKS
from cells.pictures.rendering import pdf_of, render, size_in_points
from search_spaces.errors import InputError
from search_spaces.registry import KINDS, OPERATORS, Operator, get_operator

HOSTILE = [
    'a "quoted" name',
    "back\\slash \\N \\G\\",
    "<b>bold</b> & &amp; &#65; &foo;",
    "<<TABLE>>",
    "two\nlines",
    "control \x00\x01\x7f and a lone \ud800",
    "ünïcode × 中文 ∂",
    "edge0:e -> 0; } //",
    " ",
]


@pytest.fixture
def without_svglib(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def one_node(*operators: str) -> CellGenotype:
    return CellGenotype((tuple(Edge(operator, number % 2) for number, operator in enumerate(operators)),), (2,))


def fake_dot(folder, script):
    folder.mkdir()
    (folder / "dot").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "dot").chmod(0o755)
    return str(folder)


def pdf_size(path) -> tuple[float, float]:
    """Width and height of a PDF's page in points, found in its objects, packed or not."""
    content = path.read_bytes()
    assert content.startswith(b"%PDF")
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL):
        try:
            content += zlib.decompress(stream)
        except zlib.error:
            continue
    box = re.search(rb"/MediaBox ?\[ ?([\d. ]+)\]", content)[1].split()
    return float(box[2]), float(box[3])


def svg_texts(path) -> list[str]:
    texts = ET.parse(path).iter("{http://www.w3.org/2000/svg}text")
    return [(text.text or "").replace("\N{NO-BREAK SPACE}", " ") for text in texts]


@pytest.mark.parametrize("name", published_genotypes())
def test_every_edge_of_the_genotype_is_in_the_dot(name):
    genotype = load_genotype(name)
    for reduction, cell in enumerate((genotype.normal, genotype.reduce)):
        dot = cell_dot(cell, "title", bool(reduction))
        labels = {number: label.strip('"') for number, label in re.findall(r'\t(edge\d+) \[label=("[^"]*"|\S+)', dot)}
        sources = {number: source.strip('"') for source, number in re.findall(r"\t(\S+):e -> (edge\d+):w", dot)}
        targets = re.findall(r"(edge\d+):e -> (\d+)", dot)
        names = ["c_{k-2}", "c_{k-1}", *map(str, range(len(cell.nodes)))]
        assert sorted((sources[number], labels[number], target) for number, target in targets) == sorted(
            (names[edge.source], edge_label(edge, reduction), names[target]) for target, edge in cell.edges
        )
        assert set(re.findall(r'\t(\d+) -> "c_\{k\}"', dot)) == {names[node] for node in cell.concat}


def edge_label(edge, reduction):
    return get_operator(edge.operator).label + (" /2" if reduction and edge.source < 2 else "")


def test_the_svg_is_well_formed_and_shows_every_label(renderer, tmp_path):
    genotype = Genotype(one_node("sandglass", "skip_connect", "sandglass"), one_node("sandglass"), "darts+sandglass")
    draw_genotype(genotype, tmp_path, ["svg"])
    texts = svg_texts(tmp_path / "normal.svg")
    assert texts.count("SGBlock") == 2
    assert {"Normal cell — darts+sandglass", "c", "k−2", "k−1", "k", "0"} <= set(texts)
    assert "SGBlock /2" in svg_texts(tmp_path / "reduce.svg")


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_label_shows_as_it_is_whatever_it_holds(text, renderer, tmp_path, monkeypatch):
    shown = re.sub("[\x00\x01\x7f\ud800]", " ", text).split("\n")
    monkeypatch.setitem(OPERATORS, "x", Operator("x", None, label=text))
    draw_genotype(Genotype(one_node("x"), one_node(text), space=text), tmp_path / "out", name=f"[{text}]")
    for kind in ("normal", "reduce"):
        texts = svg_texts(tmp_path / "out" / f"{kind}.svg")
        expected = shown if kind == "normal" else [*shown[:-1], shown[-1] + " /2"]
        assert any(texts[start : start + len(shown)] == expected for start in range(len(texts)))
        assert " ".join(" ".join(shown).split()) in " ".join(" ".join(texts).split())


def test_an_operator_that_is_not_registered_or_has_an_empty_label_goes_by_its_name(monkeypatch):
    assert 'label="ghost<3>"' in cell_dot(one_node("ghost<3>"), "title")
    monkeypatch.setitem(OPERATORS, "ghost", Operator("ghost", None, label=""))
    assert "label=ghost " in cell_dot(one_node("ghost"), "title")


def test_the_png_is_large_enough_for_a_slide(renderer, tmp_path):
    normal, reduce = (path for path in draw_genotype(load_genotype("darts_v2"), tmp_path) if path.suffix == ".png")
    for path in (normal, reduce):
        content = path.read_bytes()
        width, height = struct.unpack(">II", content[16:24])
        assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
        assert 1600 < width < 4000 and 500 < height < 2000
        assert len(content) > 20_000


def test_the_same_genotype_gives_the_same_bytes_and_no_stray_files(renderer, tmp_path):
    genotype = load_genotype("nasnet")
    first, again = (draw_genotype(genotype, tmp_path / folder / "deep") for folder in ("first", "again"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    names = [f"{kind}.{file_format}" for kind in ("normal", "reduce") for file_format in ("dot", "svg", "png")]
    assert [path.name for path in first] == names
    assert sorted(path.name for path in first[0].parent.iterdir()) == sorted(names)


@pytest.mark.parametrize(
    ("kind", "found_by", "name", "title"),
    [
        ("normal", {"seed": 0, "order": 2}, None, "Normal cell — darts, seed 0"),
        ("reduce", {"method": "DARTS, second order"}, None, "Reduction cell — darts, DARTS, second order"),
        ("normal", {"method": "DARTS, second order"}, "darts_v2", "Normal cell — darts_v2"),
        ("normal", {}, None, "Normal cell — darts"),
    ],
)
def test_the_title_says_which_cell_it_is_and_where_it_is_from(kind, found_by, name, title):
    cell = one_node("skip_connect")
    assert cell_title(Genotype(cell, cell, "darts", found_by), kind, name) == title


def test_every_kind_of_operator_has_its_colour():
    assert set(LOOKS) == set(KINDS)
    assert len({look[0] for look in LOOKS.values()}) == len({look[1:] for look in LOOKS.values()}) == len(KINDS)


@pytest.mark.parametrize("dot", [None, "echo 'dot 1.0, a directory tool' >&2", "exit 1"])
def test_pdf_with_nothing_that_writes_it_is_an_input_error_and_writes_nothing(
    dot, tmp_path, monkeypatch, without_svglib
):
    monkeypatch.setenv("PATH", fake_dot(tmp_path / "bin", dot) if dot else str(tmp_path))
    with pytest.raises(InputError, match=r'"pdf" needs a system Graphviz.* ask for svg or png') as error:
        draw_genotype(load_genotype("darts_v2"), tmp_path / "out", ["svg", "pdf"])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_pdf_is_as_large_as_the_svg_and_the_same_bytes_again(renderer, tmp_path):
    for folder in ("first", "again"):
        paths = draw_genotype(load_genotype("darts_v2"), tmp_path / folder, ["svg", "pdf"])
    assert [path.name for path in paths if path.suffix == ".pdf"] == ["normal.pdf", "reduce.pdf"]
    for name in ("normal", "reduce"):
        width, height = size_in_points((tmp_path / "first" / f"{name}.svg").read_bytes())
        page = pdf_size(tmp_path / "first" / f"{name}.pdf")
        assert page == pytest.approx((width, height), rel=0.04)  # the system's PDF has other fonts than its SVG
        if renderer == "pip only":  # a system Graphviz writes the time
            first, again = ((tmp_path / folder / f"{name}.pdf").read_bytes() for folder in ("first", "again"))
            assert first == again


def test_a_picture_that_does_not_say_its_size_is_an_input_error(refused):
    with refused("no size", "reinstall"):
        size_in_points(b"<svg></svg>")


def test_a_picture_that_svglib_cannot_read_is_an_input_error(refused):
    with refused("svglib cannot read", "svg or png"):
        pdf_of(b"no picture")


def test_a_system_graphviz_that_cannot_draw_is_passed_over(tmp_path, monkeypatch, without_svglib):
    broken = 'test "$1" = -V && echo "dot - graphviz version 1" >&2 && exit 0; echo "no such format" >&2; exit 1'
    monkeypatch.setenv("PATH", fake_dot(tmp_path / "bin", broken))
    draw_genotype(load_genotype("darts_v2"), tmp_path / "out", ["svg"])
    assert "skip_connect" in svg_texts(tmp_path / "out" / "normal.svg")
    with pytest.raises(InputError, match="cannot draw pdf: no such format"):
        draw_genotype(load_genotype("darts_v2"), tmp_path / "out", ["pdf"])


@pytest.mark.skipif(os.name == "nt", reason="there are no process groups")
def test_a_signal_to_the_group_of_the_run_does_not_reach_what_draws(tmp_path):
    program = fake_dot(tmp_path / "bin", f"exec {sys.executable} -c 'import os; print(os.getpgrp())'") + "/dot"
    assert int(render("", "svg", [program])) != os.getpgrp()


def test_without_any_renderer_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "files", lambda package: None)
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(InputError, match="pip install graphviz-pure"):
        draw_genotype(load_genotype("darts_v2"), tmp_path, ["svg"])
