"""What leaves computes what the network computes, runs without this package, and says what it needs to be fed."""

import ast
import io
import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cells.execution import Execution
from cells.genotype import CellGenotype, Edge, Genotype
from cells.genotype_file import load_genotype, published_genotypes
from cells.network import Network
from nas.commands import interchange as commands
from nas.commands.interchange import export_genotype
from nas.commands.interchange import export_network as export_command
from nas.interchange import export
from nas.interchange.export import TOLERANCE, compare, export_network
from nas.interchange.graph import METADATA
from nas.interchange.reference import reference_names
from nas.run.begin import create_run
from nas.run.checkpoint import save_checkpoint
from nas.training.training import run_training
from nas.training.weights_file import PixelClassifier, SavedNetwork, load_trained
from project_root import ROOT
from search_spaces.operator import OPERATORS
from search_spaces.plugins import PLUGINS, load_plugin
from search_spaces.registry import operator_names
from some_cells import genotype_of
from tiny_runs import TRAIN, begin, image_data

FOUND = sorted((ROOT / "cells" / "found").glob("*/genotype.json"))
CELLS = [*published_genotypes(), *FOUND]
PIXELS = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
HALVES = (0.5, 0.4, 0.6)


SMALL = genotype_of("sep_conv_3x3 0, skip_connect 1")


def label(cell):
    return cell if isinstance(cell, str) else cell.parent.name


def trained_network(genotype, classes=("a", "b", "c"), **sizes) -> SavedNetwork:
    """A tiny network with random weights and statistics, as a training would leave it."""
    sizes = {"channels": 2, "layers": 3, "auxiliary": False} | sizes
    torch.manual_seed(0)
    network = Network(genotype, classes=len(classes), **sizes, execution=Execution(compiled=False))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    content = {"state_dict": network.state_dict(), "genotype": genotype.to_json(), "classes": classes}
    return SavedNetwork(**content, **sizes, image_size=8, mean=HALVES, std=HALVES)


def saved(trained, path):
    save_checkpoint(path, trained.content())
    return path


def exported(trained, folder, *formats):
    """The files that an export in these formats writes."""
    weights = saved(trained, folder / "weights.pt")
    return [written.path for written in export_network(trained, weights, formats, folder / "out")]


def logits_of(trained):
    with torch.no_grad():
        return PixelClassifier(trained)(PIXELS)


def run_alone(folder, code, *arguments):
    """What Python prints that runs `code` beside network.py, and that must not get at this package."""
    start = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("nas", "cells", "search_spaces", "torchvision"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, {str(folder)!r})
import torch
"""
    command = [sys.executable, "-I", "-B", "-c", start + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


PRINT_LOGITS = """
import network
pixels = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
print(network.load_network()(pixels).tolist())
"""


# One Python file


@pytest.mark.parametrize("cell", CELLS, ids=label)
def test_the_python_file_of_every_cell_computes_the_same_bits(cell, tmp_path):
    trained = trained_network(load_genotype(cell))
    (written,) = export_network(trained, saved(trained, tmp_path / "weights.pt"), ["python"], tmp_path)
    assert written.difference == 0 and written.path == tmp_path / "network.py"


@pytest.fixture
def all_operators():
    """Every built-in operator behind an input, some behind a node; few and many edges at one; a concat out of order."""
    names = [name for name in operator_names() if name != "none"]
    edges = [Edge(name, number % 2) for number, name in enumerate(names)]
    within = ("skip_connect", "avg_pool_3x3", "sep_conv_3x3", "inverted_residual", "sandglass_half")
    nodes = tuple(edges[:2]), tuple(edges[2:7]), (*edges[7:], *(Edge(name, 2) for name in within))
    return Genotype(CellGenotype(nodes, (4, 2, 3)), CellGenotype(nodes, (2, 3, 4)))


def test_the_python_file_is_in_this_projects_style(all_operators, tmp_path):
    (path,) = exported(trained_network(all_operators), tmp_path, "python")
    settings = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", str(path)]
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *check, *settings], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_python_file_holds_only_the_operators_of_its_network(tmp_path):
    text = exported(trained_network(load_genotype("darts_v2")), tmp_path, "python")[0].read_text()
    assert "def sep_conv_3x3(" in text and "def sep_conv_5x5(" not in text and "Bottleneck" not in text
    assert "register_operator" not in text


# A plug-in that does what is easily lost: names of the file's own, strings over lines, imports from this package
PLUGIN = '''"""A block
  of two lines."""
from __future__ import annotations

import functools; from search_spaces import register_operator as register

import torch
from search_spaces.layers import ReLUConvBN as ReLUConvBN, conv_norm as layers_of
from search_spaces.registry import register_operator
from torch import nn

TEXT = f"""x
  {1 + 1}
