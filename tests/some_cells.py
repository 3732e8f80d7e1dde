"""Genotypes written in one line, and an operator that only scales."""

from torch import nn

from cells.genotype import CellGenotype, Edge, Genotype


def genotype_of(*nodes: str, concat=None, reduce: Genotype | None = None) -> Genotype:
    """Nodes as "operator source, operator source"; the reduction cell is the same unless given."""
    edges = tuple(
        tuple(Edge(name, int(source)) for name, source in (edge.split() for edge in node.split(", "))) for node in nodes
    )
    cell = CellGenotype(edges, concat or tuple(range(2, len(nodes) + 2)))
    return Genotype(cell, reduce.reduce if reduce else cell)


class Scaled(nn.Module):
    def __init__(self, factor, stride):
        super().__init__()
        self.factor, self.stride = factor, stride

    def forward(self, x):
        return self.factor * x[:, :, :: self.stride, :: self.stride]
