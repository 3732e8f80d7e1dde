"""The pages under docs/ keep their word: commands are taken, code runs, links lead somewhere, claims have a place."""

import ast
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

import cli
from cells.genotype_file import load_genotype
from nas import config
from nas.experiment import estimate
from nas.tables.table9.jobs import Protocol
from project_root import ROOT
from search_spaces import load_plugin, load_space

PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNS = ("search.py", "train_genotype.py")
OTHER_PROGRAMS = ("pip", "pytest", "ray", "tensorboard", "xdg-open")  # not ours: named, not run
TINY = ["--data", "digits", "--channels", "2", "--layers", "3", "--epochs", "1", "--batch-size", "32", "--threads", "1"]
TINY += ["--train-images", "64", "--no-compile", "--device", "cpu"]


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def shell_commands() -> list[tuple[str, str]]:
    """(page, command) for each line of each page's shell blocks; a line that ends with \\ goes on."""
    pages = PAGES | {"README.md": README}
    joined = {page: "".join(blocks(text, "sh")).replace("\\\n", " ") for page, text in pages.items()}
    lines = [(page, line.partition(" # ")[0].strip()) for page, text in joined.items() for line in text.splitlines()]
    return [(page, part.strip()) for page, line in lines if line for part in line.split("&&")]


def script_and_arguments(command: str) -> tuple[str, list[str]]:
    """What a command runs of ours, as `python` or `torchrun` start it; ("", …) if it is another program."""
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    if words[0] not in ("python", "torchrun"):
        assert words[0] in OTHER_PROGRAMS, f"a test should know what to do with: {command}"
        return "", words
    start = next(index for index, word in enumerate(words) if word.endswith(".py"))
    return words[start], words[start + 1 :]


COMMANDS = [
    (page, command)
    for page, command in shell_commands()
    if script_and_arguments(command)[0]
    and page != "using-a-trained-network.md"  # one after another in test_export.py
    and "scripts/export_network.py" not in command  # there, too: ONNX takes its time
]


@pytest.fixture(scope="module")
def finished_runs(tmp_path_factory):
    """A search in darts+sandglass and a training of its cell, real and tiny, under runs/ as the commands put them."""
    folder = tmp_path_factory.mktemp("stranger")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.search(["--space", "darts+sandglass", "--order", "1", *TINY]) == 0
        assert cli.train(["runs/search/darts+sandglass/seed0", "--test-images", "32", *TINY]) == 0
    return folder / "runs"