y"""
SCALE = len(TEXT)


class Bottleneck(nn.Module):
    def __init__(self, channels, stride, affine, factor=1):
        super().__init__()
        self.first = nn.Sequential(*layers_of(channels, channels, 3, stride, affine=affine))
        self.last = ReLUConvBN(channels, channels, affine)
        self.factor = factor

    def forward(self, x: torch.Tensor):
        return self.last(self.first(x)) * SCALE * self.factor


for factor in (1, 2):
    register_operator(f"scaled_{factor}")(functools.partial(Bottleneck, factor=factor))


@register("own_names")
class NormalCell(Bottleneck):
    \'\'\'Under a name that the file itself uses.\'\'\'


if __name__ == "__main__":
    raise SystemExit("as a program")
'''


@pytest.fixture
def with_plugin(write_plugin):
    load_plugin(write_plugin(PLUGIN, "my\nblock.py"))
    return genotype_of("scaled_1 0, sandglass_half 1", "scaled_2 2, own_names 0")


def test_the_python_file_imports_nothing_of_this_package_and_no_name_in_it_means_two_things(
    with_plugin, all_operators, tmp_path
):
    (path,) = exported(trained_network(all_operators, channels=6), tmp_path, "python")  # the plug-in's, too
    text = path.read_text()
    tree = ast.parse(text)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {getattr(node, "module", None) or node.names[0].name for node in imports}
    others = {"PIL", "__future__", "dataclasses", "functools", "math", "pathlib", "sys"}
    assert {module.partition(".")[0] for module in modules} == {"torch", *others}
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    names += [node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)]
    assert len(names) > 40 and len(set(names)) == len(names)
    assert "raise SystemExit" not in text and "# The plug-in my\\nblock.py" in text


@pytest.mark.slow
def test_what_leaves_needs_neither_this_package_nor_the_plugin_and_reads_images(with_plugin, all_operators, tmp_path):
    trained = trained_network(all_operators, auxiliary=True, channels=6)  # the plug-in's, too
    (path,) = exported(trained, tmp_path, "python")
    graph = trained_network(with_plugin, channels=6, layers=1)
    (program,) = exported(graph, tmp_path / "graph", "torch")
    image = Image.fromarray(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3))
    image.save(tmp_path / "photo.png")
    code = f"{PRINT_LOGITS}print(torch.export.load({str(program)!r}).module()(pixels).tolist())\nnetwork.main()"
    *logits, size, found = run_alone(path.parent, code, tmp_path / "photo.png").splitlines()

    for computed, expected in zip(logits, (trained, graph), strict=True):
        torch.testing.assert_close(torch.tensor(json.loads(computed)), logits_of(expected))
    parameters = sum(value.numel() for value in PixelClassifier(trained).parameters())
    assert size == f"{parameters:,} parameters, 3 classes, images of 8x8 pixels"
    with torch.no_grad():
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
        chances = PixelClassifier(trained)(pixels).softmax(dim=1)[0].tolist()
    best = sorted(zip(chances, "abc", strict=True), reverse=True)
    assert found.endswith(f"photo.png: {', '.join(f'{name} {chance:.1%}' for chance, name in best)}")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("from search_spaces import get_operator", "cannot import get_operator"),
        ("import search_spaces.layers", "cannot import search_spaces.layers"),
        ("from cells.network import drop_path", "cannot import drop_path"),
        ("from torch.nn.functional import *", "import *"),
        ("def counted():\n    global COUNT\n    COUNT = 1", "global"),
        ("def late():\n    from search_spaces.layers import conv_norm", "top of the plug-in"),
    ],
)
def test_a_plugin_that_would_mean_something_else_is_refused(line, words, write_plugin, refused, tmp_path):
    load_plugin(write_plugin(PLUGIN.replace("import torch\n", f"import torch\n{line}\n", 1)))
    trained = trained_network(genotype_of("scaled_1 0"))
    with refused(words, "line 8" if "    " not in line else "ghost.py"):
        exported(trained, tmp_path, "python")
    assert not (tmp_path / "out").exists()


def test_a_file_that_does_not_run_alone_is_not_written(write_plugin, refused, tmp_path):
    load_plugin(write_plugin(PLUGIN + '\nassert "plugin" in __name__\n'))  # true of a plug-in, not of the file
    trained = trained_network(genotype_of("scaled_1 0"))
    with refused("does not run on its own", "AssertionError"):
        exported(trained, tmp_path, "python")
    assert not (tmp_path / "out").exists()


CLASSES = ("it's", '"""', "a\nb", "é\udc80", "{{ x }}", "{% x", "\\")


