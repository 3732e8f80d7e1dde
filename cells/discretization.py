"""From operator weights to a genotype, by a rule that has a name. A new rule is a function, and a line in `RULES`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from cells.genotype import CellGenotype, Edge, Genotype
from search_spaces.errors import check_known
from search_spaces.space import SearchSpace


class Array(Protocol):
    """A tensor, or an array of NumPy."""

    def tolist(self) -> Any: ...


Table = Sequence[Sequence[float]] | Array


def discretize(
    normal: Table, reduce: Table, space: SearchSpace, found_by: Mapping | None = None, rule: str = "strongest edges"
) -> Genotype:
    """The genotype that a rule of `RULES` makes of softmax weights.

    `normal` and `reduce` are of shape (edges, operators), in the order of `space.edges` and `space.operators`, as
    nested lists, tensors or arrays.

    Raises ValueError if a table has another shape or a row does not sum to 1: logits rank edges differently. Raises
    InputError for a rule that is not there.
    """
    check_known("rule", rule, RULES)
    normal_cell, reduce_cell = (RULES[rule](_checked(table, space), space) for table in (normal, reduce))
    return Genotype(normal_cell, reduce_cell, space.name, dict(found_by or {}))


def _checked(table: Table, space: SearchSpace) -> list[list[float]]:
    rows = [list(row) for row in table] if isinstance(table, Sequence) else table.tolist()
    shape = (len(space.edges), len(space.operators))
    if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows):
        raise ValueError(f"expected softmax weights of shape {shape} for space {space.name}")
    for row in rows:
        if not abs(sum(row) - 1) < 1e-4 or min(row) < 0:
            raise ValueError(f"a row sums to {sum(row):.6g}, not 1; give softmax weights, not alphas")
    return rows


def strongest_edges(rows: list[list[float]], space: SearchSpace) -> CellGenotype:
    """The cell that keeps each node's `space.edges_per_node` strongest edges (DARTS, section 2.4: two).

    An edge is as strong as its best operator other than "none", and keeps that operator; ties go to the lower source
    and to the earlier operator. The edges of a node come strongest first, as the reference prints them.
    """
    kept_columns = [column for column, name in enumerate(space.operators) if name != "none"]
    nodes = []
    for node in range(2, space.nodes + 2):
        candidates = []
        for (source, target), row in zip(space.edges, rows, strict=True):
            if target == node:
                best = max(kept_columns, key=lambda column: row[column])  # max keeps the first of equals
                candidates.append((row[best], Edge(space.operators[best], source)))
        candidates.sort(key=lambda candidate: -candidate[0])  # stable: equals stay in order of source
        nodes.append(tuple(edge for _, edge in candidates[: space.edges_per_node]))
    return CellGenotype(tuple(nodes), concat=tuple(range(2, space.nodes + 2)))


RULES: dict[str, Callable[[list[list[float]], SearchSpace], CellGenotype]] = {"strongest edges": strongest_edges}
