"""The jobs of a table on a local Ray cluster of two workers: the same table, whatever happens to a worker."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from nas.commands.table9 import reproduce_table9
from nas.tables import on_ray
from nas.tables.on_ray import Resources
from project_root import ROOT
from table9_runs import CALL, plan_of, write_inputs

MORE_EPOCHS = "6"  # so that a worker can be met at work


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path)
    config = Path("tiny.yaml").read_text()
    Path("tiny.yaml").write_text(config.replace("epochs: 1", f"epochs: {MORE_EPOCHS}"))
    return tmp_path


def start(*more) -> subprocess.Popen:
    command = [sys.executable, ROOT / "scripts" / "reproduce_table9.py", *CALL, *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def a_worker_at_work(process: subprocess.Popen) -> tuple[Path, int]:
    """The folder that it is writing an epoch of, and its process."""
    while process.poll() is None:
        for owner in Path("runs").glob("table9/**/.owner.json"):
            with contextlib.suppress(OSError, ValueError):
                if (owner.parent / "checkpoint.pt").exists():
                    return owner.parent, json.loads(owner.read_text())["process"]
        time.sleep(0.02)
    raise AssertionError(process.communicate()[0])


def outcome() -> dict:
    """The table's data, but for what a machine and the command leave there."""
    content = json.loads(Path("runs", "table9", "table9.json").read_text())
    for space in content["spaces"].values():
        for done in space["summary"]["budget"].values():
            del done["seconds"]
    return {key: value for key, value in content.items() if key != "command"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_with_a_worker_killed_and_the_command_interrupted_the_table_is_that_of_one_machine(here):
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    process = start("--ray", "local")
    killed_in, pid = a_worker_at_work(process)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    a_worker_at_work(process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 130 and "the whole table goes on with: python scripts/reproduce_table9.py" in said

    process = start("--ray", "local", "--cpus-per-job", "1")
    said_then, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said_then
    assert f"{killed_in} was left by process {pid}" in said + said_then  # and taken over by the worker after it
    assert "[16 of 16 finished] " in said_then and re.search(r"\(larger, retraining, seed \d pid=\d+\)", said_then)
    found = outcome()
    (here / "runs").rename("by_ray")
    assert reproduce_table9(CALL) == 0
    assert found == outcome()


def test_without_ray_its_flags_are_refused(here, mistake):
    assert "give --ray local" in mistake(reproduce_table9, *CALL, "--cpus-per-job", "2")


@pytest.mark.parametrize("flags", [("--cpus-per-job", "0"), ("--cpus-per-job", "two"), ("--gpus-per-job", "-1")])
def test_resources_that_are_no_numbers_are_one_line(flags, here, mistake):
    line = mistake(reproduce_table9, *CALL, "--ray", "local", *flags)
    assert flags[0] in line and flags[1] in line


def test_ray_is_asked_for_in_one_line_where_it_is_not_installed(here, monkeypatch, mistake):
    monkeypatch.setitem(sys.modules, "ray", None)
    line = mistake(reproduce_table9, *CALL, "--ray", "local")
    assert "not installed" in line and "[ray]" in line


class FakeRay:
    """A cluster of these machines (CPU cores, GPUs). A task of it is not run, but has the next of these outcomes."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            cause = FileNotFoundError("no such folder")

    def __init__(self, machines=((4, 1),), outcomes=()):
        self.machines, self.outcomes, self.titles, self.cancelled = machines, list(outcomes), [], []

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": float(cpus), "GPU": float(gpus)}} for cpus, gpus in self.machines]

    def remote(self, **_):
        return lambda function: self

    def options(self, name):
        self.titles.append(name)
        return SimpleNamespace(remote=lambda job, folder: len(self.titles) - 1)

    def wait(self, tasks, **_):
        return tasks[:1], tasks[1:]

    def cancel(self, task):
        self.cancelled.append(task)

    def get(self, task):
        outcome = self.outcomes[task] if task < len(self.outcomes) else 0
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def shutdown(self):
        pass


@pytest.mark.parametrize(
    ("machines", "asked", "device", "gpus", "at_once"),
    [
        ([(4, 1)], Resources(), "auto", 1, 1),
        ([(4, 1)], Resources(), "cpu", 0, 4),
        ([(4, 1)], Resources(cpus_per_job=2, gpus_per_job=0.5), "auto", 0.5, 2),
        ([(4, 1)], Resources(cpus_per_job=3, gpus_per_job=0.25), "auto", 0.25, 1),
        ([(3, 0), (3, 0)], Resources(cpus_per_job=2), "auto", 0, 2),
        ([(8, 0), (8, 4)], Resources(cpus_per_job=2), "auto", 1, 4),
    ],
)
def test_a_job_gets_a_gpu_where_there_is_one(machines, asked, device, gpus, at_once, here):
    plan = plan_of(*CALL, "--device", device)
    assert on_ray._check_resources(FakeRay(machines), plan, asked) == (asked.cpus_per_job, gpus, at_once)


def test_more_than_any_machine_has_is_refused(here, refused):
    with refused("8 CPU cores", "have 4 and 0; 6 and 0", "--cpus-per-job"):
        on_ray._check_resources(FakeRay([(4, 0), (6, 0)]), plan_of(*CALL, "--device", "cpu"), Resources(cpus_per_job=8))


def carried_out(monkeypatch, *outcomes):
    """(exit status, titles of the jobs that failed, the cluster) where the first tasks have these outcomes."""
    cluster = FakeRay([(2, 0)], outcomes)
    monkeypatch.setattr(on_ray, "_connect", lambda address: cluster)
    status, failed = on_ray.carry_out_on_ray(
        plan_of(*CALL, "--device", "cpu"), "local", Resources(), lambda job, at_once: None
    )
    return status, [job.title for job in failed], cluster


def test_a_job_that_saved_itself_as_its_machine_went_goes_to_another_one(here, monkeypatch):
    status, failed, cluster = carried_out(monkeypatch, 128 + signal.SIGTERM)
    assert (status, failed) == (0, []) and cluster.titles.count("plain, search, seed 0") == 2


def test_a_job_that_never_stays_on_a_machine_fails_in_the_end(here, monkeypatch):
    status, failed, cluster = carried_out(monkeypatch, *[128 + signal.SIGTERM] * 100)
    assert status == 0 and len(failed) == len(set(cluster.titles))
    assert cluster.titles.count("plain, search, seed 0") == 1 + on_ray.RETRIES


def test_when_the_time_of_a_job_is_up_the_others_save_themselves_and_the_command_ends(here, monkeypatch):
    status, failed, cluster = carried_out(monkeypatch, 75)
    assert (status, failed) == (75, []) and cluster.cancelled and 0 not in cluster.cancelled


def test_an_error_in_a_worker_is_said_as_it_is(here, monkeypatch, capsys):
    status, failed, _ = carried_out(monkeypatch, FakeRay.exceptions.RayTaskError(), FakeRay.exceptions.RayError("gone"))
    assert status == 0 and len(failed) == 2
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{failed[0]}: FileNotFoundError in its worker: no such folder"
    assert second == f"{failed[1]}: its worker was lost {on_ray.RETRIES + 1} times (gone)"
