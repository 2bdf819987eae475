"""Isocompute curves: held-out loss and spectral position against model size, at fixed FLOPs.

A handful of budgets is spaced evenly in log compute over the range in which at least ``LEAST_SIZES`` sizes have data.
At each, every size that has passed it gives a point: its runs interpolated (``at_compute``), runs of equal parameters
averaged, numerator and denominator apart. The learning rate of a run on its way has not come down yet, so a point
lies a little above what a run of that length would have reached, the more so the earlier in its run: a bias against
large sizes that isocompute curves of single runs always have.

A point's standard error is the larger of two: that of the evaluations and windows it is interpolated from, and, where a
size has several runs, that of their spread. Two or three runs happen to agree too often for their spread alone to be
trusted.

Does position follow the loss from size to size? Only budgets tell at which the loss is lowest at a size between the
smallest and the largest, and is so in half of its redraws within the errors: elsewhere size alone may explain both.

chi_pos of a mini-batch depends on its units, so its curves use the windows of one number of units, the commonest in the
family; chi_pos_unbiased uses all.

Of a size with finished runs only these count, as on the frontier; of others the runs as far as they are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.at_compute import (
    Interpolated,
    LossPath,
    PositionPath,
    chi_pos_path,
    chi_pos_unbiased_path,
    loss_path,
)
from spectral_reach.studies.analysis.estimate import Estimate, ratio_of_means
from spectral_reach.studies.analysis.iso_minimum import IsoMinimum, Place, iso_minimum
from spectral_reach.studies.analysis.iso_rank import iso_rank
from spectral_reach.studies.analysis.rank import RankCorrelation, undefined_rank
from spectral_reach.studies.analysis.study_data import RunData

BUDGETS = 5
LEAST_SIZES = 3
LEAST_SHARE = 0.5  # of redraws, for a minimum to count as interior
LEAST_SPACING = 0.1  # decades: budgets any closer show the same points
QUANTITIES = ("heldout_loss", "chi_pos", "chi_pos_unbiased")
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class IsoPoint:
    """One size at one compute; the mean of its runs. A quantity that does not reach there has a reason."""

    parameters: int
    runs: int
    heldout_loss: Estimate
    chi_pos: Estimate
    chi_pos_unbiased: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class IsoCurve:
    """One compute: its sizes, smallest first, and the minimum of each quantity over them."""

    flops: float
    points: tuple[IsoPoint, ...]
    heldout_loss: IsoMinimum
    chi_pos: IsoMinimum
    chi_pos_unbiased: IsoMinimum


@dataclass(frozen=True, kw_only=True, slots=True)
class IsoCompute:
    """The curves of one family.

    Attributes:
        curves: by compute; empty with a ``reason``.
        left_out: runs that take no part, each with its reason.
        n_units: units of a measurement of chi_pos; None where there is none.
        telling: how many of them have an interior minimum of the loss, beyond chance.
        follows_chi_pos: does chi_pos follow the held-out loss at these? (``iso_rank``)
        follows_chi_pos_unbiased: does chi_pos_unbiased?
        reason: why there are no curves.
    """

    curves: tuple[IsoCurve, ...]
    left_out: tuple[str, ...]
    n_units: int | None
    telling: int
    follows_chi_pos: RankCorrelation
    follows_chi_pos_unbiased: RankCorrelation
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Paths:
    """One run, ready for interpolation."""

    heldout_loss: LossPath
    chi_pos: PositionPath
    chi_pos_unbiased: PositionPath

    @property
    def span(self) -> tuple[float, float]:
        """The log compute over which there are a loss and a position. chi_pos counts where there is any."""
        paths = [self.heldout_loss.log_flops, self.chi_pos_unbiased.log_flops]
        if len(self.chi_pos.log_flops) >= 2:
            paths.append(self.chi_pos.log_flops)
        return max(float(path[0]) for path in paths), min(float(path[-1]) for path in paths)


def isocompute(runs: Sequence[RunData], *, budgets: int = BUDGETS, seed: int = 0) -> IsoCompute:
    """The curves of one family's runs at no more than ``budgets`` FLOPs."""
    left_out: list[str] = []
    n_units = _commonest_units(runs)
    sizes: dict[int, list[_Paths]] = {}
    for parameters in sorted({run.parameters for run in runs}):
        same = [run for run in runs if run.parameters == parameters]
        counted = [run for run in same if run.is_finished] or same
        finished = counted[0].is_finished
        left_out += [
            f"{run.name}: unfinished, while other runs of its size are finished"
            for run in same
            if finished and not run.is_finished
        ]
        for run in counted:
            paths = _paths(run, n_units)
            if isinstance(paths, str):
                left_out.append(f"{run.name}: {paths}")
            else:
                sizes.setdefault(parameters, []).append(paths)
    spans = {p: _common([path.span for path in paths]) for p, paths in sizes.items()}
    chosen = _budgets(list(spans.values()), budgets)
    curves = tuple(_curve(at, {p: sizes[p] for p, span in spans.items() if _within(at, span)}, seed) for at in chosen)
    telling = [curve for curve in curves if _tells(curve)]
    reason = None if curves else f"at no compute do {LEAST_SIZES} sizes have both held-out losses and spectral position"
    return IsoCompute(
        curves=curves,
        left_out=tuple(left_out),
        n_units=n_units,
        telling=len(telling),
        follows_chi_pos=_follows(curves, telling, "chi_pos", seed),
        follows_chi_pos_unbiased=_follows(curves, telling, "chi_pos_unbiased", seed),
        reason=reason,
    )


