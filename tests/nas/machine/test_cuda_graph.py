"""A step as a graph: what is captured when, what goes in, and that a step asks the device for no value."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import nas.machine.cuda_graph
from cells.architecture import CellArchitecture
from cells.genotype_file import load_genotype
from nas.data.batches import Batches
from nas.loop.steps import apply_gradients, sgd
from nas.machine.cuda_graph import WARM_UP, CapturedStep, as_graph
from nas.machine.device import arithmetic, check_precision
from nas.search.bilevel import SearchState, bilevel_step
from nas.search.search import run_search
from nas.training.training import TrainState, run_training, training_step
from search_spaces.space import load_space
from tiny_runs import SEARCH, SPACE, TRAIN, image_data

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CELLS = CellArchitecture(load_genotype("darts_v2"))


@pytest.fixture
def captures(monkeypatch):
    """In the place of CUDA's graphs: what was captured, replayed on the same tensors."""
    captured = []

    class Replayed:
        def __init__(self, step, inputs, other=None):
            captured.append(self)
            self.step, self.inputs, self.other = step, [tensor.clone() for tensor in inputs], other
            self.output = torch.empty(0)

        def replay(self, inputs):
            for own, tensor in zip(self.inputs, inputs, strict=True):
                own.copy_(tensor)
            result = self.step(*self.inputs)
            return self.output.resize_(result.shape).copy_(result)

    monkeypatch.setattr(nas.machine.cuda_graph, "Graph", Replayed)
    return captured


def test_the_first_steps_warm_up_and_the_others_are_replayed_on_the_graphs_own_tensors(captures):
    given = []

    def step(x, rate):
        given.append(x)
        return x.sum() * rate

    whole_step = CapturedStep(step, CPU)
    for count in range(WARM_UP + 3):
        x = torch.full((4,), float(count))
        assert whole_step(x, 0.5 * count) == 2 * count**2
        assert (given[-1] is x) == (count < WARM_UP)
    assert len(captures) == 1 and captures[0].inputs[1].shape == ()


@pytest.mark.parametrize("first", [4, 3])
def test_each_shape_of_batch_has_its_graph_and_they_share_their_memory(first, captures):
    """Whichever comes first: a run may be resumed at the last, smaller batch of an epoch."""
    whole_step = CapturedStep(lambda x: x.sum(), CPU)
    for size in [first, *[4, 4, 4, 4, 3] * 3]:
        assert whole_step(torch.ones(size)) == size
    assert [graph.inputs[0].numel() for graph in captures] == [4, 3]
    assert captures[0].other is None and captures[1].other is captures[0]


def test_a_step_that_cannot_be_captured_runs_as_it_is_and_one_line_says_why(monkeypatch):
    def fails(step, inputs, other):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(nas.machine.cuda_graph, "Graph", fails)
    said = []
    whole_step = CapturedStep(lambda x: x.sum(), CPU, said.append)
    assert [whole_step(torch.ones(4)).item() for _ in range(WARM_UP + 3)] == [4.0] * (WARM_UP + 3)
    assert len(said) == 1 and "operation not permitted when stream is capturing)" in said[0]


def test_a_graph_is_made_on_a_cuda_device_unless_the_settings_say_otherwise():
    def step():
        return torch.zeros(6)

    made = [
        isinstance(as_graph(step, SEARCH.model_copy(update=changes), device), CapturedStep)
        for changes, device in (
            ({}, CUDA),
            ({"compile": False}, CUDA),
            ({"memory": "recompute"}, CUDA),
            ({}, CPU),
        )
    ]
    assert made == [True, False, False, False]
    assert isinstance(as_graph(step, TRAIN, CUDA), CapturedStep)


def as_on_a_gpu(step, config, device):
    return CapturedStep(step, device)


def test_a_replayed_search_and_training_are_those_without_a_graph(captures, monkeypatch):
    """28 images: two search steps an epoch, the last of six images; four training steps."""
    search, train = SEARCH.model_copy(update={"epochs": 5}), TRAIN.model_copy(update={"epochs": 3})

    def results():
        genotypes = [
            run_search(search.model_copy(update={"order": order}), SPACE, image_data(), progress=False).to_json()
            for order in (1, 2)
        ]
        training = run_training(train, CELLS, image_data(), progress=False)
        return genotypes, {name: value for name, value in training.items() if name != "seconds"}

    plain = results()
    monkeypatch.setattr("nas.search.search.as_graph", as_on_a_gpu)
    monkeypatch.setattr("nas.training.training.as_graph", as_on_a_gpu)
    assert results() == plain and len(captures) == 6  # of two shapes each


class Waits(TorchDispatchMode):
    """Inside, notes every operation that brings a value, or a shape that depends on values, to the host."""

    NAMES = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "equal")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if any(name.startswith(waits) for waits in self.NAMES):
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


def test_what_waits_for_a_value_is_noticed():
    with Waits() as waits:
        torch.ones(()).item()
        torch.ones(3).nonzero()
        torch.nn.utils.clip_grad_norm_([], 1.0)
    assert waits.seen == ["_local_scalar_dense", "nonzero"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("order", [1, 2])
def test_a_search_step_waits_for_no_value(order, precision):
    config = SEARCH.model_copy(update={"order": order, "compile": False, "precision": precision})
    data = image_data()
    state = SearchState(config, replace(load_space("darts+ir+sandglass"), nodes=1), 3, CPU)
    batches = Batches(data.train_images, data.train_labels, data, config, "test")
    for step in range(2):  # the first makes the optimizers' state
        with Waits() as waits:
            train, validation = batches.shuffled(0, step), batches.drawn(0, step)
            state.sums += bilevel_step(state, train, validation, config, torch.tensor(0.1))
    assert waits.seen == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_step_waits_for_no_value(precision):
    config = TRAIN.model_copy(update={"compile": False, "precision": precision})
    data = image_data()
    state = TrainState(config, CELLS, 3, CPU)
    batches = Batches(data.train_images, data.train_labels, data, config, "test", config.cutout)
    for step in range(2):
        with Waits() as waits:
            batch = batches.shuffled(0, step)
            state.sums += training_step(state, batch, config, torch.tensor(0.1), torch.tensor(0.2))
    assert waits.seen == []


def test_a_gradient_that_lies_otherwise_in_memory_is_applied_where_it_belongs():
    """A fused optimizer goes through memory, whatever the strides."""
    config = SEARCH.model_copy(update={"momentum": 0.0, "weight_decay": 0.0})
    parameter = torch.nn.Parameter(torch.zeros(2, 3, 2, 2).contiguous(memory_format=torch.channels_last))
    gradient = torch.arange(24.0).view(2, 3, 2, 2)
    apply_gradients(sgd([parameter], config, CPU), [parameter], [gradient])
    torch.testing.assert_close(parameter.detach(), -0.025 * gradient, check_stride=False)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_tf32_is_used_where_it_is_asked_for_only(precision):
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    for asked in (precision, "tf32"):
        with arithmetic(asked, False, CPU):
            assert cudnn.allow_tf32 is matmul.allow_tf32 is (asked == "tf32")
    assert (cudnn.allow_tf32, matmul.allow_tf32) == before


def test_deterministic_refuses_what_is_not():
    with arithmetic("float32", True, CPU):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_tf32_needs_a_gpu_of_nvidia(refused):
    with refused("precision tf32 is an arithmetic of NVIDIA's GPUs and the device is cpu; give float32 or bfloat16"):
        check_precision("tf32", CPU)
    check_precision("tf32", CUDA)
    check_precision("bfloat16", CPU)
