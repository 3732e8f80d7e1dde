"""Genotypes: files and the printed notation in and out, and one line for everything else. Nothing is evaluated."""

import json
import sys
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cells.genotype import CellGenotype, Edge, Genotype
from cells.genotype_file import load_genotype, parse_genotype, published_genotypes
from search_spaces.errors import InputError
from some_cells import genotype_of

NORMAL = "[('sep_conv_3x3', 0), ('skip_connect', 1), ('sandglass', 2), ('max_pool_3x3', 0)]"
REDUCE = "[('max_pool_3x3', 0), ('max_pool_3x3', 0), ('none', 1), ('skip_connect', 2)]"
NOTATION = f"Genotype(normal={NORMAL}, normal_concat=[2, 3], reduce={REDUCE}, reduce_concat=[3])"
REDUCTION = genotype_of("max_pool_3x3 0, max_pool_3x3 0", "none 1, skip_connect 2", concat=(3,))
GENOTYPE = genotype_of("sep_conv_3x3 0, skip_connect 1", "sandglass 2, max_pool_3x3 0", concat=(2, 3), reduce=REDUCTION)


def as_json(**changes) -> str:
    """The JSON of a small genotype with top-level keys replaced, or left out where the change is None."""
    cell = {"nodes": [[["sep_conv_3x3", 0], ["skip_connect", 1]]], "concat": [2]}
    content = {"format": 1, "space": "darts", "normal": cell, "reduce": cell, "found_by": {}} | changes
    return json.dumps({key: value for key, value in content.items() if value is not None})


def with_cell(nodes=((("sep_conv_3x3", 0), ("skip_connect", 1)),), concat=(2,)) -> str:
    return as_json(normal={"nodes": nodes, "concat": concat})


# Reading and writing


def test_json_is_read_and_written():
    found = Genotype(GENOTYPE.normal, GENOTYPE.reduce, "darts+sandglass", {"seed": 3, "by": "Müller"})
    again = parse_genotype(found.to_json())
    assert again == found and again.found_by == found.found_by and again.space == "darts+sandglass"
    content = json.loads(found.to_json())
    assert content["format"] == 1
    assert content["normal"]["nodes"][1] == [["sandglass", 2], ["max_pool_3x3", 0]]
    assert content["reduce"]["concat"] == [3]


def test_json_without_space_and_found_by_is_read():
    genotype = parse_genotype(as_json(space=None, found_by=None))
    assert genotype.space == "darts" and genotype.found_by == {}


@pytest.mark.parametrize(
    "text",
    [
        NOTATION,
        f"\n\n  {NOTATION}  \n",
        f"DARTS_V9 = {NOTATION}",
        f"# found today\nDARTS_V9={NOTATION}  # seed 3\n",
        f"Genotype({NORMAL}, [2, 3], {REDUCE}, [3])",
        f"V = Genotype({NORMAL}, range(2, 4), reduce_concat=range(3, 4), reduce={REDUCE})",
        NOTATION.replace("[2, 3]", "range(2, 4)").replace("[3]", "range(3, 4)"),
        NOTATION.replace("[2, 3]", "(2, 3)").replace("[3]", "(3,)"),
        NOTATION.replace("(", " ( ").replace(", ", " ,\n    ").replace("=", " = "),
        NOTATION.replace("'", '"'),
        NOTATION.replace("('sandglass', 2)", "['sandglass', 2]"),
        GENOTYPE.to_json(),
    ],
)
def test_json_and_the_printed_notation_in_all_its_forms_are_read_also_as_an_argument(text):
    assert parse_genotype(text) == load_genotype(text) == GENOTYPE


def test_the_notation_is_written_as_papers_print_it():
    assert GENOTYPE.to_notation() == NOTATION


