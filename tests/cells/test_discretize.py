"""From softmax weights to a cell: the strongest edges, ties, and that names matter, not places."""

import itertools
import random
from dataclasses import replace

import pytest
import torch

from cells.discretization import RULES, discretize
from cells.genotype import Edge
from cells.genotype_file import parse_genotype
from search_spaces import SearchSpace, load_space
from some_cells import genotype_of

OPERATORS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")


def table(space, strengths=None, none=0.0):
    """Rows that sum to 1: for each edge (source, target) the {operator: weight} given, "none", and the rest evenly."""
    rows = []
    for edge in space.edges:
        given = {"none": none} if "none" in space.operators else {}
        given |= (strengths or {}).get(edge, {})
        rest = (1 - sum(given.values())) / max(1, len(space.operators) - len(given))
        rows.append([given.get(name, rest) for name in space.operators])
    return rows


def random_table(space, seed, values=None):
    """Random rows that sum to 1; of few different `values`, they have many ties."""
    generator = random.Random(seed)
    draw = generator.random if values is None else lambda: generator.choice(values)
    rows = [[draw() for _ in space.operators] for _ in space.edges]
    return [[weight / sum(row) for weight in row] for row in rows]


def cell(rows, space):
    return discretize(rows, rows, space).normal


def test_each_node_keeps_its_two_strongest_edges_strongest_first():
    space = SearchSpace("test", OPERATORS, nodes=2)
    strengths = {
        (0, 2): {"skip_connect": 0.4},
        (1, 2): {"max_pool_3x3": 0.6},
        (0, 3): {"sep_conv_3x3": 0.5},
        (1, 3): {"skip_connect": 0.4},
        (2, 3): {"max_pool_3x3": 0.7},
    }
    found = cell(table(space, strengths), space)
    assert found.nodes == (
        (Edge("max_pool_3x3", 1), Edge("skip_connect", 0)),
        (Edge("max_pool_3x3", 2), Edge("sep_conv_3x3", 0)),
    )


def test_normal_and_reduce_come_from_their_own_tables():
    space = SearchSpace("test", OPERATORS, nodes=1)
    normal = table(space, {edge: {"sep_conv_3x3": 0.9} for edge in space.edges})
    reduce = table(space, {edge: {"max_pool_3x3": 0.9} for edge in space.edges})
    found = discretize(normal, reduce, space, {"seed": 4})
    assert found.operators == ("sep_conv_3x3", "max_pool_3x3")
    assert (found.space, found.found_by) == ("test", {"seed": 4})
    assert parse_genotype(found.to_json()) == found


def test_an_edge_is_as_strong_as_its_best_operator_other_than_none():
    space = SearchSpace("test", OPERATORS, nodes=2)
    strengths = {
        (0, 3): {"none": 0.90, "skip_connect": 0.06},  # what is left beside "none" is weak
        (1, 3): {"none": 0.00, "max_pool_3x3": 0.40},
        (2, 3): {"none": 0.55, "sep_conv_3x3": 0.39},  # strong although "none" is stronger
    }
    assert cell(table(space, strengths), space).nodes[1] == (Edge("max_pool_3x3", 1), Edge("sep_conv_3x3", 2))


def test_none_is_never_kept_even_where_it_wins_everywhere():
    space = load_space("darts+sandglass")
    found = cell(table(space, none=0.95), space)
    assert "none" not in {edge.operator for _, edge in found.edges} and len(found.edges) == 8


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_operators_changes_nothing(seed):
    space = SearchSpace("test", OPERATORS, nodes=3)
    rows = random_table(space, seed)
    expected = cell(rows, space)
    for order in itertools.permutations(range(len(OPERATORS))):
        permuted = SearchSpace("test", tuple(OPERATORS[column] for column in order), nodes=3)
        assert cell([[row[column] for column in order] for row in rows], permuted) == expected


@pytest.mark.parametrize("seed", range(5))
def test_appending_an_operator_of_no_weight_changes_nothing(seed):
    space, larger = load_space("darts"), load_space("darts+sandglass")
    rows = random_table(space, seed)
    assert cell([[*row, 0.0] for row in rows], larger) == cell(rows, space)


