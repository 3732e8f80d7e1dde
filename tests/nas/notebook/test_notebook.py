"""The functions for a notebook do what the commands do, and a block that is typed there needs no file."""

import re

import pytest
from IPython.core.interactiveshell import InteractiveShell

import cells
import cli
from cells.genotype_file import load_genotype
from nas import search_cell, train_cell, train_over_seeds
from nas.run.folder import RunDir
from search_spaces import get_operator, load_plugin, operator_names
from search_spaces.operator import OPERATORS
from search_spaces.plugins import PLUGINS, plugins_of

TINY = {"data": "digits", "threads": 1, "device": "cpu", "compile": False, "progress": False}
SEARCH = TINY | {"channels": 2, "layers": 3, "epochs": 1, "batch_size": 16, "train_images": 32, "order": 1}
TRAIN = TINY | {"channels": 2, "layers": 3, "epochs": 1, "batch_size": 16, "train_images": 32, "test_images": 40}

BLOCK = """
from torch import nn
from search_spaces import register_operator

@register_operator("typed_block", label="typed")
class Typed(nn.Module):
    def __init__(self, channels, stride, affine):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, {kernel}, stride, {kernel} // 2, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x):
        return self.norm(self.conv(x.relu()))
"""


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Runs cells as a notebook does and returns the value of the last line."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    shell = InteractiveShell.instance()
    shell.reset()

    def run(cell: str):
        result = shell.run_cell(cell)
        result.raise_error()
        return result.result

    yield run
    InteractiveShell.clear_instance()


@pytest.fixture
def small_space(tmp_path_factory):
    """Writes a space of two nodes as a YAML file, so that a search takes a moment."""

    def write(*operators: str) -> str:
        path = tmp_path_factory.mktemp("space") / "small.yaml"
        path.write_text(f"operators: [none, {', '.join(operators)}]\nnodes: 2")
        return str(path)

    return write


@pytest.fixture
def quick_search(small_space, without_pictures):
    """`search_cell` in a moment."""
    space = small_space("skip_connect", "dil_conv_3x3")
    return lambda **settings: search_cell(**{"space": space} | SEARCH | settings)


