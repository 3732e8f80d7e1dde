"""The search command: argv -> a request -> a plan -> a finished run."""

from collections.abc import Sequence

from nas.commands.command_line import command, request_from, settings_parser
from nas.config import SearchConfig
from nas.experiment.names import search_folder


@command
def search(argv: Sequence[str] | None) -> None:
    """`python search.py`: returns the exit status."""
    parser = settings_parser("search.py", "Search for a cell by differentiable architecture search.", SearchConfig)
    request = request_from(parser.parse(argv), SearchConfig, search_folder)

    from nas.experiment.answer import answer

    answer(request)
