"""Random cells of a search space: what a search has to beat (Li and Talwalkar, UAI 2019)."""

import random

from cells.genotype import CellGenotype, Edge, Genotype
from search_spaces.space import SearchSpace


def random_genotype(space: SearchSpace, seed: int) -> Genotype:
    """Both cells at random: each node has `space.edges_per_node` different sources, drawn evenly, and on each edge an
    operator other than "none", drawn evenly. Such a cell is what `discretize` could give, and any such cell may come.
    """
    chance = random.Random(f"random cell {seed}")
    operators = [name for name in space.operators if name != "none"]

    def cell() -> CellGenotype:
        nodes = []
        for node in range(2, space.nodes + 2):
            sources = chance.sample(range(node), min(space.edges_per_node, node))
            nodes.append(tuple(Edge(chance.choice(operators), source) for source in sorted(sources)))
        return CellGenotype(tuple(nodes), concat=tuple(range(2, space.nodes + 2)))

    return Genotype(cell(), cell(), space.name, {"random_seed": seed})
