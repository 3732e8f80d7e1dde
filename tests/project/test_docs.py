"""README.md and docs/ keep their word: commands are taken, code runs, links lead somewhere, claims have a place."""

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

import benchmark_search
from cells.genotype_file import load_genotype
from nas import config
from nas.commands import command_line, table9
from nas.commands.search import search
from nas.commands.train import train
from nas.config import SearchConfig, TrainConfig, build_config, read_preset
from nas.experiment.estimate import Estimate
from nas.statistics import compare_paired, runs_needed
from nas.tables.table9.jobs import Protocol
from project_root import ROOT
from search_spaces import load_plugin, load_space

PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
README = (ROOT / "README.md").read_text(encoding="utf-8")
ALL_PAGES = PAGES | {"README.md": README}
PLANNED = ("search.py", "train_genotype.py", "scripts/reproduce_table9.py")
OTHER_PROGRAMS = ("pip", "pytest", "ray", "tensorboard", "xdg-open")  # not ours: named, not run
TINY = ["--data", "digits", "--channels", "2", "--layers", "3", "--epochs", "1", "--batch-size", "32", "--threads", "1"]
TINY += ["--train-images", "64", "--no-compile", "--device", "cpu"]


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def shell_commands() -> list[tuple[str, str]]:
    """(page, command) for each line of each page's shell blocks; a line that ends with \\ goes on."""
    joined = {page: "".join(blocks(text, "sh")).replace("\\\n", " ") for page, text in ALL_PAGES.items()}
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


# Each command once, or once for each example of a space on its page
COMMANDS = {
    (command, *blocks(ALL_PAGES[page], "yaml")): page
    for page, command in reversed(shell_commands())
    if script_and_arguments(command)[0]
    and page != "using-a-trained-network.md"  # one after another in test_export.py
    and "scripts/export_network.py" not in command  # there, too: ONNX takes its time
}


