"""The two commands as people type them: what they do, print and leave, and the one line that answers a mistake."""

import builtins
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
import yaml
from PIL import Image

import cli
import kill_test
from cells.genotype_file import load_genotype
from conftest import GHOST
from nas.data.datasets import cache_dir
from nas.experiment.estimate import Estimate
from nas.experiment.names import genotype_name
from nas.run import files as run_files
from nas.run.begin import create_run
from nas.run.folder import FILES, RunDir
from nas.run.lock import locked
from project_root import ROOT
from search_spaces.errors import InputError
from search_spaces.operator import OPERATORS
from search_spaces.plugins import PLUGINS

TINY = "--data digits --channels 2 --layers 3 --epochs 1 --batch-size 16 --train-images 32 --threads 1 --device cpu"
TINY += " --no-report"
SEARCH = ["--space", "tiny.yaml", "--order", "1", *TINY.split()]
TRAIN = ["darts_v2", *TINY.split(), "--test-images", "20"]
SEARCH_RUN, TRAIN_RUN = RunDir("runs/search/tiny/seed0"), RunDir("runs/train/darts_v2/seed0")
NO_SEARCH = "darts_v2: no finished search under runs/, so DARTS' published cell"
COMMANDS = {"search": (cli.search, SEARCH, SEARCH_RUN), "train": (cli.train, TRAIN, TRAIN_RUN)}


@pytest.fixture(params=COMMANDS)
def command(request):
    return request.param


@pytest.fixture
def run(command):
    return COMMANDS[command][0]


@pytest.fixture
def arguments(command):
    return COMMANDS[command][1]


@pytest.fixture
def folder(command) -> RunDir:
    return COMMANDS[command][2]


