"""Numbers with a source: the DARTS paper, the authors' code (quark0/darts), and closed forms.

That `network_costs` are those of a network that is built is in test_costs.py.
"""

import pytest
import torch

from cells.costs import network_costs
from cells.genotype_file import load_genotype, published_genotypes
from cells.supernet import Supernet
from search_spaces import build_operator, load_space
from search_spaces.blocks import hidden_channels, released_hidden_channels
from search_spaces.complexity import count_madds, count_parameters
from some_cells import genotype_of

# Counted with quark0/darts' own code (20 cells, 36 channels, 10 classes, one 32x32 image): parameters without and with
# the auxiliary head, and multiply-adds of the convolutions and the classifier.
REFERENCE = {
    "darts_v1": (3_169_414, 3_645_840, 500_987_520),
    "darts_v2": (3_349_342, 3_825_768, 528_359_040),
    "nasnet": (3_830_950, 4_288_944, 603_452_448),
    "amoebanet": (3_145_078, 3_603_072, 488_931_552),
}


def parameters_with_normal_edges(*operators) -> int:
    """Of the retrained network whose other edges, of four nodes with two each, have no parameters."""
    names = [*operators, *["skip_connect"] * (8 - len(operators))]
    normal = (f"{one} 0, {other} 1" for one, other in zip(names[::2], names[1::2], strict=True))
    reduce = genotype_of(*["max_pool_3x3 0, max_pool_3x3 1"] * 4)
    return network_costs(genotype_of(*normal, reduce=reduce)).parameters


@pytest.mark.parametrize("name", REFERENCE)
def test_a_published_cell_costs_what_the_authors_code_counts(name):
    assert network_costs(load_genotype(name)) == REFERENCE[name]


def sizes_in_print():
    """(name, millions of parameters, with the auxiliary head) where the source counts DARTS' network.

    Not DARTS' first-order cell: the paper prints 3.3 million for both orders.
    """
    for name in published_genotypes():
        found_by = load_genotype(name).found_by
        figures = found_by.get("published_figures_from", "")
        if "published_parameters_millions" in found_by and "own network" not in figures and name != "darts_v1":
            yield name, found_by["published_parameters_millions"], "with the auxiliary head" in figures


@pytest.mark.parametrize("name, millions, with_head", list(sizes_in_print()))
def test_a_published_cell_is_as_large_as_its_source_says(name, millions, with_head):
    digits = len(str(millions).partition(".")[2])
    costs = network_costs(load_genotype(name))
    counted = costs.parameters_with_auxiliary if with_head else costs.parameters
    assert counted / 1e6 == pytest.approx(millions, abs=10.0**-digits)


@pytest.mark.parametrize(
    "space, parameters, alphas, madds",
    [
        ("darts", 1_930_618, 224, 300_255_744),  # the authors' code; NASLib's test
        ("darts+sandglass", 2_080_250, 252, None),
        ("darts+ir", 4_839_034, 252, None),
    ],
)
def test_the_supernet_has_the_size_of_the_authors(space, parameters, alphas, madds):
    with torch.device("meta"):
        supernet = Supernet(load_space(space), channels=16, layers=8, classes=10)
    assert sum(weight.numel() for weight in supernet.weights()) == parameters
    assert sum(table.numel() for table in supernet.alphas()) == alphas
    assert madds is None or count_madds(supernet, (1, 3, 32, 32)) == madds


def test_a_network_of_edges_without_parameters_has_its_size():
    assert parameters_with_normal_edges() == 1_370_134


@pytest.mark.parametrize(
    "operator, parameters", [("sep_conv_3x3", 359_856), ("sandglass", 91_224), ("inverted_residual", 2_080_512)]
)
@pytest.mark.parametrize("count", [1, 8])
def test_each_normal_edge_adds_its_parameters(operator, parameters, count):
    assert parameters_with_normal_edges(*[operator] * count) == 1_370_134 + count * parameters


def test_two_cells_near_the_2_45_million_of_table_9():
    assert parameters_with_normal_edges(*["sep_conv_3x3"] * 2, *["sandglass"] * 4) == 2_454_742
    assert parameters_with_normal_edges(*["sep_conv_3x3"] * 3) == 2_449_702


def separable(k):
    return lambda C: 2 * (k**2 * C + C**2 + 2 * C)


def dilated(k):
    return lambda C: k**2 * C + C**2 + 2 * C


def sandglass(width):
    return lambda C: 2 * C * width(C, 6) + 2 * width(C, 6) + 24 * C


def inverted_residual(t):
    return lambda C: 2 * t * C**2 + 13 * t * C + 2 * C


CLOSED_FORMS = {
    "none": lambda C: 0,
    "max_pool_3x3": lambda C: 0,
    "avg_pool_3x3": lambda C: 0,
    "sep_conv_3x3": separable(3),
    "sep_conv_5x5": separable(5),
    "sep_conv_7x7": separable(7),
    "dil_conv_3x3": dilated(3),
    "dil_conv_5x5": dilated(5),
    "conv_7x1_1x7": lambda C: 14 * C**2 + 2 * C,
    "inverted_residual": inverted_residual(6),
    "inverted_residual_t3": inverted_residual(3),
    "sandglass": sandglass(hidden_channels),
    "sandglass_half": sandglass(hidden_channels),
    "sandglass_released": sandglass(released_hidden_channels),
    "bottleneck_depthwise": lambda C: 2 * C * (C // 6) + 13 * (C // 6) + 2 * C,
    "bottleneck_depthwise2": lambda C: 2 * C * (C // 6) + 24 * (C // 6) + 2 * C,
    "inverted_low_depthwise": lambda C: 12 * C**2 + 36 * C,
}


@pytest.mark.parametrize("channels", [16, 32, 33, 36, 64, 144])
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_an_operator_has_as_many_parameters_as_its_closed_form(name, channels):
    for stride in (1, 2):
        assert count_parameters(build_operator(name, channels, stride, True)) == CLOSED_FORMS[name](channels)


@pytest.mark.parametrize("channels", [16, 36])
def test_a_skip_has_parameters_at_stride_2_only(channels):
    assert count_parameters(build_operator("skip_connect", channels, 1, True)) == 0
    assert count_parameters(build_operator("skip_connect", channels, 2, True)) == channels**2 + 2 * channels
