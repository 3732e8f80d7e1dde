"""The training loop: the schedule, one look at the test images, and a run that goes on as if nothing had happened."""

import pytest

import nas.training.training
from both_loops import DROPPED_CONV, OTHER_SETTINGS
from cells.costs import network_costs
from cells.genotype import Genotype
from cells.genotype_file import load_genotype
from cells.network import Network
from nas.config import RUN_CONTROL, TrainConfig
from nas.loop.steps import cosine, error_percent
from nas.run.folder import RunDir
from nas.run.record import InMemory
from nas.run.stop import Stopped
from nas.training.training import run_training
from nas.training.weights_file import load_trained
from search_spaces.plugins import load_plugin
from some_cells import genotype_of
from tiny_runs import TRAIN, StopAfter, begin, differing, image_data, metrics


def cell_of(operator: str) -> Genotype:
    return genotype_of(f"{operator} 0, skip_connect 1", f"{operator} 2, {operator} 1")


GENOTYPE = cell_of("dil_conv_3x3")


def trained(folder, config=TRAIN, genotype=GENOTYPE, stops=(), data=None) -> RunDir:
    """A finished training that was stopped after so many steps, then again after so many more, and so on."""
    run = begin(folder, config, genotype=genotype)
    for steps in stops:
        with pytest.raises(Stopped):
            run_training(config, genotype, data or image_data(), RunDir(folder), resume=True, stop=StopAfter(steps))
        assert not run.is_finished()
    run_training(config, genotype, data or image_data(), RunDir(folder), resume=True, progress=False)
    return run


def settings(**changes) -> TrainConfig:
    return TRAIN.model_copy(update=changes)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("training") / "run")


def result(run: RunDir) -> dict:
    return {name: value for name, value in run.result().items() if name != "seconds"}


def assert_same(run: RunDir, other: RunDir):
    assert differing(run, other) == []
    assert metrics(run) == metrics(other) and result(run) == result(other)


@pytest.mark.parametrize("stops", [(1,), (4,), (2, 3), (8,)], ids=str)
def test_a_training_that_is_stopped_and_resumed_is_the_training_that_never_stopped(stops, uninterrupted, tmp_path):
    assert TRAIN.drop_path > 0 and TRAIN.cutout > 0 and TRAIN.auxiliary
    assert_same(trained(tmp_path / "run", stops=stops), uninterrupted)


def test_a_plugin_that_draws_at_random_is_resumed_exactly_too(write_plugin, tmp_path):
    load_plugin(write_plugin(DROPPED_CONV))
    runs = [trained(tmp_path / str(stops), genotype=cell_of("dropped_conv"), stops=stops) for stops in ((), (3,))]
    assert_same(*runs)


def test_a_run_killed_after_its_last_checkpoint_finishes_without_training_on(uninterrupted, tmp_path):
    run = trained(tmp_path / "run")
    (run.path / "result.json").unlink()
    run_training(TRAIN, GENOTYPE, image_data(), RunDir(run.path), resume=True, progress=False)
    assert_same(run, uninterrupted)


def test_more_epochs_go_on_from_the_last_one(tmp_path):
    run = trained(tmp_path / "run", settings(epochs=1))
    first = metrics(run)
    run_training(settings(epochs=3), GENOTYPE, image_data(), run, resume=True, progress=False)
    assert metrics(run)[:1] == first and [row["epoch"] for row in metrics(run)] == [0, 1, 2]
    assert run.result()["epochs"] == 3


def test_the_same_seed_gives_the_same_network(uninterrupted, tmp_path):
    assert_same(trained(tmp_path / "again"), uninterrupted)


def test_drop_path_rises_with_the_epoch_and_the_learning_rate_falls_to_zero(monkeypatch):
    seen, step = set(), nas.training.training.training_step

    def record(state, batch, config, learning_rate, drop_path_probability):
        seen.add((learning_rate, drop_path_probability))
        return step(state, batch, config, learning_rate, drop_path_probability)

    monkeypatch.setattr(nas.training.training, "training_step", record)
    run_training(settings(epochs=4, drop_path=0.2), GENOTYPE, image_data(), progress=False)
    rates, probabilities = zip(*sorted(seen, reverse=True), strict=True)
    assert probabilities == pytest.approx([0.0, 0.05, 0.1, 0.15])  # 0.2 * epoch / epochs
    assert rates == pytest.approx([cosine(0.025, 0.0, epoch, 4) for epoch in range(4)])


