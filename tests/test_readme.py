"""The README keeps its word: its commands are ones that the program takes, its example and its files exist."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

import benchmark_search
from cells.genotype import load_genotype
from nas import cli, command_line, estimate, tools
from nas.config import SearchConfig, TrainConfig, build_config, read_preset
from nas.table9 import command as table9
from search_spaces.registry import load_plugin

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = {
    "search.py": cli.search,
    "train_genotype.py": cli.train,
    "scripts/reproduce_table9.py": table9.reproduce_table9,
    "scripts/draw_cells.py": tools.draw_cells,
    "scripts/describe_genotype.py": tools.describe_genotype,
    "scripts/list_operators.py": tools.list_operators,
    "scripts/check_operator.py": tools.check_operator,
}
LONG = ("search.py", "train_genotype.py", "scripts/reproduce_table9.py")


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


LINES = [line for block in blocks("sh") for line in block.splitlines()]
PYTHON_COMMANDS = [command for line in LINES for command in line.split(" && ") if command.startswith("python ")]


@pytest.fixture
def strangers_folder(tmp_path, monkeypatch):
    """Where the README's commands are typed: its example files, some photos, and a search that was run before."""
    (example,), (space,) = blocks("python"), blocks("yaml")
    (tmp_path / "ghost.py").write_text(example)
    (tmp_path / "my_space.yaml").write_text(space)
    for number, folder in enumerate(("train/cat", "train/dog", "test/cat", "test/dog")):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for shade in range(4):
            Image.new("RGB", (40, 30), (60 * number, 60 * shade, 0)).save(tmp_path / f"photos/{folder}/{shade}.jpg")
    before = tmp_path / "runs" / "search" / "darts+sandglass" / "seed0"
    before.mkdir(parents=True)
    (before / "genotype.json").write_text(load_genotype("darts_v2").to_json())
    for name in ("config.yaml", "environment.json", "space.yaml", "result.json"):
        (before / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_first_command_installs_and_searches_and_the_second_runs_the_tests():
    assert LINES[0] == "pip install -e '.[test]' && python search.py --space darts+sandglass --preset quick"
    assert LINES[1] == "pytest"


@pytest.mark.parametrize("command", PYTHON_COMMANDS)
def test_a_command_is_taken_by_the_program(command, strangers_folder, monkeypatch):
    _, script, *arguments = shlex.split(command)
    assert (ROOT / script).is_file()
    # Long ones as a dry run: settings, space, plug-ins, genotype and data are checked, and nothing is computed.
    for name in ("estimate_search", "estimate_training"):
        monkeypatch.setattr(estimate, name, lambda *_: estimate.Estimate(seconds=1, memory_bytes=1, disk_bytes=1))
    arguments = [argument for argument in arguments if argument not in ("cuda", "--device")]
    assert COMMANDS[script](arguments + ["--dry-run"] * (script in LONG)) == 0


def test_the_example_plugin_keeps_the_operator_contract_in_about_15_lines(strangers_folder):
    assert load_plugin("ghost.py").operators == ("ghost_3x3",)
    (example,) = blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 17


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", README))
def test_a_file_that_is_linked_exists(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize(("file", "name"), re.findall(r"`(test_\w+\.py)::(\w+)`", README))
def test_a_test_that_is_named_exists(file, name):
    assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_scripts_and_flags_that_the_text_names_exist():
    text = README[: README.index("## Not there yet")]
    for name in re.findall(r"scripts/\w+\.py", text):
        assert (ROOT / name).is_file()
    parsers = [command_line.settings_parser("", "", kind) for kind in (SearchConfig, TrainConfig)]
    actions = [
        action for parser in (*parsers, table9._parser(), benchmark_search.build_parser()) for action in parser._actions
    ]
    known = {flag for action in actions for flag in action.option_strings}
    assert set(re.findall(r"`(--[a-z-]+)", text)) <= known


@pytest.mark.parametrize("preset", ["paper", "cpu", "quick"])
def test_the_table_of_presets_says_what_they_set(preset):
    (row,) = [line for line in README.splitlines() if line.startswith(f"| `{preset}`")]
    cells = row.split("|")
    for cell, command, kind in ((cells[3], "search", SearchConfig), (cells[4], "train", TrainConfig)):
        config = build_config(kind, [(preset, read_preset(preset, command))])
        stated = [f"{config.layers} cells", f"{config.channels} channels", f"{config.epochs} epochs"]
        stated += [f"{config.train_images:,} images"] if config.train_images else []
        assert cell.strip().split(", ") == sorted(stated, key=lambda words: "images" not in words)
    assert config.image_size is None or f"{config.image_size}x{config.image_size} pixels" in cells[2]


def test_the_ci_script_runs_the_readmes_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    (pattern,) = re.findall(r"awk '(.*)' README.md", script)
    assert "block == 2" in pattern and LINES.index("pytest") == 1 and blocks("sh")[1] == "pytest\n"
