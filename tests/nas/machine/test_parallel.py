"""Several processes as one: their shares of a batch, their sums, and what happens when one of them dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.data.batches import Batches
from nas.machine import processes
from nas.machine.device import resolve_device
from nas.run.folder import RunDir
from project_root import ROOT
from some_steps import all_learned
from tiny_runs import SEARCH, image_data

SEARCH_FLAGS = (
    "--data digits --channels 2 --layers 3 --batch-size 16 --train-images 48 --epochs 3 --threads 1 --device cpu"
    " --order 1 --save-every 0.00001"
)


def torchrun(*words, **options) -> subprocess.Popen:
    """Two processes of a Python file, by torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes, **options)


@pytest.fixture(scope="module")
def by_two(tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("two") / "found.pt"
    process = torchrun(ROOT / "tests" / "some_steps.py", path)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return torch.load(path, weights_only=True)


def furthest(a: dict, b: dict, part: str) -> float:
    names = [name for name in a if name.startswith(part)]
    assert names and a.keys() == b.keys()
    return max((a[name].double() - b[name].double()).abs().max().item() for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["order 1/", "order 2/", "training/"])
def test_two_processes_learn_what_one_learns_from_the_whole_batches(by_two, part):
    assert furthest(by_two["learned"], all_learned(), part) < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("part", ["order 1/", "order 2/", "training/"])
def test_with_batch_norms_of_their_own_they_learn_something_else(by_two, part):
    assert furthest(by_two["local"], all_learned(), part) > 1e-3


@pytest.mark.slow
def test_a_synchronised_batch_norm_of_shares_is_batch_norm_of_the_whole(by_two):
    norm = nn.BatchNorm2d(3).double()
    x = torch.arange(2 * 7 * 3 * 4, dtype=torch.float64).sin().view(7, 3, 2, 4).requires_grad_()
    y = norm(x)
    (gradient,) = torch.autograd.grad(y.pow(3).sum(), x)
    expected = norm.state_dict() | {"gradient": gradient, "sum of cubes": y.detach().pow(3).sum()}
    for name, found in by_two["norm"].items():
        torch.testing.assert_close(found, expected[name], rtol=1e-12, atol=1e-12)


def workers(process: subprocess.Popen) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(word) for word in children.read_text().split()]


@pytest.fixture
def search_by_two(tmp_path):
    (tmp_path / "tiny.yaml").write_text("operators: [none, skip_connect, dil_conv_3x3]\nnodes: 2\n")
    run = RunDir(tmp_path / "run")

    def start(*more):
        words = [ROOT / "search.py", "--space", tmp_path / "tiny.yaml", *SEARCH_FLAGS.split(), "--run-dir", run.path]
        return torchrun(*words, *more, cwd=tmp_path)

    return run, start


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_killed_process_ends_all_and_the_run_goes_on_from_its_checkpoint(search_by_two):
    run, start = search_by_two
    process = start("--epochs", "300")
    while not run.rows("metrics") and process.poll() is None:
        time.sleep(0.05)
    os.kill(workers(process)[1], signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and "lost another process of this run" in said
    saved = run.load_checkpoint()
    assert saved["epoch"] >= 1 and not run.is_finished()

    process = start("--epochs", str(saved["epoch"] + 2), "--resume")
    refused = process.communicate(timeout=120)[1]
    assert process.returncode == 1 and "epochs was 300" in refused  # fewer than it was begun with
    assert run.load_checkpoint()["epoch"] == saved["epoch"]


@pytest.mark.slow
def test_several_processes_write_and_say_everything_once_and_stop_and_go_on_together(search_by_two):
    run, start = search_by_two
    process = start("--stop-after", "0.0001")
    printed, said = process.communicate(timeout=120)
    assert process.returncode == 1 and said.count("saved; go on with: torchrun --nproc-per-node 2 ") == 1
    assert run.load_checkpoint()["step"] == 1

    process = start("--resume")
    printed, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert printed.count("genotype  ") == printed.count("epoch 3/3") == 1
    assert [row["epoch"] for row in run.rows("metrics")] == [row["epoch"] for row in run.rows("alphas")] == [0, 1, 2]
    lines = (run.path / "log.txt").read_text().splitlines()
    assert len(lines) == 3 and json.loads((run.path / "result.json").read_text())["train_images"] == 48


@pytest.fixture
def as_second_of_four(monkeypatch):
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "4"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)


def test_a_batch_is_shared_as_evenly_as_it_can_be(as_second_of_four):
    assert processes.share((torch.arange(10), torch.arange(10)))[0].tolist() == [3, 4, 5]


def test_a_batch_smaller_than_the_processes_are_many_is_refused_before_the_first_step(as_second_of_four, refused):
    data = image_data()
    Batches(data.train_images, data.train_labels, data, SEARCH, "weights")  # 28 = 8 + 8 + 8 + 4
    with refused("has 2 images", "batch_size 13", "4 processes", "--batch-size"):
        config = SEARCH.model_copy(update={"batch_size": 13})
        Batches(data.train_images, data.train_labels, data, config, "weights")


def test_each_process_has_a_gpu_of_its_own(as_second_of_four, refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert str(resolve_device("cuda")) == str(resolve_device("auto")) == "cuda:1"
    with refused("cuda:0", "4 processes"):
        resolve_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "3")
    with refused("cuda:3", "2 cuda"):
        resolve_device("auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(resolve_device("auto")) == "cpu"