def _commonest_units(runs: Sequence[RunData]) -> int | None:
    """The units of most measurements, the fewest of equals."""
    counts = Counter(int(n) for run in runs for n in run.measurements.n_units)
    return min(counts, key=lambda n: (-counts[n], n)) if counts else None


def _paths(run: RunData, n_units: int | None) -> _Paths | str:
    """The run's paths, or why it takes no part."""
    losses, unbiased = loss_path(run), chi_pos_unbiased_path(run)
    if len(losses.log_flops) < 2:
        return f"{len(losses.log_flops)} evaluations behind warm-up and below the unigram entropy, 2 are needed"
    if len(unbiased.log_flops) < 2 or n_units is None:
        return f"{len(unbiased.log_flops)} windows of measurements behind warm-up, 2 are needed"
    return _Paths(heldout_loss=losses, chi_pos=chi_pos_path(run).of_units(n_units), chi_pos_unbiased=unbiased)


def _common(spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return max(low for low, _ in spans), min(high for _, high in spans)


def _within(at: float, span: tuple[float, float]) -> bool:
    return span[0] - _ROUNDING <= at <= span[1] + _ROUNDING


def _budgets(spans: Sequence[tuple[float, float]], most: int) -> list[float]:
    """Log compute, evenly spaced from the first to the last that ``LEAST_SIZES`` sizes share."""

    def shared(at: float) -> bool:
        return sum(_within(at, span) for span in spans) >= LEAST_SIZES

    starts = [low for low, high in spans if low <= high and shared(low)]
    ends = [high for low, high in spans if low <= high and shared(high)]
    if not starts:
        return []
    decades = (max(ends) - min(starts)) / math.log(10)
    n = max(1, min(most, math.floor(decades / LEAST_SPACING) + 1))
    return [at for at in np.linspace(min(starts), max(ends), n).tolist() if shared(at)]


def _curve(at: float, sizes: Mapping[int, Sequence[_Paths]], seed: int) -> IsoCurve:
    points = tuple(
        IsoPoint(
            parameters=parameters,
            runs=len(paths),
            heldout_loss=_estimate([path.heldout_loss.at(at) for path in paths], "held-out losses"),
            chi_pos=_estimate([path.chi_pos.at(at) for path in paths], "windows of one number of units"),
            chi_pos_unbiased=_estimate([path.chi_pos_unbiased.at(at) for path in paths], "windows"),
        )
        for parameters, paths in sizes.items()
    )
    parameters = [point.parameters for point in points]
    minima = [iso_minimum(parameters, [getattr(point, q) for point in points], seed=seed) for q in QUANTITIES]
    return IsoCurve(
        flops=math.exp(at), points=points, heldout_loss=minima[0], chi_pos=minima[1], chi_pos_unbiased=minima[2]
    )


def _estimate(runs: Sequence[Interpolated | None], what: str) -> Estimate:
    """The runs of one size as one number."""
    known = [run for run in runs if run is not None]
    if len(known) < len(runs):
        return Estimate.missing(f"the {what} do not reach this compute")
    numerator = np.array([run.numerator for run in known])
    denominator = np.array([run.denominator for run in known])
    value = float(numerator.sum() / denominator.sum())
    own = math.hypot(*(run.stderr * run.denominator for run in known)) / float(denominator.sum())
    between = ratio_of_means(numerator, denominator).stderr if len(known) > 1 else 0.0
    if math.isnan(own) and len(known) == 1:
        reason = "too few evaluations to take a standard error from"
        return Estimate(value=value, stderr=math.nan, n=1, reason=reason)
    return Estimate(value=value, stderr=max(between, 0.0 if math.isnan(own) else own), n=len(known))


def _tells(curve: IsoCurve) -> bool:
    lowest = curve.heldout_loss
    return lowest.place is Place.INTERIOR and lowest.share_interior >= LEAST_SHARE


def _why_none_tells(curves: Sequence[IsoCurve]) -> str:
    known = [curve for curve in curves if curve.heldout_loss.place is not None]
    if not known:
        return f"no minimum of the held-out loss is known at any budget: {curves[0].heldout_loss.reason}"
    at = "the one budget" if len(known) == 1 else f"all {len(known)} budgets"
    return (
        f"at {at} the held-out loss is lowest at the smallest or the largest size, or as likely there as between them: "
        "size alone may explain both"
    )


def _follows(curves: Sequence[IsoCurve], telling: Sequence[IsoCurve], quantity: str, seed: int) -> RankCorrelation:
    if curves and not telling:
        return undefined_rank(_why_none_tells(curves), n=0, sizes=0)
    sizes = sorted({point.parameters for curve in telling for point in curve.points})
    table = np.full((4, len(telling), len(sizes)), math.nan)
    for row, curve in enumerate(telling):
        for point in curve.points:
            column = sizes.index(point.parameters)
            loss, position = point.heldout_loss, getattr(point, quantity)
            table[:, row, column] = loss.value, loss.stderr, position.value, position.stderr
    return iso_rank(*table, seed=seed)
