"""Spaces beside each other, and selected cells beside random ones: the numbers, and what they can say in words."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

from nas.statistics import compare_paired, runs_needed

PAPER_DIFFERENCE = 0.13  # points of test error between the first row of the paper's table and the third
LEVEL = 0.05
NEEDED = "runs_needed_for_0.13_points"


class Compared(NamedTuple):
    """A figure in which two spaces are compared in pairs of one seed: a space's list of rows, the key in them, names.

    Runs of one seed saw the same images in the same order; random cells of one seed are the same but for the operators
    in which two spaces of as many differ.
    """

    rows: str
    key: str
    said: str  # what the conclusions call it; nothing if they leave it out
    of: str  # what a row is
    unit: str = "points"
    scale: float = 1


COMPARED = {
    "test_error_percent": Compared("retrainings", "test_error_percent", "test error", "retrainings of one cell each"),
    "held_out_error_percent": Compared(
        "searches", "held_out_error_percent", "held-out error after the short training", "found cells each"
    ),
    "random_test_error_percent": Compared(
        "random", "test_error_percent", "test error of random cells", "random cells each"
    ),
    "parameters": Compared(
        "searches", "parameters", "parameters", "found cells each, at 36 channels and 20 cells", "M", 1e6
    ),
    "madds": Compared("searches", "madds", "", "found cells each, at 36 channels and 20 cells", "M", 1e6),
}


def compare_all(spaces: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each two of the spaces, given as table9.json has them."""
    return [_compare(a, b, spaces) for a, b in combinations(spaces, 2)]


def conclusions(spaces: Mapping[str, Any], comparisons: list[dict[str, Any]]) -> list[str]:
    """What `compare_all` found, and selected cells beside random ones, in words, as far as the numbers reach."""
    lines = [line for comparison in comparisons for line in _conclude(comparison)]
    tests = sum(_is_said(figure, comparison) for comparison in comparisons for figure in COMPARED)
    if tests > 1:
        lines.append(
            f"These are {tests} tests, each at 5 % on its own: if nothing differed, {LEVEL * tests:.2g} of them at most"
            " would be expected to find a difference all the same."
        )
    return lines + [line for name, space in spaces.items() for line in _conclude_about_random(name, space)]


def beside_random(retrainings: list[dict[str, Any]], random: list[dict[str, Any]]) -> dict[str, Any]:
    """The selected cell's mean test error among those of the random cells, of which it could be one.

    `random_cells_better` is how many have a lower error than that mean; `chance` is how likely one more random cell
    would have so few before it, were it as good as they are. `difference` is the mean of the random cells less that of
    the selected one, in points. All None where there are no runs. The retrainings are of one cell, so they say nothing
    of how far cells differ, and no test of two samples fits.
    """
    if not retrainings or not random:
        return {"difference": None, "random_cells_better": None, "chance": None}
    errors = [row["test_error_percent"] for row in random]
    mean = sum(row["test_error_percent"] for row in retrainings) / len(retrainings)
    better = sum(error < mean for error in errors)
    return {
        "difference": sum(errors) / len(errors) - mean,
        "random_cells_better": better,
        "chance": (better + 1) / (len(errors) + 1),
    }


def _compare(a: str, b: str, spaces: Mapping[str, Any]) -> dict[str, Any]:
    """b beside a in every figure of `COMPARED`."""
    found: dict[str, Any] = {"spaces": [a, b]}
    for figure, compared in COMPARED.items():
        left, right = (
            {row["seed"]: row[compared.key] for row in spaces[name][compared.rows] if row[compared.key] is not None}
            for name in (a, b)
        )
        seeds = sorted(left.keys() & right.keys())
        found[figure] = compare_paired([left[seed] for seed in seeds], [right[seed] for seed in seeds])
    for figure in ("test_error_percent", "held_out_error_percent"):
        found[figure][NEEDED] = runs_needed(PAPER_DIFFERENCE, found[figure]["sd"])
    return found


def _is_said(figure: str, comparison: dict[str, Any]) -> bool:
    return bool(COMPARED[figure].said) and comparison[figure]["p"] is not None


def _conclude(comparison: dict[str, Any]) -> list[str]:
    lines = [_sentence(figure, comparison) for figure in COMPARED if _is_said(figure, comparison)]
    needed, searches = (comparison[figure][NEEDED] for figure in ("test_error_percent", "held_out_error_percent"))
    if needed:
        a, b = comparison["spaces"]
        of_spaces = (
            f", which would take about {searches} pairs of searches by their held-out errors" if searches else ""
        )
        lines.append(
            f"With this spread, itself known from {comparison['test_error_percent']['n']} pairs only, a true difference"
            f" of {PAPER_DIFFERENCE} points between {a} and {b} takes about {needed} pairs of retrainings to be seen"
            f" with 80 % power; and that is of two cells, not of two spaces{of_spaces}."
        )
    return lines


def _sentence(figure: str, comparison: dict[str, Any]) -> str:
    """The difference of two spaces in one figure, its interval, and what its test says or cannot say."""
    (a, b), compared, found = comparison["spaces"], COMPARED[figure], comparison[figure]
    mean, low, high = (value / compared.scale for value in (found["mean"], *found["t_interval"]))
    interval = f"{mean:+.2f} {compared.unit}, 95 % interval {low:+.2f} to {high:+.2f}"
    said = f"{b} against {a}, {compared.said}: {interval} ({found['n']} {compared.of})"
    test = "exact permutation test" if found["is_exact"] else "permutation test"
    if found["p"] <= LEVEL:
        return f"{said}: it differs from zero ({test}, p = {found['p']:.2g})."
    if found["least_p"] <= LEVEL:
        return f"{said}: it cannot be told from chance ({test}, p = {found['p']:.2g})."
    zero = "leaves zero out" if low * high > 0 else "has zero in it"
    return (
        f"{said}: the interval, right if differences are normal, {zero}; {found['n']} pairs cannot show a difference at"
        f" 5 % by the {test} (p = {found['p']:.2g}, never below {found['least_p']:.2g})."
    )


def _conclude_about_random(name: str, space: Mapping[str, Any]) -> list[str]:
    """The selected cell's place among the random ones, and what it was chosen by."""
    summary, searches = space["summary"], len(space["searches"])
    found = summary["selected_beside_random"]
    if found["chance"] is None:
        return []
    mean, random = summary["retrained"]["test_error_percent"]["mean"], summary["random"]["test_error_percent"]
    choice = f"; it is the best of {searches} on held-out images, they were not chosen" if searches > 1 else ""
    return [
        f"{name}: {found['random_cells_better']} of {random['n']} random cells are better than the selected cell's mean"
        f" of {mean:.2f} %{choice}. Their mean is {random['mean']:.2f} %, {found['difference']:+.2f} points. One more"
        f" random cell would stand so high among them, or higher, in {100 * found['chance']:.0f} % of cases."
    ]
