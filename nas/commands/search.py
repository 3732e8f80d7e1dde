"""The search command: argv -> a request -> a plan -> a finished run."""

from collections.abc import Sequence

from nas.commands.command_line import request_from, run_command, settings_parser
from nas.config import SearchConfig
from nas.experiment.names import search_folder


def search(argv: Sequence[str] | None = None) -> int:
    """`python search.py`: returns the exit status."""
    return run_command(_search, argv)


def _search(argv: Sequence[str] | None) -> None:
    parser = settings_parser("search.py", "Search for a cell by differentiable architecture search.", SearchConfig)
    request = request_from(parser.parse(argv), SearchConfig, search_folder)

    from nas.experiment.answer import answer

    answer(request)
