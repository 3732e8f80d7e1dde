"""How the cells changed while they were searched: `python scripts/draw_search.py RUN --out FILE.gif`."""

from collections.abc import Sequence
from pathlib import Path

from nas.commands.command_line import Parser, command
from nas.report.animation import FORMATS, search_frames, write_animation
from nas.run.folder import RunDir
from search_spaces.errors import InputError, suggest


@command
def animate_search(argv: Sequence[str] | None) -> None:
    """`python scripts/draw_search.py RUN --out FILE.gif`: returns the exit status."""
    parser = Parser(prog="draw_search.py", description="Draw how a search's cells changed, one frame an epoch.")
    parser.add_argument("run", type=Path, metavar="RUN", help="a search's run folder, such as runs/search/darts/seed0")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.gif", help="a .gif, .webp or .png that moves")
    parser.add_argument("--frame", type=int, default=400, metavar="MS", help="milliseconds a frame (default: 400)")
    flags = parser.parse(argv)
    path, milliseconds = flags["out"], flags["frame"]
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f'--out {path}: "{path.suffix}" is no animation{suggest(path.suffix, FORMATS)} give .gif, .webp or .png'
        )
    if not 20 <= milliseconds <= 60_000:
        raise InputError(f"--frame {milliseconds}: give 20 to 60000 milliseconds")
    run = RunDir(flags["run"])
    frames = search_frames(run)
    write_animation(frames, path, milliseconds)
    print(f"{path}  {len(frames)} frames, {path.stat().st_size / 1e6:.2f} MB")
