"""The search loop: what is learned from what, in which order, and a run that goes on as if nothing had happened."""

import json
import platform

import pytest
import torch

import nas.search.search
from both_loops import DROPPED_CONV, OTHER_SETTINGS
from cells.discretization import discretize
from cells.genotype_file import load_genotype
from nas.config import RUN_CONTROL, SearchConfig
from nas.data.batches import Batches
from nas.run.folder import RunDir
from nas.run.stop import Stopped
from nas.search.bilevel import SearchState, bilevel_step
from nas.search.search import run_search
from search_spaces.plugins import load_plugin
from search_spaces.space import SearchSpace
from tiny_runs import SEARCH, SPACE, StopAfter, begin, differing, image_data, learned, metrics

pytestmark = pytest.mark.usefixtures("without_pictures")


def searched(folder, config=SEARCH, space=SPACE, stops=(), data=None) -> RunDir:
    """A finished search that was stopped after so many steps, then again after so many more, and so on."""
    run = begin(folder, config, space=space)
    for steps in stops:
        with pytest.raises(Stopped):
            run_search(config, space, data or image_data(), RunDir(folder), resume=True, stop=StopAfter(steps))
        assert not run.is_finished()
    run_search(config, space, data or image_data(), RunDir(folder), resume=True, progress=False)
    return run


def settings(order=1, **changes) -> SearchConfig:
    return SEARCH.model_copy(update={"order": order, **changes})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """One search of each order, to compare with."""
    return {order: searched(tmp_path_factory.mktemp("order") / "run", settings(order)) for order in (1, 2)}


def assert_same(run: RunDir, other: RunDir):
    assert differing(run, other) == []
    for name in ("alphas.jsonl", "genotype.json"):
        assert (run.path / name).read_bytes() == (other.path / name).read_bytes()
    assert metrics(run) == metrics(other)


@pytest.mark.parametrize(
    ("order", "stops"), [(1, (1,)), (1, (2,)), (1, (4,)), (2, (1, 1)), (2, (3,))], ids=["1", "2", "4", "1 and 2", "3"]
)
def test_a_search_that_is_stopped_and_resumed_is_the_search_that_never_stopped(order, stops, uninterrupted, tmp_path):
    assert_same(searched(tmp_path / "run", settings(order), stops=stops), uninterrupted[order])


def test_a_plugin_that_draws_at_random_is_resumed_exactly_too(write_plugin, tmp_path):
    load_plugin(write_plugin(DROPPED_CONV))
    space = SearchSpace("dropped", ("none", "dropped_conv"), nodes=2)
    runs = [searched(tmp_path / str(stops), settings(2), space, stops) for stops in ((), (1,))]
    assert_same(*runs)


def test_a_crash_between_an_epochs_rows_and_its_checkpoint_repeats_no_line(uninterrupted, tmp_path, monkeypatch):
    run = begin(tmp_path / "run", settings(), space=SPACE)
    save = RunDir.save_checkpoint

    def full_disk_in_epoch_2(self, state):
        if state["epoch"] == 2:
            raise OSError(28, "No space left on device")
        save(self, state)

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(RunDir, "save_checkpoint", full_disk_in_epoch_2)
        run_search(settings(), SPACE, image_data(), run, progress=False)
    assert len(run.rows("alphas")) == 2 and run.load_checkpoint()["epoch"] == 1
    run_search(settings(), SPACE, image_data(), RunDir(run.path), resume=True, progress=False)
    assert_same(run, uninterrupted[1])


def test_more_epochs_go_on_from_the_last_one(tmp_path):
    run = searched(tmp_path / "run", settings(epochs=1))
    first = metrics(run)
    run_search(settings(epochs=3), SPACE, image_data(), run, resume=True, progress=False)
    assert metrics(run)[:1] == first and [row["epoch"] for row in metrics(run)] == [0, 1, 2]
    assert run.result()["epochs"] == 3 and load_genotype(run.path).found_by["epochs"] == 3


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_alphas(uninterrupted, tmp_path):
    assert_same(searched(tmp_path / "again", settings()), uninterrupted[1])
    other = searched(tmp_path / "other", settings(seed=1))
    assert other.rows("alphas") != uninterrupted[1].rows("alphas")


def test_the_seed_does_not_change_which_images_train_weights_and_which_alphas(monkeypatch):
    data, seen = image_data(), []

    def record(images, *rest):
        seen.append(images)
        return Batches(images, *rest)

    monkeypatch.setattr(nas.search.search, "Batches", record)
    for seed in (0, 1):
        run_search(settings(seed=seed, epochs=1), SPACE, data, progress=False)
    halves = [data.train_images[:14], data.train_images[14:]]
    assert all(torch.equal(images, half) for images, half in zip(seen, halves * 2, strict=True))


