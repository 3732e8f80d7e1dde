"""What a Table 9 says of its spaces: pairs by seed, and no more in words than the numbers hold."""

import pytest

from nas.tables.table9.comparisons import beside_random, compare_all, conclusions

SEEDS = range(20)


def runs(errors, seeds=SEEDS, **more):
    return [{"seed": seed, "test_error_percent": error, **more} for seed, error in zip(seeds, errors, strict=False)]


def space(errors, random=(), held_out=()):
    """A space as table9.json has it, whose searches have these errors on held-out images."""
    cells = [{"seed": seed, "held_out_error_percent": error} for seed, error in enumerate(held_out or [None])]
    rows = {
        "searches": [cell | {"parameters": 1e6 + cell["seed"], "madds": 2e6} for cell in cells],
        "retrainings": runs(errors),
        "random": runs(random),
    }
    means = {name: {"n": len(rows[name]), "mean": mean(rows[name])} for name in ("retrainings", "random")}
    summary = {"selected_beside_random": beside_random(rows["retrainings"], rows["random"])}
    for name, key in (("retrained", "retrainings"), ("random", "random")):
        summary[name] = {"test_error_percent": means[key]}
    return rows | {"summary": summary}


def mean(rows):
    return sum(row["test_error_percent"] for row in rows) / len(rows) if rows else None


def said(a, b):
    spaces = {"a": a, "b": b}
    return conclusions(spaces, compare_all(spaces))


def test_runs_are_paired_by_their_seeds_and_others_are_left_out():
    a, b = space([]), space([])
    a["retrainings"], b["retrainings"] = runs([1.0, 5.0, 9.0], (0, 2, 3)), runs([9.5, 7.0, 1.5], (3, 1, 0))
    (comparison,) = compare_all({"a": a, "b": b})
    found = comparison["test_error_percent"]
    assert (found["n"], found["mean"], found["sd"]) == (2, 0.5, 0)  # 1 -> 1.5 and 9 -> 9.5


@pytest.mark.parametrize(
    ("b", "words"),
    [
        ([error + 0.3 + 0.01 * n for n, error in enumerate(range(8))], "+0.33 points, 95 % interval +0.31 to +0.36"),
        ([error + 0.3 + 0.01 * n for n, error in enumerate(range(8))], "it differs from zero (exact permutation test"),
        ([error + 0.3 * (-1) ** n for n, error in enumerate(range(8))], "it cannot be told from chance (exact"),
        ([0.5, 1.6, 2.7], "leaves zero out; 3 pairs cannot show a difference at 5 % by the exact permutation test"),
        ([0.5, 0.6, 2.7], "has zero in it; 3 pairs cannot show a difference"),
    ],
)
def test_a_difference_is_said_as_far_as_its_pairs_reach(b, words):
    line = said(space([float(error) for error in range(len(b))]), space(b))[0]
    assert line.startswith("b against a, test error: ") and words in line


def test_more_permutations_than_are_tried_are_not_called_exact():
    a, b = ([number * shift for number in range(20)] for shift in (1.0, 1.5))
    line = said(space([], a), space([], b))[0]
    assert "(20 random cells each): it differs from zero (permutation test, p = 0.0002)" in line


def test_the_number_of_tests_and_of_false_alarms_is_said():
    lines = said(space([1.0, 2.0, 3.0], held_out=(4.0, 5.0, 7.0)), space([2.0, 2.0, 5.0], held_out=(4.0, 5.0, 6.0)))
    (line,) = [line for line in lines if "tests" in line]
    assert line.startswith("These are 3 tests") and " 0.15 of them at most" in line  # test error, held-out, parameters


def test_the_runs_that_the_papers_difference_would_take():
    line = said(space([1.0, 2.0, 3.0]), space([1.1, 2.0, 2.9]))[1]
    assert "from 3 pairs only" in line and "takes about 7 pairs of retrainings" in line and "searches" not in line


def test_the_selected_cell_is_placed_among_the_random_ones():
    found = beside_random(runs([3.0, 5.0]), runs([3.9, 4.0, 4.1, 5.0, 6.0]))
    assert found == {"difference": pytest.approx(0.6), "random_cells_better": 1, "chance": pytest.approx(2 / 6)}
    assert set(beside_random(runs([3.0]), []).values()) == {None}
    cell = space([3.0, 5.0], [3.9, 4.0, 4.1, 5.0, 6.0], held_out=(9.0, 8.0))
    line = conclusions({"darts": cell}, [])[0]
    assert line.startswith("darts: 1 of 5 random cells are better than the selected cell's mean of 4.00 %; ")
    for words in ("; it is the best of 2 on held-out images", "4.60 %, +0.60 points", "in 33 % of cases"):
        assert words in line
