"""A strategy is a value with a name: its relaxation, its gradient and its rule are what the search then does."""

from dataclasses import FrozenInstanceError

import pytest
import torch

from cells.discretization import RULES
from cells.genotype import KINDS
from nas.config import SearchConfig
from nas.report.rows import operator_weights
from nas.search.architect import first_order_gradients, second_order_gradients
from nas.search.collapse import AlphaHessian, mean_entropy
from nas.search.search import Search, run_search
from nas.search.strategies import STRATEGIES, Strategy, strategy_of
from some_cells import genotype_of
from tiny_runs import SEARCH, SPACE, begin, image_data

FIRST = "DARTS, first order"


def sharp(alphas):
    return (alphas / 1e-3).softmax(dim=-1)


def skips_alone(rows, space):
    return genotype_of(*["skip_connect 0, skip_connect 1"] * space.nodes).normal


def test_the_settings_choose_the_order_of_darts():
    found = {order: strategy_of(SearchConfig(order=order)) for order in (1, 2)}
    assert found == {1: STRATEGIES[FIRST], 2: STRATEGIES["DARTS, second order"]}
    assert found[2].alpha_gradients is second_order_gradients
    assert {strategy.selection for strategy in found.values()} == {"strongest edges"}
    with pytest.raises(FrozenInstanceError):
        found[1].name = "another"


def test_another_one_is_followed_in_every_part(tmp_path, monkeypatch):
    asked = []

    def gradients(supernet, train, validation, unrolling):
        asked.append(unrolling)
        return first_order_gradients(supernet, validation)

    monkeypatch.setitem(RULES, "skips alone", skips_alone)
    monkeypatch.setitem(STRATEGIES, FIRST, Strategy(FIRST, gradients, sharp, "skips alone"))
    record = begin(tmp_path / "run", SEARCH.model_copy(update={"order": 1}), space=SPACE)
    genotype = run_search(SEARCH.model_copy(update={"order": 1}), SPACE, image_data(), record, progress=False)
    assert genotype.operators == ("skip_connect",) and len(asked) == 4  # two epochs of two steps
    for alphas, metrics in zip(record.rows("alphas"), record.rows("metrics"), strict=True):
        for kind in KINDS:
            weights, shown = sharp(torch.tensor(alphas[kind])), operator_weights(record, SPACE)[alphas["epoch"]][kind]
            assert abs(shown - weights.numpy()).max() < 1e-3
            assert metrics[f"{kind}_entropy"] == pytest.approx(mean_entropy(weights), rel=1e-5)
    assert all(row["normal"]["nodes"][0][0] == ["skip_connect", 0] for row in record.rows("cells"))


def test_the_hessian_is_that_of_the_relaxation(monkeypatch):
    monkeypatch.setitem(STRATEGIES, FIRST, Strategy(FIRST, first_order_gradients, sharp))
    search = Search(SEARCH.model_copy(update={"order": 1}), SPACE, image_data())
    assert AlphaHessian(search.state.supernet, SEARCH.channels, SEARCH.layers, 3).plain.relax is sharp
