"""Points against model size: late averages, and ratios of two of them, with their 95% intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from spectral_reach.figures.points import Point
from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.seed_spread import student_interval
from spectral_reach.studies.analysis.size_average import SizeAverage
from spectral_reach.studies.analysis.size_ratio import Pair, as_factor, size_ratios


def late_points(
    family: str, averages: Sequence[SizeAverage], quantities: Sequence[str], prefix: str = ""
) -> Iterator[Point]:
    """The late average of every size that has one."""
    for average in averages:
        for quantity in quantities:
            estimate, interval = average.estimate(quantity), average.interval(quantity)
            if estimate.n:
                yield Point(
                    family=family,
                    parameters=average.parameters,
                    quantity=prefix + quantity,
                    runs=len(average.runs),
                    n=estimate.n,
                    n_units=average.n_units[0] if len(average.n_units) == 1 else None,
                    value=estimate.value,
                    stderr=estimate.stderr,
                    low=interval.low,
                    high=interval.high,
                )


def ratio_points(family: str, name: str, pairs: Mapping[int, Sequence[Pair]]) -> Iterator[Point]:
    """The ratio called ``name`` at every size that has one, from the pairs of its runs.

    Intervals are those of ``size_ratios``, as in the table of claims: what a seed does to both cancels. A size whose
    numerator or denominator is not significantly positive has no ratio, so its point has no value. One whose pairs have
    no errors (a single measurement, a single evaluation of a single run) has a ratio without interval.
    """
    with_errors = _with_errors(pairs)
    for size in sorted(pairs):
        found = with_errors.get(size) or _without_errors(pairs[size])
        if found is not None:
            yield Point(
                family=family,
                parameters=size,
                quantity=name,
                runs=len(_defined(pairs[size]) or pairs[size]),
                value=found.value,
                low=found.low,
                high=found.high,
            )


def _with_errors(pairs: Mapping[int, Sequence[Pair]]) -> dict[int, Interval]:
    """Of the sizes whose means are both known to be positive."""
    sides = ("the numerator", "the denominator")
    clear = {size: each for size, each in pairs.items() if size_ratios({size: each}, sides).reason is None}
    ratios = size_ratios(clear, sides)
    covers_seeds = any(len(_defined(each)) > 1 for each in clear.values())
    found = {}
    for size, log, stderr in zip(ratios.parameters, ratios.logs.tolist(), ratios.stderr.tolist(), strict=True):
        of_log = student_interval(Estimate(value=log, stderr=stderr, n=len(clear[size])), ratios.degrees)
        found[size] = as_factor(of_log)
        if not covers_seeds and not all(side.stderr for pair in clear[size] for side in pair.both):
            found[size] = Interval(value=found[size].value, low=math.nan, high=math.nan)
    return found


def _without_errors(pairs: Sequence[Pair]) -> Interval | None:
    """Of pairs of which none has errors, None where a value is not there or negative; a missing one of pairs that have
    errors, for these are not known to be positive."""
    if _defined(pairs):
        return Interval.missing()
    means = [float(np.mean([pair.both[side].value for pair in pairs])) for side in (0, 1)]
    if not min(means) > 0:  # NaN is not
        return None
    return Interval(value=means[0] / means[1], low=math.nan, high=math.nan)


def _defined(pairs: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in pairs if all(side.is_defined for side in pair.both)]