def test_class_names_are_values_whatever_they_hold(tmp_path):
    (path,) = exported(trained_network(SMALL, CLASSES), tmp_path, "python")
    assigned = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    values = {node.targets[0].id: node.value for node in assigned}
    assert ast.literal_eval(values["CLASSES"]) == CLASSES and ast.literal_eval(values["MEAN"]) == tuple(HALVES)


# Graphs


def test_graphs_of_every_operator_take_any_number_of_images_and_say_what_they_are(all_operators, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    trained = trained_network(all_operators, channels=6, layers=1)  # the reduction cell, with both strides
    torch_file, onnx_file = exported(trained, tmp_path, "torch", "onnx")
    for path in (torch_file, onnx_file):
        assert str(ROOT).encode() not in path.read_bytes()  # no trace of where it was made

    extra = {METADATA: ""}
    program = torch.export.load(io.BytesIO(torch_file.read_bytes()), extra_files=extra).module()
    torch.testing.assert_close(program(PIXELS), logits_of(trained))
    assert program(torch.rand(5, 3, 8, 8)).shape == (5, 3)
    metadata = json.loads(extra[METADATA])
    assert metadata["classes"] == ["a", "b", "c"] and tuple(metadata["mean"]) == tuple(metadata["std"]) == HALVES
    assert load_genotype(json.dumps(metadata["genotype"])) == trained.parsed_genotype()
    assert "float32 (N, 3, 8, 8)" in metadata["input"]

    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"pixels": PIXELS.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), logits_of(trained), rtol=0, atol=1e-5)
    assert session.run(None, {"pixels": np.zeros((5, 3, 8, 8), np.float32)})[0].shape == (5, 3)
    of_onnx = session.get_modelmeta().custom_metadata_map
    assert json.loads(of_onnx["classes"]) == ["a", "b", "c"] and of_onnx["input"] == metadata["input"]
    assert json.loads(of_onnx["genotype"]) == metadata["genotype"]


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_onnx_needs_is_named(package, refused, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with refused(f"needs the package {package}", "pip install 'darts-blocks[export]'"):
        exported(trained_network(SMALL), tmp_path, "onnx")


DATA_DEPENDENT = """
from torch import nn
from search_spaces import register_operator

@register_operator("moody")
class Moody(nn.Module):
    def __init__(self, channels, stride, affine):
        super().__init__()
        self.pool = nn.AvgPool2d(stride)

    def forward(self, x):
        return self.pool(x) if x.device.type == "meta" or x.sum() > 0 else -self.pool(x)
"""


def test_an_operator_that_is_no_graph_is_one_line_and_can_still_leave_as_python(write_plugin, refused, tmp_path):
    load_plugin(write_plugin(DATA_DEPENDENT))
    trained = trained_network(genotype_of("moody 0"))
    with refused("torch.export cannot turn this network into a graph", "--format python"):
        exported(trained, tmp_path, "torch")
    assert exported(trained, tmp_path, "python")[0].is_file()


def test_an_operator_that_onnx_does_not_have_is_one_line(write_plugin, refused, tmp_path):
    pytest.importorskip("onnxruntime")
    forward = "return torch.special.bessel_j0(self.pool(x))"
    source = DATA_DEPENDENT.replace("from torch", "import torch\nfrom torch", 1)
    load_plugin(write_plugin(re.sub("return self.*", forward, source)))
    trained = trained_network(genotype_of("moody 0"), layers=1)
    with refused("ONNX cannot hold this network", "bessel_j0"):
        exported(trained, tmp_path, "onnx")


# What is checked


@pytest.mark.parametrize("wrong", [2 * TOLERANCE, float("nan"), float("inf")])
def test_logits_that_differ_are_refused_and_nothing_is_written(wrong, refused, tmp_path, monkeypatch):
    trained = trained_network(SMALL)
    network = PixelClassifier(trained)
    largest = max(1.0, network(trained.random_pixels(1)).abs().max().item())
    assert compare(trained, network, lambda pixels: network(pixels) + 0.1 * TOLERANCE, "it") <= 0.2 * TOLERANCE
    with refused("it: its logits differ", "nothing was written"):
        compare(trained, network, lambda pixels: network(pixels) + wrong * largest, "it")
    monkeypatch.setattr(export, "_checked_text", lambda *_: ("", lambda pixels: network(pixels) + wrong * largest))
    with refused("format python"):
        exported(trained, tmp_path, "python")
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused(refused, tmp_path):
    with refused('"onx"', '"onnx"', "torch, onnx, python"):
        exported(trained_network(SMALL), tmp_path, "onx")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": "2)"}, "channels is '2)'"),
        ({"layers": 0}, "layers is 0"),
        ({"mean": [0.5]}, "mean"),
        ({"std": [0.5, 0.5, 0.0]}, "std"),
        ({"std": [0.5, 0.5, float("nan")]}, "std.2"),
        ({"classes": []}, "classes"),
        ({"classes": [1, 2, 3]}, "classes.0"),
        ({"genotype": "{}"}, "genotype"),
        ({"state_dict": {"stem.0.weight": 1}}, "stem.0.weight should be a tensor"),
    ],
)
def test_a_weights_file_with_a_wrong_value_is_refused(changes, words, refused, tmp_path):
    good = trained_network(SMALL)
    saved(good.model_copy(update=changes), tmp_path / "weights.pt")
    with refused(words, "weights.pt"):
        load_trained(tmp_path / "weights.pt")


