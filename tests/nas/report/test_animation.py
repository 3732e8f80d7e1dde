"""An animation of a search shows what its files say, one frame an epoch, and nothing moves that need not."""

import json

import numpy as np
import pytest
from PIL import Image, ImageChops

from cells.discretization import discretize
from cells.genotype import KINDS
from cells.pictures.diagram import label_and_look
from cells.pictures.supernet_picture import OVERSAMPLING, SPACING, picture_size
from nas.commands.animation import animate_search
from nas.report.animation import cells_frame, search_frames
from nas.report.rows import operator_weights
from nas.run.folder import RunDir
from search_spaces.space import SearchSpace
from tiny_runs import SEARCH, SPACE, TRAIN, begin

EPOCHS = 4


def alphas(epoch: int) -> list[list[float]]:
    """Of one cell: the skip connections win in the even epochs, the convolutions in the odd ones."""
    return [[0.0, 1.0, 0.2] if epoch % 2 == 0 else [0.0, 0.2, 1.0] for _ in SPACE.edges]


@pytest.fixture
def run(tmp_path) -> RunDir:
    """A search after four of its epochs."""
    run = begin(tmp_path / "run", SEARCH.model_copy(update={"epochs": EPOCHS}), space=SPACE)
    for epoch in range(EPOCHS):
        run.append("alphas", {"epoch": epoch, "normal": alphas(epoch), "reduce": alphas(epoch + 1)})
        run.append("metrics", {"epoch": epoch, "train_error_percent": 90.0 - epoch, "validation_error_percent": 91.0})
    return run


def animated(run, path, *more) -> Image.Image:
    assert animate_search([str(run.path), "--out", str(path), *more]) == 0
    return Image.open(path)


@pytest.mark.parametrize("name", ["search.gif", "search.webp", "deep/search.PNG"])
def test_there_is_a_frame_for_each_epoch_and_the_last_is_held(name, run, tmp_path, capsys):
    image = animated(run, tmp_path / name, "--frame", "250")
    assert image.n_frames == EPOCHS and image.info["loop"] == 0
    durations = []
    for number in range(EPOCHS):
        image.seek(number)
        image.load()
        durations.append(image.info["duration"])
    assert durations == [250, 250, 250, 3000]
    assert "4 frames" in capsys.readouterr().out
    assert (tmp_path / name).stat().st_size < 40_000 * EPOCHS  # 50 epochs in 2 MB


def test_only_what_changes_is_drawn_anew(run):
    frames = search_frames(run)
    caption = (0, 0, frames[0].width, 48)
    for frame in frames:  # hide the caption
        frame.paste("white", caption)
    assert ImageChops.difference(frames[0], frames[2]).getbbox() is None  # the same cells again
    assert ImageChops.difference(frames[0], frames[1]).getbbox() is not None
    nodes = frames[0].crop((0, frames[0].height - 44, frames[0].width, frames[0].height))
    assert ImageChops.difference(nodes, frames[1].crop((0, frames[1].height - 44, *frames[1].size))).getbbox() is None


def test_a_frame_shows_the_operators_that_the_alphas_would_keep(run):
    first, second, *_ = search_frames(run)
    upper = (0, 48, first.width, 48 + picture_size(SPACE)[1])
    for frame, operator, other in ((first, "skip_connect", "dil_conv_3x3"), (second, "dil_conv_3x3", "skip_connect")):
        pixels = {colour: count for count, colour in frame.crop(upper).getcolors(1 << 20)}
        assert pixels[fill(operator)] > 5000 and pixels.get(fill(other), 0) < 100  # some in the smooth edge of a line


def fill(operator: str) -> tuple[int, ...]:
    look = label_and_look(operator, False, "colour")[1]
    return tuple(int(look.fill[start : start + 2], 16) for start in (1, 3, 5))


def test_the_caption_says_the_epoch_and_the_errors(run, monkeypatch):
    captions = []
    monkeypatch.setattr("nas.report.animation.cells_frame", lambda *drawn: captions.append(drawn[-1]))
    search_frames(run)
    assert captions[0] == "epoch 1 of 4, training error 90.0 %, validation error 91.0 %"
    run.finish({"genotype_after_epochs": 2})
    search_frames(run)
    assert captions[-1] == "stopped early, with the cells of epoch 2" and len(captions) == 2 * EPOCHS + 1


def test_labels_stand_in_places_of_their_own_however_many_nodes(tmp_path):
    space = SearchSpace("wide", ("none", "skip_connect"), nodes=7, edges_per_node=7)
    tops = {(source + target, target - source) for source, target in space.edges}
    assert len(tops) == len(space.edges) == 35
    assert frame(space, [[0.0, 1.0]] * 35).width > SPACING * 8 > OVERSAMPLING


def test_a_label_of_any_characters_is_drawn(monkeypatch):
    monkeypatch.setattr("cells.pictures.supernet_picture.label_and_look", odd_label)
    drawn = frame(SPACE, [[0.0, 1.0, 0.0]] * len(SPACE.edges))
    assert drawn.getbbox() == (0, 0, *drawn.size)


def frame(space, weights) -> Image.Image:
    table = np.array(weights)
    return cells_frame(space, discretize(table, table, space), dict.fromkeys(KINDS, table), "")


def odd_label(operator, halves, style):
    return "two\nlines \x00 中文 \ud800 and more than fits", label_and_look(operator, halves, style)[1]


def test_large_alphas_do_not_overflow(run):
    large = [[1000.0, 1000.0, -1000.0]] * len(SPACE.edges)
    run.append("alphas", {"epoch": EPOCHS, "normal": large, "reduce": large})
    assert operator_weights(run, SPACE)[EPOCHS]["normal"].tolist() == [[0.5, 0.5, 0.0]] * len(SPACE.edges)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{run}", "--out", "search.mp4"], ".gif, .webp or .png"),
        (["{run}", "--out", "search"], ".gif, .webp or .png"),
        (["{run}", "--out", "x.gif", "--frame", "5"], "20 to 60000"),
        (["{run}", "--out", "x.gif", "--frame", "soon"], "--frame"),
        (["missing", "--out", "x.gif"], "not the run folder of a search"),
        (["{run}"], "--out"),
    ],
)
def test_a_mistake_is_answered_in_one_line(arguments, words, run, tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    assert words in mistake(animate_search, *(argument.format(run=run.path) for argument in arguments))
    assert not list(tmp_path.glob("x.*"))


def test_folders_that_cannot_be_drawn_are_named(run, tmp_path, refused):
    training = begin(tmp_path / "train", TRAIN)
    with refused("is not the run folder of a search"):
        search_frames(training)
    empty = begin(tmp_path / "empty", SEARCH, space=SPACE)
    with refused("no finished epoch yet"):
        search_frames(empty)
    for row in ({"epoch": 0, "normal": [[1.0]], "reduce": [[1.0]]}, {"epoch": 0, "normal": "x"}, {"normal": []}):
        (run.path / "alphas.jsonl").write_text(json.dumps(row) + "\n")
        with refused("do not fit its space.yaml"):
            search_frames(run)
