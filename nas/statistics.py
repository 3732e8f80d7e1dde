"""What a handful of runs can say: mean, spread, interval, paired differences, and how many runs a question needs.

An error of a network is a draw: another seed gives another. All intervals are of 95 %, all tests two-sided.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95
LEAST_FOR_BOOTSTRAP = 8  # values; of fewer, resampling says less than Student's t
MOST_FOR_ALL_SIGNS = 16  # pairs; of more, some
SOME_SIGNS = 9999
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

    The test flips the signs of the differences in all 2^n ways, so that it is exact, or of more than 16 pairs in 9,999
    random ones. No p is below `least_p`. p is None where there are fewer than two pairs.
    """
    differences = [right - left for left, right in zip(a, b, strict=True)]
    is_exact = len(differences) <= MOST_FOR_ALL_SIGNS
    p = None
    if len(differences) > 1:
        ways = math.inf if is_exact else SOME_SIGNS
        rng = np.random.default_rng(0)  # so that the same runs have the same p
        sample = (np.asarray(differences, float),)
        test = stats.permutation_test(sample, np.mean, permutation_type="samples", n_resamples=ways, rng=rng)
        p = float(test.pvalue)
    least_p = min(1.0, 2 / (2 ** len(differences) if is_exact else SOME_SIGNS + 1))
    return summarize(differences) | {"p": p, "least_p": least_p, "is_exact": is_exact}


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
