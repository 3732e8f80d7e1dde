"""Where a number that is not finite came from."""

import pytest
import torch
from torch import nn

from cells.genotype_file import load_genotype
from cells.network import Network
from cells.supernet import Supernet
from nas.loop.not_finite import find_trouble
from nas.search.search import run_search
from search_spaces.plugins import load_plugin
from search_spaces.space import SearchSpace
from tiny_runs import SEARCH, begin, image_data

BATCH = torch.randn(4, 3, 8, 8), torch.arange(4) % 3
OVERFLOWS = """
import torch
from torch import nn
from search_spaces import register_operator

@register_operator("overflowing")
class Overflowing(nn.Module):
    def __init__(self, channels, stride, affine):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, stride, bias=False)
        self.calls = 0

    def forward(self, x):
        self.calls += x.shape[0] == 8 and self.training
        return self.conv(x) * (float("inf") if self.calls > 12 else 1.0)
"""


@pytest.fixture
def supernet():
    return Supernet(SearchSpace("two", ("skip_connect", "sep_conv_3x3"), nodes=2), 2, 3, 3)


def test_an_operators_output_in_the_supernet_is_named(supernet):
    assert find_trouble(supernet, [BATCH]) == "it does not come back when the step is looked at again"
    with torch.no_grad():
        supernet.cells[1].edges[2].candidates["sep_conv_3x3"][2].weight[0, 0] = float("nan")
    assert find_trouble(supernet, [BATCH]) == (
        "the first output that is not finite is that of operator sep_conv_3x3 on edge 0 -> 3 of cell 2"
        " (cells.1.edges.2.candidates.sep_conv_3x3.2)"
    )


def test_an_operators_output_in_the_network_is_named():
    network = Network(load_genotype("darts_v2"), 2, 4, 3)
    with torch.no_grad():
        network.cells[0].operators[7][1].weight.fill_(float("inf"))
    said = find_trouble(network, [BATCH])
    assert "operator dil_conv_3x3 on edge 2 -> 5 of cell 1 (cells.0.operators.7.1)" in said


def test_a_layer_outside_the_operators_is_named_by_its_path(supernet):
    with torch.no_grad():
        supernet.stem[0].weight.fill_(float("nan"))
    assert find_trouble(supernet, [BATCH]).endswith("is that of stem.0")


def test_a_gradient_is_named_where_all_outputs_are_finite(supernet):
    class Root(nn.Module):
        def forward(self, x):
            return x + (x - x.detach()).sqrt()  # finite, with an infinite slope

    supernet.cells[1].inputs.preprocess0.append(Root())
    said = find_trouble(supernet, [BATCH])
    assert said.startswith("all outputs are finite, but not the gradient of cells.1.inputs.preprocess0")


def test_looking_leaves_the_network_as_it_was(supernet):
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    find_trouble(supernet, [BATCH])
    assert all(torch.equal(before[name], value) for name, value in supernet.state_dict().items())
    assert not any(module._forward_hooks for module in supernet.modules())


@pytest.mark.parametrize("save_every", [1e-6, 10.0])
def test_a_search_stops_at_the_step_and_its_checkpoint_is_good(
    save_every, tmp_path, write_plugin, refused, without_pictures
):
    load_plugin(write_plugin(OVERFLOWS, "overflows.py"))
    space = SearchSpace("bad", ("skip_connect", "overflowing"), nodes=1)
    config = SEARCH.model_copy(update={"order": 1, "epochs": 50, "save_every": save_every, "train_images": 32})
    run = begin(tmp_path / "run", config, space=space)
    words = ("not a finite number in epoch", "step", "learning rate 0.0", "operator overflowing on edge", "--force")
    with refused(*words):
        run_search(config, space, image_data(32), run, progress=False)
    saved = run.load_checkpoint()
    assert all(value.isfinite().all() for value in saved["supernet"].values())
    assert saved["sums"].isfinite().all()
