"""report.html: what it holds, that it needs no other file, that nothing in it is taken for HTML, and its mistakes."""

import json
import re
from collections import Counter

import pytest

from cells.random_cells import random_genotype
from nas.commands.report import make_report
from nas.experiment.carry_out import listeners_of
from nas.report.figures import curves
from nas.report.live import LiveReport
from nas.report.page import write_report
from nas.run.folder import RunDir
from nas.search.search import run_search
from nas.training.training import run_training
from report_runs import Page, search_run, table_runs, training_run
from search_spaces.plugins import load_plugin
from search_spaces.space import load_space
from tiny_runs import SEARCH, SPACE, TRAIN, begin, image_data

LOADING = {"script", "link", "img", "iframe", "object", "embed", "audio", "video", "source", "image", "base", "form"}
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def page():
    """Makes the report of these folders and takes it apart; whatever it is of, it needs nothing else."""

    def page(*folders, out=None) -> Page:
        out = out or folders[0] / "report.html"
        assert make_report([*map(str, folders), "--out", str(out)]) == 0
        found = Page(out.read_text(encoding="utf-8"))
        assert_self_contained(found)
        return found

    return page


def assert_self_contained(page: Page):
    for tag, attributes in page.elements:
        assert tag not in LOADING or (tag == "script" and "src" not in attributes), (tag, attributes)
        for name, value in attributes.items():
            assert name not in ("src", "srcset", "action", "data", "poster"), (tag, name)
            assert name != "href" or value.startswith("#"), (tag, value)
            assert not name.startswith("on"), (tag, name)
    assert not re.findall(r"https?://|@import|url\((?!#)", page.source)
    ids = page.ids()
    assert len(ids) == len(set(ids))
    referred = re.findall(r'(?:href="|url\(|for="|labelledby=")#?([\w-]+)', page.source)
    assert set(referred) <= set(ids)


def test_a_search_shows_every_epoch_and_each_different_cell_once(tmp_path, page):
    run = search_run(tmp_path / "run", epochs=7)  # of three operators; "none" is never kept: two cells in turn
    found = page(run.path)
    (slider,) = found.all("input", type="range")
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "6", "6")
    assert slider["data-numbers"].split() == ["1", "2", "3", "4", "5", "6", "7"]
    (data,) = found.data
    for kind in ("normal", "reduce"):
        assert data["slider"]["shown"][kind] == [0, 0, 1, 0, 0, 1, 0]
        weights = data["slider"]["weights"][kind]
        assert len(weights) == 7 and {len(table) for table in weights} == {15}  # 3 operators, 5 edges
        assert weights[1][5:10] == [5761] * 5  # skip_connect's: e / (e + 2)
    assert len(found.all("div", **{"class": "picture"})) == 4
    assert [row[0] for row in data["readouts"]] == ["1", "2", "3", "4", "5", "6", "7"]
    assert "2 different cells; it changed 4 times, last at epoch 7 of 7" in found.text
    assert "54.5 %" in found.text and "finished: 7 epochs in 90 s" in found.text
    assert f"darts-train {run.path}" in found.text


def test_the_table_of_weights_has_a_header_for_every_row_and_column(tmp_path, page):
    found = page(search_run(tmp_path / "run").path)
    assert len([a for tag, a in found.elements if tag == "td" and "data-weight" in a]) == 2 * 15
    assert len(found.all("th", scope="colgroup")) == 2 * 2  # nodes
    for operator in SPACE.operators:
        assert f">{operator}</th>" in found.source
    assert all("aria-label" in attributes for attributes in found.all("svg"))


def test_a_search_that_took_the_cell_of_before_a_collapse_opens_there(tmp_path, page):
    run = search_run(tmp_path / "run")
    run.finish(run.result() | {"genotype_after_epochs": 2})
    (slider,) = page(run.path).all("input", type="range")
    assert slider["value"] == "1"