@pytest.fixture(scope="module", autouse=True)
def _no_estimates():
    """To estimate what a tiny run takes, takes longer than that run."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("search", "training"):
            patch.setattr(f"nas.experiment.plan.estimate_{kind}", lambda *_: Estimate(1, 1, 1, 1))
        yield


@pytest.fixture(scope="module")
def finished_runs(tmp_path_factory):
    """A search in darts+sandglass and a training of its cell, real and tiny, under runs/ as the commands put them."""
    folder = tmp_path_factory.mktemp("stranger")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert search(["--space", "darts+sandglass", "--order", "1", *TINY]) == 0
        assert train(["runs/search/darts+sandglass/seed0", "--test-images", "32", *TINY]) == 0
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


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_command_is_taken_by_the_program(command, strangers_folder, monkeypatch):
    line, *spaces = command
    script, arguments = script_and_arguments(line)
    assert (ROOT / script).is_file()
    for space in spaces:
        Path("my_space.yaml").write_text(space)
    if script in PLANNED and "--dry-run" not in arguments:
        arguments.append("--dry-run")  # finished_runs and test_table9.py carry them out
    here = [re.sub(r"^cuda(:\d)?$", "cpu", argument) for argument in arguments]
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
    (lines,), kept = (blocks(PAGES["as-a-library.md"], language) for language in ("python", "ipython"))
    assert len([line for line in lines.splitlines() if line.strip()]) <= 12
    shell = InteractiveShell.instance()
    try:
        shell.run_cell(lines).raise_error()
        shown = [shell.run_cell(name).result._repr_html_() for name in ("found", "trained")]
        for cell in kept:
            shell.run_cell(cell).raise_error()
    finally:
        InteractiveShell.clear_instance()
    assert shown[0].count("<img") == 2 and shown[1].count("<tr>") == 4
    assert [path.name for path in (tmp_path / "runs/plain/plugins").iterdir()] == ["plain_3x3.py"]
    assert "none" not in load_genotype("runs/plain").operators


@pytest.mark.parametrize("page", ["how-it-is-built.md", "reading-the-report.md", "spaces-and-operators.md"])
def test_the_code_of_a_page_runs(page, strangers_folder):
    for code in blocks(PAGES[page], "python"):
        Path("code.py").write_text(code)
        runpy.run_path("code.py")


def test_the_operators_page_shows_a_plugin_and_a_space_that_work(strangers_folder):
    assert load_plugin("blur.py").operators == ("blur_conv_3x3",)
    space = load_space("my_space.yaml")
    assert space.nodes == 3 and "blur_conv_3x3" in space.operators and "dil_conv_3x3" not in space.operators


def test_the_table_page_counts_as_its_test_does():
    text = PAGES["reproducing-table-9.md"]
    for runs, least in ((3, "0.25"), (4, "0.125"), (5, "0.0625"), (6, "0.031")):
        found = compare_paired([0.0] * runs, [1.0 + run for run in range(runs)])
        assert found["p"] == found["least_p"] and f"{found['p']:.3g}".startswith(least.rstrip("0")[:5])
        assert least in text
    pairs = [runs_needed(0.13, (2 * (0.1**2 + searches**2)) ** 0.5) for searches in (0, 0.2)]
    assert "takes {} pairs of runs if retraining is the only noise, and {} if searches".format(*pairs) in text
    assert Protocol().searches == 4


@pytest.mark.parametrize("page", ALL_PAGES)
def test_a_page_is_short_and_its_links_files_and_tests_exist(page):
    text, folder = ALL_PAGES[page], ROOT if page == "README.md" else ROOT / "docs"
    assert len(text.splitlines()) < (200 if page == "README.md" else 100) and text.startswith("# ")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (folder / target).exists(), target
    present = re.sub(r"as `\S+`:\n\n```", "", text)  # but for a file that the reader is to write
    for name in re.findall(r"\b(?:scripts|nas|cells|search_spaces|tests)/[\w/]+\.(?:py|yaml)", present):
        assert (ROOT / name).is_file(), name
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        assert f"\ndef {name}(" in (ROOT / file).read_text(encoding="utf-8"), name


def test_flags_that_the_text_names_exist():
    parsers = [command_line.settings_parser("", "", kind) for kind in (SearchConfig, TrainConfig)]
    actions = [
        action for parser in (*parsers, table9._parser(), benchmark_search.build_parser()) for action in parser._actions
    ]
    known = {flag for action in actions for flag in action.option_strings}
    for source in (*ROOT.glob("nas/commands/*.py"), *ROOT.glob("scripts/*.py")):  # of the small commands
        known |= set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', source.read_text(encoding="utf-8")))
    for page, text in ALL_PAGES.items():
        assert set(re.findall(r"`(--[a-z-]+)", text)) <= known, page


LINES = [line for block in blocks(README, "sh") for line in block.splitlines()]


def test_the_first_command_of_the_readme_installs_and_searches_and_the_second_runs_the_tests():
    assert LINES[0] == "pip install -e '.[test]' && python search.py --space darts+sandglass --preset quick"
    assert LINES[1] == "pytest" and blocks(README, "sh")[1] == "pytest\n"
    script = (ROOT / ".ci" / "run").read_text()  # which runs that command
    (pattern,) = re.findall(r"awk '(.*)' README.md", script)
    assert "block == 2" in pattern


def test_the_readmes_plugin_keeps_the_operator_contract_in_about_15_lines(strangers_folder):
    assert load_plugin("ghost.py").operators == ("ghost_3x3",)
    assert len([line for line in Path("ghost.py").read_text().splitlines() if line.strip()]) <= 17


@pytest.mark.parametrize("preset", ["paper", "cpu", "quick"])
def test_the_table_of_presets_says_what_they_set(preset):
    (row,) = [line for line in README.splitlines() if line.startswith(f"| `{preset}`")]
    cells = row.split("|")
    for cell, command, kind in ((cells[3], "search", SearchConfig), (cells[4], "train", TrainConfig)):
        settings = build_config(kind, [(preset, read_preset(preset, command))])
        stated = [f"{settings.layers} cells", f"{settings.channels} channels", f"{settings.epochs} epochs"]
        stated += [f"{settings.train_images:,} images"] if settings.train_images else []
        assert cell.strip().split(", ") == sorted(stated, key=lambda words: "images" not in words)
    assert settings.image_size is None or f"{settings.image_size}x{settings.image_size} pixels" in cells[2]


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
