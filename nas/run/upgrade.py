"""A run of an earlier format, read as one of today's."""

import torch

from cells.discretization import discretize
from cells.genotype import KINDS, Genotype
from cells.genotype_file import genotype_of
from cells.relaxation import softmax
from nas.run.record import Record
from search_spaces.space import SearchSpace


def cells_by_epoch(record: Record, space: SearchSpace) -> dict[int, Genotype]:
    """The cell that each epoch's alphas mean, by the rule of the search that kept it.

    Runs from before version 0.2 kept none; DARTS' rule, the only one of that time, makes them of the alphas.
    """
    cells = {row["epoch"]: genotype_of(row, space.name) for row in record.rows("cells")}
    for row in record.rows("alphas"):
        if row["epoch"] not in cells:
            normal, reduce = (softmax(torch.tensor(row[kind], dtype=torch.float64)) for kind in KINDS)
            cells[row["epoch"]] = discretize(normal, reduce, space)
    return cells
