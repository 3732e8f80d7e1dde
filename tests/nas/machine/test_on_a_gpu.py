"""What a CUDA device computes is what the CPU computes in float64: without a GPU, all of this is skipped."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from cells.architecture import CellArchitecture
from cells.genotype_file import parse_genotype
from nas.data.batches import Batches
from nas.machine.cuda_graph import as_graph
from nas.machine.device import arithmetic, memory_format
from nas.search.architect import Unrolling, first_order_gradients, second_order_gradients
from nas.search.bilevel import SearchState, bilevel_step
from nas.training.training import TrainState
from search_spaces.space import load_space
from tiny_runs import SEARCH, TRAIN, image_data

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
POOLS = parse_genotype(
    "Genotype(normal=[('avg_pool_3x3', 0), ('max_pool_3x3', 1)], normal_concat=[2],"
    " reduce=[('avg_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])"
)


def test_images_and_weights_are_channels_last_on_a_cpu_alone():
    assert memory_format(CPU) == torch.channels_last
    assert memory_format(CUDA) == memory_format(torch.device("mps")) == torch.contiguous_format


def test_a_checkpoint_in_another_memory_format_goes_on_as_in_its_own():
    """That of a CPU on a GPU, or the other way round."""
    kept, resumed = search_on(CPU, compile=False), search_on(CPU, compile=False)
    step = {"train": batches_on(CPU)[0], "validation": batches_on(CPU)[1], "learning_rate": 0.025}
    bilevel_step(kept, config=SEARCH, **step)
    saved = deepcopy(kept.state_dict())
    for held in saved["weight_optimizer"]["state"].values():
        held["momentum_buffer"] = held["momentum_buffer"].contiguous()
    resumed.load_state_dict(saved)
    for state in (kept, resumed):
        bilevel_step(state, config=SEARCH, **step)
    for name, expected in kept.supernet.state_dict().items():
        assert torch.equal(resumed.supernet.state_dict()[name], expected), name


def cosine(found, expected) -> float:
    found, expected = (torch.cat([part.double().cpu().flatten() for part in parts]) for parts in (found, expected))
    return F.cosine_similarity(found, expected, dim=0).item()


def batches_on(device, seed: int = 0) -> list:
    """Two batches as a run makes them, of images that are drawn and augmented on the CPU, the same for all devices."""
    data = image_data(size=16)
    made = Batches(data.train_images, data.train_labels, data, SEARCH.model_copy(update={"seed": seed}), "test")
    batches = [made.shuffled(0, step) for step in range(2)]
    return [(x.to(device).contiguous(memory_format=memory_format(device)), y.to(device)) for x, y in batches]


def search_on(device, **settings) -> SearchState:
    config = SEARCH.model_copy(update={"device": device.type, "channels": 4} | settings)
    return SearchState(config, load_space("darts+ir+sandglass"), 3, device)


@on_a_gpu
@pytest.mark.parametrize("precision, least", [("float32", (0.9999, 0.99)), ("bfloat16", (0.95, 0.8))])
def test_the_gradients_of_the_alphas_are_those_of_the_cpu(precision, least):
    ahead = Unrolling(0.025, 0.9, 3e-4, None)
    cpu, cuda = search_on(CPU, compile=False).supernet.double(), search_on(CUDA, precision=precision).supernet
    gradients = {}
    for device, supernet, dtype in ((CPU, cpu, torch.float64), (CUDA, cuda, torch.float32)):
        train, validation = ((images.to(dtype), labels) for images, labels in batches_on(device))
        with arithmetic(precision, False, device):
            first = first_order_gradients(supernet, validation).gradients
            gradients[device] = first, second_order_gradients(supernet, train, validation, ahead).gradients
    found = [cosine(*pair) for pair in zip(gradients[CUDA], gradients[CPU], strict=True)]
    assert found[0] > least[0] and found[1] > least[1], found


@on_a_gpu
def test_the_gradients_of_a_network_with_poolings_are_those_of_the_cpu():
    found = []
    for device in (CPU, CUDA):
        config = TRAIN.model_copy(update={"device": device.type, "compile": False})
        state = TrainState(config, CellArchitecture(POOLS), 3, device)
        images, labels = batches_on(device)[0]
        with arithmetic("float32", False, device):
            loss = F.cross_entropy(state.network(images)[0], labels)
            found.append(torch.autograd.grad(loss, list(state.network.parameters()), allow_unused=True))
    pairs = [pair for pair in zip(*found, strict=True) if pair[0] is not None]
    assert cosine(*zip(*pairs, strict=True)) > 0.9999


@on_a_gpu
@pytest.mark.parametrize("order", [1, 2])
def test_a_graph_learns_what_the_steps_learn_one_by_one(order):
    alphas = {}
    for compiled in (True, False):
        state = search_on(CUDA, order=order, compile=compiled)
        config = SEARCH.model_copy(update={"order": order, "device": "cuda", "compile": compiled})

        def step(images, labels, others, other_labels, rate, state=state, config=config):
            return bilevel_step(state, (images, labels), (others, other_labels), config, rate)

        whole_step = as_graph(step, config, CUDA)
        with arithmetic("float32", False, CUDA):
            for seed in range(6):
                train, validation = batches_on(CUDA, seed)
                whole_step(*train, *validation, 0.025)
        alphas[compiled] = [table.detach() for table in state.supernet.alphas()]
        assert not compiled or len(whole_step.graphs) == 1
    assert cosine(alphas[True], alphas[False]) > 0.9999