@pytest.fixture(autouse=True)
def workplace(request, tmp_path, monkeypatch):
    """An empty folder to work in, but for a small space; without `whole`, what takes long is left out of the runs."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("tiny.yaml").write_text("operators: [none, skip_connect, dil_conv_3x3]\nnodes: 2\n")
    if "whole" not in request.fixturenames:
        request.getfixturevalue("without_pictures")
        estimated(monkeypatch, seconds=5)


@pytest.fixture
def whole():
    """Runs with all their parts, as users run them."""


def estimated(monkeypatch, seconds):
    for name in ("estimate_search", "estimate_training"):
        monkeypatch.setattr(f"nas.experiment.plan.{name}", lambda *_: Estimate(seconds, 2.34e9, 1e6, 1e9))


@pytest.fixture
def call(capsys):
    """Runs a command in this process: (status, standard output, standard error)."""

    def call(command, *arguments):
        capsys.readouterr()
        status = command([str(argument) for argument in arguments])
        return SimpleNamespace(status=status, **capsys.readouterr()._asdict())

    return call


@pytest.fixture
def succeeds(call):
    def succeeds(command, *arguments) -> str:
        said = call(command, *arguments)
        assert (said.status, said.err) == (0, "")
        return said.out

    return succeeds


@pytest.fixture
def fails(call):
    """Runs a command that must fail: status 2, one line with these words, and no file written or changed."""

    def fails(command, *arguments, words=()):
        before = files()
        said = call(command, *arguments)
        assert said.status == 2, said
        assert said.err.startswith("error: ") and said.err.endswith("\n") and said.err.count("\n") == 1
        for word in words:
            assert word in said.err
        assert files() == before
        return said

    return fails


def files(folder=".") -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }


def save_images(folder, classes, count=4, splits=("train", "test")):
    for split in splits:
        for shade, name in enumerate(classes):
            for number in range(count):
                path = Path(folder, split, name, f"{number}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (20 * number, 90 * shade, 7)).save(path)


# What a run leaves and prints


def test_a_search_leaves_its_files_and_says_what_to_type_next(succeeds):
    first, *lines = succeeds(cli.search, *SEARCH).splitlines()
    assert first == "this run will take about 5 s and 2.3 GB of memory here"
    unwritten = {"checkpoint.previous.pt", "weights.pt", "removal.json", "report.html"}
    assert set(os.listdir(SEARCH_RUN.path)) == {".lock", *FILES} - unwritten
    assert lines[0].startswith("epoch 1/1  loss ")
    assert lines[1] == f"genotype  {SEARCH_RUN.genotype}"
    assert lines[3] == f"printed   {load_genotype(SEARCH_RUN.path).to_notation()}"
    assert lines[-1] == f"next      darts-train {SEARCH_RUN.path} --data digits"
    assert load_genotype(SEARCH_RUN.path).space == "tiny"


def test_the_next_command_trains_the_found_cell(succeeds):
    search = succeeds(cli.search, *SEARCH, "--preset", "quick", "--image-size", "6", "--flip")
    words = shlex.split(search.splitlines()[-1])
    preset_and_data = ["--preset", "quick", "--image-size", "6", "--flip"]  # digits are the preset's
    assert words[1:] == ["darts-train", str(SEARCH_RUN.path), *preset_and_data]
    tiny = ["--epochs", "1", "--channels", "1", "--train-images", "20", "--threads", "1"]
    assert "test error" in succeeds(cli.train, *words[2:], *tiny)
    assert RunDir("runs/train/tiny-seed0/seed0").result()["image_size"] == 6


def test_the_next_command_is_spelled_as_this_one_was(succeeds, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["some where/search.py"])
    next_line = succeeds(cli.search, *SEARCH).splitlines()[-1]
    assert next_line.startswith("next      python 'some where/train_genotype.py' runs/search/tiny/seed0")


def test_a_training_leaves_its_files_and_prints_its_result(succeeds):
    _, *lines = succeeds(cli.train, *TRAIN).splitlines()
    unwritten = {"checkpoint.previous.pt", "removal.json", "report.html"}
    of_a_search = {"space.yaml", "alphas.jsonl", "cells.jsonl"}
    assert set(os.listdir(TRAIN_RUN.path)) == {".lock", *FILES} - unwritten - of_a_search
    result = TRAIN_RUN.result()
    assert lines[0].startswith("epoch 1/1  loss ")
    assert lines[1] == f"test error {result['test_error_percent']:.2f} % on 20 images of digits"
    assert lines[-2:] == [f"weights    {TRAIN_RUN.weights}", f"result     {TRAIN_RUN.path / 'result.json'}"]
    assert load_genotype(TRAIN_RUN.path) == load_genotype("darts_v2")


@pytest.mark.parametrize(
    ("content", "folder"),
    [
        ("operators: [none, skip_connect]\nname: my_space\n", "my_space"),
        ("operators: [none, skip_connect]\n", "file"),
    ],
)
def test_a_search_goes_by_the_name_of_its_space(content, folder, succeeds):
    Path("file.yaml").write_text(content + "nodes: 1\n")
    succeeds(cli.search, *SEARCH, "--space", "file.yaml", "--seed", "3")
    assert RunDir(f"runs/search/{folder}/seed3").is_finished()


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("darts_v2", "darts_v2"),
        ("DARTS_V1", "darts_v1"),
        ("found/cell.json", "cell"),
        ("found/...json", "unnamed"),
        ("found/a b;c.json", "a_b_c"),
        ("found/run/genotype.json", "found-run"),
        ("found/run", "found-run"),
        ("found/run/../run/.", "found-run"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("Genotype(normal=[('skip_connect', 0)])", "genotype-"),
    ],
)
def test_a_training_goes_by_the_name_of_its_genotype_and_stays_below_runs(argument, name):
    Path("found/run").mkdir(parents=True)
    for path in ("found/cell.json", "found/...json", "found/a b;c.json", "found/run/genotype.json"):
        Path(path).write_text("")
    assert genotype_name(argument).startswith(name)
    folder = Path("runs", "train", genotype_name(argument), "seed0")
    assert folder.resolve().parent.parent == Path("runs/train").resolve()


def test_a_published_name_wins_over_a_folder_of_that_name(succeeds):
    Path("darts_v2/plugins").mkdir(parents=True)
    Path("darts_v2/plugins/trap.py").write_text("raise SystemExit('run')")
    succeeds(cli.train, *TRAIN, "--dry-run")


V1 = load_genotype("darts_v1")


@pytest.mark.parametrize(
    "argument", ["cell.json", "mine", "mine/genotype.json", "cell.txt", V1.to_notation(), V1.to_json()]
)
def test_a_genotype_is_given_in_any_form(argument, succeeds):
    Path("mine").mkdir()
    for file, text in {
        "mine/genotype.json": V1.to_json(),
        "cell.json": V1.to_json(),
        "cell.txt": V1.to_notation(),
    }.items():
        Path(file).write_text(text)
    succeeds(cli.train, argument, *TRAIN[1:], "--run-dir", "run")
    assert load_genotype("run") == V1


def test_without_a_genotype_the_newest_finished_search_is_trained(succeeds):
    def first_line():
        return succeeds(cli.train, *TRAIN[1:], "--dry-run").splitlines()[0]

    assert first_line() == f"# training {NO_SEARCH}"
    succeeds(cli.search, *SEARCH)
    succeeds(cli.search, *SEARCH, "--seed", "1", "--run-dir", "runs/mine")
    os.utime(SEARCH_RUN.path / "result.json", (1e9, 1e9))
    assert first_line() == "# training runs/mine: the newest finished search under runs/"
    (RunDir("runs/mine").path / "result.json").unlink()  # now unfinished
    assert first_line() == f"# training {SEARCH_RUN.path}: the newest finished search under runs/"
    out = succeeds(cli.train, *TRAIN[1:])
    assert out.splitlines()[0] == f"training {SEARCH_RUN.path}: the newest finished search under runs/"
    assert RunDir("runs/train/tiny-seed0/seed0").is_finished()
    (SEARCH_RUN.path / "result.json").unlink()
    assert first_line() == f"# training {NO_SEARCH}"  # a finished training is no search


def test_data_and_image_size_are_those_of_the_settings(succeeds):
    save_images("pets", ["cat", "dog"])
    succeeds(cli.train, *TRAIN, "--data", "pets", "--image-size", "4", "--train-images", "8", "--test-images", "6")
    result = TRAIN_RUN.result()
    assert (result["data"], result["image_size"], result["train_images"], result["test_images"]) == ("pets", 4, 8, 6)


def test_threads_are_those_of_the_settings(succeeds, monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    succeeds(cli.search, *SEARCH, "--threads", "3", "--dry-run")
    assert seen == [3]


# Settings: default < preset < --config < flag


def test_a_dry_run_prints_all_settings_time_memory_and_disk_and_writes_nothing(
    run, arguments, folder, whole, command, succeeds
):
    before = files()
    out = succeeds(run, *arguments, "--dry-run", "--seed", "4", "--plugin", make_plugin())
    assert files() == before | {"ghost.py": Path("ghost.py").read_bytes()}
    settings = yaml.safe_load(out)
    assert (settings["seed"], settings["epochs"], settings["channels"]) == (4, 1, 2)
    comments = [line for line in out.splitlines() if line.startswith("# ")]
    assert f"# run folder: {folder.path.with_name('seed4')}" in comments
    assert "of memory" in comments[-1] and "MB on disk" in comments[-1] and "estimate: " in comments[-1]
    Path("printed.yaml").write_text(out)
    subject = arguments[:1] if command == "train" else []
    again = succeeds(run, *subject, "--config", "printed.yaml", "--dry-run")
    assert yaml.safe_load(again) == settings


def test_settings_come_from_the_flag_the_file_the_preset_the_default(run, command, succeeds):
    Path("my.yaml").write_text("channels: 5\nepochs: 7\nsearch:\n  order: 1\ntrain:\n  cutout: 0\n")
    subject = ["darts_v2"] if command == "train" else ["--space", "tiny.yaml"]
    out = succeeds(run, *subject, "--preset", "quick", "--config", "my.yaml", "--epochs", "9", "--dry-run")
    settings = yaml.safe_load(out)
    assert (settings["epochs"], settings["channels"], settings["layers"], settings["data"]) == (9, 5, 3, "digits")
    assert settings["momentum"] == 0.9
    assert settings.get("order") == 1 or settings.get("cutout") == 0


def test_help_comes_without_importing_torch(command):
    code = f"""