def test_without_a_folder_a_search_leaves_nothing_and_says_nothing(quick_search, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = quick_search()
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out == ""
    assert found.run is None and found.genotype.space == "small" and len(found.metrics) == len(found.alphas) == 1
    assert found.result["validation_error_percent"] == found.metrics[0]["validation_error_percent"]


def test_a_search_in_a_folder_finds_what_one_without_finds_and_is_taken_up(quick_search, tmp_path, refused):
    found = quick_search(run_dir=tmp_path / "run")
    assert found.genotype == quick_search().genotype == load_genotype(tmp_path / "run")
    with refused("holds a finished run"):
        quick_search(run_dir=tmp_path / "run")
    again = quick_search(run_dir=tmp_path / "run", resume=True)  # only read
    assert again.genotype == found.genotype and again.metrics == found.metrics
    longer = quick_search(run_dir=tmp_path / "run", resume=True, epochs=2)
    assert [row["epoch"] for row in longer.metrics] == [0, 1] and longer.metrics[0] == found.metrics[0]


def test_a_preset_stands_under_the_settings(quick_search, tmp_path):
    run = quick_search(preset="quick", channels=3, run_dir=tmp_path / "run").run
    text = run.config.read_text()
    assert "channels: 3" in text and "data: digits" in text and "weight_decay: 0.0003" in text


def test_trainings_over_seeds_have_a_spread_and_each_its_network(tmp_path):
    trained = train_over_seeds("darts_v2", [0, 4], run_dir=tmp_path, **TRAIN)
    errors = [training.test_error_percent for training in trained]
    assert [training.result["seed"] for training in trained] == [0, 4]
    assert trained.summary["mean"] == pytest.approx(sum(errors) / 2) and trained.summary["n"] == 2
    assert f"{trained.summary['mean']:.2f} ± {trained.summary['sd']:.2f} %" in repr(trained)
    assert trained._repr_html_().count("<tr>") == 3
    assert trained[0].run.is_finished() and RunDir(tmp_path / "seed4").is_finished()
    assert trained[0].network.classes == tuple("0123456789")
    assert train_cell("darts_v2", seed=4, **TRAIN).test_error_percent == errors[1]


def test_mistakes_are_those_of_the_commands_in_one_line(quick_search, refused, tmp_path):
    for words, settings in {
        ("unknown setting", "batch_size"): {"batchsize": 3},
        ("epochs is 0",): {"epochs": 0},
        ("unknown operator", "sandglass"): {"space": "darts+sandglas"},
        ("resume is about a run folder",): {"resume": True},
        ("give one of them",): {"resume": True, "force": True, "run_dir": tmp_path},
        ("stop_after", "run_dir"): {"stop_after": 1},
        ("unknown setting", "dry_run"): {"dry_run": True},
        ("unknown preset",): {"preset": "fast"},
    }.items():
        with refused(*words):
            quick_search(**settings)
    for seeds in (0, [], [1, 1]):
        with refused("seeds is"):
            train_over_seeds("darts_v2", seeds, **TRAIN)
    with refused("give seeds"):
        train_over_seeds("darts_v2", seed=1, **TRAIN)


def test_a_notebook_shows_the_cells_and_a_mistake_as_one_line(notebook, capsys):
    shell = InteractiveShell.instance()
    cells.show_in_notebooks()  # as `import cells` does in a notebook
    shown = shell.display_formatter.format(load_genotype("darts_v2"))[0]["text/html"]
    assert (
        len(re.findall(r'<img alt="\w+ cell — darts, DARTS', shown)) == 2 and 'src="data:image/svg+xml;base64,' in shown
    )
    capsys.readouterr()
    assert not shell.run_cell("from nas import search_cell; search_cell('dart')").success
    printed = capsys.readouterr()
    lines = [line for line in (printed.out + printed.err).splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith('InputError: --space dart: unknown space "dart"')


def test_a_typed_block_is_searched_without_a_folder_and_kept_once_it_is_a_file(
    notebook, quick_search, small_space, refused, tmp_path
):
    notebook(BLOCK.format(kernel=3))
    space = small_space("typed_block")  # all cells are made of it
    found = quick_search(space=space)
    assert found.genotype.operators == ("typed_block",)
    typed = train_cell(found, **TRAIN).test_error_percent
    with refused("%%writefile typed_block.py", 'load_plugin("typed_block.py")', "no run folder"):
        quick_search(space=space, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()

    notebook("%%writefile typed_block.py\n" + BLOCK.format(kernel=3))  # as the message says
    notebook('from search_spaces import load_plugin; load_plugin("typed_block.py")')
    kept = quick_search(space=space, run_dir=tmp_path / "run")
    assert kept.genotype == found.genotype and [plugin.name for plugin in kept.run.plugins] == ["typed_block.py"]
    assert train_cell(kept, **TRAIN).test_error_percent == typed
    PLUGINS.clear()  # as in another process
    del OPERATORS["typed_block"]
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in TRAIN.items() if name not in TINY]
    flags += ["--data", "digits", "--threads", "1", "--device", "cpu", "--no-compile"]
    assert cli.train([str(tmp_path / "run"), "--run-dir", str(tmp_path / "other"), *flags]) == 0
    assert RunDir(tmp_path / "other").result()["test_error_percent"] == typed


def test_a_cell_that_is_run_again_replaces_its_block(notebook):
    for kernel in (3, 5):
        notebook(BLOCK.format(kernel=kernel))
        assert operator_names().count("typed_block") == 1
        assert get_operator("typed_block").build(4, 1, True).conv.kernel_size == (kernel, kernel)


def test_a_file_that_fails_leaves_the_typed_block_as_it_was(notebook, write_plugin, refused):
    notebook(BLOCK.format(kernel=3))
    typed = OPERATORS["typed_block"]
    with refused("ZeroDivisionError"):
        load_plugin(write_plugin(BLOCK.format(kernel=5) + "1 / 0"))
    assert OPERATORS["typed_block"] is typed


def test_a_typed_block_that_breaks_the_contract_is_refused_before_the_search(notebook, quick_search, refused):
    notebook(BLOCK.format(kernel=3).replace("self.conv(", "("))
    with refused('"typed_block"'):
        quick_search(space="darts+typed_block")


def test_an_edited_plugin_file_takes_the_place_of_what_it_was(write_plugin, refused):
    path = write_plugin()
    old = load_plugin(path)
    source = path.read_text()
    path.write_text(source.replace("3, stride, padding=1", "5, stride, padding=2"))
    new = load_plugin(path)
    assert new != old and plugins_of(["ghost_3x3"]) == (new,)
    assert get_operator("ghost_3x3").build(4, 1, True).conv.kernel_size == (5, 5)
    path.write_text("x = 1 / 0")
    with refused("ZeroDivisionError"):
        load_plugin(path)
    assert plugins_of(["ghost_3x3"]) == (new,)  # as it was
    with refused("registered already"):
        load_plugin(write_plugin(source, "other.py"))