def test_a_cell_of_five_nodes_and_another_concat_is_read():
    edges = "[" + ", ".join(["('sep_conv_3x3', 0), ('avg_pool_3x3', 1)"] * 5) + "]"
    genotype = parse_genotype(f"N = Genotype({edges}, [2, 3, 4, 5, 6], {edges}, [4, 5, 6])")
    assert len(genotype.normal.nodes) == len(genotype.reduce.nodes) == 5
    assert genotype.normal.concat == (2, 3, 4, 5, 6) and genotype.reduce.concat == (4, 5, 6)


def test_a_node_may_have_any_number_of_edges_but_not_in_the_notation(refused):
    one_and_three = genotype_of("sandglass 0", "sandglass 0, sandglass 1, sandglass 2")
    assert parse_genotype(one_and_three.to_json()) == one_and_three
    with refused("two edges at each node"):
        one_and_three.to_notation()


def test_who_found_a_genotype_does_not_make_it_another():
    assert Genotype(GENOTYPE.normal, GENOTYPE.reduce, found_by={"seed": 1}) == GENOTYPE
    assert Genotype(GENOTYPE.normal, GENOTYPE.reduce, space="other") != GENOTYPE


def test_operators_are_listed_once_in_the_order_of_their_use():
    assert GENOTYPE.operators == ("sep_conv_3x3", "skip_connect", "sandglass", "max_pool_3x3", "none")


def test_edges_are_listed_with_their_targets():
    assert [(target, edge.source) for target, edge in GENOTYPE.normal.edges] == [(2, 0), (2, 1), (3, 2), (3, 0)]


# What a GENOTYPE argument can be


@pytest.mark.parametrize("name", published_genotypes())
def test_every_published_cell_has_its_source_and_survives_both_forms(name):
    genotype = load_genotype(name)
    assert genotype == load_genotype(name.upper())
    assert {"method", "paper", "source"} <= set(genotype.found_by)
    assert parse_genotype(genotype.to_json()) == genotype
    if all(len(edges) == 2 for cell in (genotype.normal, genotype.reduce) for edges in cell.nodes):
        printed = parse_genotype(genotype.to_notation())
        assert (printed.normal, printed.reduce) == (genotype.normal, genotype.reduce)


def test_darts_first_order_cells_are_those_of_the_reference():
    """The second order's are compared with those that NNI pins, in test_interchange.py."""
    normal = ["sep_conv_3x3 1, sep_conv_3x3 0", "skip_connect 0, sep_conv_3x3 1"]
    normal += ["skip_connect 0, sep_conv_3x3 1", "sep_conv_3x3 0, skip_connect 2"]
    reduce = ["max_pool_3x3 0, max_pool_3x3 1", "skip_connect 2, max_pool_3x3 0"]
    reduce += ["max_pool_3x3 0, skip_connect 2", "skip_connect 2, avg_pool_3x3 0"]
    found, reference = load_genotype("darts_v1"), genotype_of(*normal, reduce=genotype_of(*reduce))
    for kind, cell in reference.cells.items():
        assert found.cells[kind].concat == cell.concat
        for edges, expected in zip(found.cells[kind].nodes, cell.nodes, strict=True):
            assert len(edges) == 2 and set(edges) == set(expected)  # their order says nothing