import sys
from nas.commands.{command} import {command}
try:
    {command}(["--help"])
except SystemExit as done:
    assert done.code == 0
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--batch-size" in done.stdout and "--preset" in done.stdout


# Before a long run


@pytest.mark.parametrize(("seconds", "says"), [(7200, True), (3601, True), (3599, False), (5, False)])
def test_a_run_of_hours_is_announced_with_the_preset_that_takes_minutes(
    run, arguments, seconds, says, call, monkeypatch
):
    estimated(monkeypatch, seconds)
    monkeypatch.setattr("nas.experiment.carry_out._begin", refuse)  # as far as this test goes
    out = call(run, *arguments).out
    assert ("--preset quick takes minutes" in out) is says
    if seconds == 7200:
        assert out == "this run will take about 2.0 h and 2.3 GB of memory here; --preset quick takes minutes\n"


def test_where_operators_cannot_be_compiled_one_line_says_so(run, arguments, folder, succeeds, monkeypatch):
    monkeypatch.setattr("cells.compiled.fused.kernels", None)
    monkeypatch.setattr("nas.experiment.plan.WHY_NOT_COMPILED", "No module named 'numba'")
    for flags, kept in (((), None), (("--compile", "--force"), True)):
        first = succeeds(run, *arguments, *flags).splitlines()[0]
        assert first.startswith("operators are not compiled (No module named 'numba'); PyTorch's own layers run")
        assert yaml.safe_load((folder.path / "config.yaml").read_text())["compile"] is kept  # another machine may


def test_what_is_not_float32_is_not_compiled_on_a_cpu(run, arguments, succeeds):
    assert "the loops compute in float32" in succeeds(run, *arguments, "--precision", "bfloat16").splitlines()[0]


def test_operators_are_compiled_unless_asked_not_to(run, arguments, folder, succeeds):
    for flags, kept in (((), None), (("--no-compile", "--force"), False)):
        assert "compiled" not in succeeds(run, *arguments, *flags)
        assert yaml.safe_load((folder.path / "config.yaml").read_text())["compile"] is kept


def refuse(*_, **__):
    raise InputError("no further")