def test_the_test_images_are_read_once_after_the_last_epoch(monkeypatch, tmp_path):
    run, read_after = begin(tmp_path / "run", TRAIN, genotype=GENOTYPE), []

    def record(predict, images, labels, data):
        assert images is data.test_images and labels is data.test_labels
        read_after.append(len(run.rows("metrics")))
        return 50.0

    monkeypatch.setattr(nas.training.training, "error_percent", record)
    assert run_training(TRAIN, GENOTYPE, image_data(), run, progress=False)["test_error_percent"] == 50.0
    assert read_after == [TRAIN.epochs]


def test_other_test_images_train_the_same_network(uninterrupted, tmp_path):
    data = image_data()
    data.test_images.zero_()
    other = trained(tmp_path / "other", data=data)
    assert differing(other, uninterrupted) == [] and metrics(other) == metrics(uninterrupted)


def test_the_error_is_measured_in_evaluation_mode_and_leaves_the_network_in_training(monkeypatch):
    seen, forward = [], Network.forward

    def record(network, *inputs):
        seen.append((network, network.training))
        return forward(network, *inputs)

    monkeypatch.setattr(Network, "forward", record)
    result = run_training(settings(epochs=1), GENOTYPE, image_data(), progress=False)
    assert [training for _, training in seen] == [True] * 4 + [False] and seen[-1][0].training
    assert 0 <= result["test_error_percent"] <= 100


def test_the_saved_weights_are_enough_to_get_the_reported_error(uninterrupted):
    saved, data = load_trained(uninterrupted.weights), image_data()
    assert (saved.mean, saved.std, saved.image_size) == (data.mean, data.std, data.image_size)
    assert saved.classes == data.classes and saved.parsed_genotype() == GENOTYPE
    network = saved.build(compiled=True)
    error = error_percent(lambda images: network(images)[0], data.test_images, data.test_labels, data)
    assert error == uninterrupted.result()["test_error_percent"]


def test_the_extra_state_of_a_plugins_module_is_saved_with_the_weights(write_plugin, tmp_path):
    source = """
from torch import nn
from search_spaces import register_operator

@register_operator("counted_pool")
class CountedPool(nn.Module):
    def __init__(self, channels, stride, affine):
        super().__init__()
        self.pool, self.calls = nn.AvgPool2d(3, stride, 1), 0

    def forward(self, x):
        self.calls += 1
        return self.pool(x)

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]
"""
    load_plugin(write_plugin(source))
    run = trained(tmp_path / "run", settings(epochs=1), genotype=cell_of("counted_pool"))
    network = load_trained(run.weights).build(compiled=True)
    assert any(getattr(module, "calls", 0) for module in network.modules())


def test_the_result_counts_parameters_with_and_without_the_auxiliary_head(uninterrupted):
    reported, counted = uninterrupted.result(), network_costs(GENOTYPE, 2, 3, classes=3, image_size=8)._asdict()
    assert {name: reported[name] for name in counted} == counted
    assert reported["parameters"] < reported["parameters_with_auxiliary"] and reported["madds"] > 0
    assert reported["test_images"] == 10 and reported["seconds"] >= 0 and reported["seed"] == 0


def test_a_node_that_the_output_leaves_out_does_not_stop_training():
    genotype = genotype_of("dil_conv_3x3 0", "dil_conv_3x3 1", concat=(3,))
    run_training(settings(epochs=1), genotype, image_data(), progress=False)


CHANGES = OTHER_SETTINGS | {"hold_out": 9, "test_images": 5, "cutout": 0, "drop_path": 0.0}
CHANGES |= {"auxiliary": False, "auxiliary_weight": 1.0}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_has_an_effect(name, uninterrupted):
    record = InMemory()
    result = run_training(settings(**{name: CHANGES[name]}), GENOTYPE, image_data(), record, progress=False)
    if name == "test_images":
        assert result["test_images"] == 5
    else:
        rows = [{name: value for name, value in row.items() if name != "seconds"} for row in record.rows("metrics")]
        assert rows != metrics(uninterrupted)


def test_no_setting_is_left_out_above():
    of_the_command = {"data", "image_size", "sync_batch_norm", *RUN_CONTROL}  # test_cli.py, test_parallel.py
    assert CHANGES.keys() | (of_the_command & TrainConfig.model_fields.keys()) == TrainConfig.model_fields.keys()


def test_a_notebook_can_train_a_published_cell_without_a_folder(capsys):
    result = run_training(settings(epochs=1), load_genotype("darts_v2"), image_data(), progress=False)
    assert 0 <= result["test_error_percent"] <= 100 and capsys.readouterr() == ("", "")
