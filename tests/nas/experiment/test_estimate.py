"""Estimates: arithmetic on two measured steps, and nothing disturbed by measuring."""

from types import SimpleNamespace

import pytest
import torch

from cells.architecture import CellArchitecture
from cells.genotype_file import load_genotype
from nas.config import SearchConfig, TrainConfig
from nas.data.image_data import DataSummary
from nas.experiment import estimate
from nas.experiment.estimate import FIRST_TO_SECOND_ORDER, estimate_search, estimate_training
from tiny_runs import SEARCH, SPACE, TRAIN

DATA = DataSummary(train_images=1000, test_images=100, classes=3, image_size=8)
CELLS = CellArchitecture(load_genotype("darts_v2"))


@pytest.fixture
def clock(monkeypatch):
    """Steps that take no time but by this clock: 0.5 s, and 0.01 s for each image."""
    clock = SimpleNamespace(seconds=0.0)

    def step(state, batch, *_):
        clock.seconds += 0.5 + 0.01 * len(batch[0])
        return torch.zeros(6)

    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: clock.seconds))
    monkeypatch.setattr(estimate, "bilevel_step", step)
    monkeypatch.setattr(estimate, "training_step", step)
    return clock


def search_seconds(**changes):
    config = SEARCH.model_copy(update={"order": 1, "batch_size": 50, "epochs": 3, **changes})
    return estimate_search(config, SPACE, DATA).seconds


def training_seconds(**changes):
    config = TRAIN.model_copy(update={"batch_size": 50, "epochs": 3, **changes})
    return estimate_training(config, CELLS, DATA).seconds


def test_the_time_is_that_of_a_step_of_a_whole_batch_times_the_steps(clock):
    assert search_seconds() == pytest.approx(3 * 10 * (0.5 + 0.5))  # 500 images train the weights
    assert training_seconds() == pytest.approx(3 * 20 * (0.5 + 0.5))


def test_settings_that_make_a_run_longer_make_the_estimate_longer(clock):
    assert search_seconds(order=2) == pytest.approx(FIRST_TO_SECOND_ORDER * search_seconds())
    assert search_seconds(epochs=6) == pytest.approx(2 * search_seconds())
    assert search_seconds(train_images=500) == pytest.approx(search_seconds() / 2)
    assert training_seconds(train_images=500) == pytest.approx(training_seconds() / 2)
    assert training_seconds(batch_size=100) < training_seconds()


def test_a_batch_larger_than_the_data_counts_as_the_data(clock):
    assert training_seconds(batch_size=5000) == pytest.approx(training_seconds(batch_size=1000))


def test_a_larger_batch_of_less_measured_time_does_not_make_time_negative(monkeypatch, clock):
    def faster(state, batch, *_):
        clock.seconds += 1 / len(batch[0])

    monkeypatch.setattr(estimate, "training_step", faster)
    assert training_seconds() > 0


def test_the_paper_s_settings_count_391_and_521_steps_an_epoch(clock, monkeypatch):
    monkeypatch.setattr(estimate, "SearchState", fake_state)
    monkeypatch.setattr(estimate, "TrainState", fake_state)
    cifar = DataSummary(50_000, 10_000, 10, 32)
    second_order = 50 * (25_000 / 64) * (0.5 + 0.64) * FIRST_TO_SECOND_ORDER
    assert estimate_search(SearchConfig(), SPACE, cifar).seconds == pytest.approx(second_order)
    assert estimate_training(TrainConfig(), CELLS, cifar).seconds == pytest.approx(600 * (50_000 / 96) * (0.5 + 0.96))


def fake_state(*_):
    return SimpleNamespace(sums=torch.zeros(6), parts={}, supernet=SimpleNamespace(cells=()))


def test_memory_grows_with_the_batch_the_width_and_the_pictures(monkeypatch):
    monkeypatch.setattr(
        estimate.psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=5e8))
    )

    def memory(data=DATA, **changes):
        return estimate_training(TRAIN.model_copy(update=changes), CELLS, data).memory_bytes

    assert memory() < memory(batch_size=500) and memory() < memory(channels=8)
    assert memory() < memory(DataSummary(1000, 100, 3, 16)) and 5e8 < memory() < 1e9


@pytest.mark.parametrize("kind", ["search", "training"])
def test_measuring_leaves_the_random_state_as_it_was(kind):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    arguments = (SEARCH, SPACE, DATA) if kind == "search" else (TRAIN, CELLS, DATA)
    expected = getattr(estimate, f"estimate_{kind}")(*arguments)
    assert torch.equal(torch.get_rng_state(), before)
    assert 0 < expected.seconds < 3600 and expected.disk_bytes > 0


def test_a_device_that_is_not_there_is_one_line(refused):
    with refused("not on this machine", "--device auto"):
        estimate_training(TRAIN.model_copy(update={"device": "cuda:99"}), CELLS, DATA)
    for name in ("tpu", "cpu:", "cuda:x", "CPU", "cpu:-1", ""):
        with refused("unknown device", "known: auto, cpu, cuda, cuda:N, mps"):
            estimate_training(TRAIN.model_copy(update={"device": name}), CELLS, DATA)


@pytest.mark.parametrize(("free", "decided"), [(1e12, "store"), (1e6, "recompute")])
def test_auto_stores_what_fits_and_recomputes_what_does_not(free, decided, monkeypatch):
    monkeypatch.setattr(estimate, "_free_bytes", lambda device: free)
    larger = {"channels": 8, "layers": 6, "batch_size": 256}
    found = estimate_search(SEARCH.model_copy(update=larger), SPACE, DATA)
    assert found.memory == decided
    settings = {memory: SEARCH.model_copy(update=larger | {"memory": memory}) for memory in ("store", "recompute")}
    asked = {memory: estimate_search(config, SPACE, DATA) for memory, config in settings.items()}
    assert [estimate.memory for estimate in asked.values()] == ["store", "recompute"]
    assert asked["recompute"].memory_bytes < asked["store"].memory_bytes
    assert found.memory_bytes == pytest.approx(asked[decided].memory_bytes, rel=0.02)  # the process itself grows
