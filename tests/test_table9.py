"""Table 9 as one command: what it runs, what it skips, what it writes, and what it refuses to mix."""

import json
import shutil
from pathlib import Path

import pytest

from nas import cli, table9
from nas.run_dir import RunDir
from nas.table9 import reproduce_table9
from nas.table9_results import data_title

TINY = """
data: digits
train_images: 40
batch_size: 20
epochs: 1
channels: 2
layers: 3
search: {order: 1}
train: {test_images: 30, auxiliary: false}
"""
PLAIN = "{operators: [none, skip_connect, avg_pool_3x3], nodes: 1}"
LARGER = "{extends: plain.yaml, operators: [dil_conv_3x3]}"
CALL = ("--spaces", "plain.yaml", "larger.yaml", "--config", "tiny.yaml")


@pytest.fixture(scope="module")
def finished_folder(tmp_path_factory):
    """Where CALL was carried out."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_inputs(folder)
        assert reproduce_table9(CALL) == 0
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The working folder of a test: two small spaces, and settings for runs of a second."""
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path)
    return tmp_path


@pytest.fixture
def finished(finished_folder, here):
    """The working folder, with all that CALL leaves."""
    shutil.copytree(finished_folder / "runs", here / "runs")
    return here


def write_inputs(folder):
    for name, text in (("tiny.yaml", TINY), ("plain.yaml", PLAIN), ("larger.yaml", LARGER)):
        (folder / name).write_text(text)


def table():
    return json.loads(Path("runs/table9/table9.json").read_text(encoding="utf-8"))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(arguments, capsys):
    """What the command says when it refuses to run anything."""
    capsys.readouterr()
    assert reproduce_table9(arguments) == 2
    return capsys.readouterr().err


def test_the_json_table_holds_the_cell_and_the_figures_of_every_space(finished):
    content = table()
    assert list(content) == ["format", "data", "preset", "command", "spaces"]
    assert (content["format"], content["data"], content["preset"]) == (1, "digits", "paper")
    assert content["command"] == "python scripts/reproduce_table9.py " + " ".join(CALL)
    assert list(content["spaces"]) == ["plain", "larger"]
    for name, space in content["spaces"].items():
        assert list(space) == ["searches", "selected", "retrainings", "random", "summary"]
        searched, trained = (RunDir(finished / "runs/table9" / name / stage / "seed0") for stage in ("search", "train"))
        assert space["selected"] == json.loads(searched.genotype.read_text())
        assert space["searches"] == [{"seed": 0, "genotype": space["selected"]}]
        figures = {key: trained.result()[key] for key in ("test_error_percent", "parameters", "madds")}
        assert space["retrainings"] == [{"seed": 0, **figures}]
        assert space["random"] == []


def test_the_tables_say_what_was_really_run_and_what_differs_from_the_paper(finished):
    done = table()["spaces"]["larger"]["summary"]["retraining"]
    assert (done["epochs"], done["train_images"], done["test_images"], done["image_size"]) == (1, 40, 30, 8)
    lines = (finished / "runs/table9/table9.md").read_text(encoding="utf-8").splitlines()
    for line in (
        "| plain | search | 1 | 40 | — | 8 | 2 | 3 | 1 | 0 |",
        "| plain | retraining | 1 | 40 | 30 | 8 | 2 | 3 | — | 0 |",
        "- data: digits instead of CIFAR-10",
        "- search, epochs: 1 instead of 50",
        "- retraining, train images: 40 instead of all",
    ):
        assert line in lines
    error = table()["spaces"]["larger"]["retrainings"][0]["test_error_percent"]
    assert any(line.startswith(f"| — | larger | — | {error:.2f} |") for line in lines)


def test_a_second_call_runs_nothing_and_changes_no_byte(finished, monkeypatch):
    before = contents(finished / "runs")
    for command in ("search", "train"):
        monkeypatch.setattr(cli, command, lambda arguments: pytest.fail("it was run again"))
    assert reproduce_table9(CALL) == 0
    assert contents(finished / "runs") == before


def test_runs_of_other_settings_are_not_mixed_into_a_table(finished, capsys):
    before = contents(finished / "runs")
    assert "image_size" in refusal([*CALL, "--image-size", "12"], capsys)
    assert "train_images" in refusal([*CALL[:3], "--data", "digits"], capsys)  # without --config
    assert contents(finished / "runs") == before


def test_runs_of_another_space_under_the_same_name_are_not_mixed_into_a_table(finished, capsys):
    (finished / "larger.yaml").write_text("{extends: plain.yaml, operators: [sep_conv_3x3]}")
    assert "another space" in refusal(CALL, capsys)