def test_ties_go_to_the_lower_source_and_the_earlier_operator():
    space = SearchSpace("test", ("none", "sep_conv_3x3", "skip_connect"), nodes=4)
    found = cell(table(space, none=0.2), space)
    assert found.nodes == ((Edge("sep_conv_3x3", 0), Edge("sep_conv_3x3", 1)),) * 4


@pytest.mark.parametrize("seed", range(20))
def test_with_many_ties_the_first_of_the_strongest_are_kept(seed):
    space = load_space("darts")
    rows = random_table(space, seed, values=(1, 2))
    for target, edges in enumerate(cell(rows, space).nodes, start=2):
        ranked = sorted(
            (-row[column], source, column)
            for (source, edge_target), row in zip(space.edges, rows, strict=True)
            for column in range(1, 8)
            if edge_target == target and row[column] == max(row[1:])
        )
        best = {}
        for _, source, column in ranked:
            best.setdefault(source, Edge(space.operators[column], source))
        assert edges == tuple(best.values())[:2]


@pytest.mark.parametrize(
    "kept, edges", [(1, [1] * 3), (2, [2] * 3), (3, [2, 3, 3]), (9, [2, 3, 4]), (2, [2]), (2, [2] * 4), (2, [2] * 5)]
)
def test_a_node_keeps_as_many_edges_as_the_space_says_and_it_has_and_the_concat_is_of_all_nodes(kept, edges):
    space = SearchSpace("test", OPERATORS, nodes=len(edges), edges_per_node=kept)
    found = cell(random_table(space, 0), space)
    assert [len(node) for node in found.nodes] == edges and found.concat == tuple(range(2, len(edges) + 2))


def test_lists_tensors_and_arrays_are_one():
    space = load_space("darts")
    rows = torch.randn(14, 8).double().softmax(dim=1)
    assert cell(rows, space) == cell(rows.tolist(), space) == cell(rows.float(), space) == cell(rows.numpy(), space)


def test_softmax_weights_and_logits_rank_edges_differently_so_logits_are_refused():
    space = SearchSpace("test", ("skip_connect", "sep_conv_3x3"), nodes=2, edges_per_node=1)
    logits = torch.tensor([[5.0, 4.9], [1.0, 0.0], [5.0, 4.9], [1.0, 0.0], [1.0, 0.5]])
    assert [node[0].source for node in cell(logits.softmax(dim=1), space).nodes] == [1, 1]  # by logits it would be 0
    with pytest.raises(ValueError, match="softmax weights, not alphas"):
        discretize(logits, logits, space)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows[:-1],
        lambda rows: [*rows, rows[0]],
        lambda rows: [row[:-1] for row in rows],
        lambda rows: [[2 * weight for weight in row] for row in rows],
        lambda rows: [[float("nan")] * len(row) for row in rows],
        lambda rows: [[-0.5, 1.5, *[0.0] * (len(row) - 2)] for row in rows],
    ],
    ids=["a row missing", "a row too many", "a column missing", "sums of 2", "NaN", "negative weights"],
)
def test_a_table_that_is_no_softmax_of_the_space_is_refused(spoil):
    space = load_space("darts")
    good = random_table(space, 0)
    for tables in ((spoil(good), good), (good, spoil(good))):
        with pytest.raises(ValueError, match="softmax weights"):
            discretize(*tables, space)


def test_a_rule_is_called_by_its_name_and_an_unknown_one_is_one_line(monkeypatch, refused):
    space = SearchSpace("test", OPERATORS, nodes=2)
    rows, last = random_table(space, 0), genotype_of("skip_connect 1", "skip_connect 2")
    monkeypatch.setitem(RULES, "last edges", lambda rows, space: last.normal)
    assert discretize(rows, rows, space, rule="last edges") == replace(last, space="test")
    assert discretize(rows, rows, space, rule="strongest edges") == discretize(rows, rows, space) != last
    with refused('unknown rule "last edge"; did you mean "last edges"? known: strongest edges, last edges'):
        discretize(rows, rows, space, rule="last edge")
