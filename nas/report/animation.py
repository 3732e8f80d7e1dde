"""How the cells changed while they were searched: `python scripts/draw_search.py RUN --out FILE.gif`."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from cells.genotype import Genotype
from cells.pictures.supernet_picture import draw_supernet_cells
from nas.report.rows import checked_cells, operator_weights, search_settings
from nas.run.files import write_atomically
from nas.run.folder import RunDir
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace, load_space

FORMATS = {".gif": "GIF", ".png": "PNG", ".webp": "WEBP"}  # all three move
HELD_MILLISECONDS = 3000  # the last frame
COLOURS = 128  # of all frames: the commonest, which are the plain ones, and those of the smooth edges between them
TOLERANCE = 8  # of 255: Pillow finds the nearest colour to about this much
SAMPLED_FRAMES = 8  # from which those are chosen

Colour = tuple[int, int, int]  # red, green and blue, to 255


def search_frames(run: RunDir) -> list[Image.Image]:
    """A picture of both cells after each epoch of a search, finished or not.

    A search that early stopping ended has one more: the cells of the epoch that it took.

    Raises InputError if the folder is not a search's or has no epoch yet.
    """
    if not run.exists() or not run.is_search():
        raise InputError(f"{run.path} is not the run folder of a search; give one, such as runs/search/darts/seed0")
    if not run.rows("alphas"):
        raise InputError(f"{run.path} has no finished epoch yet; wait for its first one, or go on with --resume")
    space, epochs = load_space(run.space), search_settings(run).epochs
    taken = run.result().get("genotype_after_epochs", epochs) if run.is_finished() else epochs
    try:
        metrics = {row["epoch"]: row for row in run.rows("metrics")}
        weights, cells = operator_weights(run, space), checked_cells(run, space)
        frames = [cells_frame(space, cells[n], weights[n], _caption(n, epochs, metrics)) for n in weights]
        if taken <= max(weights):
            caption = f"stopped early, with the cells of epoch {taken}"
            frames.append(cells_frame(space, cells[taken - 1], weights[taken - 1], caption))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the epochs in {run.path} do not fit its space.yaml: {error}; start anew with --force"
        ) from None
    return frames


def cells_frame(space: SearchSpace, genotype: Genotype, weights: Mapping[str, np.ndarray], caption: str) -> Image.Image:
    """The picture of one epoch: its cell, and the operators' weights of shape (edges, operators) by kind of cell."""
    titles = {"normal": "Normal cell", "reduce": "Reduction cell"}
    cells = [(titles[kind], cell, weights[kind].tolist()) for kind, cell in genotype.cells.items()]
    return draw_supernet_cells(space, cells, caption)


def _caption(epoch: int, epochs: int, metrics: dict[int, dict[str, Any]]) -> str:
    names = {"train_error_percent": "training error", "validation_error_percent": "validation error"}
    row = metrics.get(epoch, {})
    errors = [f"{name} {row[key]:.1f} %" for key, name in names.items() if key in row]
    return ", ".join([f"epoch {epoch + 1} of {epochs}", *errors])


def write_animation(frames: Sequence[Image.Image], path: Path, milliseconds: int) -> None:
    """Writes frames of so many milliseconds each, the last one held, again and again from the first one."""
    durations = [milliseconds] * (len(frames) - 1) + [max(milliseconds, HELD_MILLISECONDS)]
    file_format = FORMATS[path.suffix.lower()]
    frames = with_one_palette(frames)
    if file_format == "WEBP":  # has no palettes, and packs few colours well
        frames = [frame.convert("RGB") for frame in frames]
    its_own: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "GIF": {"disposal": 1}}
    options = its_own.get(file_format, {})
    content = io.BytesIO()
    frames[0].save(
        content, file_format, save_all=True, append_images=list(frames[1:]), duration=durations, loop=0, **options
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())


def with_one_palette(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """The frames in `COLOURS` colours, the same in all: what does not change from frame to frame takes no space."""
    step = max(1, len(frames) // SAMPLED_FRAMES)
    sampled = [*frames[::step], frames[-1]]
    strip = Image.new("RGB", (frames[0].width, frames[0].height * len(sampled)))
    for number, frame in enumerate(sampled):
        strip.paste(frame, (0, number * frame.height))
    counted = cast(list[tuple[int, Colour]], strip.getcolors(strip.width * strip.height))  # of RGB, as many as can be
    chosen: list[Colour] = []
    for _, colour in sorted(counted, reverse=True):
        if all(max(abs(a - b) for a, b in zip(colour, other, strict=True)) > TOLERANCE for other in chosen):
            chosen.append(colour)
    palette = Image.new("P", (1, 1))
    palette.putpalette([channel for colour in chosen[:COLOURS] for channel in colour])
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