def test_as_typed_without_cifar10_one_line_names_what_can_be_typed_instead(command, fails, monkeypatch):
    def no_network(*_, **__):
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", no_network)
    estimated(monkeypatch, seconds=1e6)
    words = ("CIFAR-10", str(cache_dir() / "data"), "--data FOLDER", "--preset quick", "name resolution")
    said = fails(COMMANDS[command][0], words=words)
    assert said.out == ("" if command == "search" else f"training {NO_SEARCH}\n")


# Going on


def test_a_finished_run_is_not_done_again_unasked(run, arguments, folder, succeeds, fails):
    succeeds(run, *arguments)
    fails(run, *arguments, words=("holds a finished run", "--force", "--seed"))
    before = files()
    for flags in ((*arguments, "--resume"), ("--run-dir", folder.path, "--resume")):
        assert f"{folder.path} is finished" in succeeds(run, *flags)
        assert files() == before
    stamp = (folder.path / "result.json").stat().st_mtime_ns
    succeeds(run, *arguments, "--force")
    assert (folder.path / "result.json").stat().st_mtime_ns > stamp


def test_a_run_that_ran_out_of_time_says_how_to_go_on_and_does(
    run, arguments, folder, command, call, succeeds, fails, capsys
):
    said = call(run, *arguments, "--epochs", "2", "--stop-after", "1e-9")
    assert said.status == 75 and folder.checkpoint.is_file() and not folder.is_finished()
    program = {"search": "darts-search", "train": "darts-train"}[command]
    assert said.err == f"saved; go on with: {program} --run-dir {folder.path} --resume\n"

    fails(run, *arguments, "--epochs", "2", words=("holds an unfinished run", "--resume", "--force"))
    out = succeeds(run, *shlex.split(said.err.split(": ")[1])[1:])
    assert "epoch 2/2" in out and folder.is_finished()
    stored = yaml.safe_load(folder.config.read_text())
    assert (stored["epochs"], stored["threads"], stored["device"], stored["stop_after"]) == (2, 1, "cpu", None)


def test_resume_without_anything_to_resume_starts_from_the_beginning_and_says_so(run, arguments, folder, succeeds):
    out = succeeds(run, *arguments, "--resume")
    assert out.splitlines()[0] == f"nothing to resume in {folder.path}; starting from the beginning"
    assert folder.is_finished()


def test_resume_without_a_checkpoint_starts_from_the_beginning_and_says_so(run, arguments, folder, succeeds, fails):
    succeeds(run, *arguments)
    folder.checkpoint.unlink()
    fails(run, *arguments, "--resume", "--epochs", "2", words=("finished and has no checkpoint", "--force"))
    (folder.path / "result.json").unlink()
    out = succeeds(run, "--run-dir", folder.path, "--resume")
    assert f"{folder.path} has no checkpoint; starting from the beginning" in out.splitlines()
    assert "epoch 1/1" in out and folder.is_finished()


def test_more_epochs_extend_a_finished_run(run, arguments, folder, succeeds):
    succeeds(run, *arguments)
    out = succeeds(run, "--run-dir", folder.path, "--resume", "--epochs", "2")
    assert "epoch 1/2" not in out and "epoch 2/2" in out
    assert [row["epoch"] for row in folder.rows("metrics")] == [0, 1] and folder.result()["epochs"] == 2


def test_other_settings_than_the_run_was_begun_with_are_named_and_refused(run, arguments, folder, succeeds, fails):
    succeeds(run, *arguments, "--epochs", "2")
    changes = {
        "channels": ("2", "3"),
        "epochs": ("2", "1"),
        "momentum": ("0.9", "0.8"),
        "data": ("'digits'", "'other'"),
    }
    for name, (was, now) in changes.items():
        flag = f"--{name.replace('_', '-')}"
        said = f"begun with other settings: {name} was {was} and is now {now};"
        fails(run, "--run-dir", folder.path, "--resume", flag, now.strip("'"), words=(said,))
    Path("other.yaml").write_text("seed: 5\n")
    fails(run, "--run-dir", folder.path, "--resume", "--config", "other.yaml", words=("seed was 0 and is now 5",))
    fails(run, "--run-dir", folder.path, "--resume", "--preset", "quick", words=("channels was 2 and is now",))


def test_how_a_run_is_carried_out_may_change(run, arguments, folder, call, succeeds):
    assert call(run, *arguments, "--stop-after", "1e-9").status == 75
    succeeds(run, "--run-dir", folder.path, "--resume", "--device", "auto", "--threads", "1", "--stop-after", "60")


def test_another_space_under_the_same_name_is_refused(call, fails, succeeds):
    assert call(cli.search, *SEARCH, "--stop-after", "1e-9").status == 75
    for content in ("operators: [none, skip_connect]\nnodes: 2\n", "extends: tiny_copy.yaml\nnodes: 1\n"):
        Path("tiny_copy.yaml").write_text("operators: [none, skip_connect, dil_conv_3x3]\n")
        Path("tiny.yaml").write_text(content)
        fails(cli.search, *SEARCH, "--resume", words=("tiny.yaml is not what it was", "space.yaml"))
    fails(cli.search, *SEARCH, "--space", "darts", "--run-dir", SEARCH_RUN.path, "--resume", words=("space was",))
    Path("tiny.yaml").unlink()
    succeeds(cli.search, "--run-dir", SEARCH_RUN.path, "--resume")  # the run has its own copy


