"""The cell that a run keeps of an epoch is what is shown of it; of a run that kept none, what DARTS' rule makes."""

import io
import json

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cells.genotype import KINDS, Genotype
from cells.random_cells import random_genotype
from nas.commands.report import make_report
from nas.report.animation import cells_frame, search_frames
from nas.report.cell_pictures import cell_picture
from nas.report.rows import checked_cells, operator_weights
from nas.report.tensorboard import Curves
from nas.run.folder import RunDir
from report_runs import Page, search_run
from tiny_runs import SPACE

EPOCHS = 3
OTHER = random_genotype(SPACE, 5)  # than the alphas of any epoch mean


def keep(run: RunDir, rows: list[dict]) -> RunDir:
    (run.path / "cells.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


@pytest.fixture(params=["another cell was kept", "no cell was kept"])
def run_and_cells(request, tmp_path) -> tuple[RunDir, list[Genotype]]:
    """A search, and its cell at each epoch; version 0.1 kept none."""
    run = search_run(tmp_path / "run", EPOCHS)
    cells = list(checked_cells(run, SPACE).values())
    assert OTHER not in cells
    if request.param == "no cell was kept":
        (run.path / "cells.jsonl").unlink()
        return run, cells
    rows = run.rows("cells")
    rows[1] = {"epoch": 1, **OTHER.cells_as_json()}
    return keep(run, rows), [cells[0], OTHER, cells[2]]


def test_the_report_shows_it_its_edges_and_its_costs(run_and_cells):
    run, cells = run_and_cells
    assert make_report([str(run.path)]) == 0
    page = Page(run.report.read_text(encoding="utf-8"))
    (data,) = page.data
    for kind in KINDS:
        pictures = [cell_picture(genotype.cells[kind], kind) for genotype in cells]
        distinct = list(dict.fromkeys(pictures))
        assert data["slider"]["shown"][kind] == [distinct.index(picture) for picture in pictures]
        assert all(picture in page.source for picture in distinct)
        for genotype, kept in zip(cells, data["slider"]["kept"][kind], strict=True):
            operators = [SPACE.operators[place // len(SPACE.edges)] for place in kept]
            assert sorted(operators) == sorted(edge.operator for _, edge in genotype.cells[kind].edges)


def test_the_animation_and_tensorboard_show_it(run_and_cells):
    run, cells = run_and_cells
    weights = operator_weights(run, SPACE)

    def drawn(caption):
        captions = map(caption.format, (1, 2, 3), (50, 49, 48), (60.5, 59.5, 58.5))
        return [cells_frame(SPACE, cells[n], weights[n], text).tobytes() for n, text in enumerate(captions)]

    captioned = drawn("epoch {} of 3, training error {:.1f} %, validation error {:.1f} %")
    assert [frame.tobytes() for frame in search_frames(run)] == captioned
    Curves(run).begun()
    images = EventAccumulator(str(run.tensorboard), {"images": 0}).Reload().Images("cells")
    assert [Image.open(io.BytesIO(image.encoded_image_string)).tobytes() for image in images] == drawn("epoch {}")


@pytest.mark.parametrize(
    "damaged",
    [
        {"normal": 1},
        {"normal": OTHER.cells_as_json()["normal"], "reduce": {"nodes": [[["sep_conv_9x9", 0]]], "concat": [2]}},
        {"normal": {"nodes": [[["none", 0]]] * 9, "concat": [2]}, "reduce": OTHER.cells_as_json()["reduce"]},
    ],
)
def test_a_kept_cell_that_is_damaged_or_of_another_space_is_named(damaged, tmp_path, mistake):
    run = search_run(tmp_path / "run", EPOCHS)
    keep(run, [*run.rows("cells")[:2], {"epoch": 2, **damaged}])
    assert "cells.jsonl, line 3 is no cell of" in mistake(make_report, run.path)
