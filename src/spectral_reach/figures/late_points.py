"""Points against model size: late averages, and ratios of two of them, with their 95% intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spectral_reach.figures.points import Point
from spectral_reach.studies.analysis.ratio import ratio
from spectral_reach.studies.analysis.size_average import SizeAverage


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


def ratio_points(
    family: str,
    above: Sequence[SizeAverage],
    below: Sequence[SizeAverage],
    quantities: Sequence[tuple[str, str, str]],
) -> Iterator[Point]:
    """(name, quantity of ``above``, quantity of ``below``): their ratio at every size that both have it at."""
    others = {average.parameters: average for average in below}
    for average in above:
        other = others.get(average.parameters)
        for name, upper, lower in quantities if other is not None else ():
            assert other is not None
            degrees = min(average.degrees[upper], other.degrees[lower])
            found = ratio(average.estimate(upper), other.estimate(lower), degrees).interval
            if found.value == found.value:
                yield Point(
                    family=family,
                    parameters=average.parameters,
                    quantity=name,
                    runs=min(len(average.runs), len(other.runs)),
                    value=found.value,
                    low=found.low,
                    high=found.high,
                )
