"""A run folder -> report.html: one file that opens anywhere, offline, and asks nothing of a network.

A search, a retraining and a Table 9 each have their contents (`nas/report/search.py` and so on) and their template.
Several folders make one page, with a table that puts them side by side. A page of an unfinished run reloads itself.
"""

import base64
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nas.checkpoint import write_atomically
from nas.command_line import Parser, run_command
from nas.plugins import load_plugins
from nas.run_dir import RunDir
from search_spaces.errors import InputError

RELOAD_SECONDS = 20


def make_report(argv: Sequence[str] | None = None) -> int:
    """`python scripts/make_report.py RUN [RUN …]`: returns the exit status."""
    return run_command(_make_report, argv)


def _make_report(argv: Sequence[str] | None) -> None:
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
    print(write_report(folders, out))


def write_report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Writes the page of these run folders to `out`, or for one to report.html in it; returns its path.

    The runs' plug-ins must be loaded. Raises InputError for a folder that holds no run, or a damaged one.
    """
    path = RunDir(folders[0]).report if out is None else out
    write_atomically(path, build_page([_content(folder, f"r{n}") for n, folder in enumerate(folders)]))
    return path


def _content(folder: Path, identifier: str) -> dict[str, Any]:
    run = RunDir(folder)
    if run.exists() and run.is_search():
        from nas.report.search import search_content

        return search_content(run, identifier)
    if run.exists():
        from nas.report.training import training_content

        return training_content(run, identifier)

    from nas.report.table9_runs import is_table

    if not is_table(folder):
        raise InputError(
            f"{folder} is not a run folder; give that of a search, a training or a Table 9, such as"
            " runs/search/darts/seed0 or runs/table9"
        )
    from nas.report.table9 import table_content

    return table_content(folder, identifier)


def build_page(contents: Sequence[dict[str, Any]]) -> str:
    """The page of these contents, in their order. Names and other texts in them are escaped; pictures are elements."""
    loader = PackageLoader("nas.report")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sources = {name: loader.get_source(environment, f"report.{name}")[0] for name in ("css", "js")}
    digest = base64.b64encode(sha256(sources["js"].encode()).digest()).decode()
    return environment.get_template("report.html").render(
        runs=contents,
        title=contents[0]["title"] if len(contents) == 1 else f"{len(contents)} runs",
        finished=all(content["finished"] for content in contents),
        figures=list(dict.fromkeys(name for content in contents for name in content["summary"])),
        style=Markup(sources["css"]),
        script=Markup(sources["js"]),
        script_digest=digest,
        reload_seconds=RELOAD_SECONDS,
    )
