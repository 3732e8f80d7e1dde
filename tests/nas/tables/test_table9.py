"""Table 9 as one command: what it runs, what it skips, what it writes, and what it refuses to mix."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

import nas.data.datasets
from cells.genotype_file import load_genotype
from cells.random_cells import random_genotype
from nas.commands.table9 import reproduce_table9
from nas.config import SearchConfig, TrainConfig, build_config, read_settings
from nas.data.augment import normalize
from nas.experiment.estimate import Estimate
from nas.report.figures import Chart
from nas.run.begin import create_run
from nas.run.folder import RunDir
from nas.run.stop import Stopped
from nas.search.operator_removal import removal_errors
from nas.search.search import Search
from nas.tables.table9 import jobs
from nas.tables.table9.results import data_title, write_table
from project_root import ROOT
from search_spaces.space import load_space
from table9_runs import CALL, INPUTS, plan_of, write_inputs
from tiny_runs import SEARCH, SPACE, begin


@pytest.fixture(scope="module")
def finished_folder(tmp_path_factory):
    """Where CALL was carried out."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        quickly(patch)
        write_inputs(folder)
        assert reproduce_table9(CALL) == 0
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The working folder of a test: two small spaces, and settings for runs of a second."""
    monkeypatch.chdir(tmp_path)
    quickly(monkeypatch)
    write_inputs(tmp_path)
    return tmp_path


@pytest.fixture
def finished(finished_folder, here):
    """The working folder, with all that CALL leaves."""
    shutil.copytree(finished_folder / "runs", here / "runs")
    return here


def quickly(patch):
    """Pictures of cells, and estimates of what a run takes, take longer than such a run itself."""
    patch.setattr("nas.report.diagrams.draw_genotype", lambda *_: None)
    for kind in ("search", "training"):
        patch.setattr(f"nas.experiment.plan.estimate_{kind}", lambda *_: Estimate(1, 1, 1, 1))


def table():
    return json.loads(Path("runs/table9/table9.json").read_text(encoding="utf-8"))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stopped(_):
    raise Stopped(130)


def folder_of(here, space, stage, seed=0) -> RunDir:
    return RunDir(here / "runs/table9" / space / stage / f"seed{seed}")


def test_the_json_table_holds_the_cells_and_the_figures_of_every_space(finished):
    content = table()
    assert list(content) == ["format", "data", "preset", "command", "spaces", "comparisons", "conclusions"]
    assert (content["format"], content["data"], content["preset"]) == (1, "digits", "paper")
    assert content["command"] == "python scripts/reproduce_table9.py " + " ".join(CALL)
    assert list(content["spaces"]) == ["plain", "larger"]
    for name, space in content["spaces"].items():
        assert list(space) == ["searches", "selected", "retrainings", "random", "summary"]
        for seed, row in enumerate(space["searches"]):
            searched, short = (folder_of(finished, name, stage, seed) for stage in ("search", "select"))
            assert row["seed"] == seed and row["genotype"] == json.loads(searched.genotype.read_text())
            assert row["held_out_error_percent"] == short.result()["test_error_percent"]
            assert row["parameters"] == searched.result()["network_36_channels_20_layers"]["parameters"]
        for stage, rows in (("train", space["retrainings"]), ("random", space["random"])):
            results = [folder_of(finished, name, stage, seed).result() for seed in range(2)]
            for seed, (row, result) in enumerate(zip(rows, results, strict=True)):
                assert row["seed"] == result["seed"] == seed
                assert all(row[key] == result[key] for key in ("test_error_percent", "parameters", "madds"))
        errors = [row["test_error_percent"] for row in space["retrainings"]]
        assert space["summary"]["retrained"]["test_error_percent"]["mean"] == pytest.approx(sum(errors) / 2)


def test_the_cell_with_the_least_error_on_held_out_training_images_is_selected(finished):
    for name, space in table()["spaces"].items():
        held_out = [row["held_out_error_percent"] for row in space["searches"]]
        best = held_out.index(min(held_out))
        assert space["summary"]["selected_seed"] == best
        assert space["selected"] == space["searches"][best]["genotype"]
        for seed in range(2):
            trained = load_genotype(folder_of(finished, name, "train", seed).genotype)
            assert trained == load_genotype(folder_of(finished, name, "search", best).path)
        result = folder_of(finished, name, "select").result()
        assert (result["hold_out"], result["test_images"], result["train_images"]) == (10, 10, 30)


def test_random_cells_are_those_of_their_seeds(finished):
    for name, space in table()["spaces"].items():
        for seed, row in enumerate(space["random"]):
            genotype = random_genotype(load_space(finished / f"{name}.yaml"), seed)
            assert row["genotype"]["normal"] == json.loads(genotype.to_json())["normal"]
            assert load_genotype(folder_of(finished, name, "random", seed).genotype) == genotype


def test_no_test_image_has_a_part_in_a_cell_or_in_its_selection(finished, monkeypatch):
    """With other labels on the test images, all that differs is the test errors."""
    before = table()
    shutil.rmtree(finished / "runs")
    load = nas.data.datasets.load_data

    def poisoned(*source):
        data = load(*source)
        return replace(data, test_labels=(data.test_labels + 1) % len(data.classes))

    monkeypatch.setattr(nas.experiment.plan, "load_data", poisoned)
    assert reproduce_table9([*CALL, "--random", "0"]) == 0
    after = table()
    for name, space in before["spaces"].items():
        assert after["spaces"][name]["searches"] == space["searches"]  # cells, and errors on held-out images
        assert after["spaces"][name]["selected"] == space["selected"]
        rows = zip(after["spaces"][name]["retrainings"], space["retrainings"], strict=True)
        assert any(row["test_error_percent"] != other["test_error_percent"] for row, other in rows)


def test_the_comparisons_are_of_the_runs_in_the_table(finished):
    content = table()
    (comparison,) = content["comparisons"]
    assert comparison["spaces"] == ["plain", "larger"]
    for figure, rows, key in (
        ("test_error_percent", "retrainings", "test_error_percent"),
        ("held_out_error_percent", "searches", "held_out_error_percent"),
        ("random_test_error_percent", "random", "test_error_percent"),
        ("parameters", "searches", "parameters"),
        ("madds", "searches", "madds"),
    ):
        a, b = ([row[key] for row in content["spaces"][name][rows]] for name in ("plain", "larger"))
        assert comparison[figure]["mean"] == pytest.approx(sum(b) / 2 - sum(a) / 2)


def test_the_conclusions_are_in_the_markdown_too(finished):
    markdown = (finished / "runs/table9/table9.md").read_text(encoding="utf-8")
    conclusions = table()["conclusions"]
    assert conclusions and all(f"- {line}" in markdown for line in conclusions)


def test_the_keys_of_the_json_table_are_documented(finished):
    page = (ROOT / "docs" / "files-of-a-run.md").read_text(encoding="utf-8")
    section = page.partition("## `table9.json`")[2].partition("\n## ")[0]
    content = table()
    for key in (*content, *content["comparisons"][0], *content["spaces"]["plain"]):
        assert f"`{key}`" in section, key


def test_with_one_search_there_is_no_held_out_error_to_compare(here):
    assert reproduce_table9([*CALL, "--searches", "1", "--retrainings", "1", "--random", "0"]) == 0
    (comparison,) = table()["comparisons"]
    assert comparison["held_out_error_percent"]["n"] == 0
    assert not any("held-out" in line for line in table()["conclusions"])


def test_operators_are_counted_beside_chance_and_their_weights_averaged(finished):
    for name, space in table()["spaces"].items():
        usage, weights = space["summary"]["operators"], space["summary"]["mean_operator_weights"]
        none, *operators = load_space(finished / f"{name}.yaml").operators
        assert none == "none"
        for kind in ("normal", "reduce"):
            edges = [edge for row in space["searches"] for node in row["genotype"][kind]["nodes"] for edge in node]
            assert usage[kind]["edges"] == len(edges) == 4 == sum(usage[kind]["counts"].values())
            assert usage[kind]["by_chance"] == 4 / len(operators)
            assert usage[kind]["counts"] == {name: [edge[0] for edge in edges].count(name) for name in operators}
            by_edge = usage[kind]["by_edge"]
            assert list(by_edge) == ["0 -> 2", "1 -> 2"]  # a node has two inputs and keeps both, in both searches
            for source, label in enumerate(by_edge):
                on_edge = [edge[0] for edge in edges if edge[1] == source]
                assert by_edge[label]["edges"] == 2 and by_edge[label]["by_chance"] == 2 / len(operators)
                assert by_edge[label]["counts"] == {name: on_edge.count(name) for name in operators}
            assert sum(values[0] for values in weights[kind].values()) == pytest.approx(1)
        tables = [folder_of(finished, name, "search", seed).rows("alphas")[-1]["normal"] for seed in range(2)]
        expected = torch.tensor(tables).softmax(-1).mean((0, 1))
        assert [values[-1] for values in weights["normal"].values()] == pytest.approx(expected.tolist())


def test_each_operator_is_removed_from_the_finished_supernets(finished):
    for name, space in table()["spaces"].items():
        lost = space["summary"]["error_points_without_operator"]
        assert ["none", *lost] == list(load_space(finished / f"{name}.yaml").operators)
        kept = [folder_of(finished, name, "search", seed).removal() for seed in range(2)]
        for operator, points in lost.items():
            expected = [one["without"][operator] - one["error_percent"] for one in kept]
            assert points["mean"] == pytest.approx(sum(expected) / 2) and points["n"] == 2


def test_the_supernet_without_an_operator_is_the_one_of_the_space_without_it(finished):
    """On the images that trained the alphas, in evaluation mode; the other operators share its weight."""
    run = folder_of(finished, "larger", "search")
    config = build_config(SearchConfig, [("", read_settings(run.config, "search"))])
    search = Search(config, load_space(run.space), nas.data.datasets.load_data("digits", None), None)
    supernet = search.state.supernet
    supernet.load_state_dict(run.load_checkpoint()["supernet"])
    supernet.eval()
    images = normalize(search.alpha_batches.images, search.data.mean, search.data.std)

    def error() -> float:
        with torch.no_grad():
            return 100 * (supernet(images).argmax(1) != search.alpha_batches.labels).float().mean().item()

    found = run.removal()
    assert found["error_percent"] == pytest.approx(error())
    tables = [table.detach().softmax(-1) for table in supernet.alphas()]
    column = search.space.operators.index("dil_conv_3x3")
    for weights in tables:
        weights[:, column] = 0
        weights /= weights.sum(-1, keepdim=True)
    supernet.operator_weights = lambda: tuple(tables)
    assert found["without"]["dil_conv_3x3"] == pytest.approx(error())


def test_a_supernet_that_is_gone_costs_a_note_and_not_the_table(finished, capsys):
    for path in folder_of(finished, "larger", "search", 1).path.iterdir():
        if path.name in ("checkpoint.pt", "checkpoint.previous.pt", "removal.json"):
            path.unlink()
    assert reproduce_table9(CALL) == 0
    assert "note: larger, search, seed 1: no operator is removed" in capsys.readouterr().err
    kept = folder_of(finished, "larger", "search", 0).removal()
    points = table()["spaces"]["larger"]["summary"]["error_points_without_operator"]
    assert {name: found["n"] for name, found in points.items()} == dict.fromkeys(kept["without"], 1)


def test_it_is_said_when_supernets_are_tested_without_operators(finished, capsys):
    folder_of(finished, "plain", "search").path.joinpath("removal.json").unlink()
    assert reproduce_table9(CALL) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "plain, search, seed 0: its supernet is tested without each operator"


def test_a_command_that_is_stopped_removes_no_operators(finished, monkeypatch):
    shutil.rmtree(folder_of(finished, "larger", "random", 1).path)
    folder_of(finished, "plain", "search").path.joinpath("removal.json").unlink()
    monkeypatch.setattr(jobs, "answer", stopped)
    assert reproduce_table9(CALL) == 130
    assert folder_of(finished, "plain", "search").removal() is None


def test_without_its_checkpoint_a_supernet_cannot_lose_an_operator(tmp_path, refused):
    with refused("has no checkpoint.pt", "--force"):
        removal_errors(begin(tmp_path / "run", SEARCH, space=SPACE))


def test_the_tables_say_what_was_really_run_and_what_differs_from_the_paper(finished):
    done = table()["spaces"]["larger"]["summary"]["budget"]["train"]
    assert (done["epochs"], done["train_images"], done["test_images"], done["image_size"]) == (1, 40, 30, 8)
    lines = (finished / "runs/table9/table9.md").read_text(encoding="utf-8").splitlines()
    for start in (
        "| plain | search | 1 | 40 | — | — | 8 | 2 | 3 | 1 | 0, 1 |",
        "| plain | short training | 1 | 30 | 10 | 10 | 8 | 2 | 3 | — | 0, 1 |",
        "| plain | retraining | 1 | 40 | 30 | 0 | 8 | 2 | 3 | — | 0, 1 |",
        "- data: digits instead of CIFAR-10",
        "- search, epochs: 1 instead of 50",
        "- retraining, train images: 40 instead of all",
        "- short training, epochs: 1 instead of 100",
        "- searches of a space: 2 instead of 4",
    ):
        assert any(line.startswith(start) for line in lines), start
    found = table()["spaces"]["larger"]["summary"]["retrained"]["test_error_percent"]
    assert any(line.startswith(f"| — | larger | — | {found['mean']:.2f} ±") for line in lines)


def test_a_second_call_runs_nothing_and_changes_no_byte(finished, monkeypatch):
    before = contents(finished / "runs")
    monkeypatch.setattr(jobs, "answer", lambda request: pytest.fail("it was run again"))
    assert reproduce_table9(CALL) == 0
    assert contents(finished / "runs") == before


def test_runs_of_other_settings_are_not_mixed_into_a_table(finished, mistake):
    before = contents(finished / "runs")
    assert "image_size" in mistake(reproduce_table9, *CALL, "--image-size", "12")
    assert "train_images" in mistake(reproduce_table9, *CALL[:3], "--data", "digits")  # without --config
    assert contents(finished / "runs") == before


def test_runs_of_another_space_under_the_same_name_are_not_mixed_into_a_table(finished, mistake):
    (finished / "larger.yaml").write_text("{extends: plain.yaml, operators: [sep_conv_3x3]}")
    assert "another space" in mistake(reproduce_table9, *CALL)


def test_a_retraining_of_another_cell_is_not_taken_for_that_of_the_cell_selected(finished, mistake):
    cell = '{"nodes": [[["skip_connect", 0], ["skip_connect", 1]]], "concat": [2]}'
    genotype = folder_of(finished, "larger", "train", 1).genotype
    genotype.write_text(f'{{"format": 1, "normal": {cell}, "reduce": {cell}}}')
    assert "another cell" in mistake(reproduce_table9, *CALL)
    shutil.rmtree(genotype.parent)
    shutil.rmtree(folder_of(finished, "larger", "search").path)
    assert "another cell" in mistake(reproduce_table9, *CALL)


def test_a_failed_job_is_tried_once_more_and_reported_and_the_others_go_on(finished, monkeypatch, capsys):
    for part in ("plain/search/seed0", "plain/select/seed0", "plain/train", "larger/train/seed0"):
        shutil.rmtree(finished / "runs/table9" / part)
    (finished / "runs/table9/plain/search/seed0").mkdir(parents=True)
    (finished / "runs/table9/plain/search/seed0/thesis.tex").write_text("not a run's file")
    tries = []

    def fails(request):
        tries.append(request.kind)
        return jobs_answer(request) if request.kind is SearchConfig else 1 / 0

    jobs_answer = jobs.answer
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "answer", fails)
        assert reproduce_table9(CALL) == 1
    errors = capsys.readouterr().err
    assert tries.count(TrainConfig) == 2
    assert "failed: plain, search, seed 0" in errors
    assert "failed: larger, retraining, seed 0" in errors and "ZeroDivisionError" in errors

    assert reproduce_table9(CALL) == 1
    assert "- plain, retraining, seed 0: " in (finished / "runs/table9/table9.md").read_text()
    plain, larger = table()["spaces"].values()
    assert len(plain["searches"]) == 1 and plain["selected"] is None and plain["retrainings"] == []
    assert len(larger["searches"]) == len(larger["retrainings"]) == 2


def test_a_job_that_fails_once_is_carried_out_at_the_second_try(finished, monkeypatch):
    run = folder_of(finished, "larger", "search", 1)
    shutil.rmtree(run.path)
    for stage in ("select", "train"):
        for seed in range(2):
            shutil.rmtree(folder_of(finished, "larger", stage, seed).path)
    answer, calls = jobs.answer, []

    def fails_first(asked):
        calls.append(asked)
        return answer(asked) if len(calls) > 1 else 1 / 0

    monkeypatch.setattr(jobs, "answer", fails_first)
    before = table()
    assert reproduce_table9(CALL) == 0 and [asked.folder.resolve() for asked in calls].count(run.path) == 2
    for name, space in table()["spaces"].items():
        assert space["searches"] == before["spaces"][name]["searches"]


def test_an_interrupted_job_ends_the_command_and_is_resumed(here, monkeypatch, capsys):
    started = []

    def interrupted(request):
        started.append(request)
        create_run(RunDir(request.folder), "{}", "")
        raise Stopped(130)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "answer", interrupted)
        assert reproduce_table9(CALL) == 130
    assert "goes on with: python scripts/reproduce_table9.py --spaces plain.yaml" in capsys.readouterr().err
    monkeypatch.setattr(jobs, "answer", started.append)
    plan_of(*CALL).jobs[0].carry_out()
    assert [request.resume for request in started] == [False, True]


def test_each_job_is_announced_with_the_time_that_is_left(finished, capsys):
    shutil.rmtree(folder_of(finished, "larger", "random", 1).path)
    done = folder_of(finished, "larger", "random", 0)
    done.finish(done.result() | {"seconds": 90})
    assert reproduce_table9(CALL) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert len(lines) == 1 and lines[0].startswith("[16/16] larger, random cell, seed 1: to do, runs/table9/larger")
    assert lines[0].endswith("; 30 s left")  # the mean of 90 and two times 0


def test_the_settings_of_a_job_are_asked_for_as_they_are(tmp_path):
    config = TrainConfig(epochs=3, auxiliary=False, flip=True, data="a folder", learning_rate=1e-5, plugin=("x.py",))
    job = jobs.Job(SPACE, "train", config, RunDir(tmp_path / "run"), load_genotype("darts_v2"))
    assert job.request().config == config


def test_a_plugin_goes_through_search_and_retraining_and_must_stay_as_it_is(finished, write_plugin, mistake):
    plugin = write_plugin()
    (finished / "mine.yaml").write_text("{operators: [ghost_3x3], nodes: 1}")
    call = ["--spaces", "plain.yaml", "mine.yaml", "--config", "tiny.yaml", "--plugin", str(plugin)]
    assert reproduce_table9(call) == 0
    assert table()["spaces"]["mine"]["selected"]["normal"]["nodes"] == [[["ghost_3x3", 0], ["ghost_3x3", 1]]]
    assert reproduce_table9(call) == 0
    (finished / "runs/table9/mine/train/seed0/plugins/ghost.py").write_text("changed = True")
    assert "plug-in" in mistake(reproduce_table9, *call)


def test_the_default_spaces_stand_beside_the_papers_figures(here, capsys):
    assert reproduce_table9(["--preset", "cpu", "--dry-run"]) == 0
    assert "darts+sandglass, retraining, seed 0: to do" in capsys.readouterr().out
    assert not (here / "runs").exists()

    write_table(here / "out", plan_of("--preset", "cpu"), "cpu", "the command")
    content = json.loads((here / "out/table9.json").read_text())
    assert content["data"] == "CIFAR-10"
    papers = [space["summary"]["paper"]["test_error_percent"] for space in content["spaces"].values()]
    assert papers == [3.11, 3.26, 2.98]
    markdown = (here / "out/table9.md").read_text()
    for row in ("| 1 | darts | 3.11 | — | — | 3.25 |", "| 2 | darts+ir | 3.26 |", "| 3 | darts+sandglass | 2.98 |"):
        assert row in markdown


@pytest.mark.parametrize(
    ("name", "title"),
    [("cifar10", "CIFAR-10"), ("cifar10-jpeg", "CIFAR-10 (JPEG)"), ("cifar10 (folder)", "cifar10 (folder)")],
)
def test_images_that_are_not_quite_cifar10_are_not_called_so(name, title):
    assert data_title(name) == title


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--spaces", "darts+sandglas"], '"sandglass"'),
        (["--spaces", "plain.yaml", "./plain.yaml"], "twice"),
        (["--preset", "quik"], '"quick"'),
        (["--preset", "quick", "--searches", "x"], "--searches"),
        (["--preset", "quick", "--searches", "0"], "--searches"),
        (["--preset", "quick", "--data", "nowhere"], "nowhere"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--epochs", "3"], "--epochs"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_run(arguments, words, here, mistake):
    assert words in mistake(reproduce_table9, *arguments)
    assert not (here / "runs").exists()


def test_a_report_and_figures_are_written_beside_the_table(finished):
    assert not Path("runs/table9/report.html").exists() and not Path("runs/table9/figures").exists()
    (finished / "tiny.yaml").write_text(INPUTS["tiny.yaml"].replace("report: false", "report: true"))
    assert reproduce_table9(CALL) == 0
    page = Path("runs/table9/report.html").read_text(encoding="utf-8")
    assert "Table 9: plain, larger" in page and '"status done">finished<' in page
    figures = {path.stem: path.read_text(encoding="utf-8") for path in Path("runs/table9/figures").iterdir()}
    assert {"test-error", "error-and-size", "operators-of-the-found-cells-larger"} <= set(figures)
    for name, picture in figures.items():
        root = ElementTree.fromstring(picture)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert re.sub("[^a-z0-9+]+", "-", root[0].text.lower()).strip("-") == name  # its title is drawn
        assert "var(" not in picture and "currentColor" not in picture  # nothing that only a page says


def test_a_figure_has_room_for_a_long_title():
    chart = Chart("What a supernet loses without an operator, darts+sandglass", '<svg viewBox="0 0 316.8 194.4"/>')
    title = ElementTree.fromstring(chart.as_file())[0]
    assert title.text == chart.title
    assert 6 + 0.65 * float(title.attrib["font-size"]) * len(title.text) < 316.8  # bold DejaVu Sans, a wide face
