"""The loss-compute frontier, the lowest loss that any size reaches with a given compute, and its power law.

Every run's loss is averaged in windows on a common grid of log compute (``size_curve``). In each window the
frontier is the lowest of the sizes' averages, and log L = a - alpha log C is fitted to it by least squares.
``compute_law`` fits the same points robustly, with and without an irreducible loss.

**Which windows count.** A size takes part from the first window that lies wholly behind its learning-rate
warm-up and in which its loss is below the unigram entropy of the data: before that it learns to optimise and
to count tokens, which says nothing about scale. A window counts if at least two sizes take part in it, so
that its minimum is a comparison: compute too small for any but the smallest size, or spent by none but the
largest, shows one model's learning curve.

**What the interval covers.** The noise of the training batches, by redrawing the losses within every window
and choosing the lowest size anew. If a size was trained with several seeds, its runs are redrawn whole
instead, which covers the spread from seed to seed too (a little narrow with few: four runs of four sizes cover the
truth in 92% of cases, not 95%). It does not cover: seeds that were not run, the choice of sizes (see
``without_each_size``), learning rates tuned less well for one size than for another, and the bend of a loss with an
irreducible part, which is no straight line in log-log (``compute_law`` has that form).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spectral_reach.studies.analysis.estimate import FloatArray
from spectral_reach.studies.analysis.size_curve import SizeCurve, size_curves
from spectral_reach.studies.analysis.study_data import RunData

LEAST_WINDOWS = 5
LEAST_DECADES = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontierPoint:
    """The frontier in one window: its compute, its loss and the size (parameters) that reaches it."""

    flops: float
    loss: float
    parameters: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Frontier:
    """L = exp(log_amplitude) C^-exponent, with C in FLOPs, over the compute of ``points``.

    Attributes:
        exponent: alpha; NaN with a ``reason`` where no fit is possible.
        low: 2.5% quantile of the bootstrap.
        high: 97.5% quantile.
        log_amplitude: a, the natural logarithm of the fitted loss at 1 FLOP.
        points: what was fitted.
        without_each_size: lowest and highest exponent when each size is left out in turn; NaN below 3 sizes.
        covers_seeds: whether every size had several runs, so that the interval covers their spread.
    """

    exponent: float
    low: float
    high: float
    log_amplitude: float
    points: tuple[FrontierPoint, ...]
    without_each_size: tuple[float, float]
    covers_seeds: bool
    reason: str | None = None

    def loss_at(self, flops: float) -> float:
        """The fitted power law."""
        return math.exp(self.log_amplitude - self.exponent * math.log(flops))


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """The lowest of the sizes' curves in each of the W windows that count, and the same of every redrawn copy.

    Attributes:
        points: the W windows.
        log_flops: (W) natural logarithm of the compute, of the size that has the lowest loss.
        log_loss: (W) natural logarithm of that loss.
        log_flops_redrawn: (draws, W).
        log_loss_redrawn: (draws, W); the size with the lowest loss is chosen anew in every copy.
        covers_seeds: as in ``Frontier``.
    """

    points: tuple[FrontierPoint, ...]
    log_flops: FloatArray
    log_loss: FloatArray
    log_flops_redrawn: FloatArray
    log_loss_redrawn: FloatArray
    covers_seeds: bool


def frontier(runs: Sequence[RunData], *, seed: int = 0, draws: int = 2000) -> Frontier:
    """The frontier of one family's runs, with a seeded bootstrap interval. Runs of equal parameters are one
    size."""
    sizes = size_curves(runs, draws, np.random.default_rng(seed))
    found = _fit_sizes(sizes)
    if len(sizes) < 3 or found.reason is not None:
        return found
    others = [_fit_sizes([other for other in sizes if other is not size]).exponent for size in sizes]
    known = [exponent for exponent in others if not math.isnan(exponent)]
    return replace(found, without_each_size=(min(known), max(known))) if known else found


def _fit_sizes(sizes: Sequence[SizeCurve]) -> Frontier:
    found = envelope(sizes)
    if isinstance(found, str):
        return _undefined(found)
    intercept, slope = _line(found.log_flops, found.log_loss)
    low, high = np.quantile(-_line(found.log_flops_redrawn, found.log_loss_redrawn)[1], [0.025, 0.975])
    return Frontier(
        exponent=-float(slope),
        low=float(low),
        high=float(high),
        log_amplitude=float(intercept),
        points=found.points,
        without_each_size=(math.nan, math.nan),
        covers_seeds=found.covers_seeds,
    )


def envelope(sizes: Sequence[SizeCurve]) -> Envelope | str:
    """The frontier of these sizes, or why there is none that a law could be fitted to."""
    if len(sizes) < 2:
        return f"{len(sizes)} sizes get below the unigram entropy after warm-up, a frontier needs at least 2"
    loss = np.array([size.loss for size in sizes])  # (sizes, W)
    compared = np.flatnonzero(np.isfinite(loss).sum(axis=0) >= 2)
    if len(compared) == 0:
        return "no two sizes spent the same compute after warm-up"
    log_flops = np.array([size.log_flops for size in sizes])[:, compared]
    x, y, best = _lowest(log_flops, loss[:, compared])
    decades = float((x[-1] - x[0]) / math.log(10))
    if len(x) < LEAST_WINDOWS or decades < LEAST_DECADES:
        return (
            f"at least two sizes are compared over {decades:.2g} decades of compute in {len(x)} windows, "
            f"a fit needs {LEAST_DECADES} decades and {LEAST_WINDOWS} windows"
        )
    if len(set(best.tolist())) == 1:
        return f"one size alone, {sizes[best[0]].parameters} parameters, has the lowest loss at every compute"
    redrawn = np.array([size.redrawn for size in sizes])[:, :, compared]  # (sizes, draws, W)
    x_redrawn, y_redrawn, _ = _lowest(np.broadcast_to(log_flops[:, None], redrawn.shape), redrawn)
    return Envelope(
        points=tuple(
            FrontierPoint(flops=math.exp(x[i]), loss=float(y[i]), parameters=sizes[best[i]].parameters)
            for i in range(len(x))
        ),
        log_flops=x,
        log_loss=np.log(y),
        log_flops_redrawn=x_redrawn,
        log_loss_redrawn=np.log(y_redrawn),
        covers_seeds=all(size.several_runs for size in sizes),
    )


def _lowest(log_flops: FloatArray, loss: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
    """Over the first axis, the sizes: the compute, the loss and the index of the lowest loss."""
    best = np.nanargmin(loss, axis=0)
    x = np.take_along_axis(log_flops, best[None], axis=0)[0]
    y = np.take_along_axis(loss, best[None], axis=0)[0]
    return x, y, best


def _line(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least squares over the last axis: intercept and slope."""
    x_mean, y_mean = x.mean(axis=-1, keepdims=True), y.mean(axis=-1, keepdims=True)
    slope = ((x - x_mean) * (y - y_mean)).sum(axis=-1) / ((x - x_mean) ** 2).sum(axis=-1)
    return y_mean[..., 0] - slope * x_mean[..., 0], slope


def _undefined(reason: str) -> Frontier:
    nan = math.nan
    return Frontier(
        exponent=nan,
        low=nan,
        high=nan,
        log_amplitude=nan,
        points=(),
        without_each_size=(nan, nan),
        covers_seeds=False,
        reason=reason,
    )
