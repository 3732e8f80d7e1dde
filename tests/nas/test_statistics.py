"""The numbers behind "does it help": checked against closed forms, textbook values and enumeration."""

import itertools

import numpy as np
import pytest

from nas.statistics import compare_paired, runs_needed, summarize


def test_mean_spread_and_students_interval():
    found = summarize([1.0, 2.0, 3.0, 4.0])
    assert (found["n"], found["mean"]) == (4, 2.5) and found["sd"] == pytest.approx(1.2909944)
    assert found["t_interval"] == pytest.approx([0.4457397, 4.5542603])  # 2.5 -+ 3.182446 * sd / 2
    assert found["bootstrap_interval"] is None


def test_too_few_values_say_nothing_they_cannot():
    assert summarize([3.0]) == {"n": 1, "mean": 3.0, "sd": None, "t_interval": None, "bootstrap_interval": None}
    assert summarize([])["mean"] is None
    assert compare_paired([1.0], [2.0])["p"] is None and compare_paired([], [])["least_p"] == 1
    assert runs_needed(0.13, None) is None


def test_the_bootstrap_interval_lies_around_the_mean_and_is_the_same_every_time():
    values = list(np.random.default_rng(1).normal(3, 0.2, 12))
    low, high = summarize(values)["bootstrap_interval"]
    assert low < np.mean(values) < high and 0.05 < high - low < 0.5
    assert summarize(values)["bootstrap_interval"] == [low, high]


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_the_permutation_test_is_exact(n):
    generator = np.random.default_rng(n)
    a, b = generator.normal(0, 1, n), generator.normal(0.7, 1, n)
    differences = b - a
    means = [np.mean(differences * signs) for signs in itertools.product((1, -1), repeat=n)]
    expected = np.mean([abs(mean) >= abs(np.mean(differences)) - 1e-12 for mean in means])
    found = compare_paired(list(a), list(b))
    assert found["p"] == pytest.approx(expected) and found["mean"] == pytest.approx(differences.mean())
    assert found["least_p"] == 2 / 2**n


def test_three_pairs_cannot_show_anything_at_five_percent():
    assert compare_paired([1.0, 1.1, 0.9], [2.0, 2.3, 2.2])["p"] == compare_paired([0.0] * 3, [1.0] * 3)["p"] == 0.25


def test_of_many_pairs_some_permutations_are_tried_the_same_every_time():
    generator = np.random.default_rng(3)
    a, b = list(generator.normal(0, 1, 20)), list(generator.normal(0.9, 1, 20))
    found = compare_paired(a, b)
    assert not found["is_exact"] and found["least_p"] == 2 / 10_000 <= found["p"] < 0.05
    assert compare_paired(a, b) == found


def test_the_runs_that_a_difference_needs():
    """Cohen: a paired t test sees an effect of 0.5 with 34 pairs, of 0.8 with 15, at 80 % power and 5 %."""
    assert (runs_needed(0.5, 1.0), runs_needed(0.8, 1.0), runs_needed(-0.5, 1.0)) == (34, 15, 34)
    assert runs_needed(0.13, 0.1 * 2**0.5) == 12  # retraining noise alone, sd 0.10 an arm
    assert runs_needed(1e-6, 1.0) is None and runs_needed(0.1, 0.0) == 2
    rounded = compare_paired([36.1, 37.3, 38.2], [36.4, 37.6, 38.5])["sd"]
    assert 0 < rounded < 1e-14 and runs_needed(0.13, rounded) == 2
