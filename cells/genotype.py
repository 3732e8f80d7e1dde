"""A genotype: the two cells that a search found, as plain values.

Node 0 and 1 are the cell's inputs, the outputs of the two cells before it; node i + 2 is the sum of the edges in
`nodes[i]`; the cell's output is the concatenation of the nodes in `concat`. Nothing here needs torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from search_spaces.errors import InputError, shown

FORMAT = 1
KINDS = ("normal", "reduce")  # of cells


@dataclass(frozen=True)
class Edge:
    """`operator` applied to node `source`."""

    operator: str
    source: int


@dataclass(frozen=True)
class CellGenotype:
    """One cell. Raises InputError if an edge's source does not exist yet or the concat names a node that is missing."""

    nodes: tuple[tuple[Edge, ...], ...]
    concat: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.nodes:
            raise InputError("a cell has no nodes; it needs at least one intermediate node")
        for target, edges in enumerate(self.nodes, start=2):
            if not edges:
                raise InputError(f"node {target} has no edges; each node needs at least one")
            for edge in edges:
                if not isinstance(edge.operator, str) or not edge.operator:
                    raise InputError(f"node {target} names the operator {shown(edge.operator)}; it must be a name")
                if not is_index(edge.source) or not 0 <= edge.source < target:
                    raise InputError(
                        f"node {target} takes {edge.operator} from source {shown(edge.source)}, which does not exist"
                        f" yet; allowed are 0 to {target - 1}"
                    )
        last = len(self.nodes) + 1
        if not self.concat:
            raise InputError(f"a cell's concat is empty; it lists nodes from 2 to {last}")
        for node in self.concat:
            if not is_index(node) or not 2 <= node <= last:
                raise InputError(
                    f"concat names node {shown(node)}, but the cell has the intermediate nodes 2 to {last};"
                    " change the concat or give the missing nodes"
                )
        if len(set(self.concat)) < len(self.concat):
            raise InputError(f"concat {list(self.concat)} names a node twice; list each node once")

    @property
    def edges(self) -> tuple[tuple[int, Edge], ...]:
        """(target node, edge) for every edge, node by node."""
        return tuple((target, edge) for target, edges in enumerate(self.nodes, start=2) for edge in edges)


@dataclass(frozen=True)
class Genotype:
    """The normal and the reduction cell, the space they are from, and (not compared) who found them and how."""

    normal: CellGenotype
    reduce: CellGenotype
    space: str = "darts"
    found_by: Mapping = field(default_factory=dict, compare=False)

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators it uses, each once, in the order of their first use."""
        return tuple(dict.fromkeys(edge.operator for cell in self.cells.values() for _, edge in cell.edges))

    @property
    def cells(self) -> dict[str, CellGenotype]:
        """The two cells by their kind, "normal" and "reduce"."""
        return {kind: getattr(self, kind) for kind in KINDS}

    def cells_as_json(self) -> dict[str, dict[str, list]]:
        """Both cells as plain values, as a genotype file holds them."""
        return {kind: {"nodes": _pairs(cell), "concat": list(cell.concat)} for kind, cell in self.cells.items()}

    def to_json(self) -> str:
        """The text of a genotype file, one node a line."""
        cells = ",\n".join(f' "{kind}": {_cell_json(cell)}' for kind, cell in self.cells.items())
        head = f'"format": {FORMAT}, "space": {json.dumps(self.space)}'
        return f'{{{head},\n{cells},\n "found_by": {json.dumps(dict(self.found_by))}}}\n'

    def has_notation(self) -> bool:
        """Whether each node has two edges, as papers' notation needs."""
        return all(len(edges) == 2 for cell in self.cells.values() for edges in cell.nodes)

    def to_notation(self) -> str:
        """`Genotype(normal=[…], normal_concat=[…], reduce=[…], reduce_concat=[…])`, as papers print it.

        Raises InputError if a node has other than two edges, which the notation cannot say.
        """
        parts = []
        for kind, cell in self.cells.items():
            if any(len(edges) != 2 for edges in cell.nodes):
                raise InputError(f"the printed notation needs two edges at each node; the {kind} cell has others")
            parts.append(f"{kind}={[(edge.operator, edge.source) for _, edge in cell.edges]}")
            parts.append(f"{kind}_concat={list(cell.concat)}")
        return f"Genotype({', '.join(parts)})"


def is_index(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _cell_json(cell: CellGenotype) -> str:
    nodes = ",\n   ".join(map(json.dumps, _pairs(cell)))
    return f'{{"nodes": [\n   {nodes}],\n  "concat": {json.dumps(list(cell.concat))}}}'


def _pairs(cell: CellGenotype) -> list[list[list]]:
    """["operator", source] of each edge, node by node."""
    return [[[edge.operator, edge.source] for edge in edges] for edges in cell.nodes]