def test_another_genotype_is_refused(call, fails):
    assert call(cli.train, *TRAIN, "--stop-after", "1e-9").status == 75
    other = ("darts_v1", "--run-dir", TRAIN_RUN.path, "--resume")
    fails(cli.train, *other, words=("darts_v1 is not the genotype", str(TRAIN_RUN.genotype)))


def test_another_plugin_is_refused(call, fails, succeeds):
    search = [*SEARCH, "--space", make_ghost_space(), "--plugin", make_plugin()]
    assert call(cli.search, *search, "--stop-after", "1e-9").status == 75
    folder = RunDir("runs/search/ghosts/seed0")
    Path("other.py").write_text(Path("ghost.py").read_text().replace("ghost_3x3", "other_3x3"))
    resume = ["--run-dir", folder.path, "--resume"]
    fails(cli.search, *resume, "--plugin", "other.py", words=("plug-in other.py is not that of", "leave --plugin out"))
    fails(cli.search, *resume, "--plugin", "missing.py", words=("missing.py",))
    Path("ghost.py").rename("moved.py")
    succeeds(cli.search, *resume, "--plugin", "moved.py")


def test_other_images_are_refused(run, arguments, folder, command, call, fails):
    save_images("pets", ["cat", "dog"], count=8)
    pets = [*arguments, "--data", "pets", "--train-images", "16", "--stop-after", "1e-9"]
    if command == "train":
        pets += ["--test-images", "4"]
    assert call(run, *pets).status == 75
    Image.new("RGB", (8, 8), "white").save("pets/train/cat/0.png")
    fails(run, "--run-dir", folder.path, "--resume", words=("begun with other images", "--force"))


def test_a_damaged_checkpoint_is_refused_and_the_finished_run_stays_finished(run, arguments, folder, succeeds, fails):
    succeeds(run, *arguments)
    folder.checkpoint.write_bytes(b"damaged")
    fails(run, "--run-dir", folder.path, "--resume", "--epochs", "2", words=("checkpoint.pt", "damaged", "--force"))
    assert folder.is_finished()


def test_with_a_damaged_checkpoint_the_run_goes_on_from_the_one_before(run, arguments, folder, succeeds):
    succeeds(run, *arguments, "--epochs", "3")
    expected = learned_rows(folder)
    succeeds(run, *arguments, "--epochs", "2", "--force")
    folder.checkpoint.write_bytes(folder.checkpoint.read_bytes()[:-100])
    out = succeeds(run, "--run-dir", folder.path, "--resume", "--epochs", "3")
    lines = [line for line in out.splitlines() if "damaged" in line]
    assert len(lines) == 1 and lines[0].endswith("going on from the one before it, checkpoint.previous.pt")
    assert learned_rows(folder) == expected


def test_a_second_process_on_a_folder_is_refused(run, arguments, folder, succeeds, fails):
    succeeds(run, *arguments)
    with locked(folder, print):
        for flag in ("--resume", "--force"):
            fails(run, *arguments, flag, words=(f"{folder.path} is in use by process {os.getpid()} on",))
    assert "is finished" in succeeds(run, *arguments, "--resume")


@pytest.mark.parametrize(("flags", "words"), [((), "holds an unfinished run"), (("--resume",), "another process has")])
def test_a_run_that_another_process_began_meanwhile_is_not_overwritten(
    run, arguments, folder, flags, words, call, monkeypatch
):
    """Both plan a run in one new folder; the other one begins, saves itself and ends before this one begins."""

    def after_another(run, say):
        create_run(folder, "epochs: 7", "fingerprint")
        return locked(run, say)

    monkeypatch.setattr("nas.experiment.carry_out.locked", after_another)
    said = call(run, *arguments, *flags)
    assert said.status == 2 and words in said.err and said.err.count("\n") == 1
    assert folder.config.read_text() == "epochs: 7"


def test_a_run_that_goes_on_elsewhere_says_what_is_not_as_it_was(run, arguments, folder, call, succeeds):
    call(run, *arguments, "--stop-after", "1e-9", "--epochs", "2")
    before = json.loads(folder.environment.read_text())
    folder.environment.write_text(json.dumps(before | {"torch": "1.0"}))
    assert f"note: torch was 1.0, is {torch.__version__}, since" in succeeds(run, "--run-dir", folder.path, "--resume")