def test_one_epoch_and_none_make_a_page_that_reloads_until_the_run_is_finished(tmp_path, page):
    one = page(search_run(tmp_path / "one", epochs=1).path)
    assert one.all("input", type="range", max="0") and not one.all("meta", http_equiv="refresh")
    assert "data-reload" not in one.all("body")[0]
    running = page(search_run(tmp_path / "two", epochs=2, finished=False).path)
    assert running.all("meta", http_equiv="refresh") and running.all("body")[0]["data-reload"] == "20"
    assert "unfinished: 1 of 2 epochs" in running.text
    none = page(search_run(tmp_path / "none", epochs=1, finished=False).path)
    assert "No epoch is finished yet" in none.text and not none.all("input", type="range")


def test_a_training_shows_its_error_and_says_which_images_it_is_of(tmp_path, page):
    found = page(training_run(tmp_path / "run").path)
    assert "21.25 % of 1,234 test images are wrong" in found.text
    held_out = page(training_run(tmp_path / "held_out", hold_out=9).path)
    assert "21.25 % of 1,234 held-out training images are wrong" in held_out.text
    assert "unfinished: 2 of 3 epochs" in page(training_run(tmp_path / "running", finished=False).path).text


def test_settings_other_than_the_papers_are_marked(tmp_path, page):
    found = page(search_run(tmp_path / "run", channels=2).path)
    row = re.search(r'<tr class="other"><th scope="row"><code>channels</code></th><td>2</td><td>16</td>', found.source)
    assert row and '<tr><th scope="row"><code>momentum</code></th><td>0.9</td><td></td>' in found.source


def test_names_and_labels_are_text_and_never_html(tmp_path, page, write_plugin):
    load_plugin(write_plugin(GHOST_LABELLED))
    run = search_run(tmp_path / "run", epochs=9, space=load_space("darts+ghost_3x3"), data=HOSTILE)
    found = page(run.path)
    assert HOSTILE in found.text and HOSTILE not in found.source
    assert "&lt;img src=x onerror=alert(1)&gt; from c_{k-2}" in found.source  # the label, in the words for a cell
    cell = random_genotype(SPACE, 0)
    training = training_run(tmp_path / "train", genotype=type(cell)(cell.normal, cell.reduce, HOSTILE, {"by": HOSTILE}))
    found = page(training.path)
    assert found.text.count(HOSTILE) >= 2


GHOST_LABELLED = f"""
from torch import nn
from search_spaces import register_operator

@register_operator("ghost_3x3", label={HOSTILE!r})
def ghost(channels, stride, affine):
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
"""


def test_a_table_shows_what_is_finished_though_the_table_was_never_written(tmp_path, page):
    found = page(table_runs(tmp_path))
    assert "26.00 ± 1.41" in found.text and "13.29 to 38.71" in found.text  # t of 1 degree: 12.71
    assert "1 of 2" in found.text and "2 of 2" in found.text
    assert "3.11" in found.text and "Nothing: too few runs are finished" in found.text
    pictures = [a for a in found.all("svg") if a["aria-label"].startswith(("Normal cell.", "Reduction cell."))]
    assert len(pictures) == 6
    assert "unfinished" in found.text and found.all("meta", http_equiv="refresh")


def test_a_table_without_its_run_folders_shows_what_its_json_holds(tmp_path, page):
    rows = [{"seed": seed, "test_error_percent": 20.0 + seed, "parameters": 5e4, "madds": 1e6} for seed in range(3)]
    genotype = json.loads(random_genotype(SPACE, 0).to_json())
    search = {"seed": 4, "genotype": genotype, "parameters": 2.5e6, "madds": 4e8, "held_out_error_percent": 30.5}
    space = {"searches": [search], "retrainings": rows, "random": [], "summary": {"selected_seed": 4}}
    content = {"format": 1, "data": "digits", "preset": "quick", "command": "command", "spaces": {"mine": space}}
    (tmp_path / "table9.json").write_text(json.dumps(content | {"conclusions": [f"mine is {HOSTILE}"]}))
    found = page(tmp_path)
    assert "21.00 ± 1.00" in found.text and "held-out error 30.50 %" in found.text and "selected" in found.text
    assert f"mine is {HOSTILE}" in found.text and not found.all("meta", http_equiv="refresh")


