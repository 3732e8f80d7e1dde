"""The costs that are summed from parts are those of the network that is built whole."""

import pytest
import torch

from cells.costs import Costs, network_costs
from cells.genotype_file import load_genotype
from cells.network import Network
from cells.random_cells import random_genotype
from search_spaces.complexity import count_madds, count_parameters
from search_spaces.plugins import load_plugin
from search_spaces.space import load_space

SMALL = {"channels": 4, "layers": 6, "classes": 7}


def described(genotype, channels, layers, classes, image_size=32) -> Costs:
    """Counted on the network as it is built whole."""
    with torch.device("meta"):
        network = Network(genotype, channels, layers, classes)
    parameters, head = count_parameters(network), count_parameters(network.auxiliary_head)
    return Costs(parameters - head, parameters, count_madds(network, (1, 3, image_size, image_size)))


@pytest.mark.parametrize(("seed", "image_size"), [(0, 32), (1, 8), (2, 28)])
def test_any_cell_costs_what_its_network_does(seed, image_size):
    genotype = random_genotype(load_space("darts+ir+sandglass"), seed)
    sizes = SMALL | {"image_size": image_size}
    assert network_costs(genotype, **sizes) == described(genotype, **sizes)


def test_a_cell_that_leaves_nodes_out_costs_what_its_network_does():
    genotype = load_genotype("amoebanet")
    assert network_costs(genotype, **SMALL) == described(genotype, **SMALL)


def test_a_users_operator_is_counted_and_an_unknown_one_refused(write_plugin, refused):
    load_plugin(write_plugin())
    genotype = random_genotype(load_space("darts+ghost_3x3"), 1)
    assert "ghost_3x3" in genotype.operators
    assert network_costs(genotype, **SMALL) == described(genotype, **SMALL)