@pytest.mark.slow
def test_deterministic_runs_in_two_processes_give_the_same_bits():
    """Two threads, from separate starts of the program."""
    tiny = [*SEARCH, "--threads", "2", "--epochs", "2", "--deterministic"]
    for name in ("a", "b"):
        command = [sys.executable, ROOT / "search.py", *tiny, "--run-dir", name]
        subprocess.run(command, check=True, capture_output=True)
    a, b = (kill_test.content(Path(name)) for name in ("a", "b"))
    assert a.pop("config.yaml") == b.pop("config.yaml") and a == b


def test_the_folder_of_the_other_command_is_refused(run, arguments, folder, command, succeeds, fails):
    succeeds(run, *arguments)
    other = cli.train if command == "search" else cli.search
    fails(other, "--run-dir", folder.path, "--resume", words=("holds a run of", "search.py", "train_genotype.py"))


def test_an_unfinished_search_is_not_trained(call, fails):
    assert call(cli.search, *SEARCH, "--epochs", "2", "--stop-after", "1e-9").status == 75
    words = (f"{SEARCH_RUN.path} is an unfinished run", f"--run-dir {SEARCH_RUN.path} --resume")
    fails(cli.train, SEARCH_RUN.path, *TRAIN[1:], words=words)
    SEARCH_RUN.write_genotype(load_genotype("darts_v2"))  # as after its first epoch
    fails(cli.train, SEARCH_RUN.path, *TRAIN[1:], words=words)


# Plug-ins


def make_plugin(source=GHOST, name="ghost.py") -> str:
    Path(name).write_text(source)
    return name


def make_ghost_space() -> str:
    Path("ghosts.yaml").write_text("operators: [none, ghost_3x3]\nnodes: 2\n")
    return "ghosts.yaml"


def forget_plugins():
    """As in a new process."""
    for plugin in list(PLUGINS.values()):
        for name in plugin.operators:
            del OPERATORS[name]
    PLUGINS.clear()


def test_a_users_plugin_goes_from_one_file_to_a_retrained_network(whole, succeeds):
    out = succeeds(cli.search, *SEARCH, "--space", make_ghost_space(), "--plugin", make_plugin())
    assert "plug-in ghost.py was run; it registers ghost_3x3" in out
    found = RunDir("runs/search/ghosts/seed0")
    assert load_genotype(found.path).operators == ("ghost_3x3",)
    assert "Ghost" in (found.diagrams / "normal.svg").read_text() and (found.diagrams / "reduce.png").is_file()

    forget_plugins()
    Path("ghost.py").unlink()
    Path("ghosts.yaml").unlink()
    out = succeeds(cli.train, found.path, *TRAIN[1:])
    assert f"plug-in {found.plugins[0]} was run; it registers ghost_3x3" in out
    trained = RunDir("runs/train/ghosts-seed0/seed0")
    assert 0 <= trained.result()["test_error_percent"] <= 100

    forget_plugins()
    (trained.path / "result.json").unlink()
    assert "test error" in succeeds(cli.train, "--run-dir", trained.path, "--resume")


def test_a_plugin_that_fails_in_the_network_is_one_line_that_names_its_line(whole, fails):
    wide = GHOST.replace("self.conv(x)", "self.conv(x) if x.shape[1] > 15 else x[:, 99]").replace("ghost", "wide")
    Path("wide.yaml").write_text("operators: [none, wide_3x3]\nnodes: 1\n")
    search = [*SEARCH, "--space", "wide.yaml", "--plugin", make_plugin(wide, "wide.py")]
    fails(cli.search, *search, words=("error: plug-in wide.py, line 13: IndexError: index 99 is out of bounds",))


