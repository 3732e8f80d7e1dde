"""What TensorBoard shows is what metrics.jsonl and alphas.jsonl hold, once each, however a run was stopped."""

import re

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

import nas.report.tensorboard
from cli import search, train
from nas.experiment.carry_out import listeners_of
from nas.notebook.functions import search_cell
from nas.report.tensorboard import check_tensorboard
from nas.run.folder import ROWS
from nas.run.stop import Stopped
from nas.search.search import run_search
from nas.training.training import run_training
from some_cells import genotype_of
from tiny_runs import SEARCH, SPACE, TRAIN, StopAfter, begin, image_data

pytestmark = pytest.mark.usefixtures("without_pictures")

GENOTYPE = genotype_of("skip_connect 0, dil_conv_3x3 1")
CONFIG = SEARCH.model_copy(update={"tensorboard": True, "order": 1})


def searched(run, config, stops=()):
    """Searches in the folder to the end, with interruptions after so many steps."""
    for steps in stops:
        with pytest.raises(Stopped):
            run_search(config, SPACE, image_data(), **in_folder(run, config), stop=StopAfter(steps))
    run_search(config, SPACE, image_data(), **in_folder(run, config))


def in_folder(run, config) -> dict:
    """How a run goes on in its folder, watched as the settings say."""
    return {"record": run, "listeners": listeners_of(run, config), "resume": True, "progress": False}


def event_files(run) -> list:
    return sorted(run.tensorboard.iterdir()) if run.tensorboard.exists() else []


def read_events(run) -> EventAccumulator:
    events = EventAccumulator(str(run.tensorboard), size_guidance={"scalars": 0, "images": 0})
    return events.Reload()


def curve(events, tag) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in events.Scalars(tag)]


def assert_shows_all(run):
    """Every number of both files is there once, and nothing else."""
    assert len(event_files(run)) == 1
    events, rows = read_events(run), run.rows("metrics")
    wanted = {f"metrics/{key}": [(row["epoch"], row[key]) for row in rows] for key in rows[0] if key != "epoch"}
    for cell in ("normal", "reduce") if run.is_search() else ():
        for number, (source, target) in enumerate(SPACE.edges):
            names = ("c_{k-2}", "c_{k-1}", "0", "1")
            for column, operator in enumerate(SPACE.operators):
                wanted[f"{cell} {names[source]} to {names[target]}/{operator}"] = [
                    (row["epoch"], torch.tensor(row[cell][number]).softmax(0)[column].item())
                    for row in run.rows("alphas")
                ]
    assert set(events.Tags()["scalars"]) == set(wanted)
    for tag, points in wanted.items():
        assert curve(events, tag) == [(step, pytest.approx(value, rel=1e-6)) for step, value in points], tag
    return events


@pytest.fixture
def run(tmp_path):
    """A search that is about to begin."""
    return begin(tmp_path / "run", CONFIG, space=SPACE)


def test_a_search_shows_its_metrics_its_weights_and_its_cells(run):
    searched(run, CONFIG)
    events = assert_shows_all(run)
    assert [image.step for image in events.Images("cells")] == [0, 1]
    assert all(image.encoded_image_string.startswith(b"\x89PNG") for image in events.Images("cells"))


@pytest.mark.parametrize("stops", [(1,), (3, 1)], ids=["in the first epoch", "in the second, twice"])
def test_a_search_that_was_stopped_has_every_epoch_once(stops, run):
    searched(run, CONFIG, stops)
    assert_shows_all(run)


def test_epochs_that_a_killed_run_wrote_after_its_checkpoint_are_not_there_twice(run):
    with pytest.raises(Stopped):
        run_search(CONFIG, SPACE, image_data(), **in_folder(run, CONFIG), stop=StopAfter(3))
    for name in ROWS:  # as if killed between these and the checkpoint
        run.append(name, run.rows(name)[-1] | {"epoch": 1})
    searched(run, CONFIG)
    assert_shows_all(run)


def test_the_time_is_that_of_computing_also_for_epochs_that_are_written_again(run):
    searched(run, CONFIG, [3])
    began, seconds = run.environment.stat().st_mtime, [row["seconds"] for row in run.rows("metrics")]
    times = [point.wall_time - began for point in read_events(run).Scalars("metrics/train_loss")]
    assert times == pytest.approx([seconds[0], seconds[0] + seconds[1]], abs=1e-3)


def test_a_run_that_was_begun_without_shows_all_when_it_goes_on_with_it(tmp_path):
    run = begin(tmp_path / "run", SEARCH, space=SPACE)
    searched(run, SEARCH.model_copy(update={"order": 1}), [3])
    assert event_files(run) == []
    searched(run, CONFIG.model_copy(update={"epochs": 3}))
    assert_shows_all(run)


def test_a_training_shows_its_metrics(tmp_path):
    config = TRAIN.model_copy(update={"tensorboard": True})
    run = begin(tmp_path / "run", config, genotype=GENOTYPE)
    with pytest.raises(Stopped):
        run_training(config, GENOTYPE, image_data(), **in_folder(run, config), stop=StopAfter(5))
    run_training(config, GENOTYPE, image_data(), **in_folder(run, config))
    events = assert_shows_all(run)
    assert len(curve(events, "metrics/train_loss")) == 2 and events.Tags()["images"] == []


def test_curves_that_share_a_chart_are_found_by_their_names_alone(run):
    searched(run, CONFIG)
    events = read_events(run)
    layout = Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    tags = events.Tags()["scalars"]
    assert {"loss", "normal c_{k-2} to 0", "reduce 0 to 1"} <= set(charts)
    for patterns in charts.values():
        assert all(sum(bool(re.match(pattern, tag)) for tag in tags) == 1 for pattern in patterns)


def test_a_run_that_starts_anew_loses_the_old_event_files(run):
    searched(run, CONFIG)
    assert event_files(run)
    begin(run.path, SEARCH, space=SPACE)
    assert event_files(run) == []


@pytest.mark.parametrize("command", [search, train])
def test_without_the_package_the_run_is_refused_in_one_line_before_it_starts(command, tmp_path, monkeypatch, mistake):
    monkeypatch.setattr(nas.report.tensorboard.importlib.util, "find_spec", lambda name: None)
    subject = [] if command is search else ["darts_v2"]
    said = mistake(command, *subject, "--preset", "quick", "--tensorboard", "--run-dir", tmp_path / "run")
    assert "pip install tensorboard" in said
    assert not (tmp_path / "run").exists()
    check_tensorboard(SEARCH)  # not asked for


def test_a_notebook_is_told_too(refused, monkeypatch):
    monkeypatch.setattr(nas.report.tensorboard.importlib.util, "find_spec", lambda name: None)
    with refused("--tensorboard needs the package tensorboard"):
        search_cell("darts", preset="quick", tensorboard=True)