def test_genotype_and_alphas_hold_no_time_path_or_host(uninterrupted):
    run = uninterrupted[1]
    texts = [(run.path / name).read_text() for name in ("genotype.json", "alphas.jsonl")]
    for words in (str(run.path), str(run.path.parent), platform.node() or "no name", "seconds", "time", "202"):
        assert words not in texts[0]
    assert {"seed": 0, "order": 1, "epochs": 2, "data": "tiny"}.items() <= json.loads(texts[0])["found_by"].items()
    assert [sorted(json.loads(line)) for line in texts[1].splitlines()] == [["epoch", "normal", "reduce"]] * 2


def test_the_genotype_is_that_of_the_alphas_after_the_last_epoch(uninterrupted):
    run = uninterrupted[2]
    last = run.rows("alphas")[-1]
    tables = [torch.tensor(last[kind], dtype=torch.float64).softmax(dim=1) for kind in ("normal", "reduce")]
    assert load_genotype(run.path) == discretize(*tables, SPACE)
    alphas = learned(run)["/supernet/alphas_normal"]
    assert torch.equal(alphas, torch.tensor(last["normal"]))


def test_the_result_says_what_was_run(uninterrupted):
    result, row = uninterrupted[2].result(), uninterrupted[2].rows("metrics")[-1]
    run = {"space": "tiny", "seed": 0, "order": 2, "epochs": 2, "data": "tiny", "train_images": 28}
    assert run.items() <= result.items()
    assert result["validation_error_percent"] == row["validation_error_percent"]
    assert result["seconds"] >= 0 and row["seconds"] >= 0


def test_the_learning_rate_of_the_weights_falls_and_that_of_the_alphas_stays(uninterrupted):
    rates = [row["learning_rate"] for row in uninterrupted[1].rows("metrics")]
    assert rates == pytest.approx([0.025, 0.013])  # half way from 0.025 to 0.001
    saved = uninterrupted[1].load_checkpoint()
    assert saved["weight_optimizer"]["param_groups"][0]["lr"] == rates[-1]
    assert saved["alpha_optimizer"]["param_groups"][0]["lr"] == SEARCH.alpha_learning_rate


def test_each_optimizer_has_its_own_half_of_the_parameters():
    state = SearchState(settings(), SPACE, 3, torch.device("cpu"))
    weights, alphas = (
        {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for optimizer in (state.weight_optimizer, state.alpha_optimizer)
    )
    assert alphas == {id(table) for table in state.supernet.alphas()}
    assert weights == {id(parameter) for parameter in state.supernet.parameters()} - alphas


def a_batch(seed: int):
    data = image_data()
    return Batches(data.train_images, data.train_labels, data, SEARCH, f"test {seed}").drawn(0, 0)


def test_the_alphas_move_first_and_their_gradient_is_not_in_the_clip_of_the_weights(monkeypatch):
    state, calls = SearchState(settings(), SPACE, 3, torch.device("cpu")), []
    moved = {id(state.supernet.alphas()[0]): "alphas", id(state.supernet.weights()[0]): "weights"}
    apply = nas.search.bilevel.apply_gradients

    def record(optimizer, parameters, gradients, clip=None):
        calls.append((moved[id(parameters[0])], len(parameters), clip))
        return apply(optimizer, parameters, gradients, clip)

    monkeypatch.setattr(nas.search.bilevel, "apply_gradients", record)
    bilevel_step(state, a_batch(0), a_batch(1), settings(gradient_clip=0.5), 0.025)
    assert calls == [("alphas", 2, None), ("weights", len(state.supernet.weights()), 0.5)]


def test_the_weights_are_trained_with_the_alphas_that_were_just_moved(monkeypatch):
    def weights_after(alpha_learning_rate):
        state = SearchState(settings(alpha_learning_rate=alpha_learning_rate), SPACE, 3, torch.device("cpu"))
        bilevel_step(state, a_batch(0), a_batch(1), settings(), 0.025)
        return torch.cat([weight.detach().flatten() for weight in state.supernet.weights()])

    assert not torch.equal(weights_after(1e-3), weights_after(1.0))


CHANGES = OTHER_SETTINGS | {"order": 2, "alpha_learning_rate": 0.01, "alpha_weight_decay": 0.1}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_has_an_effect(name, uninterrupted, tmp_path):
    run = searched(tmp_path / "run", settings(**{name: CHANGES[name]}))
    assert run.rows("alphas") != uninterrupted[1].rows("alphas")


def test_no_setting_is_left_out_above():
    of_the_command = {"data", "image_size", "space", "sync_batch_norm", *RUN_CONTROL}  # test_cli.py, test_parallel.py
    of_collapse = {"hessian_every", "early_stop"}  # test_collapse.py
    assert CHANGES.keys() | of_the_command | of_collapse == SearchConfig.model_fields.keys()


def test_a_notebook_can_search_without_a_folder(capsys):
    genotype = run_search(settings(epochs=1), SPACE, image_data(), progress=False)
    assert genotype.space == "tiny" and capsys.readouterr() == ("", "")
