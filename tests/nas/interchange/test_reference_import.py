"""A checkpoint under the reference code's names becomes a network of ours that computes the same.

The network below states the reference's again, for its names and its arithmetic: `NetworkCIFAR` of the DARTS paper
(arXiv 1806.09055, section 3.1), whose tensors are named as in github.com/quark0/darts, cnn/model.py.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cells.execution import Execution
from cells.genotype_file import load_genotype, parse_genotype
from cells.network import Network
from nas.commands.interchange import import_reference
from nas.interchange.reference import CIFAR10_CLASSES, reference_names, translate
from nas.training.weights_file import load_trained

CHANNELS, LAYERS = 4, 4  # cells 1 and 2 reduce, so cells 2 and 3 bring their input 0 to size
# darts_v1's reduction cell skips from node 2 only; this one skips from both inputs, by factorized reductions.
STRIDED_SKIPS = (
    "Genotype(normal=[('skip_connect', 1), ('dil_conv_5x5', 0), ('conv_7x1_1x7', 2), ('sep_conv_5x5', 1)],"
    " normal_concat=[2, 3], reduce=[('skip_connect', 0), ('skip_connect', 1), ('avg_pool_3x3', 1),"
    " ('skip_connect', 2)], reduce_concat=[2, 3])"
)
GENOTYPES = ("darts_v1", "darts_v2", STRIDED_SKIPS)


class Reduced(nn.Module):
    """A 1x1 convolution of every other pixel, and another of those one to the right and below."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv_1 = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        x = F.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))


class Chain(nn.Module):
    """Layers under the name `op`."""

    def __init__(self, *layers):
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x):
        return self.op(x)


def convolution(c, size, stride, dilation):
    padding = dilation * (size - 1) // 2
    depthwise = nn.Conv2d(c, c, size, stride, padding, dilation, groups=c, bias=False)
    return [nn.ReLU(), depthwise, nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c)]


def operation(name, c, stride):
    kind, size = name[:3], int(name[-1]) if name[-1].isdigit() else 0
    if kind == "sep":
        return Chain(*convolution(c, size, stride, 1), *convolution(c, size, 1, 1))
    if kind == "dil":
        return Chain(*convolution(c, size, stride, 2))
    if kind == "con":
        wide = nn.Conv2d(c, c, (1, 7), stride=(1, stride), padding=(0, 3), bias=False)
        high = nn.Conv2d(c, c, (7, 1), stride=(stride, 1), padding=(3, 0), bias=False)
        return nn.Sequential(nn.ReLU(), wide, high, nn.BatchNorm2d(c))
    if kind == "ski":
        return nn.Identity() if stride == 1 else Reduced(c, c)
    if kind == "max":
        return nn.MaxPool2d(3, stride, 1)
    return nn.AvgPool2d(3, stride, 1, count_include_pad=False)


class ReferenceCell(nn.Module):
    def __init__(self, genotype, before_previous, previous, c, reduction, reduction_before):
        super().__init__()

        def adapted(channels):
            return Chain(nn.ReLU(), nn.Conv2d(channels, c, 1, bias=False), nn.BatchNorm2d(c))

        self.preprocess0 = Reduced(before_previous, c) if reduction_before else adapted(before_previous)
        self.preprocess1 = adapted(previous)
        self.edges, self.concat = [edge for _, edge in genotype.edges], genotype.concat
        self._ops = nn.ModuleList(
            operation(edge.operator, c, 2 if reduction and edge.source < 2 else 1) for edge in self.edges
        )

    def forward(self, s0, s1):
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for i in range(0, len(self.edges), 2):
            states.append(sum(self._ops[k](states[self.edges[k].source]) for k in (i, i + 1)))
        return torch.cat([states[i] for i in self.concat], 1)


