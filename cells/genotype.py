"""A genotype: the two cells that a search found, as plain values.

Node 0 and 1 are the cell's inputs, the outputs of the two cells before it; node i + 2 is the sum of the edges in
`nodes[i]`; the cell's output is the concatenation of the nodes in `concat`. Nothing here needs torch.
"""

import ast
import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from cells.interchange import from_nni, is_nni, to_nni
from search_spaces.errors import InputError, shown, suggest

FORMAT = 1
_PUBLISHED = Path(__file__).parent / "published"
_NOTATION_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")


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
                if not _is_index(edge.source) or not 0 <= edge.source < target:
                    raise InputError(
                        f"node {target} takes {edge.operator} from source {shown(edge.source)}, which does not exist"
                        f" yet; allowed are 0 to {target - 1}"
                    )
        last = len(self.nodes) + 1
        if not self.concat:
            raise InputError(f"a cell's concat is empty; it lists nodes from 2 to {last}")
        for node in self.concat:
            if not _is_index(node) or not 2 <= node <= last:
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
        return tuple(dict.fromkeys(edge.operator for cell in (self.normal, self.reduce) for _, edge in cell.edges))

    def to_json(self) -> str:
        """The text of a genotype file, one node a line."""
        cells = ",\n".join(f' "{kind}": {_cell_json(getattr(self, kind))}' for kind in ("normal", "reduce"))
        head = f'"format": {FORMAT}, "space": {json.dumps(self.space)}'
        return f'{{{head},\n{cells},\n "found_by": {json.dumps(dict(self.found_by))}}}\n'

    def to_notation(self) -> str:
        """`Genotype(normal=[…], normal_concat=[…], reduce=[…], reduce_concat=[…])`, as papers print it.

        Raises InputError if a node has other than two edges, which the notation cannot say.
        """
        parts = []
        for kind in ("normal", "reduce"):
            cell = getattr(self, kind)
            if any(len(edges) != 2 for edges in cell.nodes):
                raise InputError(f"the printed notation needs two edges at each node; the {kind} cell has others")
            parts.append(f"{kind}={[(edge.operator, edge.source) for _, edge in cell.edges]}")
            parts.append(f"{kind}_concat={list(cell.concat)}")
        return f"Genotype({', '.join(parts)})"

    def to_nni(self) -> dict[str, str | list[int]]:
        """{"normal/op_2_0": "sep_conv_3x3", "normal/input_2_0": [0], …}, as NNI writes it.

        Raises InputError if a cell is not one of NNI's DARTS space; see `cells.interchange`.
        """
        return to_nni(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: the pictures of both cells."""
        from cells.display import genotype_html  # here, as it needs torch and a program that draws

        return genotype_html(self)


def parse_genotype(text: str) -> Genotype:
    """The genotype in a JSON text, ours or NNI's, or in the printed notation. Nothing is evaluated.

    Raises InputError that says what is wrong with it.
    """
    stripped = text.lstrip("\ufeff").strip()
    return _parse_json(stripped) if stripped.startswith("{") else _parse_notation(stripped)


def published_genotypes() -> tuple[str, ...]:
    """Names of the published cells that ship with the package."""
    return tuple(sorted(path.stem for path in _PUBLISHED.glob("*.json")))


def load_genotype(argument: str | Path) -> Genotype:
    """The genotype that a GENOTYPE argument means: a published name, a run folder, a file, or the text itself.

    Raises InputError if it is none of these, or if what it names is not a valid genotype.
    """
    text = str(argument)
    if text.lower() in published_genotypes():
        return _read_file(_PUBLISHED / f"{text.lower()}.json")
    if text.lstrip().startswith("{") or re.search(r"\bGenotype\s*\(", text):
        return parse_genotype(text)
    path = Path(text)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # such as a name that is too long
        raise InputError(f"cannot read genotype {path}: {error.strerror}") from None
    if is_folder:
        found = path / "genotype.json"
        # A search writes its genotype after every epoch, and result.json when it is finished.
        if (path / "config.yaml").is_file() and not (path / "result.json").is_file():
            raise InputError(f"{path} is an unfinished run; finish it with --run-dir {path} --resume")
        if not found.is_file():
            raise InputError(f"{path} has no genotype.json; give the run folder of a search, or a file")
        return _read_file(found)
    if is_file:
        return _read_file(path)
    names = published_genotypes()
    raise InputError(
        f'no genotype "{text}"{suggest(text, names)} Give a file, a run folder, Genotype(…), or one of: '
        + ", ".join(names)
    )


def _read_file(path: Path) -> Genotype:
    try:
        return parse_genotype(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read genotype {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"genotype {path} is not a text file; give JSON or the printed Genotype(…)") from None
    except InputError as error:
        raise InputError(f"genotype {path}: {error}") from None


def _parse_json(text: str) -> Genotype:
    try:
        content = json.loads(text, object_pairs_hook=_distinct, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}") from None
    if is_nni(content):
        content = from_nni(content)
    allowed = ("format", "space", "normal", "reduce", "found_by")
    unknown = next((key for key in content if key not in allowed), None)
    if unknown is not None:
        raise InputError(f'unknown key "{unknown}"{suggest(unknown, allowed)} allowed: {", ".join(allowed)}')
    version = content.get("format")
    if not _is_index(version) or version != FORMAT:
        raise InputError(f'"format" is {shown(version)}; this version reads format {FORMAT}')
    space = content.get("space", "darts")
    if not isinstance(space, str) or not space:
        raise InputError(f'"space" is {shown(space)}; it must be a name')
    found_by = content.get("found_by", {})
    if not isinstance(found_by, dict):
        raise InputError('"found_by" must be an object such as {"seed": 0}')
    normal, reduce = (_cell_from_json(content, kind) for kind in ("normal", "reduce"))
    return Genotype(normal, reduce, space, found_by)


def _distinct(pairs: list[tuple]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object has the key {shown(max(names, key=names.count))} twice")
    return content


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _cell_from_json(content: dict, kind: str) -> CellGenotype:
    cell = content.get(kind)
    if not isinstance(cell, dict) or sorted(cell) != ["concat", "nodes"]:
        raise InputError(f'"{kind}" must be an object with the keys "nodes" and "concat"')
    nodes, concat = cell["nodes"], cell["concat"]
    if not isinstance(nodes, list) or not isinstance(concat, list):
        raise InputError(f'"{kind}": "nodes" and "concat" must be lists')
    return _build_cell(kind, nodes, concat)


def _build_cell(kind: str, nodes: list, concat: list) -> CellGenotype:
    for edges in nodes:
        if not isinstance(edges, list) or not all(isinstance(edge, list | tuple) and len(edge) == 2 for edge in edges):
            raise InputError(f'{kind} cell: a node is {shown(edges)}; it must be a list of ["operator", source] pairs')
    try:
        return CellGenotype(tuple(tuple(Edge(*edge) for edge in edges) for edges in nodes), tuple(concat))
    except InputError as error:
        raise InputError(f"{kind} cell: {error}") from None


def _parse_notation(text: str) -> Genotype:
    shape = "Genotype(normal=[('sep_conv_3x3', 0), …], normal_concat=[2, 3, 4, 5], reduce=[…], reduce_concat=[…])"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a stray backslash in a string
            tree = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError(f"not a genotype: neither JSON nor {shape}") from None
    node = tree[0] if len(tree) == 1 else None
    call = getattr(node, "value", None) if isinstance(node, ast.Expr | ast.Assign) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != "Genotype":
        raise InputError(f"not a genotype: neither JSON nor {shape}")
    arguments = dict(zip(_NOTATION_FIELDS, call.args, strict=False))
    for keyword in call.keywords:
        if keyword.arg not in _NOTATION_FIELDS or keyword.arg in arguments:
            raise InputError(f'Genotype(…) has no single field "{keyword.arg}"; it has {", ".join(_NOTATION_FIELDS)}')
        arguments[keyword.arg] = keyword.value
    if len(call.args) > len(_NOTATION_FIELDS) or set(arguments) != set(_NOTATION_FIELDS):
        raise InputError(f"Genotype(…) needs exactly the fields {', '.join(_NOTATION_FIELDS)}")

    cells = []
    for kind in ("normal", "reduce"):
        edges, concat = (_literal(arguments[field], field) for field in (kind, f"{kind}_concat"))
        if not isinstance(edges, list | tuple) or not isinstance(concat, list | tuple):
            raise InputError(f"{kind} and {kind}_concat must be lists")
        if len(edges) % 2:
            raise InputError(f"{kind} lists {len(edges)} edges; the notation has two for each node")
        pairs = [list(edges[i : i + 2]) for i in range(0, len(edges), 2)]
        cells.append(_build_cell(kind, pairs, list(concat)))
    normal, reduce = cells
    return Genotype(normal, reduce)


def _literal(node: ast.expr, name: str) -> Any:
    """The value of a literal, or of `range(a, b)` with literal bounds below 1,000."""
    try:
        if isinstance(node, ast.Call):
            bounds = [ast.literal_eval(bound) for bound in node.args]
            if (
                isinstance(node.func, ast.Name)
                and node.func.id == "range"
                and not node.keywords
                and all(_is_index(b) and abs(b) < 1000 for b in bounds)
            ):
                return list(range(*bounds))
            raise ValueError
        return ast.literal_eval(node)
    except (ValueError, TypeError, AttributeError, SyntaxError, RecursionError, MemoryError):
        raise InputError(
            f"{name} is not a list of plain values; only lists, tuples and range(a, b) are read, nothing is evaluated"
        ) from None


def _is_index(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _cell_json(cell: CellGenotype) -> str:
    nodes = ",\n   ".join(json.dumps([[edge.operator, edge.source] for edge in edges]) for edges in cell.nodes)
    return f'{{"nodes": [\n   {nodes}],\n  "concat": {json.dumps(list(cell.concat))}}}'
