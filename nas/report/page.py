"""A run folder -> report.html: one file that opens anywhere, offline, and asks nothing of a network.

A search and a retraining each have their contents (`nas/report/search.py` and so on) and their template; a page takes
any such contents, those of a table too. Several make one page, with a table that puts them side by side. A page of an
unfinished run reloads itself.
"""

import base64
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nas.report.search import search_content
from nas.report.training import training_content
from nas.run.files import write_atomically
from nas.run.folder import RunDir
from search_spaces.errors import InputError

RELOAD_SECONDS = 20


def write_report(run: RunDir) -> Path:
    """Writes a run's page to report.html in its folder and returns that path. Its plug-ins must be loaded."""
    write_atomically(run.report, build_page([run_content(run, "r0")]))
    return run.report


def run_content(run: RunDir, identifier: str) -> dict[str, Any]:
    """What the page of a search or a training shows; ids in it begin with `identifier`.

    Raises InputError for a folder that holds no run, or a damaged one.
    """
    if not run.exists():
        raise InputError(
            f"{run.path} is not a run folder; give that of a search, a training or a Table 9, such as"
            " runs/search/darts/seed0 or runs/table9"
        )
    return search_content(run, identifier) if run.is_search() else training_content(run, identifier)


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
