"""Cells go to NNI's dictionary and come back; what is not in its DARTS space is refused in one line."""

import json

import pytest

from cells.genotype import Genotype
from cells.genotype_file import load_genotype, parse_genotype, published_genotypes
from cells.nni import to_nni

# github.com/microsoft/nni, nni/nas/hub/pytorch/nasnet.py, DARTS.load_searched_model("darts-v2"): operators, sources
NNI_DARTS_V2 = {
    "normal": [
        *("sep_conv_3x3 0", "sep_conv_3x3 1", "sep_conv_3x3 0", "sep_conv_3x3 1"),
        *("sep_conv_3x3 1", "skip_connect 0", "skip_connect 0", "dil_conv_3x3 2"),
    ],
    "reduce": [
        *("max_pool_3x3 0", "max_pool_3x3 1", "skip_connect 2", "max_pool_3x3 1"),
        *("max_pool_3x3 0", "skip_connect 2", "skip_connect 2", "max_pool_3x3 1"),
    ],
}


def dictionary(cells=None, as_list=True) -> dict:
    """Edges as NNI 3, or with `as_list` false NNI 2, writes them."""
    content = {}
    for kind, edges in (cells or NNI_DARTS_V2).items():
        for index, edge in enumerate(edges):
            operator, source = edge.split()
            content[f"{kind}/op_{2 + index // 2}_{index % 2}"] = operator
            content[f"{kind}/input_{2 + index // 2}_{index % 2}"] = [int(source)] if as_list else int(source)
    return content


def cells_of(genotype: Genotype) -> tuple:
    return genotype.normal, genotype.reduce


# What NNI cannot say, by the cells that ship with the package
OTHERS = {"nasnet": "four nodes", "amoebanet": "four nodes", "fairdarts_a": "two edges", "fairdarts_b": "two edges"}


@pytest.mark.parametrize("as_list", [True, False], ids=["NNI 3", "NNI 2"])
def test_the_dictionary_that_nni_pins_is_darts_v2(as_list, tmp_path):
    path = tmp_path / "arch.json"
    path.write_text(json.dumps(dictionary(as_list=as_list)))
    assert cells_of(load_genotype(path)) == cells_of(load_genotype("darts_v2"))


def test_darts_v2_is_written_as_nni_pins_it():
    assert to_nni(load_genotype("darts_v2")) == dictionary()


@pytest.mark.parametrize("name", sorted(set(published_genotypes()) - set(OTHERS)))
def test_every_published_cell_that_nni_can_say_survives_it(name):
    genotype = load_genotype(name)
    assert cells_of(parse_genotype(json.dumps(to_nni(genotype)))) == cells_of(genotype)


@pytest.mark.parametrize(("name", "words"), OTHERS.items())
def test_a_cell_that_nni_cannot_say_is_refused(name, words, refused):
    with refused(words, "NNI"):
        to_nni(load_genotype(name))


def test_an_operator_that_nni_does_not_have_is_refused(refused):
    content = dictionary() | {"reduce/op_4_1": "sandglass"}
    genotype = parse_genotype(json.dumps(content))  # reading it is another matter: it may be from an extended space
    assert genotype.reduce.nodes[2][1].operator == "sandglass"
    with refused("reduce cell", '"sandglass"', "dil_conv_5x5"):
        to_nni(genotype)


def test_width_and_depth_that_nni_searched_are_kept_as_a_remark():
    genotype = parse_genotype(json.dumps(dictionary() | {"width": 36, "depth": 20}))
    assert genotype.found_by == {"method": "NNI", "width": 36, "depth": 20}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"normal/op_6_0": "sep_conv_3x3", "normal/input_6_0": [0]}, "normal/op_6_0"),
        ({"normal/op_2_2": "sep_conv_3x3"}, "normal/op_2_2"),
        ({"reduce/input_2_0": [0, 1]}, "one source"),
        ({"reduce/input_2_0": []}, "one source"),
        ({"reduce/input_2_0": [2]}, "allowed are 0 to 1"),
        ({"reduce/input_2_0": "0"}, "source '0'"),
        ({"reduce/op_2_0": 3}, "operator 3"),
        ({"format": 1}, "format"),
    ],
)
def test_a_wrong_value_is_named(changes, words, refused):
    with refused(words):
        parse_genotype(json.dumps(dictionary() | changes))


@pytest.mark.parametrize("label", ["normal/op_3_1", "reduce/input_5_0"])
def test_a_missing_label_is_named(label, refused):
    content = dictionary()
    del content[label]
    with refused(f'"{label}"'):
        parse_genotype(json.dumps(content))


def test_a_dictionary_of_another_space_is_not_read_as_darts(refused):
    cells = {kind: [*edges, "sep_conv_3x3 0", "max_pool_3x3 1"] for kind, edges in NNI_DARTS_V2.items()}
    with refused("normal/op_6_0", "five nodes"):
        parse_genotype(json.dumps(dictionary(cells)))
