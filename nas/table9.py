"""Table 9 of the paper, measured: in each search space searches, the choice of a cell, its retrainings, random cells.

Zhou et al., "Rethinking Bottleneck Structure for Efficient Mobile Network Design", ECCV 2020. Every job is a run folder
as the two commands write it, OUT/SPACE/STAGE/seedN. Finished ones are skipped, unfinished ones resumed; the table is
made from what stands in the folders.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from nas.command_line import Parser, run_command
from nas.config import PRESETS, Settings
from nas.live_report import LiveReport
from nas.table9_jobs import FAILED, SHARED, STAGES, Job, Plan, Protocol, check_data, check_unchanged, plan_jobs
from nas.table9_results import PAPER, write_table


def reproduce_table9(argv: Sequence[str] | None = None) -> int:
    """`python scripts/reproduce_table9.py`: returns the exit status.

    0: all jobs are finished; 1: some failed, the others were carried out, and the table says what it lacks; 2: a
    mistake in what the user gave, and nothing was run; 75 or more: stopped in the middle, as `search.py` says it.
    """
    return run_command(_reproduce, argv)


def _reproduce(argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    command = shlex.join(["python", "scripts/reproduce_table9.py", *words])
    flags = _parser().parse(words)
    plan = plan_jobs(flags)
    for job in plan.jobs:
        check_unchanged(job)
    if flags["dry_run"]:
        for job in plan.jobs:
            print(f"{job.title}: {job.state}, {job.run.path}")
        return 0
    check_data(plan.jobs)

    status, failed = 0, []
    for _ in range(2):  # what failed is tried once more, when all others are through
        status, failed = _carry_out(plan)
        if status or not failed:
            break
    for path in write_table(flags["out"], plan, flags["preset"] or "paper", command):
        print(f"table     {path}")
    LiveReport(flags["out"], plan.jobs[0].config.report).write()
    for job in failed:
        print(f"error: failed: {job.title}; the same command tries it again", file=sys.stderr)
    if status:
        print(f"the whole table goes on with: {command}", file=sys.stderr)
    return status or (FAILED if failed else 0)


def _carry_out(plan: Plan) -> tuple[int, list[Job]]:
    """Carries out what is left; returns (the exit status that ended it early, or 0; the jobs that failed)."""
    failed: list[Job] = []
    for number, job in enumerate(plan.jobs, start=1):
        if job.run.is_finished() or not job.is_ready():  # not ready: a search failed, so there is no cell to train
            continue
        print(f"[{number}/{len(plan.jobs)}] {job.title}: {job.state}, {job.run.path}{_time_left(plan)}", flush=True)
        status = job.carry_out()
        if status > 2:  # a signal, or the time is up
            return status, failed
        if status:
            failed.append(job)
    return 0, failed


def _time_left(plan: Plan) -> str:
    """How long the unfinished jobs will take, by what finished ones of their stage took; nothing if none is known."""
    from nas.loop import readable_time

    seconds, is_all = 0.0, True
    for stage in STAGES:
        jobs = [job for job in plan.jobs if job.stage == stage]
        taken = [job.run.result()["seconds"] for job in jobs if job.run.is_finished()]
        left = len(jobs) - len(taken)
        seconds += left * sum(taken) / max(1, len(taken))
        is_all = is_all and (not left or bool(taken))
    return f"; {'' if is_all else 'more than '}{readable_time(seconds)} left" if seconds else ""


def _parser() -> Parser:
    parser = Parser(prog="reproduce_table9.py", description="Measure the paper's Table 9, or spaces of your own.")
    parser.add_argument("--spaces", nargs="+", default=[*PAPER], metavar="SPACE", help=f"default: {' '.join(PAPER)}")
    parser.add_argument("--out", type=Path, default=Path("runs", "table9"), metavar="DIR", help="default: runs/table9")
    parser.add_argument("--dry-run", action="store_true", help="list the jobs and how they stand; write nothing")
    runs = parser.add_argument_group("number of runs")
    shared = parser.add_argument_group("settings of every search and retraining")
    for name in SHARED:
        text = {
            "preset": f"{', '.join(PRESETS)}; paper is the default",
            "config": "a YAML file of settings; those of one stage under search: or train:",
        }
        described = text.get(name) or Settings.model_fields[name].description
        shared.add_argument("--" + name.replace("_", "-"), metavar=name.upper(), help=described)
    for name, field in Protocol.model_fields.items():
        text = f"{field.description}; as the preset says if not given"
        runs.add_argument("--" + name, metavar=name.upper(), help=text)
    shared.add_argument("--plugin", action="append", metavar="FILE.py", help="a file that registers operators")
    return parser