def test_a_plugin_that_is_not_used_is_mentioned(succeeds):
    out = succeeds(cli.search, *SEARCH, "--plugin", make_plugin())
    assert "note: space tiny uses nothing of plug-in ghost.py, which registers ghost_3x3" in out.splitlines()
    out = succeeds(cli.train, *TRAIN, "--plugin", "ghost.py")
    assert "note: the genotype uses nothing of plug-in ghost.py, which registers ghost_3x3" in out.splitlines()
    assert "is finished" in succeeds(cli.search, *SEARCH, "--plugin", "ghost.py", "--resume")


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epoch", "3"], ("unknown argument --epoch", 'did you mean "--epochs"?')),
        (["--batch_size=3"], ('did you mean "--batch-size"?',)),
        (["surprise"], ("unknown argument surprise; see search.py --help",)),
        (["--epochs"], ("--epochs", "expected one argument", "--help")),
        (["--epochs", "many"], ("--epochs: epochs is 'many'", "valid integer")),
        (["--order", "3"], ("--order: order is 3", "1 or 2")),
        (["--layers", "2"], ("greater than or equal to 3",)),
        (["--learning-rate", "-1"], ("greater than 0",)),
        (["--preset", "quik"], ('unknown preset "quik"', 'did you mean "quick"?')),
        (["--device", "tpu"], ('unknown device "tpu"', "known: auto, cpu")),
        (["--device", "cuda:77"], ("cuda:77", "not on this machine", "--device auto")),
        (["--resume", "--force"], ("--force", "not allowed with", "--resume")),
        (["--train-images", "99999"], ("train_images is 99999", "digits has 1437")),
        (["--train-images", "3"], ("train_images is 3", "give 4 to that")),
        (["--config", "missing.yaml"], ("missing.yaml", "No such file")),
        (["--config", "broken.yaml"], ("broken.yaml", "not valid YAML")),
        (["--config", "unknown.yaml"], ("--config unknown.yaml", 'unknown setting "epoch"', 'did you mean "epochs"?')),
        (["--config", "training.yaml"], ('"cutout" is a setting of the other command',)),
        (["--config", "wrong.yaml"], ("--config wrong.yaml: seed is 'ten'",)),
        (["--space", "drats"], ('unknown space "drats"', 'did you mean "darts"?')),
        (["--space", "darts+sandglas"], ('unknown operator "sandglas"', 'did you mean "sandglass"?', "known: ")),
        (["--space", "missing.yaml"], ("cannot read space missing.yaml",)),
        (["--space", "broken.yaml"], ("space broken.yaml", "not valid YAML")),
        (["--space", "unknown.yaml"], ("space unknown.yaml", 'unknown key "epoch"')),
        (["--space", "unknown_operator.yaml"], ("sep_conv_9x9",)),
        (["--space", "../../etc"], ("unknown space",)),
        (["--space", "elsewhere.yaml"], ("space name '../../etc'", "it names a folder")),
        (["--plugin", "missing.py"], ("cannot read plug-in missing.py", "No such file")),
        (["--plugin", "syntax.py"], ("plug-in syntax.py, line 2", "SyntaxError")),
        (["--plugin", "empty.py"], ("plug-in empty.py registers no operator",)),
        (["--plugin", "wide.py"], ('operator "wide"', "must return (2, 16, 4, 4)")),
        (["--plugin", "inplace.py"], ('operator "inplace"', "in place")),
        (["--data", "digit"], ('"digit" is not a folder', 'did you mean "digits"?')),
        (["--data", "nothing"], ('"nothing" has no folder "train"',)),
        (["--data", "lonely"], ("one class", "at least two")),
        (["--data", "corrupt"], ("corrupt/train/cat/0.png", "remove it")),
        (["--data", "few"], ("few has 2 train_images; at least 4 are needed",)),
        (["--run-dir", "tiny.yaml"], ("tiny.yaml is a file", "--run-dir")),
        (["--run-dir", "tiny.yaml/below"], ("tiny.yaml/below",)),
        (["--run-dir", "full"], ("full is not empty and not a run folder",)),
        (["--run-dir", "full", "--force"], ("full is not empty and not a run folder",)),
        (["--run-dir", "n" * 300], ("File name too long",)),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_mistake_in_a_search_is_one_line_and_changes_nothing(arguments, words, fails):
    for name, content in {
        "broken.yaml": "epochs: [1",
        "unknown.yaml": "epoch: 1",
        "training.yaml": "cutout: 1",
        "wrong.yaml": "seed: ten",
        "unknown_operator.yaml": "operators: [none, sep_conv_9x9]",
        "elsewhere.yaml": "extends: darts\nname: ../../etc",
        "syntax.py": "import torch\ndef :",
        "empty.py": "import torch",
        "wide.py": GHOST.replace("ghost_3x3", "wide").replace("3, stride,", "3, 1,"),
        "inplace.py": GHOST.replace("ghost_3x3", "inplace").replace("self.conv(x)", "self.conv(x.mul_(2))"),
        "full/precious.txt": "",
    }.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    Path("nothing").mkdir()
    if "--data" in arguments:
        save_images("lonely", ["cat"])
        save_images("few", ["cat", "dog"], count=1)
        save_images("corrupt", ["cat", "dog"], count=16)
        Path("corrupt/train/cat/0.png").write_bytes(Path("corrupt/train/cat/0.png").read_bytes()[:50])
    fails(cli.search, *SEARCH, *arguments, words=words)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("darts_v3", ('no genotype "darts_v3"', "did you mean", "darts_v2")),
        ("missing.json", ('no genotype "missing.json"',)),
        ("empty", ("empty has no genotype.json",)),
        ("broken.json", ("broken.json", "not valid JSON")),
        ("operator.json", ('unknown operator "sep_conv_9x9"', "--plugin")),
        ("source.json", ("source 5, which does not exist yet", "0 to 4")),
        ("nodes.json", ("concat names node 5", "nodes 2 to 4")),
        ("shape.json", ('"normal"',)),
        ("key.json", ('unknown key "normall"', 'did you mean "normal"?')),
        ("broken.txt", ("not a genotype",)),
        ("Genotype(normal=[('none'", ("not a genotype",)),
        (
            "Genotype(normal=open('x', 'w'), normal_concat=[2], reduce=[], reduce_concat=[2])",
            ("nothing is evaluated",),
        ),
        ("x" * 5000, ("File name too long",)),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_mistake_in_a_genotype_is_one_line_and_changes_nothing(argument, words, fails):
    good = load_genotype("darts_v2").to_json()
    content = json.loads(good)

    def changed(edit):
        copy = json.loads(good)
        edit(copy["normal"]["nodes"], copy)
        return json.dumps(copy)

    Path("empty").mkdir()
    for name, text in {
        "broken.json": good[:50],
        "operator.json": changed(lambda nodes, _: nodes[0][0].__setitem__(0, "sep_conv_9x9")),
        "source.json": changed(lambda nodes, _: nodes[3][0].__setitem__(1, 5)),
        "nodes.json": changed(lambda nodes, _: nodes.pop()),
        "shape.json": json.dumps(content | {"normal": [1, 2]}),
        "key.json": json.dumps(content | {"normall": 3}),
        "broken.txt": "Genotype(normal=[('skip_connect', 0), normal_concat=[2])",
    }.items():
        Path(name).write_text(text)
    fails(cli.train, argument, *TRAIN[1:], words=words)


