"""Figures for papers: as wide as a column, readable at that size, in colour or in grey, one cell or both."""

import io
import re
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest
from PIL import Image
from test_diagram import HOSTILE, one_node, pdf_size, svg_texts

from cells.genotype import CellGenotype, Edge, Genotype
from cells.genotype_file import load_genotype
from cells.pictures.diagram import cell_dot
from cells.pictures.figure import LARGEST_POINTS, READABLE_POINTS, draw_genotype, fit, width_in_points
from cells.pictures.operator_looks import SHADES, STYLES, operator_look
from search_spaces.registry import KINDS, get_operator, operator_names

COLUMN = 8.4 * 72 / 2.54
CHAIN = CellGenotype(tuple((Edge("sep_conv_3x3", 0), Edge("dil_conv_5x5", node + 1)) for node in range(4)), (5,))
SVG = "{http://www.w3.org/2000/svg}"


def points_of(length: str) -> float:
    return float(length.removesuffix("pt"))


def shown_text_points(path) -> list[float]:
    """The sizes of all texts at the size that the SVG has on paper."""
    root = ET.parse(path).getroot()
    assert points_of(root.get("width")) == pytest.approx(float(root.get("viewBox").split()[2]), abs=1)
    scales = [float(scale) for scale in re.findall(r"scale\(([\d.]+)", path.read_text(encoding="utf-8"))]
    return [scale * float(text.get("font-size")) for scale in scales[:1] for text in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("together", [False, True], ids=["each", "together"])
def test_a_figure_is_as_wide_as_a_column_in_every_format_and_its_text_can_be_read(together, renderer, tmp_path):
    formats = ["svg", "png", "pdf"]
    paths = draw_genotype(load_genotype("darts_v2"), tmp_path, formats, width="column", together=together)
    for path in paths:
        if path.suffix == ".svg":
            assert points_of(ET.parse(path).getroot().get("width")) == pytest.approx(COLUMN, abs=0.5)
            operators = [size for size in shown_text_points(path) if size > 0.8 * max(shown_text_points(path))]
            assert min(operators) >= READABLE_POINTS - 0.1 and max(operators) <= LARGEST_POINTS * 18 / 16 + 0.1
        elif path.suffix == ".png":
            assert Image.open(path).width == pytest.approx(COLUMN * 300 / 72, abs=2)
        elif path.suffix == ".pdf":
            assert pdf_size(path)[0] == pytest.approx(COLUMN, abs=0.6)
    names = {path.name for path in paths if path.suffix == ".svg"}
    assert names == ({"cells.svg"} if together else {"normal.svg", "reduce.svg"})


@pytest.mark.parametrize("name", ["darts_v1", "amoebanet", "snas_mild"])
def test_published_cells_are_readable_in_a_column(name):
    genotype = load_genotype(name)
    for kind in ("normal", "reduce"):
        fitted = fit([lambda layout, kind=kind: cell_dot(getattr(genotype, kind), "", layout=layout)], COLUMN)
        assert fitted.text_points >= 5  # amoebanet's ten edges side by side
    assert fitted.text_points <= LARGEST_POINTS


def test_a_deep_cell_is_laid_out_so_that_it_stays_readable():
    scaled_down = fit([lambda layout: cell_dot(CHAIN, "", layout=layout)], COLUMN)
    assert scaled_down.text_points >= READABLE_POINTS
    (layout,) = scaled_down.layouts
    assert (layout.direction, layout.width) == ("TB", pytest.approx(COLUMN))


def test_a_small_cell_is_spread_over_the_page_not_blown_up(renderer, tmp_path):
    cell = one_node("skip_connect", "sandglass")
    draw_genotype(Genotype(cell, cell), tmp_path, ["svg"], width="17.4")
    assert points_of(ET.parse(tmp_path / "normal.svg").getroot().get("width")) == pytest.approx(493.2, abs=1)
    assert max(shown_text_points(tmp_path / "normal.svg")) == pytest.approx(LARGEST_POINTS, rel=0.02)


def test_both_cells_stand_in_order_in_one_picture(renderer, tmp_path):
    genotype = Genotype(one_node("sep_conv_3x3"), one_node("sandglass"), found_by={"seed": 4})
    draw_genotype(genotype, tmp_path, ["svg", "png"], together=True)
    texts = svg_texts(tmp_path / "cells.svg")
    assert texts.index("(a) Normal cell") < texts.index("(b) Reduction cell")
    assert texts.index("sep_conv_3x3") < texts.index("SGBlock /2")
    moves = re.findall(r'<g transform="translate\(([\d.]+) ([\d.]+)\)', (tmp_path / "cells.svg").read_text())
    assert float(moves[0][0]) == 0 < float(moves[1][0])
    ids = re.findall(r'\bid="([^"]+)"', (tmp_path / "cells.svg").read_text())
    assert len(ids) == len(set(ids)) > 10
    png, svg = Image.open(tmp_path / "cells.png"), ET.parse(tmp_path / "cells.svg").getroot()
    assert png.width == pytest.approx(points_of(svg.get("width")) * 200 / 72, rel=0.01)
    assert (tmp_path / "cells.dot").read_text().count("digraph") == 2


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_hostile_name_is_only_text_in_a_joined_picture_too(text, tmp_path):
    draw_genotype(
        Genotype(one_node(text), one_node("sandglass")), tmp_path, ["svg", "pdf"], width="column", together=True
    )
    root = ET.parse(tmp_path / "cells.svg").getroot()
    drawn = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert drawn <= {"svg", "g", "rect", "title", "text", "polygon", "path", "ellipse", "polyline"}
    assert "SGBlock" in " ".join(svg_texts(tmp_path / "cells.svg"))


def test_the_same_figure_is_the_same_bytes_again(tmp_path, monkeypatch):
    genotype = load_genotype("darts_v2")
    first, again = (
        draw_genotype(genotype, tmp_path / folder, ["svg", "png", "pdf"], width="page", together=True)
        for folder in ("first", "again")
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


@pytest.mark.parametrize("style", STYLES)
def test_no_two_operators_look_alike(style):
    assert set(operator_names()) == set(SHADES)
    looks = {name: operator_look(name, get_operator(name).kind, style) for name in operator_names()}
    for (name, look), (other, other_look) in combinations(looks.items(), 2):
        assert (look.fill, look.dash) != (other_look.fill, other_look.dash), (name, other)


def test_a_look_depends_on_the_name_and_kind_alone():
    for style in STYLES:
        assert operator_look("ghost_3x3", "block", style) == operator_look("ghost_3x3", "block", style)
    assert operator_look("ghost_3x3", "block").fill == "#F3D2B8"  # the same in every process and version
    others = {operator_look(f"block_{number}", "block") for number in range(200)}
    assert len(others) == 9


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", KINDS)
def test_text_can_be_read_on_every_fill(style, kind):
    for number in range(20):
        look = operator_look(f"own_{number}", kind, style)
        light, dark = sorted((luminance(look.fill), luminance(look.text)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.1, level AA


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_grey_style_has_no_colour(tmp_path):
    draw_genotype(load_genotype("darts_v2"), tmp_path, ["png"], style="grey")
    for kind in ("normal", "reduce"):
        image = Image.open(io.BytesIO((tmp_path / f"{kind}.png").read_bytes())).convert("RGB")
        extremes = [max(colour) - min(colour) for _, colour in image.getcolors(1 << 20)]
        assert max(extremes) <= 5  # the boxes of inputs are a blueish grey


@pytest.mark.parametrize("text", ["colum", "0", "-3", "nan", "inf", "1e9", "", "8,4", "2.9", "121"])
def test_a_width_that_is_none_is_refused(text, refused):
    with refused(f'width "{text}"', "column, page, and 3 to 120 centimetres"):
        width_in_points(text)


def test_nothing_is_written_if_a_style_or_a_format_is_not_there(tmp_path, refused):
    genotype = load_genotype("darts_v2")
    with refused('unknown style "gray"; did you mean "grey"'):
        draw_genotype(genotype, tmp_path / "out", style="gray")
    for together in (False, True):
        with refused('unknown diagram format "pgn"; did you mean "png"'):
            draw_genotype(genotype, tmp_path / "out", ["svg", "pgn"], together=together)
    assert not (tmp_path / "out").exists()


def test_a_pdf_of_both_cells_without_svglib_is_an_input_error(tmp_path, monkeypatch, refused):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with refused('"pdf" of both cells needs svglib', "pip install svglib"):
        draw_genotype(load_genotype("darts_v2"), tmp_path / "out", ["pdf"], together=True)
    assert not (tmp_path / "out").exists()
