"""A request and a plan are values: nothing changes them, and a run does what its plan says."""

from dataclasses import FrozenInstanceError

import pytest

from nas.config import SearchConfig, TrainConfig
from nas.experiment.carry_out import carry_out
from nas.experiment.plan import plan
from nas.experiment.request import Request
from nas.run.folder import RunDir
from nas.run.record import InMemory

TINY = {"data": "digits", "channels": 2, "layers": 3, "epochs": 1, "batch_size": 16, "train_images": 32, "threads": 1}
KINDS = {"search": (SearchConfig, {"order": 1}), "train": (TrainConfig, {"test_images": 20})}
both = pytest.mark.parametrize("command", KINDS)


def request(command, folder=None, **about) -> Request:
    kind, more = KINDS[command]
    subject = {"space": "small.yaml"} if command == "search" else {}
    about |= {"genotype": "darts_v2"} if command == "train" else {}
    layers = (("the test", TINY | more | subject | {"report": False, "device": "cpu"}),)
    return Request(kind, layers, folder, progress=False, say=lambda line: None, **about)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch, without_pictures):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text("operators: [none, skip_connect, dil_conv_3x3]\nnodes: 2\n")


@both
def test_neither_can_be_changed_and_planning_writes_nothing(command, tmp_path):
    asked = request(command, tmp_path / "run")
    planned = plan(asked)
    assert planned.request is asked and not (tmp_path / "run").exists()
    for value, name in ((asked, "folder"), (planned, "config")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, None)
    assert planned.config.memory == "store" if command == "search" else planned.estimate.memory is None
    assert planned.config.compile is not None and "compile: null" in planned.kept  # decided here, open elsewhere


@both
def test_what_was_planned_is_carried_out_whatever_the_files_say_by_then(command, tmp_path):
    planned = plan(request(command, tmp_path / "run"))
    (tmp_path / "small.yaml").write_text("not: valid")
    record = carry_out(planned)
    assert isinstance(record, RunDir) and record.is_finished() and record.config.read_text() == planned.kept


@both
def test_a_record_in_memory_holds_what_one_in_a_folder_holds(command, tmp_path):
    kept, in_memory = (carry_out(plan(request(command, folder))) for folder in (tmp_path / "run", None))
    assert isinstance(in_memory, InMemory) and [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["run"]

    def rows(record, name):
        return [row | {"seconds": 0} for row in record.rows(name)]

    for name in ("metrics", "alphas", "cells"):
        assert rows(kept, name) == rows(in_memory, name) and bool(rows(kept, name)) is (
            command == "search" or name == "metrics"
        )
    assert kept.result() | {"seconds": 0} == in_memory.result() | {"seconds": 0}
    if command == "search":
        assert kept.read_genotype() == in_memory.read_genotype()


def test_a_finished_run_is_planned_as_done_and_carrying_that_out_changes_nothing(tmp_path):
    carry_out(plan(request("search", tmp_path / "run")))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    planned = plan(request("search", tmp_path / "run", resume=True))
    assert planned.is_done and planned.data is None and carry_out(planned).is_finished()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()} == before


def test_a_search_is_not_begun_where_nothing_draws_its_cells(tmp_path, monkeypatch, refused):
    monkeypatch.setattr("cells.pictures.rendering.system_graphviz", lambda: None)
    monkeypatch.setattr("cells.pictures.rendering.graphviz_pure", lambda: None)
    with refused('nothing here draws diagram format "svg"; pip install graphviz-pure'):
        plan(request("search", tmp_path / "run"))
    plan(request("search"))  # nothing is kept, so nothing is drawn