def test_a_weights_file_with_lists_as_earlier_versions_wrote_them_is_read(tmp_path):
    good = trained_network(SMALL)
    lists = {name: list(getattr(good, name)) for name in ("classes", "mean", "std")}
    saved(good.model_copy(update=lists), tmp_path / "weights.pt")
    read = load_trained(tmp_path / "weights.pt")
    assert (read.classes, read.mean, read.std) == (good.classes, good.mean, good.std)


def test_weights_of_another_network_are_refused(refused):
    trained = trained_network(SMALL)
    with refused("the weights are not those"):
        trained.model_copy(update={"layers": 4}).build(compiled=False)


# The commands


def test_a_finished_training_leaves_and_makes_the_same_errors(tmp_path, capsys):
    data, genotype = image_data(), SMALL
    config = TRAIN.model_copy(update={"compile": False})
    run = begin(tmp_path / "run", config, genotype=genotype)
    result = run_training(config, genotype, data, run, progress=False)
    assert export_command([str(run.path)]) == 0
    printed = capsys.readouterr().out
    folder = run.path / "export"
    assert sorted(path.name for path in folder.iterdir()) == ["network.pt2", "network.py", "weights.pt"]
    for name in ("network.pt2", "network.py"):
        assert str(folder / name) in printed
    assert "float32 (N, 3, 8, 8)" in printed
    found = torch.export.load(folder / "network.pt2").module()(data.test_images / 255).argmax(dim=1)
    assert 100 * (found != data.test_labels).float().mean().item() == pytest.approx(result["test_error_percent"])
    create_run(run, "", "fingerprint")
    assert not list(folder.iterdir())  # a run that is begun anew does not keep what the one before it exported