@pytest.mark.parametrize("encode", [str, lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")])
@pytest.mark.parametrize("text", [GENOTYPE.to_json(), f"V = {NOTATION}\n"])
def test_a_file_of_either_form_is_read(tmp_path, text, encode):
    path = tmp_path / "mine.json"
    path.write_bytes(encode(text).encode())
    assert load_genotype(path) == load_genotype(str(path)) == GENOTYPE


def test_a_run_folder_means_the_genotype_in_it_unless_the_run_is_unfinished(tmp_path, refused):
    with refused("no genotype.json"):
        load_genotype(tmp_path)
    (tmp_path / "genotype.json").write_text(GENOTYPE.to_json())
    assert load_genotype(tmp_path) == GENOTYPE
    (tmp_path / "config.yaml").write_text("epochs: 2\n")
    with refused("unfinished run", "--resume"):
        load_genotype(tmp_path)
    (tmp_path / "result.json").write_text("{}\n")
    assert load_genotype(tmp_path) == GENOTYPE


def test_an_argument_that_is_nothing_is_answered_with_what_it_could_be(refused, tmp_path):
    with refused('no genotype "darts_v3"', 'did you mean "darts_v', "run folder"):
        load_genotype("darts_v3")
    with refused("cannot read genotype"):
        load_genotype("x" * 5000)
    with refused("no genotype"):
        load_genotype("a\0b")
    with refused("not a text file"):
        path = tmp_path / "weights.pt"
        path.write_bytes(b"\x80\x02\xff\xfe")
        load_genotype(path)
    with refused(f"genotype {tmp_path}", "broken.json", "not valid JSON"):
        (tmp_path / "broken.json").write_text('{"format": 1,')
        load_genotype(tmp_path / "broken.json")


# What is refused

DEEP = 50_000
BROKEN = {
    "nothing": ("", ["neither JSON nor Genotype("]),
    "prose": ("the best cell", ["neither JSON nor Genotype("]),
    "a list": ("[1, 2]", ["neither JSON nor Genotype("]),
    "another call": ("Cell(normal=[])", ["neither JSON nor Genotype("]),
    "two statements": (f"import os\n{NOTATION}", ["neither JSON nor Genotype("]),
    "cut off": (NOTATION[:-1], ["neither JSON nor Genotype("]),
    "a null byte": (NOTATION + "\0", ["neither JSON nor Genotype("]),
    "a lone surrogate": ("\ud800" + NOTATION, ["neither JSON nor Genotype("]),
    "a missing field": (f"Genotype(normal={NORMAL}, normal_concat=[2], reduce={REDUCE})", ["exactly the fields"]),
    "a field too many": (f"Genotype({NORMAL}, [2], {REDUCE}, [2], 5)", ["exactly the fields"]),
    "an unknown field": (f"Genotype(normal={NORMAL}, concat=[2])", ['no single field "concat"']),
    "a field twice": (f"Genotype({NORMAL}, normal={NORMAL})", ['no single field "normal"']),
    "starred fields": ("Genotype(**{'normal': 1})", ["no single field"]),
    "an odd number of edges": (NOTATION.replace(", ('max_pool_3x3', 0)]", "]"), ["normal lists 3 edges"]),
    "no edges": (NOTATION.replace(NORMAL, "[]"), ["normal cell", "no nodes"]),
    "too few nodes": (NOTATION.replace("[2, 3]", "range(2, 6)"), ["names node 4", "nodes 2 to 3"]),
    "a range too long": (NOTATION.replace("[2, 3]", "range(0, 10**9)"), ["normal_concat is not a list"]),
    "a range of millions": (NOTATION.replace("[2, 3]", "range(2, 10000000)"), ["normal_concat is not a list"]),
    "a range of step 0": (NOTATION.replace("[2, 3]", "range(2, 4, 0)"), ["normal_concat is not a list"]),
    "a set": (NOTATION.replace("[2, 3]", "{2, 3}"), ["normal_concat must be lists"]),
    "a comprehension": (NOTATION.replace("[2, 3]", "[i for i in (2, 3)]"), ["normal_concat is not a list"]),
    "a name": (NOTATION.replace(NORMAL, "NORMAL"), ["normal is not a list"]),
    "a huge source": (NOTATION.replace("'sandglass', 2", f"'sandglass', 0x{'f' * 9000}"), ["does not exist yet"]),
    "bytes as operator": (NOTATION.replace("'sandglass'", "b'sandglass'"), ["must be a name"]),
    "deep brackets": ("Genotype(" + "[" * DEEP, ["neither JSON"]),
    "deep signs": (NOTATION.replace("[2, 3]", "-" * 900 + "1"), ["normal_concat is not a list"]),
    "deep sums": (NOTATION.replace("[2, 3]", "1" + "+1" * 900), ["normal_concat is not a list"]),
    "deep attributes": (NOTATION.replace("[2, 3]", "a" + ".a" * 900), ["normal_concat is not a list"]),
    "broken JSON": ('{"format": 1,', ["not valid JSON"]),
    "deep JSON": ('{"format":' + "[" * 200_000, ["not valid JSON"]),
    "NaN": (as_json(found_by={"error": float("nan")}), ["NaN is not a finite number"]),
    "Infinity": (as_json(found_by={"error": float("-inf")}), ["-Infinity is not a finite number"]),
    "a number beyond floats": (as_json(found_by={"error": 1}).replace("1}", "1e999}"), ["1e999 is not a finite"]),
    "a key twice": (as_json()[:-1] + ', "normal": {}}', ["the key 'normal' twice"]),
    "a cell's key twice": (as_json().replace('"concat"', '"nodes": [], "concat"'), ["the key 'nodes' twice"]),
    "an unknown key": (as_json(normall=1), ['unknown key "normall"', 'did you mean "normal"?']),
    "no format": (as_json(format=None), ['"format" is None', "reads format 1"]),
    "a later format": (as_json(format=2), ['"format" is 2']),
    "a format that is true": (as_json(format=True), ['"format" is True']),
    "a space that is no name": (as_json(space=3), ['"space" is 3']),
    "an empty space": (as_json(space=""), ["\"space\" is ''"]),
    "a finder that is no object": (as_json(found_by=[1]), ['"found_by" must be an object']),
    "no cell": (as_json(reduce=None), ['"reduce" must be an object']),
    "a cell that is a list": (as_json(reduce=[]), ['"reduce" must be an object']),
    "a cell without concat": (as_json(normal={"nodes": []}), ['"normal" must be an object with the keys']),
    "nodes that are no list": (with_cell(nodes={}), ["must be lists"]),
    "a concat that is no list": (with_cell(concat=2), ["must be lists"]),
    "no nodes at all": (with_cell(nodes=[]), ["normal cell", "has no nodes"]),
    "a node without edges": (with_cell(nodes=[[]]), ["node 2 has no edges"]),
    "a node that is null": (with_cell(nodes=[None]), ["a node is None"]),
    "an edge that is a word": (with_cell(nodes=[["sandglass"]]), ["must be a list of"]),
    "an edge of three": (with_cell(nodes=[[["sandglass", 0, 1]]]), ["must be a list of"]),
    "a source that does not exist yet": (with_cell(nodes=[[["sandglass", 2]]]), ["source 2", "0 to 1"]),
    "a source below 0": (with_cell(nodes=[[["sandglass", -1]]]), ["source -1"]),
    "a source that is true": (with_cell(nodes=[[["sandglass", True]]]), ["source True"]),
    "a source that is half": (with_cell(nodes=[[["sandglass", 0.0]]]), ["source 0.0"]),
    "a source in words": (with_cell(nodes=[[["sandglass", "0"]]]), ["source '0'"]),
    "an operator that is a number": (with_cell(nodes=[[[3, 0]]]), ["names the operator 3"]),
    "an operator without a name": (with_cell(nodes=[[["", 0]]]), ["must be a name"]),
    "an empty concat": (with_cell(concat=[]), ["concat is empty"]),
    "a concat of a missing node": (with_cell(concat=[2, 3]), ["names node 3"]),
    "a concat of an input": (with_cell(concat=[1]), ["names node 1"]),
    "a concat of lists": (with_cell(concat=[[2]]), ["names node [2]"]),
    "a concat that is true": (with_cell(concat=[True]), ["names node True"]),
    "a concat that names a node twice": (with_cell(concat=[2, 2]), ["names a node twice"]),
}


@pytest.mark.parametrize("text, words", BROKEN.values(), ids=BROKEN)
def test_a_broken_text_gets_one_line(refused, text, words):
    with refused(*words):
        parse_genotype(text)


@pytest.mark.parametrize("code", ["__import__('os').mkdir('made')", "open('made', 'w')", "exec('import os')", "exit()"])
@pytest.mark.parametrize(
    "text",
    [
        "Genotype(normal={code}, normal_concat=[2], reduce=[], reduce_concat=[2])",
        "Genotype(normal=[], normal_concat=range({code}, 2), reduce=[], reduce_concat=[2])",
        "Genotype(normal=[('a', {code}), ('a', 0)], normal_concat=[2], reduce=[], reduce_concat=[2])",
        "Genotype({code}, [2], [], [2])",
        "Genotype(*[{code}])",
        "Genotype(**{{'normal': {code}}})",
        "{code}\nGenotype([], [2], [], [2])",
        "(lambda: {code})()",
        "Genotype(normal=f'{{{code}}}', normal_concat=[2], reduce=[], reduce_concat=[2])",
    ],
)
def test_code_in_a_text_is_refused_and_not_run(refused, tmp_path, monkeypatch, text, code):
    monkeypatch.chdir(tmp_path)
    with refused():
        parse_genotype(text.format(code=code))
    assert not (tmp_path / "made").exists()


def test_a_stray_backslash_prints_no_warning():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parse_genotype(NOTATION.replace("sandglass", r"sand\glass"))
    assert not caught


def test_a_message_about_a_huge_value_stays_short(refused):
    with refused("must be a list of"):
        parse_genotype(with_cell(nodes=[["x" * 1_000_000]]))
    with refused("unknown key"):
        parse_genotype(as_json(**{"x" * 100_000: 1}))


# Properties


@st.composite
def cells(draw, edges=(1, 2, 3)):
    names = st.text(min_size=1, max_size=12)
    nodes = tuple(
        tuple(Edge(draw(names), draw(st.integers(0, target - 1))) for _ in range(draw(st.sampled_from(edges))))
        for target in range(2, 2 + draw(st.integers(1, 6)))
    )
    concat = draw(st.lists(st.integers(2, len(nodes) + 1), min_size=1, unique=True))
    return CellGenotype(nodes, tuple(concat))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.builds(Genotype, cells(), cells(), st.text(min_size=1), st.dictionaries(st.text(), plain, max_size=3)))
def test_every_genotype_survives_json(genotype):
    again = parse_genotype(genotype.to_json().encode().decode())
    assert again == genotype and again.found_by == genotype.found_by


@given(st.builds(Genotype, cells(edges=(2,)), cells(edges=(2,))))
def test_every_genotype_of_two_edges_a_node_survives_the_notation(genotype):
    assert parse_genotype(genotype.to_notation()) == genotype


def parses_or_is_refused(text):
    try:
        genotype = parse_genotype(text)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert parse_genotype(genotype.to_json()) == genotype


@given(st.text())
def test_any_text_is_a_genotype_or_an_input_error(text):
    parses_or_is_refused(text)
    parses_or_is_refused("{" + text)
    parses_or_is_refused(f"Genotype({text})")


@given(st.dictionaries(st.sampled_from(["format", "space", "normal", "reduce", "found_by", "x"]), plain))
def test_any_json_is_a_genotype_or_an_input_error(content):
    parses_or_is_refused(json.dumps(content))


@given(st.sampled_from([NOTATION, GENOTYPE.to_json()]), st.data())
def test_any_damage_to_a_genotype_is_a_genotype_or_an_input_error(text, data):
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 9)))
        text = text[:start] + data.draw(st.text(max_size=3) | st.sampled_from(["(", "]", "1", "'", ","])) + text[end:]
    parses_or_is_refused(text)


@pytest.mark.skipif(not hasattr(sys, "set_int_max_str_digits"), reason="this Python prints integers of any length")
@given(st.integers(min_value=10**5000))
def test_numbers_that_python_does_not_print_are_refused(number):
    with pytest.raises(InputError):
        parse_genotype(NOTATION.replace("'sandglass', 2", f"'sandglass', {number:#x}"))
