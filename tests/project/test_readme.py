"""The README keeps its word: its example and its files exist. Its commands are run with those of docs/."""

import re

import pytest

import benchmark_search
from nas.commands import command_line, table9
from nas.config import SearchConfig, TrainConfig, build_config, read_preset
from project_root import ROOT
from search_spaces.plugins import load_plugin

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


LINES = [line for block in blocks("sh") for line in block.splitlines()]


def test_the_first_command_installs_and_searches_and_the_second_runs_the_tests():
    assert LINES[0] == "pip install -e '.[test]' && python search.py --space darts+sandglass --preset quick"
    assert LINES[1] == "pytest"


def test_the_example_plugin_keeps_the_operator_contract_in_about_15_lines(tmp_path):
    (example,) = blocks("python")
    (tmp_path / "ghost.py").write_text(example)
    assert load_plugin(tmp_path / "ghost.py").operators == ("ghost_3x3",)
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
    for source in (ROOT / "nas").rglob("*.py"):  # of the small commands
        known |= set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', source.read_text(encoding="utf-8")))
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