class Head(nn.Module):
    def __init__(self, c):
        super().__init__()
        narrow, wide = nn.Conv2d(c, 128, 1, bias=False), nn.Conv2d(128, 768, 2, bias=False)
        pool = nn.AvgPool2d(5, stride=3, count_include_pad=False)
        first, second = nn.BatchNorm2d(128), nn.BatchNorm2d(768)
        relu = nn.ReLU(inplace=True)  # in place as there: all that reads the cell's output later takes its ReLU, too
        self.features = nn.Sequential(relu, pool, narrow, first, nn.ReLU(), wide, second, nn.ReLU())
        self.classifier = nn.Linear(768, 10)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class ReferenceNetwork(nn.Module):
    def __init__(self, genotype, c, layers, auxiliary):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * c, 3, padding=1, bias=False), nn.BatchNorm2d(3 * c))
        before_previous, previous, reduced = 3 * c, 3 * c, False
        self.cells = nn.ModuleList()
        for i in range(layers):
            reduction = i in (layers // 3, 2 * layers // 3)
            c = 2 * c if reduction else c
            cell = genotype.reduce if reduction else genotype.normal
            self.cells.append(ReferenceCell(cell, before_previous, previous, c, reduction, reduced))
            before_previous, previous, reduced = previous, len(cell.concat) * c, reduction
            if i == 2 * layers // 3:
                self.auxiliary_at, auxiliary_channels = i, previous
        if auxiliary:
            self.auxiliary_head = Head(auxiliary_channels)
        self.classifier = nn.Linear(previous, 10)

    def forward(self, images):
        s0 = s1 = self.stem(images)
        auxiliary_logits = None
        for i, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1)
            if i == self.auxiliary_at and self.training and hasattr(self, "auxiliary_head"):
                auxiliary_logits = self.auxiliary_head(s1)
        return self.classifier(F.adaptive_avg_pool2d(s1, 1).flatten(1)), auxiliary_logits


def reference(genotype=STRIDED_SKIPS, auxiliary=True, layers=LAYERS):
    """A network of theirs with random weights and statistics, and random images."""
    torch.manual_seed(0)
    network = ReferenceNetwork(load_genotype(genotype), CHANNELS, layers, auxiliary)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network, torch.randn(2, 3, 32, 32, dtype=torch.float64)


@pytest.mark.parametrize("auxiliary", [True, False], ids=["with auxiliary head", "without"])
@pytest.mark.parametrize("name", GENOTYPES, ids=["darts_v1", "darts_v2", "strided skips"])
def test_the_imported_network_computes_what_the_reference_does(name, auxiliary):
    theirs, images = reference(name, auxiliary)
    ours = Network(load_genotype(name), CHANNELS, LAYERS, 10, auxiliary, execution=Execution(compiled=False))
    theirs, ours = theirs.double(), ours.double()
    ours.load_state_dict(translate(theirs.state_dict(), ours))
    for training in (False, True):  # in this order: training changes the running statistics
        outputs = [network.train(training)(images) for network in (theirs, ours)]
        for expected, logits in zip(*outputs, strict=True):
            assert (expected is None) == (logits is None)
            if expected is not None:
                torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)
        assert (outputs[0][1] is not None) == (training and auxiliary)
    after_training = translate(theirs.state_dict(), ours)  # which has changed the running statistics
    torch.testing.assert_close(dict(ours.state_dict()), dict(after_training), rtol=0, atol=1e-12)