def test_the_papers_points_stand_beside_measured_ones_where_they_are_of_one_size(tmp_path, page):
    folder = table_runs(tmp_path)
    assert "Error and size in the paper" in page(folder).text
    training_run(folder / "darts/random/seed0", error=3.3)
    training_run(folder / "darts/random/seed1", error=3.5)
    found = page(folder)
    assert "Error and size in the paper" not in found.text
    (label,) = [a["aria-label"] for a in found.all("svg") if a["aria-label"].startswith("Error and size")]
    assert "darts, paper: 3.25 and 3.11" in label and "darts, random: 2.5 and 3.3, 2.5 and 3.5" in label


def test_several_runs_stand_side_by_side_in_one_file(tmp_path, page):
    runs = search_run(tmp_path / "a"), search_run(tmp_path / "b", seed=7), training_run(tmp_path / "c")
    found = page(*(run.path for run in runs), out=tmp_path / "all.html")
    assert Counter(tag for tag, _ in found.elements)["article"] == 3 and len(found.data) == 2
    assert [a["href"] for a in found.all("a")] == ["#r0", "#r1", "#r2"]
    assert "tiny, seed 7" in found.text and "21.25 %" in found.text


def test_the_command_writes_into_the_run_folder_or_where_it_is_told(tmp_path, capsys, write_plugin):
    plugin = load_plugin(write_plugin())
    run = search_run(tmp_path / "run", epochs=9, space=load_space("darts+ghost_3x3"))
    (run.path / "plugins").mkdir()
    (run.path / "plugins/ghost.py").write_bytes(plugin.source)
    assert make_report([str(run.path)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{run.report}\n" and "ghost.py was run; it registers ghost_3x3" in printed.err
    assert "Ghost" in Page(run.report.read_text()).text
    assert make_report([str(run.path), "--out", str(tmp_path / "new/page.html")]) == 0
    assert (tmp_path / "new/page.html").read_text() == run.report.read_text()


def test_mistakes_are_one_line_and_leave_no_page(tmp_path, mistake):
    run, other = search_run(tmp_path / "run"), training_run(tmp_path / "other")
    (tmp_path / "empty").mkdir()
    damaged, misfit, table = (search_run(tmp_path / name) for name in ("damaged", "misfit", "table"))
    (damaged.path / "metrics.jsonl").write_text('{"epoch": 0}\n{"epo\n{"epoch": 2}\n')
    misfit.append("alphas", {"epoch": 9, "normal": [[0.0, 1.0]], "reduce": []})
    (tmp_path / "table9/darts/search").mkdir(parents=True)
    (tmp_path / "table9/table9.json").write_text('{"format": 1, "spaces": {"darts": []}}')
    (tmp_path / "points").mkdir()
    lost = {"sandglass": {"mean": "high", "t_interval": None}}
    points = {"format": 1, "spaces": {"darts": {"summary": {"error_points_without_operator": lost}}}}
    (tmp_path / "points/table9.json").write_text(json.dumps(points))
    table.config.write_text("channels: many")
    for arguments, words in (
        ([tmp_path / "empty"], "is not a run folder"),
        ([tmp_path / "missing"], "is not a run folder"),
        ([run.path, other.path], "--out FILE"),
        ([run.path, "--out", tmp_path], "is a folder"),
        ([damaged.path], "metrics.jsonl, line 2 is damaged"),
        ([misfit.path], "alphas.jsonl, line 4: normal is not 5 rows of 3 finite alphas"),
        ([tmp_path / "table9"], "table9.json or a result below it is damaged"),
        ([tmp_path / "points"], "table9.json or a result below it is damaged"),
        ([table.path], "channels is 'many'"),
        ([], "RUN"),
    ):
        assert words in mistake(make_report, *arguments)
    assert not list(tmp_path.rglob("*.html"))


@pytest.mark.parametrize("value", ["NaN", "1e999", '"high"', "1" + 400 * "0"])
def test_a_number_that_is_none_is_named(value, tmp_path, refused):
    run = search_run(tmp_path / "run")
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write(f'{{"epoch": 8, "train_loss": {value}}}\n')
    with refused("metrics.jsonl, line 4 has a value that is not a finite number"):
        write_report(run)


def test_a_last_line_that_was_cut_short_is_left_out(tmp_path, page):
    run = search_run(tmp_path / "run", finished=False)
    with open(run.path / "alphas.jsonl", "a") as file:
        file.write('{"epoch": 2, "normal": [[0.')
    assert page(run.path).all("input", type="range", max="1")


def watched_search(folder, **settings):
    """(run, genotype) of a search with whom the settings let watch it."""
    config = SEARCH.model_copy(update={"report": True, "order": 1, **settings})
    run = begin(folder, config, space=SPACE)
    return run, run_search(config, SPACE, image_data(), run, listeners=listeners_of(run, config), progress=False)


def test_a_search_and_a_training_write_their_report(tmp_path, without_pictures, monkeypatch):
    monkeypatch.setattr("nas.report.live.SHARE", 1.0)  # after each epoch, however short
    written = []
    monkeypatch.setattr("nas.report.page.write_report", lambda run: written.append(write_report(run)))
    run, genotype = watched_search(tmp_path / "search")
    assert len(written) == 3 and "finished: 2 epochs" in run.report.read_text()
    config = TRAIN.model_copy(update={"report": True})
    run = begin(tmp_path / "train", config, genotype=genotype)
    run_training(config, genotype, image_data(), run, listeners=listeners_of(run, config), progress=False)
    assert len(written) == 6 and "finished: 2 epochs" in run.report.read_text()


def test_without_the_setting_there_is_no_report(tmp_path, without_pictures):
    run, _ = watched_search(tmp_path / "search", report=False, epochs=1)
    assert run.is_finished() and not run.report.exists()


def test_a_report_that_fails_is_said_once_and_never_ends_a_run(tmp_path, without_pictures, monkeypatch, capsys):
    def fail(run):
        raise MemoryError("too\nmuch")

    monkeypatch.setattr("nas.report.page.write_report", fail)
    run, _ = watched_search(tmp_path / "search")
    assert run.is_finished()
    assert capsys.readouterr().err == f"note: {run.report} was not written (MemoryError: too much)\n"


def test_reports_take_a_tenth_of_the_time_at_most(tmp_path, monkeypatch):
    clock, written = [0.0], []

    def write(run):
        written.append(clock[0])
        clock[0] += 2

    monkeypatch.setattr("nas.report.live.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("nas.report.page.write_report", write)
    live = LiveReport(RunDir(tmp_path))
    for _ in range(30):
        live.epoch_ended()
        clock[0] += 5
    assert written == list(range(0, 155, 22))  # 2 s in 20, of epochs of 5 s
    live.ended()
    assert written[-1] == clock[0] - 2


def test_a_new_run_in_the_folder_removes_the_report_of_the_old_one(tmp_path):
    run = search_run(tmp_path / "run")
    write_report(run)
    assert run.report.is_file()
    begin(run.path, SEARCH, space=SPACE)
    assert not RunDir(run.path).report.exists()


@pytest.mark.parametrize("values", [(2.197224, 2.197214), (1.0, 2.0), (-1234567.25, 1234567.5)])
def test_no_number_of_an_axis_is_cut_off(values):
    chart = curves("entropy", {"normal": list(enumerate(values, start=1))}, "x")
    left = [float(x) for x in re.findall(r'<text[^>]*text-anchor: end[^>]*x="([\d.]+)"', chart.picture)]
    texts = re.findall(r">([−\d.]+)</text>", chart.picture)
    assert left and min(left) > 5.7 * max(map(len, texts))  # the width of a digit of 9 pixels
