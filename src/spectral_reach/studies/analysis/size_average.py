"""Where every size of a family ended: late averages of its runs, one a seed, as one number with one error.

The mean over seeds takes every run's late average as it is, positive or not. Its standard error covers seeds as soon
as any size of the family has two (``seed_spread``); else it is that over the windows of one run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import LEAST_BLOCKS, Estimate
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.late_average import LateAverage, late_average
from spectral_reach.studies.analysis.seed_spread import errors_of_means, student_interval
from spectral_reach.studies.analysis.study_data import RunData


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeAverage:
    """One size: means over its finished runs, in the units of ``LateAverage``.

    Attributes:
        parameters: of every run of this size.
        runs: the names of those that are finished, by seed.
        seeds: theirs.
        n_units: units of the late measurements, usually one number; chi_pos of a mini-batch depends on it.
        chi_pos: of mini-batches; ``n`` counts the late measurements of all runs.
        chi_pos_unbiased: of the population; likewise.
        train_loss: ``n`` counts late steps.
        heldout_loss: of the final models; ``n`` counts them, and one alone has no error.
        degrees: of freedom of the error of each, by name, for Student's factor.
        covers_seeds: whether the errors of spectral position cover the spread between seeds.
    """

    parameters: int
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    n_units: tuple[int, ...]
    chi_pos: Estimate
    chi_pos_unbiased: Estimate
    train_loss: Estimate
    heldout_loss: Estimate
    degrees: Mapping[str, int]
    covers_seeds: bool

    def estimate(self, name: str) -> Estimate:
        """``chi_pos``, ``chi_pos_unbiased``, ``train_loss`` or ``heldout_loss``."""
        found: Estimate = getattr(self, name)
        return found

    def interval(self, name: str) -> Interval:
        """The 95% interval of ``estimate(name)``, by Student's factor; NaN where it has no error."""
        return student_interval(self.estimate(name), self.degrees[name])


def size_averages(runs: Sequence[RunData], *, heldout: bool = False) -> tuple[SizeAverage, ...]:
    """Every size of one family, smallest first; runs of equal parameters are one size.

    A size without a finished run is there too, with the reason. ``heldout``: take spectral position from the
    measurements on held-out data.
    """
    by_size = [
        sorted((run for run in runs if run.parameters == parameters), key=lambda run: (run.seed, run.name))
        for parameters in sorted({run.parameters for run in runs})
    ]
    late = [[late_average(run, heldout=heldout) for run in size] for size in by_size]
    columns = {
        name: means_over_seeds([[of(each) for each in size] for size in late]) for name, of in _QUANTITIES.items()
    }
    return tuple(
        SizeAverage(
            parameters=size[0].parameters,
            runs=tuple(run.name for run in size if run.is_finished),
            seeds=tuple(run.seed for run in size if run.is_finished),
            n_units=tuple(sorted({n for average in late[i] for n in average.n_units})),
            **{name: column.estimates[i] for name, column in columns.items()},
            degrees={name: column.degrees for name, column in columns.items()},
            covers_seeds=columns["chi_pos_unbiased"].covers_seeds,
        )
        for i, size in enumerate(by_size)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedMeans:
    """One quantity at every size.

    Attributes:
        estimates: the mean over seeds of each size.
        degrees: of freedom of their errors, for Student's factor.
        covers_seeds: whether the errors cover the spread between seeds.
    """

    estimates: tuple[Estimate, ...]
    degrees: int
    covers_seeds: bool


def means_over_seeds(found: Sequence[Sequence[Estimate]]) -> SeedMeans:
    """The means of ``found``: of each size one estimate a run; those without value or error do not count."""
    known = [[each for each in size if each.is_defined] for size in found]
    estimates = [_missing(size) for size in found]
    there = [i for i, size in enumerate(known) if size]
    if not there:
        return SeedMeans(estimates=tuple(estimates), degrees=1, covers_seeds=False)
    values = [np.array([each.value for each in known[i]]) for i in there]
    errors = errors_of_means(
        values,
        [np.array([each.stderr for each in known[i]]) for i in there],
        [float(size.mean()) for size in values],
        blocks=min(LEAST_BLOCKS, *(each.n for i in there for each in known[i])),
    )
    covers_seeds = any(len(size) > 1 for size in values)
    for i, size, stderr in zip(there, values, errors.stderr.tolist(), strict=True):
        n = sum(each.n for each in known[i])
        if stderr == 0 and not covers_seeds:
            estimates[i] = Estimate(value=float(size.mean()), stderr=math.nan, n=n, reason=_ONE_EVALUATION)
        else:
            estimates[i] = Estimate(value=float(size.mean()), stderr=stderr, n=n)
    return SeedMeans(estimates=tuple(estimates), degrees=errors.degrees, covers_seeds=covers_seeds)


def _missing(size: Sequence[Estimate]) -> Estimate:
    return Estimate.missing("; ".join(sorted({each.reason for each in size if each.reason is not None})) or "no run")


def _heldout_loss(average: LateAverage) -> Estimate:
    if average.heldout_reason is not None:
        return Estimate.missing(average.heldout_reason)
    return Estimate(value=average.heldout_loss, stderr=0.0, n=1)


_ONE_EVALUATION = "one evaluation of one run has no spread to take a standard error from"
_QUANTITIES: dict[str, Callable[[LateAverage], Estimate]] = {
    "chi_pos": lambda average: average.chi_pos,
    "chi_pos_unbiased": lambda average: average.chi_pos_unbiased,
    "train_loss": lambda average: average.train_loss,
    "heldout_loss": _heldout_loss,
}
