"""The report of run folders as one HTML file: `python scripts/make_report.py RUN [RUN …]`."""

from collections.abc import Sequence
from pathlib import Path

from nas.commands.command_line import Parser, command
from nas.run.files import write_atomically
from nas.run.folder import RunDir
from search_spaces.errors import InputError
from search_spaces.plugins import load_plugins


@command
def make_report(argv: Sequence[str] | None) -> None:
    """`python scripts/make_report.py RUN [RUN …]`: returns the exit status."""
    parser = Parser(prog="make_report.py", description="Make one HTML file of what is in run folders.")
    parser.add_argument(
        "run",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="folder of a search, of a training or of a Table 9, such as runs/table9; may be unfinished",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="report.html in the run's folder if not given; needed for several runs"
    )
    flags = parser.parse(argv)
    folders, out = flags["run"], flags["out"]
    if out is None and len(folders) > 1:
        raise InputError(f"{len(folders)} runs make one page; say with --out FILE where it goes")
    if out is not None and out.is_dir():
        raise InputError(f"--out {out} is a folder; give the name of a file, such as {out / 'report.html'}")
    for folder in folders:
        load_plugins(RunDir(folder).plugins)

    from nas.report.page import build_page, run_content
    from nas.tables.table9.page import table_content
    from nas.tables.table9.runs import is_table

    contents = [
        table_content(folder, f"r{n}") if is_table(folder) else run_content(RunDir(folder), f"r{n}")
        for n, folder in enumerate(folders)
    ]
    path = out or RunDir(folders[0]).report
    write_atomically(path, build_page(contents))
    print(path)
