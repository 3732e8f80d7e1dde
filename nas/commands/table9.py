"""Table 9 of the paper, measured: in each search space searches, the choice of a cell, its retrainings, random cells.

Zhou et al., "Rethinking Bottleneck Structure for Efficient Mobile Network Design", ECCV 2020. Every job is a run folder
as the two commands write it, OUT/SPACE/STAGE/seedN. Finished ones are skipped, unfinished ones resumed; the table is
made from what stands in the folders.
"""

import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nas.commands.command_line import Parser, command
from nas.config import PRESETS, Settings, build_config
from nas.tables.on_ray import Resources, carry_out_on_ray
from nas.tables.table9.jobs import FAILED, SHARED, STAGES, Job, Plan, Protocol, check_data, check_unchanged, plan_jobs
from nas.tables.table9.results import PAPER, write_table
from search_spaces.errors import InputError


@command
def reproduce_table9(argv: Sequence[str] | None) -> int:
    """`python scripts/reproduce_table9.py`: returns the exit status.

    0: all jobs are finished; 1: some failed, the others were carried out, and the table says what it lacks; 2: a
    mistake in what the user gave, and nothing was run; 75 or more: stopped in the middle, as `search.py` says it.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    command = shlex.join(["python", "scripts/reproduce_table9.py", *words])
    flags = _parser().parse(words)
    resources = _resources(flags)
    plan = plan_jobs(flags)
    for job in plan.jobs:
        check_unchanged(job)
    if flags["dry_run"]:
        for job in plan.jobs:
            print(f"{job.title}: {job.state}, {job.run.path}")
        return 0
    check_data(plan.jobs)

    status = 0
    failed: list[Job] = []
    for _ in range(2):  # what failed is tried once more, when all others are through
        if flags["ray"] is None:
            status, failed = _one_by_one(plan)
        else:
            status, failed = carry_out_on_ray(plan, flags["ray"], resources, partial(_say_ended, plan))
        if status or not failed:
            break
    if not status:
        _remove_operators(plan)
    for path in write_table(flags["out"], plan, flags["preset"] or "paper", command):
        print(f"table     {path}")
    if plan.jobs[0].config.report:
        from nas.tables.table9.page import write_figures, write_page

        print(f"figures   {write_figures(flags['out'])}")
        try:
            write_page(flags["out"])
        except Exception as error:  # whatever it is, the table is there
            print(f"note: the report was not written ({type(error).__name__}: {error})", file=sys.stderr)
    for job in failed:
        print(f"error: failed: {job.title}; the same command tries it again", file=sys.stderr)
    if status:
        print(f"the whole table goes on with: {command}", file=sys.stderr)
    return status or (FAILED if failed else 0)


def _one_by_one(plan: Plan) -> tuple[int, list[Job]]:
    """Carries out what is left; returns (the exit status that ended it early, or 0; the jobs that failed)."""
    failed: list[Job] = []
    for job in plan.jobs:
        if job.run.is_finished() or not job.is_ready():  # not ready: a search failed, so there is no cell to train
            continue
        _say_begun(plan, job)
        status = job.carry_out()
        if status > 2:  # a signal, or the time is up
            return status, failed
        if status:
            failed.append(job)
    return 0, failed


def _remove_operators(plan: Plan) -> None:
    """From the supernets of all finished searches, once each. What cannot be done is said, and is not in the table."""
    from nas.search.operator_removal import removal_errors

    for job in plan.jobs:
        if job.stage == "search" and job.run.is_finished() and job.run.removal() is None:
            print(f"{job.title}: its supernet is tested without each operator", flush=True)
            try:
                removal_errors(job.run)
            except InputError as error:
                print(f"note: {job.title}: no operator is removed from its supernet: {error}", file=sys.stderr)


def _say_begun(plan: Plan, job: Job) -> None:
    """Says that a job begins or goes on, and how long all will take."""
    print(f"[{plan.jobs.index(job) + 1}/{len(plan.jobs)}] {_said(plan, job, 1)}", flush=True)


def _say_ended(plan: Plan, job: Job, at_once: int) -> None:
    """Says that a job has ended, how many are finished, and how long the others will take if so many run at once."""
    finished = sum(one.run.is_finished() for one in plan.jobs)
    print(f"[{finished} of {len(plan.jobs)} finished] {_said(plan, job, at_once)}", flush=True)


def _said(plan: Plan, job: Job, at_once: int) -> str:
    return f"{job.title}: {job.state}, {job.run.path}{_time_left(plan, at_once)}"


def _time_left(plan: Plan, at_once: int) -> str:
    """How long the unfinished jobs will take, by what finished ones of their stage took; nothing if none is known."""
    from nas.formatting import readable_time

    seconds, is_all = 0.0, True
    for stage in STAGES:
        jobs = [job for job in plan.jobs if job.stage == stage]
        taken = [job.run.result()["seconds"] for job in jobs if job.run.is_finished()]
        left = len(jobs) - len(taken)
        seconds += left * sum(taken) / max(1, len(taken))
        is_all = is_all and (not left or bool(taken))
    return f"; {'' if is_all else 'more than '}{readable_time(seconds / at_once)} left" if seconds else ""


def _resources(flags: dict[str, Any]) -> Resources:
    """What a job gets under `--ray`. Raises InputError for what it cannot be, or what is given without `--ray`."""
    given = [(f"--{name.replace('_', '-')}", {name: flags[name]}) for name in Resources.model_fields if flags[name]]
    if given and flags["ray"] is None:
        raise InputError(f"{given[0][0]} is for jobs that --ray carries out; give --ray local, or leave it out")
    return build_config(Resources, given)


def _parser() -> Parser:
    parser = Parser(prog="reproduce_table9.py", description="Measure the paper's Table 9, or spaces of your own.")
    parser.add_argument("--spaces", nargs="+", default=[*PAPER], metavar="SPACE", help=f"default: {' '.join(PAPER)}")
    parser.add_argument("--out", type=Path, default=Path("runs", "table9"), metavar="DIR", help="default: runs/table9")
    parser.add_argument("--dry-run", action="store_true", help="list the jobs and how they stand; write nothing")
    runs = parser.add_argument_group("number of runs")
    shared = parser.add_argument_group("settings of every search and retraining")
    for name in SHARED:
        described = {
            "preset": f"{', '.join(PRESETS)}; paper is the default",
            "config": "a YAML file of settings; those of one stage under search: or train:",
        }.get(name) or Settings.model_fields[name].description
        shared.add_argument("--" + name.replace("_", "-"), metavar=name.upper(), help=described)
    for name, field in Protocol.model_fields.items():
        help_text = f"{field.description}; as the preset says if not given"
        runs.add_argument("--" + name, metavar=name.upper(), help=help_text)
    machines = parser.add_argument_group("several jobs at once")
    machines.add_argument(
        "--ray",
        metavar="local|ADDRESS",
        help="give the jobs to Ray, here or on a cluster that sees the same folders; one by one if not given",
    )
    for name, field in Resources.model_fields.items():
        machines.add_argument("--" + name.replace("_", "-"), metavar=name.upper(), help=field.description)
    shared.add_argument("--plugin", action="append", metavar="FILE.py", help="a file that registers operators")
    return parser
