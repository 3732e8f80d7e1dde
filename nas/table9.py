"""Table 9 of the paper, measured: in each search space a search, then a retraining of the cell found.

Zhou et al., "Rethinking Bottleneck Structure for Efficient Mobile Network Design", ECCV 2020. Every job is a run folder
as the two commands write it, OUT/SPACE/search/seed0 and OUT/SPACE/train/seed0. Finished ones are skipped, unfinished
ones resumed; the table is made from what stands in the folders.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from nas.command_line import Parser, run_command
from nas.config import PRESETS, Settings
from nas.table9_jobs import FAILED, SHARED, Job, check_data, check_unchanged, plan_jobs
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
    jobs = plan_jobs(flags)
    for job in jobs:
        check_unchanged(job)
    if flags["dry_run"]:
        for job in jobs:
            print(f"{job.title}: {job.state}, {job.run.path}")
        return 0
    check_data(jobs)

    status, failed = _carry_out(jobs)
    for path in write_table(flags["out"], jobs, flags["preset"] or "paper", command):
        print(f"table     {path}")
    for job in failed:
        print(f"error: failed: {job.title}; the same command tries it again", file=sys.stderr)
    if status:
        print(f"the whole table goes on with: {command}", file=sys.stderr)
    return status or (FAILED if failed else 0)


def _carry_out(jobs: Sequence[Job]) -> tuple[int, list[Job]]:
    """Carries out what is left; returns (the exit status that ended it early, or 0; the jobs that failed)."""
    failed: list[Job] = []
    for number, job in enumerate(jobs, start=1):
        if any(job.space == other.space for other in failed):
            continue  # its search failed: there is no cell to train
        print(f"[{number}/{len(jobs)}] {job.title}: {job.state}, {job.run.path}", flush=True)
        status = 0 if job.run.is_finished() else job.carry_out()
        if status > 2:  # a signal, or the time is up
            return status, failed
        if status:
            failed.append(job)
    return 0, failed


def _parser() -> Parser:
    parser = Parser(prog="reproduce_table9.py", description="Measure the paper's Table 9, or spaces of your own.")
    parser.add_argument("--spaces", nargs="+", default=[*PAPER], metavar="SPACE", help=f"default: {' '.join(PAPER)}")
    parser.add_argument("--out", type=Path, default=Path("runs", "table9"), metavar="DIR", help="default: runs/table9")
    parser.add_argument("--dry-run", action="store_true", help="list the jobs and how they stand; write nothing")
    shared = parser.add_argument_group("settings of every search and retraining")
    for name in SHARED:
        text = {
            "preset": f"{', '.join(PRESETS)}; paper is the default",
            "config": "a YAML file of settings; those of one stage under search: or train:",
        }
        described = text.get(name) or Settings.model_fields[name].description
        shared.add_argument("--" + name.replace("_", "-"), metavar=name.upper(), help=described)
    shared.add_argument("--plugin", action="append", metavar="FILE.py", help="a file that registers operators")
    return parser