def test_an_order_of_the_two_halves_other_than_the_references_would_be_noticed():
    theirs, images = reference()
    ours = Network(load_genotype(STRIDED_SKIPS), CHANNELS, LAYERS, 10, execution=Execution(compiled=False)).double()
    state = translate(theirs.double().state_dict(), ours)
    name = next(name for name in state if len(reference_names(name, ours)) == 2)
    state[name] = state[name].roll(len(state[name]) // 2, dims=0)
    ours.load_state_dict(state)
    assert (ours.eval()(images)[0] - theirs.eval()(images)[0]).abs().max() > 1e-3


@pytest.fixture
def imported(tmp_path):
    """Runs the command on what is saved; returns (status, path of the weights.pt)."""

    def run(content, genotype=STRIDED_SKIPS, layers=LAYERS, channels=CHANNELS, as_zip=True):
        torch.save(content, tmp_path / "model.pt", _use_new_zipfile_serialization=as_zip)
        out = tmp_path / "new" / "weights.pt"
        sizes = ["--channels", str(channels), "--layers", str(layers)]
        return import_reference([str(tmp_path / "model.pt"), genotype, "--out", str(out), *sizes]), out

    return run


@pytest.mark.parametrize(
    ("saved_as", "as_zip"),
    [
        (lambda state: state, True),
        (lambda state: {"epoch": 600, "state_dict": state}, True),
        (lambda state: {f"module.{name}": value for name, value in state.items()}, True),
        (lambda state: {name: value for name, value in state.items() if "num_batches" not in name}, False),
    ],
    ids=["state_dict", "checkpoint", "DataParallel", "PyTorch 0.3"],  # it counted no batches and wrote no archives
)
def test_the_command_writes_weights_that_build_the_network(saved_as, as_zip, imported, capsys):
    theirs, images = reference()
    status, path = imported(saved_as(theirs.state_dict()), as_zip=as_zip)
    assert status == 0 and str(path) in capsys.readouterr().out
    trained = load_trained(path)
    assert trained.parsed_genotype() == parse_genotype(STRIDED_SKIPS)
    assert trained.classes == CIFAR10_CLASSES and trained.image_size == 32 and trained.auxiliary
    assert trained.mean == (0.49139968, 0.48215827, 0.44653124) and trained.std == (0.24703233, 0.24348505, 0.26158768)
    logits, expected = trained.build(compiled=False)(images.float())[0], theirs.eval()(images.float())[0]
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("cells.1._ops.0.conv_2.weight"), "no cells.1._ops.0.conv_2.weight"),
        (lambda state: state.update({"cells.0._ops.9.op.1.weight": torch.ones(1)}), "has cells.0._ops.9.op.1.weight"),
        (
            lambda state: state.update({"stem.0.weight": torch.ones(12, 3, 5, 5)}),
            "stem.0.weight has shape (12, 3, 5, 5)",
        ),
        (lambda state: state.update({"classifier.bias": torch.ones(100)}), "classifier.bias has shape (100,)"),
        (lambda state: state.update({"epoch": 3}), "epoch, which is no tensor"),
        (lambda state: state.clear(), "no state_dict"),
    ],
)
def test_a_checkpoint_that_is_not_of_this_network_is_refused_in_one_line(change, words, imported, capsys):
    state = reference()[0].state_dict()
    change(state)
    status, path = imported(dict(state))
    error = capsys.readouterr().err
    assert status == 2 and words in error and error.count("\n") == 1 and not path.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"genotype": "darts_v2"}, "which a network of this genotype"),
        ({"layers": 5}, "cells.2.preprocess0.conv_1.weight has shape"),
        ({"layers": 3}, "does not have"),
        ({"channels": 8}, "stem.0.weight has shape (12, 3, 3, 3)"),
        ({"genotype": STRIDED_SKIPS.replace("dil_conv_5x5", "sandglass")}, '"sandglass"'),
    ],
)
def test_another_network_than_the_checkpoints_is_refused_in_one_line(changes, words, imported, capsys):
    status, path = imported(reference()[0].state_dict(), **changes)
    error = capsys.readouterr().err
    assert status == 2 and words in error and error.count("\n") == 1 and not path.exists()


class Trap:
    def __reduce__(self):
        return print, ("executed",)


def test_code_in_a_checkpoint_is_not_run(imported, capsys):
    status, _ = imported({"stem.0.weight": Trap()})
    printed = capsys.readouterr()
    assert status == 2 and "executed" not in printed.out and "tensors alone" in printed.err


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint", b"PK\x03\x04 half of one"])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(content, tmp_path, mistake):
    path = tmp_path / "model.pt"
    if content is not None:
        path.write_bytes(content)
    assert str(path) in mistake(import_reference, path, "darts_v2", "--out", tmp_path / "weights.pt")
    assert not (tmp_path / "weights.pt").exists()
