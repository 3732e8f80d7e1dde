"""The jobs of a table as tasks of a Ray cluster (https://docs.ray.io), several at once on one machine or on many.

Every machine needs this package, and sees the folder of the table and that of the images under the same path. A job is
resumed as it would be by its command, so a task whose worker is lost is simply given to another one.
"""

import logging
import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from nas.config import Count, NotNegative
from nas.run.stop import SIGNALLED, TIME_IS_UP, Stopped, StopRequest
from nas.tables.table9.jobs import FAILED, Job, Plan
from search_spaces.errors import InputError

RETRIES = 3  # of a task whose worker was lost
LOCAL = "local"
PATIENCE = 60  # seconds for the jobs to save themselves when the command is stopped
GLANCE = 1.0  # seconds between two looks whether it is to stop


class Resources(BaseModel):
    """What a job is declared to need."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus_per_job: Count = Field(
        1, description="CPU cores, which are also the threads, of a job under --ray (default: 1)"
    )
    gpus_per_job: NotNegative | None = Field(
        None, description="GPUs of a job under --ray, 0.5 puts two on one; one if not given and the cluster has some"
    )


def carry_out_on_ray(
    plan: Plan, address: str, resources: Resources, ended: Callable[[Job, int], None]
) -> tuple[int, list[Job]]:
    """Carries out what is left; returns (the exit status that ended it early, or 0; the jobs that failed).

    `address` is "local", which starts a cluster on this machine, or that of a running one. `ended` is told of each job
    that has ended, and of how many run at once.

    Raises InputError if there is no Ray, no such cluster, or not enough of `resources` for one job.
    """
    ray = _connect(address)
    given: Counter[str] = Counter()  # how often each job was given to a worker
    running: dict[Any, Job] = {}
    failed: list[Job] = []

    def give(job: Job) -> None:
        given[job.title] += 1
        named = task.options(name=job.title)  # which Ray puts before every line that the job prints
        running[named.remote(_with_threads(job, cpus), os.getcwd())] = job

    def cancel() -> None:
        for one in running:
            ray.cancel(one)  # as SIGINT does: the job saves itself after its step
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=PATIENCE)

    try:
        cpus, gpus, at_once = _check_resources(ray, plan, resources)
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_carry_out)
        with StopRequest() as stop:
            while True:
                for job in plan.jobs:
                    if not given[job.title] and not job.run.is_finished() and job.is_ready():
                        give(job)
                if not running:
                    return 0, failed
                done, _ = ray.wait(list(running), timeout=GLANCE)
                for one in done:
                    job = running.pop(one)
                    status = _exit_status(ray, one, job)
                    ended(job, at_once)
                    if status == TIME_IS_UP:  # and so it soon is for the others
                        cancel()
                        return status, failed
                    if status > SIGNALLED and given[job.title] <= RETRIES:  # it saved itself as its machine was to go
                        give(job)
                    elif status:
                        failed.append(job)
                stop.check(cancel)
    except Stopped as stopped:
        return stopped.status, failed
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    try:
        import ray
    except ImportError:
        raise InputError(
            "--ray needs the package Ray, which is not installed; pip install 'darts-blocks[ray]'"
        ) from None
    try:
        if address == LOCAL:
            ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR, object_store_memory=2**27)
        else:
            ray.init(address=address, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f'no Ray cluster at --ray "{address}" ({reason}); give local, or the address of one') from None
    return ray


def _check_resources(ray: Any, plan: Plan, asked: Resources) -> tuple[int, float, int]:
    """(CPU cores of a job, its GPUs, how many jobs run at once)."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    machines = [(has.get("CPU", 0), has.get("GPU", 0)) for has in resources]
    wants_gpu = any(has_gpus for _, has_gpus in machines) and plan.jobs[0].config.device != "cpu"
    cpus, gpus = asked.cpus_per_job, float(wants_gpu) if asked.gpus_per_job is None else asked.gpus_per_job
    at_once = sum(int(min(has_cpus // cpus, has_gpus // gpus if gpus else math.inf)) for has_cpus, has_gpus in machines)
    if not at_once:
        have = "; ".join(f"{has_cpus:g} and {has_gpus:g}" for has_cpus, has_gpus in machines)
        raise InputError(
            f"a job is to have {cpus} CPU cores and {gpus:g} GPUs; the Ray cluster's machines have {have},"
            " give less to --cpus-per-job and --gpus-per-job"
        )
    return cpus, gpus, at_once


def _with_threads(job: Job, cpus: int) -> Job:
    threads = cpus if job.config.threads is None else job.config.threads
    return replace(job, config=job.config.model_copy(update={"threads": threads}))


def _carry_out(job: Job, folder: str) -> int:
    """What a worker does. `folder` is where the command was typed: the paths of a job start there."""
    os.chdir(folder)
    return job.carry_out()


def _exit_status(ray: Any, done: Any, job: Job) -> int:
    """Of the task of a job; an error in its worker, or that it was lost, is said."""
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        print(f"{job.title}: {type(error.cause).__name__} in its worker: {error.cause}", flush=True)
        return FAILED
    except ray.exceptions.RayError as error:
        reason = str(error).strip().partition("\n")[0]
        print(f"{job.title}: its worker was lost {RETRIES + 1} times ({reason})", flush=True)
        return FAILED