def test_a_run_folder_with_broken_files_is_one_line(run, arguments, folder, command, succeeds, fails):
    succeeds(run, *arguments)
    for name, words in (("config.yaml", "config.yaml"), ("environment.json", "damaged"), ("genotype.json", "genotype")):
        good = (folder.path / name).read_bytes()
        (folder.path / name).write_bytes(good[:20] + b"[{")
        if command == "train" or name != "genotype.json":
            fails(run, "--run-dir", folder.path, "--resume", "--epochs", "2", words=(words,))
        (folder.path / name).write_bytes(good)


def test_a_disk_that_is_full_from_the_start_is_one_line(run, arguments, folder, call, monkeypatch):
    fill_disk(monkeypatch, lambda path: True)
    said = call(run, *arguments)
    assert said.status == 2
    owner = folder.path / ".owner.json"
    assert said.err == (
        f"error: cannot read or write {owner}: No space left on device; what was saved before is intact\n"
    )
    assert list(files("runs")) == [str(folder.path / ".lock")]


def test_a_disk_that_fills_up_loses_nothing_that_was_saved(run, arguments, folder, call, succeeds, monkeypatch):
    saved = []
    with monkeypatch.context() as patch:
        fill_disk(patch, lambda path: "checkpoint" in str(path) and (saved.append(path) or len(saved) > 1))
        said = call(run, *arguments, "--epochs", "2")
    assert said.status == 2 and said.err.count("\n") == 1 and "checkpoint.pt: No space left on device" in said.err
    assert folder.load_checkpoint()["epoch"] == 1
    succeeds(run, "--run-dir", folder.path, "--resume")
    interrupted = learned_rows(folder)
    succeeds(run, *arguments, "--epochs", "2", "--force")
    assert learned_rows(folder) == interrupted


def fill_disk(monkeypatch, is_full):
    """From now on, files for which `is_full(path)` are opened on a device that has no room."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")

    def open_(path, mode):
        return builtins.open("/dev/full" if is_full(path) else path, mode)

    monkeypatch.setattr(run_files, "open", open_, raising=False)


def learned_rows(folder: RunDir) -> list[dict]:
    return [row | {"seconds": None} for row in folder.rows("metrics") + folder.rows("alphas")]


def test_a_folder_that_may_not_be_written_is_one_line(run, arguments, folder, fails, monkeypatch):

    def forbidden(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    fails(run, *arguments, words=(str(folder.path), "Permission denied"))


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_too_little_memory_is_one_line(error, call, monkeypatch):
    def run_search(*_, **__):
        raise error

    monkeypatch.setattr("nas.experiment.carry_out.run_search", run_search)
    said = call(cli.search, *SEARCH)
    assert (said.status, said.err.count("\n")) == (2, 1) and "smaller --batch-size" in said.err


def test_an_error_of_the_program_is_not_taken_for_a_mistake_of_the_user(monkeypatch):
    def run_search(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("nas.experiment.carry_out.run_search", run_search)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.search(SEARCH)


# In a process of its own


def test_a_mistake_is_one_line_and_status_2_for_the_shell_too():
    command = [sys.executable, ROOT / "search.py", "--space", "darts+sandglas"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    expected = 'error: --space darts+sandglas: unknown operator "sandglas"'
    assert done.stderr.startswith(expected) and done.stderr.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="head is POSIX")
def test_a_closed_pipe_is_one_line_and_status_2():
    tiny = f"{sys.executable} {ROOT / 'train_genotype.py'} --preset quick --dry-run --threads 1"
    command = f"{tiny} --channels 2 2>err.txt | (exec <&-; sleep 0); echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout == "2\n"
    assert Path("err.txt").read_text() == "error: standard output was closed before the end\n"