def test_the_plugins_beside_the_weights_are_run_if_the_network_needs_them(
    with_plugin, write_plugin, tmp_path, capsys, mistake
):
    saved(trained_network(with_plugin, channels=6), tmp_path / "weights.pt")
    for name in ("scaled_1", "scaled_2", "own_names"):
        del OPERATORS[name]  # as in another process
    PLUGINS.clear()
    arguments = [str(tmp_path / "weights.pt"), "--format", "python", "--out", str(tmp_path / "out")]
    assert 'unknown operator "scaled_1"' in mistake(export_command, *arguments)
    (tmp_path / "plugins").mkdir()
    write_plugin(PLUGIN, "plugins/block.py")
    assert export_command(arguments) == 0
    assert "block.py was run" in capsys.readouterr().err and (tmp_path / "out" / "network.py").is_file()

    saved(trained_network(SMALL), tmp_path / "weights.pt")
    PLUGINS.clear()
    assert export_command(arguments) == 0
    assert "was run" not in capsys.readouterr().err


def test_a_folder_or_file_without_a_trained_network_is_refused_in_one_line(tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "space.yaml").touch()
    (tmp_path / "weights.pt").write_bytes(b"no checkpoint")
    for argument, words in {
        "unfinished": "finished training",
        "search": "train_genotype.py search",
        "weights.pt": "give the weights.pt of a finished training",
        "missing.pt": "missing.pt",
    }.items():
        assert words in mistake(export_command, argument)


def test_a_checkpoint_of_a_run_is_not_taken_for_a_network(tmp_path, mistake):
    run = begin(tmp_path / "run", TRAIN, genotype=load_genotype("darts_v2"))
    run.save_checkpoint({"network": {}})
    assert "holds no trained network" in mistake(export_command, run.checkpoint)


@pytest.mark.parametrize("name", ["notation", "nni", "json"])
def test_a_genotype_is_printed_in_a_form_that_is_read_back(name, capsys):
    assert export_genotype(["pdarts", "--format", name]) == 0
    genotype, original = load_genotype(capsys.readouterr().out), load_genotype("pdarts")
    assert (genotype.normal, genotype.reduce) == (original.normal, original.reduce)


@pytest.mark.parametrize(
    ("arguments", "words"), [(["nasnet", "--format", "nni"], "four nodes"), (["pdarts", "--format", "nnni"], '"nni"')]
)
def test_a_genotype_that_cannot_be_printed_is_one_line(arguments, words, mistake):
    assert words in mistake(export_genotype, *arguments)


# The page about all this


@pytest.fixture
def readers_folder(tmp_path, monkeypatch):
    """Where the page's commands are typed: a finished training, and a network of the reference's."""
    saved(trained_network(SMALL), tmp_path / "runs/train/darts_v2/seed0/weights.pt")
    network = Network(load_genotype("darts_v2"), 36, 20, 10, execution=Execution(compiled=False))
    state = {}
    for name, tensor in network.state_dict().items():
        theirs = reference_names(name, network)
        state |= zip(theirs, tensor.chunk(len(theirs)) if len(theirs) > 1 else [tensor], strict=True)
    torch.save(state, tmp_path / "cifar10_model.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_about_trained_networks_keeps_its_word(readers_folder, monkeypatch):
    pytest.importorskip("onnxruntime")
    page = (ROOT / "docs" / "using-a-trained-network.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    for command in (line for language, block in blocks if language == "sh" for line in block.splitlines()):
        _, script, *arguments = shlex.split(command)
        assert (ROOT / script).is_file()
        assert getattr(commands, Path(script).stem)(arguments) == 0
    assert load_trained(readers_folder / "imported" / "weights.pt").auxiliary
    folder = readers_folder / "runs/train/darts_v2/seed0/export"
    code = [block for language, block in blocks if language == "python"]
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    for number, block in enumerate(code):
        (folder / f"block{number}.py").write_text(block)
        names = runpy.run_path(str(folder / f"block{number}.py"))
        assert number == 0 or names["logits"].shape == (4, 3)
    sys.modules.pop("network", None)
    assert len(code) == 3
