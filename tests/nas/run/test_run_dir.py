"""A run folder: when a run exists and is finished, what is never overwritten, and rows that survive a crash."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nas.run import begin as begin_run
from nas.run import folder
from nas.run.begin import changed_environment, check_data, extend_run, refuse_to_overwrite
from nas.run.checkpoint import save_checkpoint
from nas.run.environment import describe_environment
from nas.run.folder import RunDir, finished_searches
from nas.run.lock import locked, refuse_if_in_use
from project_root import ROOT
from search_spaces.plugins import Plugin, load_plugin
from search_spaces.space import load_space
from tiny_runs import SEARCH, SPACE, TRAIN, begin


def files(path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}


def test_a_run_exists_once_its_settings_are_written_and_is_finished_with_its_result(tmp_path, refused):
    run = RunDir(tmp_path / "run")
    assert not run.exists() and not run.path.exists()
    run = begin(tmp_path / "run", SEARCH, space=SPACE)
    assert run.exists() and run.is_search() and not run.is_finished()
    with refused("is not a finished run", "--resume"):
        run.result()
    run.finish({"seconds": 1.5})
    assert run.is_finished() and run.result() == {"seconds": 1.5}
    assert not begin(tmp_path / "training", TRAIN).is_search()


def test_of_two_checkpoints_the_last_that_is_whole_is_taken(tmp_path, refused):
    run, said = begin(tmp_path / "run", TRAIN), []
    assert run.load_checkpoint(said.append) is None
    for step in (1, 2):
        run.save_checkpoint({"step": step})
    assert run.load_checkpoint(said.append)["step"] == 2 and said == []
    run.checkpoint.write_bytes(run.checkpoint.read_bytes()[:-9])
    assert run.load_checkpoint(said.append)["step"] == 1
    assert len(said) == 1 and "checkpoint.pt is damaged" in said[0] and "checkpoint.previous.pt" in said[0]
    run.checkpoint.unlink()  # a crash between the two renames
    assert run.load_checkpoint(said.append)["step"] == 1 and len(said) == 1
    run.checkpoint.write_bytes(b"")
    run.previous_checkpoint.write_bytes(b"")
    with refused("checkpoint.pt is damaged", "--force"):
        run.load_checkpoint(said.append)


HOLDS = """
import sys
from nas.run.environment import describe_environment
from nas.run.folder import RunDir
from nas.run.lock import locked
with locked(RunDir(sys.argv[1]), print):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_process(tmp_path):
    """Another process that holds the lock of tmp_path / "run"."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path / "run")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()


def test_a_folder_has_one_writer_which_the_second_is_told(tmp_path, other_process, refused):
    run, said = RunDir(tmp_path / "run"), []
    holder = f"in use by process {other_process.pid} on {socket.gethostname()}; wait for it, or stop it"
    with refused(holder), locked(run, said.append):
        pass
    with refused(holder):
        refuse_if_in_use(run)
    other_process.stdin.close()
    other_process.wait()
    refuse_if_in_use(run)
    with locked(run, said.append), refused(f"in use by process {os.getpid()}"), locked(run, said.append):
        pass
    with locked(run, said.append):
        assert said == []
    assert sorted(path.name for path in run.path.iterdir()) == [".lock"]


def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path, other_process):
    other_process.kill()
    other_process.wait()
    run, said = RunDir(tmp_path / "run"), []
    refuse_if_in_use(run)
    with locked(run, said.append):
        pass
    host = socket.gethostname()
    assert said == [f"{run.path} was left by process {other_process.pid} on {host}, which is no more; taking over"]


def test_a_run_that_is_extended_forgets_what_its_end_was(tmp_path):
    run = begin(tmp_path / "run", SEARCH, space=SPACE)
    run.finish({})
    run.write_removal({"error_percent": 1.0})
    assert run.removal() == {"error_percent": 1.0}
    extend_run(run, "epochs: 3")
    assert not run.is_finished() and run.removal() is None and run.config.read_text() == "epochs: 3"


def test_what_changed_on_the_machine_since_the_run_was_begun_is_named(tmp_path):
    run = begin(tmp_path / "run", TRAIN)
    assert changed_environment(run) == ""
    before = json.loads(run.environment.read_text())
    run.environment.write_text(json.dumps(before | {"torch": "1.0", "threads": 99}))
    now = describe_environment()
    assert changed_environment(run) == f"torch was 1.0, is {now['torch']}, threads was 99, is {now['threads']}"


def test_a_new_or_an_empty_folder_may_be_used(tmp_path):
    (tmp_path / ".hidden").write_text("")
    refuse_to_overwrite(RunDir(tmp_path / "new"))
    refuse_to_overwrite(RunDir(tmp_path))
    assert begin(tmp_path, TRAIN).exists()


@pytest.mark.parametrize(
    "names", [["notes.txt"], ["genotype.json"], ["config.yaml", "weights.pt"], ["plugins/mine.py"]]
)
def test_a_folder_that_is_not_a_runs_is_never_touched(names, tmp_path, refused):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("precious")
    before = files(tmp_path)
    with refused("is not empty and not a run folder"):
        refuse_to_overwrite(RunDir(tmp_path))
    with refused("is not empty and not a run folder"):  # as with --force
        begin(tmp_path, TRAIN)
    assert files(tmp_path) == before


@pytest.mark.parametrize("failing", range(4))  # a search begins with three files; the fourth is of one that replaces it
def test_what_a_run_that_could_not_begin_has_left_is_no_obstacle(failing, tmp_path, monkeypatch):
    written = []

    def disk_with_room(path, content):
        if len(written) == failing:
            raise OSError(28, "No space left on device")
        written.append(path)
        write(path, content)

    write = folder.write_atomically
    with monkeypatch.context() as patch, pytest.raises(OSError):
        for module in (folder, begin_run):
            patch.setattr(module, "write_atomically", disk_with_room)
        for _ in range(2):
            begin(tmp_path / "run", SEARCH, space=SPACE)
    run = RunDir(tmp_path / "run")
    if not run.exists():
        refuse_to_overwrite(run)
    assert begin(run.path, SEARCH, space=SPACE).exists()


def test_a_run_begun_anew_has_nothing_of_the_one_before_but_what_others_put_there(tmp_path):
    run = begin(tmp_path / "run", SEARCH, space=SPACE)
    run.append("metrics", {"epoch": 0})
    run.log("a line")
    save_checkpoint(run.weights, {})
    run.finish({})
    for name in ("notes.txt", "plugins/old.py", "diagrams/normal.svg", ".metrics.jsonl.123.tmp"):
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_text("")
    begin(run.path, TRAIN)
    assert sorted(files(run.path)) == ["config.yaml", "environment.json", "notes.txt"]
    assert not run.is_finished()


def test_plugins_are_copied_and_found_again(write_plugin, tmp_path):
    plugin = load_plugin(write_plugin())
    run = begin(tmp_path / "run", SEARCH, space=load_space("darts+ghost_3x3"), plugins=(plugin,))
    assert [path.name for path in run.plugins] == ["ghost.py"]
    assert run.plugins[0].read_bytes() == plugin.source
    assert load_space(run.space) == load_space("darts+ghost_3x3")


def test_two_plugins_of_one_name_are_told_apart(tmp_path):
    plugins = [Plugin(Path(place, "block.py"), place.encode(), ()) for place in ("a", "b")]
    run = begin(tmp_path / "run", TRAIN, plugins=plugins)
    assert {path.read_bytes() for path in run.plugins} == {b"a", b"b"}


def test_rows_are_read_back_and_a_line_that_a_crash_cut_short_is_not(tmp_path):
    run = begin(tmp_path / "run", TRAIN)
    assert run.rows("metrics") == []
    run.append("metrics", {"epoch": 0, "loss": 0.1})
    run.append("metrics", {"epoch": 1, "loss": 1e-300})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 2, "lo')
    assert run.rows("metrics") == [{"epoch": 0, "loss": 0.1}, {"epoch": 1, "loss": 1e-300}]


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_rows_that_will_be_written_again_are_forgotten_with_the_line_cut_short(epoch, tmp_path):
    run = begin(tmp_path / "run", TRAIN)
    for number in range(epoch + 1):
        run.append("metrics", {"epoch": number})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"epoch": ')
    run.forget_rows_from(epoch)
    run.append("metrics", {"epoch": epoch, "again": True})
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(epoch + 1))
    assert not (run.path / "alphas.jsonl").exists()


@pytest.mark.parametrize("content", ["", "{", "[1]", "3"])
def test_a_damaged_file_of_a_run_is_one_line(content, tmp_path, refused):
    run = begin(tmp_path / "run", TRAIN)
    for name, read in (("result.json", run.result), ("environment.json", lambda: check_data(run, ""))):
        (run.path / name).write_text(content)
        with refused(name, "damaged"):
            read()


def test_finished_searches_are_found_in_any_folder_the_newest_last(tmp_path):
    for age, name in enumerate(["table9/darts/seed1", "search/darts/seed0", "mine"]):
        run = begin(tmp_path / name, SEARCH, space=SPACE)
        run.finish({})
        os.utime(run.path / "result.json", (1e9 - age, 1e9 - age))
    begin(tmp_path / "search/darts/unfinished", SEARCH, space=SPACE)
    begin(tmp_path / "train/darts_v2/seed0", TRAIN).finish({})
    found = [str(run.path.relative_to(tmp_path)) for run in finished_searches(tmp_path)]
    assert found == ["mine", "search/darts/seed0", "table9/darts/seed1"]
    assert finished_searches(tmp_path / "nothing") == []
