"""Cells in the dictionary that NNI writes and reads, both ways. Nothing here needs torch.

A search in NNI's DARTS space leaves (`export_top_models(formatter="dict")`, kept as JSON) and a fixed network takes

    {"normal/op_2_0": "sep_conv_3x3", "normal/input_2_0": [0], "normal/op_2_1": …, "reduce/op_2_0": …, …}

where op_i_k and input_i_k are operator and source of edge k of node i, and nodes count from 2, as ours do. NNI 3 lists
the source ([0]), NNI 2 gives the number (0). The dictionary does not say which nodes the output concatenates: in the
DARTS space all four. Source: github.com/microsoft/nni, nni/nas/hub/pytorch/nasnet.py (class DARTS, whose
`load_searched_model` has "darts-v2" in this form) and nni/nas/nn/pytorch/cell.py (the labels).
"""

import re
from collections.abc import Mapping
from typing import Any

from cells.genotype import KINDS, Genotype
from search_spaces.errors import InputError, shown

NNI_OPERATORS = tuple(  # DARTS.DARTS_OPS; "none" is not among them
    ["max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"]
)
_NODES, _EDGES = (2, 3, 4, 5), (0, 1)
_LABEL = re.compile(r"(normal|reduce)/(op|input)_([2-5])_([01])")
_SIZES = ("width", "depth")  # there if the search chose the network's channels and cells, too


def is_nni(content: Mapping) -> bool:
    """Whether a JSON object is a dictionary of NNI, rather than a genotype file of ours."""
    return any(key.startswith(("normal/", "reduce/")) for key in content)


def to_nni(genotype: Genotype) -> dict[str, str | list[int]]:
    """The genotype's cells as NNI 3 writes them.

    Raises InputError if a cell is not one of NNI's DARTS space: four nodes of two edges, all in the concat, with the
    seven operators of `NNI_OPERATORS`.
    """
    content: dict[str, str | list[int]] = {}
    for kind in KINDS:
        cell = genotype.cells[kind]
        if tuple(map(len, cell.nodes)) != (len(_EDGES),) * len(_NODES) or cell.concat != _NODES:
            raise InputError(
                f"NNI's DARTS space has cells of four nodes with two edges each, all four concatenated; the {kind} cell"
                f" has {[len(edges) for edges in cell.nodes]} edges at its nodes and concat {list(cell.concat)}"
            )
        for node, edges in zip(_NODES, cell.nodes, strict=True):
            for number, edge in enumerate(edges):
                if edge.operator not in NNI_OPERATORS:
                    raise InputError(
                        f'the {kind} cell has the operator "{edge.operator}", which NNI\'s DARTS space does not know;'
                        f" it knows {', '.join(NNI_OPERATORS)}"
                    )
                content[f"{kind}/op_{node}_{number}"] = edge.operator
                content[f"{kind}/input_{node}_{number}"] = [edge.source]
    return content


def from_nni(content: Mapping) -> dict:
    """A dictionary of NNI as the content of a genotype file (format 1), whose values are still to be checked.

    Operators keep their names, so those of a space that extends NNI's DARTS are read, too. Raises InputError if a
    label is unknown or missing, or a source is not one number.
    """
    for key in content:
        if not _LABEL.fullmatch(key) and key not in _SIZES:
            raise InputError(
                f"unknown label {shown(key)} in a dictionary of NNI; read are those of its DARTS space, such as"
                " normal/op_2_0 and reduce/input_5_1, with nodes 2 to 5 and edges 0 and 1 (its spaces of five nodes"
                " do not say which of them the output concatenates; write those as a genotype)"
            )
    found_by = {"method": "NNI", **{name: content[name] for name in _SIZES if name in content}}
    cells = {
        kind: {"nodes": [[_edge(content, kind, node, k) for k in _EDGES] for node in _NODES], "concat": list(_NODES)}
        for kind in KINDS
    }
    return {"format": 1, "space": "darts", **cells, "found_by": found_by}


def _edge(content: Mapping, kind: str, node: int, number: int) -> list:
    operator, source = (_value(content, f"{kind}/{part}_{node}_{number}") for part in ("op", "input"))
    if isinstance(source, list):
        if len(source) != 1:
            raise InputError(f'"{kind}/input_{node}_{number}" is {shown(source)}; it must be one source, such as [0]')
        (source,) = source
    return [operator, source]


def _value(content: Mapping, label: str) -> Any:
    if label not in content:
        raise InputError(f'a dictionary of NNI\'s DARTS space has no "{label}"; it needs 16 operators and 16 inputs')
    return content[label]
