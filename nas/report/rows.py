"""What a report reads of a run folder, checked: the rows of metrics.jsonl, alphas.jsonl and cells.jsonl."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cells.genotype import KINDS, Genotype
from cells.genotype_file import genotype_of
from nas.config import SearchConfig, build_config, read_settings
from nas.run.folder import RunDir
from nas.run.upgrade import cells_by_epoch
from nas.search.strategies import strategy_of
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace

ADVICE = "remove that line, and the report leaves its epoch out"


def metrics(run: RunDir) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl: "epoch", and numbers by their names. Raises InputError for a damaged line."""
    rows = []
    for where, row in _rows(run.path / "metrics.jsonl"):
        if not all(_is_number(value) for value in row.values()):
            raise InputError(f"{where} has a value that is not a finite number; {ADVICE}")
        rows.append(row)
    return rows


def search_settings(run: RunDir) -> SearchConfig:
    """Those of the search in a folder. Raises InputError if its config.yaml is damaged."""
    return build_config(SearchConfig, [(str(run.config), read_settings(run.config, "search"))])


def operator_weights(run: RunDir, space: SearchSpace) -> dict[int, dict[str, np.ndarray]]:
    """For each epoch in alphas.jsonl, the operators' weights in both kinds of cell, of shape (edges, operators).

    Raises InputError for a line that is damaged or does not fit the space.
    """
    shape = (len(space.edges), len(space.operators))
    relax, found = strategy_of(search_settings(run)).relax, {}
    for where, row in _rows(run.path / "alphas.jsonl"):
        weights = {}
        for kind in KINDS:
            try:
                alphas = np.array(row.get(kind), dtype=np.float64)
            except (ValueError, TypeError):
                alphas = np.array(math.nan)
            if alphas.shape != shape or not np.isfinite(alphas).all():
                raise InputError(f"{where}: {kind} is not {shape[0]} rows of {shape[1]} finite alphas; {ADVICE}")
            weights[kind] = relax(torch.from_numpy(alphas)).numpy()
        found[row["epoch"]] = weights
    return found


def checked_cells(run: RunDir, space: SearchSpace) -> dict[int, Genotype]:
    """`cells_by_epoch` of a run. Raises InputError for a line that is damaged or does not fit the space."""
    for where, row in _rows(run.path / "cells.jsonl"):
        try:
            edges = [edge for cell in genotype_of(row, space.name).cells.values() for edge in cell.edges]
            fits = all((edge.source, end) in space.edges and edge.operator in space.operators for end, edge in edges)
        except InputError:
            fits = False
        if not fits:
            raise InputError(f"{where} is no cell of {run.space}; remove that line, and the alphas say what it was")
    return cells_by_epoch(run, space)


def column(rows: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    """(epoch counted from 1, value) of the rows that have a value of that name."""
    return [(row["epoch"] + 1, row[name]) for row in rows if name in row]


def _rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(file and line, row) of each line; a last line that is being written, or was cut short by a crash, is left out.

    Raises InputError for any other line that is not an object with an epoch that comes after the one before.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(f"cannot read {path}: {reason}; restore it, or start the run anew with --force") from None
    rows: list[tuple[str, dict[str, Any]]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            epoch = row["epoch"]
            is_next = isinstance(epoch, int) and epoch > (rows[-1][1]["epoch"] if rows else -1)
        except (ValueError, TypeError, KeyError, RecursionError):
            is_next = False
            if number == len(lines):  # nothing ends it
                break
        if not is_next:
            raise InputError(f"{path}, line {number} is damaged; {ADVICE}")
        rows.append((f"{path}, line {number}", row))
    return rows


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
