"""Random cells: valid, even, and a function of the seed."""

import json
from collections import Counter

import pytest

from cells.network import Network
from cells.random_cells import random_genotype
from search_spaces.space import SearchSpace, load_space


@pytest.mark.parametrize("space", ["darts", "darts+sandglass"])
def test_a_random_cell_is_one_that_a_search_could_find(space):
    space = load_space(space)
    for seed in range(20):
        for cell in (random_genotype(space, seed).normal, random_genotype(space, seed).reduce):
            assert cell.concat == (2, 3, 4, 5) and len(cell.nodes) == 4
            for node, edges in enumerate(cell.nodes, start=2):
                sources = [edge.source for edge in edges]
                assert len(set(sources)) == len(sources) == 2 and max(sources) < node
                assert all(edge.operator in space.operators and edge.operator != "none" for edge in edges)
    Network(random_genotype(space, 0), 4, 3, 3)


def test_the_seed_alone_says_which():
    space = load_space("darts")
    assert random_genotype(space, 3) == random_genotype(space, 3) != random_genotype(space, 4)


def test_operators_and_sources_are_drawn_evenly():
    space = SearchSpace("three", ("none", "skip_connect", "max_pool_3x3", "dil_conv_3x3"), nodes=2)
    edges = Counter()
    for seed in range(600):
        for node, edge in random_genotype(space, seed).normal.edges:
            if node == 3:
                edges[edge.source, edge.operator] += 1
    assert len(edges) == 9 and all(80 < count < 190 for count in edges.values())  # 133 expected


def test_random_cells_of_two_spaces_with_as_many_operators_are_the_same_but_for_the_block():
    for seed in range(20):
        one, other = (random_genotype(load_space(f"darts+{block}"), seed).to_json() for block in ("ir", "sandglass"))
        assert json.loads(one.replace("inverted_residual", "sandglass"))["normal"] == json.loads(other)["normal"]