@pytest.fixture
def strangers_folder(tmp_path, monkeypatch, finished_runs):
    """Where the pages' commands are typed: their example files, some photos, the project's scripts, finished runs."""
    shutil.copytree(finished_runs, tmp_path / "runs")
    for name in ("plain", "search/darts/seed0"):
        shutil.copytree(finished_runs / "search" / "darts+sandglass" / "seed0", tmp_path / "runs" / name)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    (tmp_path / "ghost.py").write_text(blocks(README, "python")[0])
    (tmp_path / "blur.py").write_text(blocks(PAGES["adding-an-operator.md"], "python")[0])
    (tmp_path / "my_space.yaml").write_text(blocks(PAGES["adding-an-operator.md"], "yaml")[0])
    for number, folder in enumerate(("train/disc", "train/square", "test/disc", "test/square")):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for shade in range(4):
            Image.new("RGB", (8, 8), (60 * number, 60 * shade, 0)).save(tmp_path / f"photos/{folder}/{shade}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_is_taken_by_the_program(page, command, strangers_folder, monkeypatch):
    script, arguments = script_and_arguments(command)
    assert (ROOT / script).is_file()
    if page == "README.md":
        Path("my_space.yaml").write_text(blocks(README, "yaml")[0])
    if script in RUNS and "--dry-run" not in arguments:
        small = [*TINY[2:], "--train-images", "8"] if "--data" in arguments else TINY  # the photos
        arguments += [*small, "--run-dir", "new", "--no-report", *(["--order", "1"] if script == "search.py" else [])]
    if script == "scripts/reproduce_table9.py" and "--dry-run" not in arguments:
        arguments.append("--dry-run")  # test_table9.py and test_table9_ray.py carry them out
    here = [re.sub(r"^cuda(:\d)?$", "cpu", argument) for argument in arguments]
    for name in ("estimate_search", "estimate_training"):
        monkeypatch.setattr(f"nas.experiment.plan.{name}", lambda *_: estimate.Estimate(1, 1, 1, 1))
    monkeypatch.setattr(sys, "argv", [script, *here])
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as end:
        assert not end.code, end.code


def test_the_notebooks_lines_search_and_train_and_keep_the_block(tmp_path, monkeypatch):
    presets = tmp_path / "presets"
    presets.mkdir()
    settings = {"channels": 2, "layers": 3, "epochs": 1, "batch_size": 32, "train_images": 64, "threads": 1}
    settings |= {"data": "digits", "compile": False, "search": {"order": 1}, "train": {"test_images": 40}}
    (presets / "quick.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setattr(config, "_PRESET_FOLDER", presets)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    (lines,) = blocks(PAGES["as-a-library.md"], "python")
    assert len([line for line in lines.splitlines() if line.strip()]) <= 12
    shell = InteractiveShell.instance()
    try:
        shell.run_cell(lines).raise_error()
        shown = [shell.run_cell(name).result._repr_html_() for name in ("found", "trained")]
    finally:
        InteractiveShell.clear_instance()
    assert shown[0].count("<img") == 2 and shown[1].count("<tr>") == 4
    assert [path.name for path in (tmp_path / "runs/plain/plugins").iterdir()] == ["plain_3x3.py"]
    assert "none" not in load_genotype("runs/plain").operators


def test_the_operators_page_shows_a_plugin_and_a_space_that_work(strangers_folder):
    assert load_plugin("blur.py").operators == ("blur_conv_3x3",)
    space = load_space("my_space.yaml")
    assert space.nodes == 3 and "blur_conv_3x3" in space.operators and "dil_conv_3x3" not in space.operators


def test_the_table_page_counts_as_its_test_does():
    text = PAGES["reproducing-table-9.md"]
    from nas.statistics import compare_paired, runs_needed

    for runs, least in ((3, "0.25"), (4, "0.125"), (5, "0.0625"), (6, "0.031")):
        found = compare_paired([0.0] * runs, [1.0 + run for run in range(runs)])
        assert found["p"] == found["least_p"] and f"{found['p']:.3g}".startswith(least.rstrip("0")[:5])
        assert least in text
    pairs = [runs_needed(0.13, (2 * (0.1**2 + searches**2)) ** 0.5) for searches in (0, 0.2)]
    assert "takes {} pairs of runs if retraining is the only noise, and {} if searches".format(*pairs) in text
    assert Protocol().searches == 4


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_short_and_its_links_and_files_exist(page):
    text = PAGES[page]
    assert len(text.splitlines()) < 100 and text.startswith("# ")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / "docs" / target).exists(), target
    for name in re.findall(r"\b(?:scripts|nas|cells|search_spaces|tests)/\w+\.(?:py|yaml)", text):
        assert (ROOT / name).is_file(), name


PLACES = re.findall(r"`(\w+)` in \[[^\]]+\]\(\.\./([^)]+)\)", PAGES["what-we-changed-against-the-paper.md"])


@pytest.mark.parametrize(("name", "file"), PLACES)
def test_a_claim_has_its_place_in_the_code(name, file):
    text = (ROOT / file).read_text(encoding="utf-8")
    if not file.endswith(".py"):
        assert f"{name}:" in text
        return
    defined = {
        getattr(node, "name", None) or getattr(node, "id", None) or getattr(node, "arg", None)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.arg)
        or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    }
    assert name in defined or f'@register_operator("{name}"' in text or f'"{name}"' in text


def test_every_row_of_the_changes_names_its_place():
    rows = [line for line in PAGES["what-we-changed-against-the-paper.md"].splitlines() if line.startswith("| ")]
    assert len([row for row in rows if "](../" not in row]) == 3  # the heads of the three tables