def test_a_retraining_of_another_cell_is_not_taken_for_that_of_the_cell_found(finished, capsys):
    cell = '{"nodes": [[["skip_connect", 0], ["skip_connect", 0]]], "concat": [2]}'
    genotype = finished / "runs/table9/larger/search/seed0/genotype.json"
    genotype.write_text(f'{{"format": 1, "normal": {cell}, "reduce": {cell}}}')
    assert "another cell" in refusal(CALL, capsys)
    shutil.rmtree(genotype.parent)
    assert "another cell" in refusal(CALL, capsys)


def test_a_failed_job_is_reported_and_the_others_go_on(finished, monkeypatch, capsys):
    shutil.rmtree(finished / "runs/table9/plain")
    shutil.rmtree(finished / "runs/table9/larger/train")
    (finished / "runs/table9/plain/search/seed0").mkdir(parents=True)
    (finished / "runs/table9/plain/search/seed0/thesis.tex").write_text("not a run's file")
    with monkeypatch.context() as patch:
        patch.setattr(cli, "train", lambda arguments: 1 / 0)
        assert reproduce_table9(CALL) == 1
    errors = capsys.readouterr().err
    assert "failed: plain, search, seed 0" in errors
    assert "failed: larger, retraining, seed 0" in errors and "ZeroDivisionError" in errors

    assert reproduce_table9(CALL) == 1
    assert "- plain, retraining, seed 0: " in (finished / "runs/table9/table9.md").read_text()
    plain, larger = table()["spaces"].values()
    assert plain["searches"] == [] and plain["selected"] is None and plain["retrainings"] == []
    assert len(larger["searches"]) == len(larger["retrainings"]) == 1


def test_an_interrupted_job_ends_the_command_and_is_resumed(here, monkeypatch, capsys):
    started = []

    def interrupted(arguments):
        started.append(arguments)
        RunDir(here / "runs/table9/plain/search/seed0").create("{}", "")
        return 130

    with monkeypatch.context() as patch:
        patch.setattr(cli, "search", interrupted)
        assert reproduce_table9(CALL) == 130
    assert len(started) == 1 and "--resume" not in started[0]
    assert "goes on with: python scripts/reproduce_table9.py --spaces plain.yaml" in capsys.readouterr().err
    job = table9.plan_jobs(table9._parser().parse(CALL))[0]
    monkeypatch.setattr(cli, "search", started.append)
    job.carry_out()
    assert "--resume" in started[1]


def test_a_plugin_goes_through_search_and_retraining_and_must_stay_as_it_is(finished, write_plugin, capsys):
    plugin = write_plugin()
    (finished / "mine.yaml").write_text("{operators: [ghost_3x3], nodes: 1}")
    call = ["--spaces", "plain.yaml", "mine.yaml", "--config", "tiny.yaml", "--plugin", str(plugin)]
    assert reproduce_table9(call) == 0
    assert table()["spaces"]["mine"]["selected"]["normal"]["nodes"] == [[["ghost_3x3", 0], ["ghost_3x3", 1]]]
    assert reproduce_table9(call) == 0
    (finished / "runs/table9/mine/train/seed0/plugins/ghost.py").write_text("changed = True")
    assert "plug-in" in refusal(call, capsys)


def test_the_default_spaces_stand_beside_the_papers_figures(here, capsys):
    assert reproduce_table9(["--preset", "cpu", "--dry-run"]) == 0
    assert "darts+sandglass, retraining, seed 0: to do" in capsys.readouterr().out
    assert not (here / "runs").exists()

    jobs = table9.plan_jobs(table9._parser().parse(["--preset", "cpu"]))
    table9.write_table(here / "out", jobs, "cpu", "the command")
    content = json.loads((here / "out/table9.json").read_text())
    assert content["data"] == "CIFAR-10"
    assert [space["summary"]["paper"]["test_error_percent"] for space in content["spaces"].values()] == [
        3.11,
        3.26,
        2.98,
    ]
    markdown = (here / "out/table9.md").read_text()
    for row in ("| 1 | darts | 3.11 | — | 3.25 |", "| 2 | darts+ir | 3.26 | — |", "| 3 | darts+sandglass | 2.98 | — |"):
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
        (["--preset", "quick", "--seed", "x"], "--seed"),
        (["--preset", "quick", "--data", "nowhere"], "nowhere"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--epochs", "3"], "--epochs"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_run(arguments, words, here, capsys):
    error = refusal(arguments, capsys)
    assert words in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (here / "runs").exists()
