"""From a plan to a finished run: the one path that commands, notebook functions and tables take."""

import sys
from contextlib import nullcontext
from typing import Any

from cells.architecture import Architecture
from nas.config import SearchConfig, TrainConfig
from nas.experiment.held import refuse_what_came_between
from nas.experiment.plan import Plan
from nas.loop.listener import Listener
from nas.machine import processes
from nas.report.diagrams import Diagrams
from nas.report.live import LiveReport
from nas.report.tensorboard import Curves
from nas.run.begin import changed_environment, check_data, create_run, extend_run
from nas.run.folder import RunDir
from nas.run.lock import locked
from nas.run.next_command import resuming_command
from nas.run.record import InMemory, Record
from nas.run.stop import Stopped, StopRequest
from nas.search.search import run_search
from nas.training.training import run_training
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace


def carry_out(plan: Plan) -> Record:
    """Runs what was planned and returns its record, a `RunDir` if there is a folder.

    Raises InputError if the folder is not as it was when the run was planned, and Stopped if a signal or the clock
    ended the run early: it is saved, and how to go on is said.
    """
    if plan.is_done:
        assert plan.run is not None
        return plan.run
    if plan.run is None:
        record: Record = InMemory()
        _run(plan, record, False, None)
        return record
    is_writer = processes.is_first()
    with locked(plan.run, plan.request.say) if is_writer else nullcontext():
        goes_on = processes.from_first(_begin(plan, plan.run) if is_writer else False)
        record = plan.run if is_writer else InMemory()
        try:
            with StopRequest(plan.config.stop_after) as stop:
                _run(plan, record, goes_on, stop)
        except Stopped:
            if is_writer:
                command = resuming_command(plan.config.command, plan.run.path)
                print(f"saved; go on with: {command}", file=sys.stderr)
            raise
    return record


def _begin(plan: Plan, run: RunDir) -> bool:
    """Makes the folder ready; returns whether there is a checkpoint to go on from."""
    say = plan.request.say
    assert plan.data is not None
    refuse_what_came_between(plan.request, run, plan.goes_on)
    if plan.goes_on and run.load_checkpoint(say) is not None:  # refused before any change
        check_data(run, plan.data.fingerprint)
        if changed := changed_environment(run):
            say(f"note: {changed}, since {run.path} was begun; its numbers may differ in their last digits")
        extend_run(run, plan.kept)
        return True
    if plan.goes_on and run.is_finished():
        raise InputError(f"{run.path} is finished and has no checkpoint to go on from; start anew with --force")
    if plan.goes_on:
        say(f"{run.path} has no checkpoint; starting from the beginning")
    subject = plan.subject
    about: dict[str, Any] = {"space": subject} if isinstance(subject, SearchSpace) else {"genotype": subject.genotype}
    create_run(run, plan.kept, plan.data.fingerprint, plan.plugins, **about)
    return False


def _run(plan: Plan, record: Record, goes_on: bool, stop: StopRequest | None) -> None:
    config, subject, data = plan.config, plan.subject, plan.data
    assert data is not None
    how: dict[str, Any] = {"resume": goes_on, "stop": stop, "progress": plan.request.progress}
    how["listeners"] = listeners_of(record, config)
    if isinstance(config, SearchConfig) and isinstance(subject, SearchSpace):
        run_search(config, subject, data, record, **how)
    else:
        assert isinstance(config, TrainConfig) and isinstance(subject, Architecture)
        run_training(config, subject, data, record, **how)


def listeners_of(record: Record, config: SearchConfig | TrainConfig) -> list[Listener]:
    """Who watches a run in a folder: pictures of a search's cells, TensorBoard's curves, the report."""
    if not isinstance(record, RunDir):
        return []
    listeners: list[Listener] = [Diagrams(record)] if isinstance(config, SearchConfig) else []
    if config.tensorboard:
        listeners.append(Curves(record))
    if config.report:
        listeners.append(LiveReport(record))
    return listeners
