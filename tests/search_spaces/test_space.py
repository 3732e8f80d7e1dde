"""Search spaces: what --space and a YAML file mean, and what is said when they mean nothing."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import InputError, SearchSpace, load_space, operator_names

DARTS = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect")
DARTS += ("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")


@pytest.fixture
def space_file(tmp_path):
    def write(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    "text, appended",
    [
        ("darts", ()),
        ("darts+ir", ("inverted_residual",)),
        ("darts+sandglass", ("sandglass",)),
        ("darts+ir+sandglass", ("inverted_residual", "sandglass")),
        ("darts+sandglass+ir", ("sandglass", "inverted_residual")),
    ],
)
def test_a_name_is_darts_primitives_with_operators_appended_in_order(text, appended):
    space = load_space(text)
    assert space == SearchSpace(text, (*DARTS, *appended), nodes=4, edges_per_node=2)


@pytest.mark.parametrize("name", [name for name in operator_names() if name not in DARTS])
def test_any_registered_operator_can_be_appended(name):
    assert load_space(f"darts+{name}").operators == (*DARTS, name)


def test_four_nodes_have_fourteen_edges_target_by_target():
    edges = load_space("darts").edges
    assert len(edges) == 14
    assert edges[:5] == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3)) and edges[-1] == (4, 5)
    assert SearchSpace("tiny", ("skip_connect",), nodes=1).edges == ((0, 2), (1, 2))


def test_a_file_extends_removes_and_appends(space_file):
    path = space_file("extends: darts+ir\noperators: [sandglass]\nremove: [dil_conv_5x5, none]\nnodes: 3\n")
    expected = (*DARTS[1:-1], "inverted_residual", "sandglass")
    assert load_space(path) == SearchSpace("mine", expected, nodes=3, edges_per_node=2)


def test_a_file_without_extends_lists_all_operators_and_may_name_itself(space_file):
    path = space_file("operators: [skip_connect, sandglass]\nname: small\nedges_per_node: 1\n", "other.yml")
    assert load_space(str(path)) == SearchSpace("small", ("skip_connect", "sandglass"), nodes=4, edges_per_node=1)


def test_a_file_extends_a_file_beside_it_with_its_sizes(space_file):
    space_file("extends: darts\nnodes: 2\nedges_per_node: 1\n", "base.yaml")
    path = space_file("extends: base.yaml\noperators: [sandglass]\n")
    assert load_space(path) == SearchSpace("mine", (*DARTS, "sandglass"), nodes=2, edges_per_node=1)


def test_a_file_loads_the_plugins_beside_it(space_file, write_plugin):
    write_plugin()
    path = space_file("extends: darts\nplugins: [ghost.py]\noperators: [ghost_3x3]\n")
    assert load_space(path).operators == (*DARTS, "ghost_3x3")


def test_a_resolved_space_names_its_plugins(space_file, write_plugin):
    plugin = write_plugin()
    space = load_space(space_file(f"extends: darts\nplugins: [{plugin}]\noperators: [ghost_3x3]\n"))
    text = space.to_yaml(("plugins/ghost.py",))
    assert yaml.safe_load(text)["plugins"] == ["plugins/ghost.py"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("dart", ['--space dart: unknown space "dart"', 'did you mean "darts"?']),
        ("", ['unknown space ""', "known: darts"]),
        ("sandglass", ["known: darts"]),
        ("darts+sandglas", ['--space darts+sandglas: unknown operator "sandglas"', 'did you mean "sandglass"?']),
        ("darts+", ['unknown operator ""', "--plugin"]),
        ("darts++ir", ['unknown operator ""']),
        ("darts+sandglass+sandglass", ['lists operator "sandglass" twice']),
        ("darts+ir+inverted_residual", ['lists operator "inverted_residual" twice']),
        ("darts+none", ['lists operator "none" twice']),
        ("missing.yaml", ["cannot read space missing.yaml", "No such file"]),
        ("a\0b.yaml", ["null byte"]),
    ],
)
def test_an_unknown_space_is_answered_in_one_line(refused, text, words):
    with refused(*words):
        load_space(text)


BROKEN = {
    "not YAML": ("operators: [none", ["not valid YAML"]),
    "a tab": ("name: x\n\tb", ["not valid YAML"]),
    "not UTF-8": (b"name: \xff\xfe", ["not valid YAML"]),
    "values that YAML cannot make": ("nodes: !!int four", ["not valid YAML"]),
    "a date that is none": ("nodes: 2001-99-99", ["not valid YAML"]),
    "a truth value that is none": ("nodes: !!bool maybe", ["not valid YAML"]),
    "a Python object": ("!!python/object/apply:os.mkdir [made]", ["not valid YAML"]),
    "very deep nesting": ("[" * 5000, ["not valid YAML"]),
    "an endless list": ("operators: &a [*a]", ["must be a list of names"]),
    "a list": ("- none\n- sandglass", ["not a YAML mapping"]),
    "one word": ("darts", ["not a YAML mapping"]),
    "nothing": ("# nothing", ["lists no operators", "extends: darts"]),
    "an unknown key": ("extends: darts\noperator: [sandglass]", ['"operators"?', 'unknown key "operator"']),
    "a key that is no word": ("extends: darts\n3: x", ['unknown key "3"']),
    "a huge key": (f"? 0x{'f' * 9000}\n: x", ["unknown key"]),
    "a key twice": ("extends: darts\nnodes: 2\nnodes: 3", ['"nodes" stands twice']),
    "an unknown operator": ("extends: darts\noperators: [sandglas]", ['did you mean "sandglass"?']),
    "an operator twice": ("operators: [sandglass, sandglass]", ["twice"]),
    "a string of operators": ("operators: sandglass", ["operators is 'sandglass'", "list of names"]),
    "an operator that is no name": ("operators: [none, 3]", ["list of names"]),
    "only none": ("operators: [none]", ['besides "none"']),
    "no operator": ("operators: []", ['besides "none"']),
    "removing what is not there": ("extends: darts\nremove: [sandglass]", ['removes "sandglass"', "it has none"]),
    "an unknown base": ("extends: dart", ['did you mean "darts"?']),
    "a base that is no name": ("extends: [darts]", ["extends is ['darts']"]),
    "a base that is missing": ("extends: other.yaml", ["cannot read space", "other.yaml"]),
    "a base that no file can have": ('extends: "a\\0.yaml"', ["null byte"]),
    "a circle": ("extends: mine.yaml", ["extends itself"]),
    "a missing plug-in": ("extends: darts\nplugins: [mine.py]", ["cannot read plug-in", "mine.py"]),
    "no nodes": ("extends: darts\nnodes: 0", ["nodes is 0", "1 to 32"]),
    "a million nodes": ("extends: darts\nnodes: 1000000", ["1 to 32"]),
    "a huge number of nodes": (f"extends: darts\nnodes: 0x{'f' * 9000}", ["1 to 32"]),
    "half a node": ("extends: darts\nnodes: 2.5", ["nodes is 2.5"]),
    "a truth value of nodes": ("extends: darts\nnodes: true", ["nodes is True"]),
    "no edges": ("extends: darts\nedges_per_node: 0", ["edges_per_node is 0"]),
    "nodes without a value": ("extends: darts\nnodes:", ["nodes is None"]),
    "a name that leaves the folder": ("extends: darts\nname: ../../etc", ["it names a folder"]),
    "an empty name": ("extends: darts\nname: ''", ["it names a folder"]),
    "a name that is a number": ("extends: darts\nname: 7", ["space name 7"]),
}


@pytest.mark.parametrize("content, words", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_gets_one_line(refused, space_file, content, words):
    path = space_file(content)
    with refused(*words):
        load_space(path)
    assert not (path.parent / "made").exists()


def test_two_files_that_extend_each_other_get_one_line(refused, space_file):
    space_file("extends: b.yaml", "a.yaml")
    with refused("extends itself"):
        load_space(space_file("extends: a.yaml", "b.yaml"))


names = st.lists(st.sampled_from([name for name in operator_names() if name != "none"]), min_size=1, unique=True)
spaces = st.builds(
    SearchSpace,
    st.from_regex(r"\w[\w.+-]{0,20}", fullmatch=True),
    st.tuples(st.booleans(), names).map(lambda drawn: (*["none"] * drawn[0], *drawn[1])),
    st.integers(1, 32),
    st.integers(1, 32),
)


@given(spaces)
def test_every_space_survives_its_file(tmp_path_factory, space):
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_text(space.to_yaml(), encoding="utf-8")
    assert load_space(path) == space


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
keys = ["extends", "operators", "remove", "plugins", "nodes", "edges_per_node", "name"]
likely = st.fixed_dictionaries(
    {},
    optional={key: values for key in keys if key not in ("extends", "operators")}
    | {"extends": st.just("darts") | values, "operators": names | values},
)


@given(st.text() | st.binary() | likely.map(yaml.safe_dump) | values.map(yaml.safe_dump))
def test_any_file_is_a_space_or_an_input_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    try:
        space = load_space(path)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        path.write_text(space.to_yaml(), encoding="utf-8")
        assert load_space(path) == space
