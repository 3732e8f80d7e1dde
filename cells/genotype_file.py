"""Reads genotypes: our JSON, NNI's dictionary, the printed notation, a GENOTYPE argument. Nothing is evaluated."""

import ast
import json
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cells.genotype import FORMAT, KINDS, CellGenotype, Edge, Genotype, is_index
from cells.nni import from_nni, is_nni
from search_spaces.errors import InputError, check_known, shown, suggest

_PUBLISHED = Path(__file__).parent / "published"
_NOTATION_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")


def parse_genotype(text: str) -> Genotype:
    """The genotype in a JSON text, ours or NNI's, or in the printed notation. Nothing is evaluated.

    Raises InputError that says what is wrong with it.
    """
    stripped = text.lstrip("\ufeff").strip()
    return _parse_json(stripped) if stripped.startswith("{") else _parse_notation(stripped)


def genotype_of(cells: dict, space: str, found_by: Mapping | None = None) -> Genotype:
    """The genotype of what `Genotype.cells_as_json` gave. Raises InputError that says what is wrong with it."""
    normal, reduce = (_cell_from_json(cells, kind) for kind in KINDS)
    return Genotype(normal, reduce, space, found_by or {})


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
    for key in content:
        check_known("key", key, allowed)
    version = content.get("format")
    if not is_index(version) or version != FORMAT:
        raise InputError(f'"format" is {shown(version)}; this version reads format {FORMAT}')
    space = content.get("space", "darts")
    if not isinstance(space, str) or not space:
        raise InputError(f'"space" is {shown(space)}; it must be a name')
    found_by = content.get("found_by", {})
    if not isinstance(found_by, dict):
        raise InputError('"found_by" must be an object such as {"seed": 0}')
    return genotype_of(content, space, found_by)


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
    for kind in KINDS:
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
        if not isinstance(node, ast.Call):
            return ast.literal_eval(node)
        bounds = [ast.literal_eval(bound) for bound in node.args]
        is_range = isinstance(node.func, ast.Name) and node.func.id == "range" and not node.keywords
        if is_range and all(is_index(bound) and abs(bound) < 1000 for bound in bounds):
            return list(range(*bounds))
        raise ValueError
    except (ValueError, TypeError, AttributeError, SyntaxError, RecursionError, MemoryError):
        raise InputError(
            f"{name} is not a list of plain values; only lists, tuples and range(a, b) are read, nothing is evaluated"
        ) from None
