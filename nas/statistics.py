"""What a handful of runs can say: mean, spread, interval, paired differences, and how many runs a question needs.

An error of a network is a draw: another seed gives another. All intervals are of 95 %, all tests two-sided.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95
LEAST_FOR_BOOTSTRAP = 8  # values; of fewer, resampling says less than Student's t
MOST_FOR_ALL = 2**16  # ways to permute
SOME = 9999  # random ones, where there are more
MOST_RUNS = 100_000


def summarize(values: Sequence[float]) -> dict[str, Any]:
    """n, mean, sd (n - 1), and the intervals of the mean: by Student's t, and by the bootstrap (BCa) where n allows.

    What so few values cannot say is None: sd and intervals of one, the mean of none.
    """
    n = len(values)
    mean, sd = (float(np.mean(values)) if n else None), (float(np.std(values, ddof=1)) if n > 1 else None)
    return {
        "n": n,
        "mean": mean,
        "sd": sd,
        "t_interval": _t_interval(mean, sd, n),
        "bootstrap_interval": _bootstrap(values),
    }


def compare_paired(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    """`summarize` of the differences b - a of pairs, with the p of the permutation test of their mean.

    The test flips the signs of the differences in all 2^n ways and is exact, or of more than 16 pairs in 9,999 random
    ones. No p is below `least_p`. p is None where there are fewer than two pairs.
    """
    differences = [right - left for left, right in zip(a, b, strict=True)]
    ways = 2 ** len(differences)
    p = None
    if len(differences) > 1:
        sample = (np.asarray(differences, float),)
        p = _permutation_p(sample, np.mean, "samples", ways)
    return summarize(differences) | {"p": p, **_what_it_can_show(ways)}


def compare_unpaired(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    """The difference of the means b - a of two independent samples, Welch's interval, p of the permutation test.

    `n` is how many values each has. The test divides the values in all ways and is exact, or where there are more than
    65,536 in 9,999 random ones. No p is below `least_p`. The others are None where a sample has fewer than two values.
    """
    ways = math.comb(len(a) + len(b), len(a))
    if min(len(a), len(b)) < 2:
        return {"n": [len(a), len(b)], "mean": None, "t_interval": None, "p": None, **_what_it_can_show(ways)}
    left, right = np.asarray(a, float), np.asarray(b, float)
    interval = None
    if left.std() or right.std():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, where all values of one sample are equal
            found = stats.ttest_ind(right, left, equal_var=False).confidence_interval(LEVEL)
        interval = [float(found.low), float(found.high)]
    p = _permutation_p((left, right), lambda x, y, axis: y.mean(axis) - x.mean(axis), "independent", ways)
    difference = float(right.mean() - left.mean())
    return {"n": [len(a), len(b)], "mean": difference, "t_interval": interval, "p": p, **_what_it_can_show(ways)}


def _permutation_p(samples: tuple[np.ndarray, ...], statistic: Callable, kind: str, ways: int) -> float:
    some = math.inf if ways <= MOST_FOR_ALL else SOME
    test = stats.permutation_test(
        samples,
        statistic,
        permutation_type=kind,
        vectorized=True,
        n_resamples=some,
        rng=np.random.default_rng(0),  # so that the same runs have the same p
    )
    return float(test.pvalue)


def _what_it_can_show(ways: int) -> dict[str, Any]:
    """The least p of a two-sided permutation test with so many ways to permute, and whether it tries all."""
    is_exact = ways <= MOST_FOR_ALL
    return {"least_p": min(1.0, 2 / (ways if is_exact else SOME + 1)), "is_exact": is_exact}


def runs_needed(difference: float, sd: float | None, power: float = 0.8) -> int | None:
    """Pairs of runs with which a paired t test sees a true mean difference with that power at 5 %.

    `sd` is that of the pairs' differences. None if it is not known, or if it takes more than 100,000.
    """
    if sd is None:
        return None
    if sd < 1e-9 * abs(difference):  # not zero where equal differences were rounded
        return 2
    effect = abs(difference) / sd
    n = max(2, math.floor((stats.norm.ppf(0.975) + stats.norm.ppf(power)) ** 2 / effect**2))  # a little too few
    while n <= MOST_RUNS:
        critical, shift = stats.t.ppf(0.975, n - 1), effect * math.sqrt(n)
        if stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift) >= power:
            return n
        n += 1
    return None


def _t_interval(mean: float | None, sd: float | None, n: int) -> list[float] | None:
    if sd is None:
        return None
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * sd / math.sqrt(n)
    return [float(mean - half), float(mean + half)]


def _bootstrap(values: Sequence[float]) -> list[float] | None:
    if len(values) < LEAST_FOR_BOOTSTRAP or len(set(values)) == 1:
        return None
    found = stats.bootstrap((np.asarray(values, float),), np.mean, confidence_level=LEVEL, rng=np.random.default_rng(0))
    return [float(found.confidence_interval.low), float(found.confidence_interval.high)]
