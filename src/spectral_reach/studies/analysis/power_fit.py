"""A power law of a loss, with and without an irreducible part, fitted robustly and with a bootstrap interval.

L(x) = A x^-alpha, or L(x) = E + A x^-alpha, is fitted to the residuals of log L with Huber's loss
(``robust_regression``).

**Delta.** Hoffmann et al. (2022) use delta = 1e-3 on hundreds of runs. Most residuals of a small family are larger than
that, so it would be a regression of absolute values, which passes exactly through as many points as it has parameters,
is a third less efficient under normal noise, and whose bootstrap jumps from point to point. Here that fit is the
first stage only. Its residuals give a scale that outliers do not move, their median absolute size without the
smallest p (a fit of absolute values makes p of them 0: Maronna, Martin and Yohai 2006, section 4.4) over 0.6745;
delta is then 1.345 times that scale, which keeps 95% efficiency under normal noise, but never below 1e-3. It stays
the same for all redrawn curves.

**Interval.** From fits to curves redrawn by the caller: over runs, over windows. Without any, the scatter of the
points about the fit is redrawn, widened by Student's factor for its n - p degrees of freedom.

**What the data cannot carry** is NaN, with a reason. For either form:

- fewer points than parameters and one, or a shorter range than ``LEAST_DECADES``;
- the best exponent at the bound of the search.

For the irreducible loss besides:

- a straight power law fits as well: an F-test of the two forms, Huber's objective in place of squares, at 5%;
- the best E is 0, or its interval comes within 1% of the lowest loss to 0 or reaches the lowest loss itself: then the
  curve may go straight on, or be over already;
- the exponent's interval is wider than the exponent.

These rules look at the same curve that is fitted, so an irreducible loss that passes is one that this curve shows,
not one that a longer curve would confirm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from spectral_reach.studies.analysis.estimate import FloatArray
from spectral_reach.studies.analysis.interval import HIGH, LOW, Interval
from spectral_reach.studies.analysis.robust_regression import STEEPEST, Minima, minimise

LEAST_DECADES = 0.5
LEAST_DECADES_IRREDUCIBLE = 1.0
LEAST_DELTA = 1e-3
EFFICIENT = 1.345  # delta over the scale of normal noise, for 95% efficiency
MEDIAN_OF_NORMAL = 0.6745  # median absolute size of a standard normal number
ROUGH_STEPS = 25  # enough for the scale of the residuals
NEAR_ZERO = 0.01
LEVEL = 0.05
_ROUNDING = 1e-6  # residuals of log L that are none


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerFit:
    """L = E + A x^-alpha over the range of the points, E = 0 if the form has none.

    Attributes:
        with_irreducible: whether the form has E.
        exponent: alpha, positive where the loss falls.
        irreducible: E, in the unit of the loss; 0 to 0 where the form has none.
        log_amplitude: natural logarithm of A, the reducible loss at x = 1.
        r2: share of the variance of log L that is explained; NaN if all losses are equal.
        residual_scale: of log L about the fit: sqrt(2 Q / (n - p)), Q Huber's objective; the root mean square where
            no residual is cut.
        noise_scale: root mean square of the redrawn curves' spread in log L; NaN where none were given. A
            ``residual_scale`` well above it says that the law is not exact, which the interval does not cover.
        n: points.
        decades: range of x.
        redrawn: (draws, 3) log amplitude, exponent and E of every redrawn curve; (0, 3) with a ``reason``.
        reason: why nothing is fitted; numbers about the fit are NaN then.
    """

    with_irreducible: bool
    exponent: Interval
    irreducible: Interval
    log_amplitude: float
    r2: float
    residual_scale: float
    noise_scale: float
    n: int
    decades: float
    redrawn: FloatArray = field(repr=False, compare=False)
    reason: str | None = None

    @property
    def from_scatter(self) -> bool:
        """Whether the intervals come from the scatter of the points about the fit, not from redrawn curves."""
        return self.reason is None and math.isnan(self.noise_scale)

    def loss_at(self, x: FloatArray) -> FloatArray:
        """The fitted law; NaN where there is none."""
        return self.irreducible.value + np.exp(self.log_amplitude - self.exponent.value * np.log(x))

    def band_at(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """95% interval of the law itself at each x; NaN where there is none."""
        if self.reason is not None:
            return np.full(len(x), math.nan), np.full(len(x), math.nan)
        log_amplitude, exponent, irreducible = self.redrawn.T[:, :, None]
        low, high = np.quantile(irreducible + np.exp(log_amplitude - exponent * np.log(x)), [LOW, HIGH], axis=0)
        return low, high


def power_fit(
    x: FloatArray,
    loss: FloatArray,
    *,
    irreducible: bool,
    redrawn_loss: FloatArray | None = None,
    redrawn_x: FloatArray | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> PowerFit:
    """Fit one form to n points.

    Args:
        x: (n) positive: parameters, FLOPs.
        loss: (n) positive.
        irreducible: whether the form has E.
        redrawn_loss: (draws, n) the curve with its noise drawn anew; None: redraw the scatter about the fit.
        redrawn_x: (draws, n) the x of each redrawn loss, where it is not the same.
        draws: of the scatter; not used where ``redrawn_loss`` is given.
        seed: of these.
    """
    n, p = len(x), 3 if irreducible else 2
    decades = math.log10(float(x.max() / x.min())) if n else 0.0

    def nothing(reason: str) -> PowerFit:
        return undefined_fit(reason, irreducible=irreducible, n=n, decades=decades)

    least = LEAST_DECADES_IRREDUCIBLE if irreducible else LEAST_DECADES
    if n < p + 1:
        return nothing(f"{n} points cannot carry {p} parameters, {p + 1} are needed")
    if decades < least:
        return nothing(f"the points span {decades:.2g} decades, {least} are needed")
    if not (loss > 0).all() or (redrawn_loss is not None and not (redrawn_loss > 0).all()):
        return nothing("within its noise a loss is not above 0, so it has no logarithm")

    centre = float(np.log(x).mean())  # amplitude and exponent hardly depend on each other there
    unit = math.exp(float(np.log(loss).mean()))
    u, y = np.log(x)[None] - centre, loss[None] / unit
    rough = minimise(u, y, LEAST_DELTA, irreducible=irreducible, steps=ROUGH_STEPS)
    delta = max(LEAST_DELTA, EFFICIENT * _scale(rough.residuals[0], p))
    best = minimise(u, y, delta, irreducible=irreducible)
    residual_scale = math.sqrt(2 * float(best.objective[0]) / (n - p))
    if irreducible:
        reason = _is_straight(best, minimise(u, y, delta, irreducible=False), n)
        if reason is not None:
            return nothing(reason)
    if abs(best.parameters[0, 1]) >= STEEPEST:
        return nothing(f"the best exponent is at the bound of the search, {STEEPEST}")

    if redrawn_loss is None:
        noise = residual_scale * students_factor(n - p) * np.random.default_rng(seed).standard_normal((draws, n))
        curves = y * np.exp(noise - best.residuals)
    else:
        curves = redrawn_loss / unit
    places = np.broadcast_to(u, curves.shape) if redrawn_x is None else np.log(redrawn_x) - centre
    again = minimise(places, curves, delta, irreducible=irreducible, start_shares=(0.0,), start=best.parameters[0])
    redrawn = _in_units(again.parameters, centre, unit)
    log_amplitude, exponent, e = _in_units(best.parameters, centre, unit)[0].tolist()
    found = PowerFit(
        with_irreducible=irreducible,
        exponent=Interval.of_draws(exponent, redrawn[:, 1]),
        irreducible=Interval.of_draws(e, redrawn[:, 2]),
        log_amplitude=log_amplitude,
        r2=_r2(np.log(loss), best.residuals[0]),
        residual_scale=residual_scale,
        noise_scale=math.nan if redrawn_loss is None else float(np.sqrt(np.log(curves).var(axis=0).mean())),
        n=n,
        decades=decades,
        redrawn=redrawn,
    )
    reason = _is_open(found, float(loss.min())) if irreducible else None
    return found if reason is None else nothing(reason)


def _scale(residuals: FloatArray, p: int) -> float:
    return float(np.median(np.sort(np.abs(residuals))[p:])) / MEDIAN_OF_NORMAL


def _is_straight(bent: Minima, straight: Minima, n: int) -> str | None:
    """Why E is not needed, or None."""
    from scipy.stats import f

    if bent.parameters[0, 2] == 0:
        return "no irreducible loss: the best one is 0, the curve does not flatten"
    rounding = n * _ROUNDING**2 / 2
    within = max(float(bent.objective[0]), rounding) / (n - 3)
    ratio = (float(straight.objective[0]) - float(bent.objective[0])) / within
    if ratio <= f.ppf(1 - LEVEL, 1, n - 3):
        p = float(f.sf(max(ratio, 0.0), 1, n - 3))
        return f"no irreducible loss is needed: a straight power law fits as well (F-test, p = {p:.2g})"
    return None


def _is_open(found: PowerFit, lowest: float) -> str | None:
    """Why E is not identified, or None."""
    e, exponent = found.irreducible, found.exponent
    interval = f"its 95% interval is {e.low:.3g} to {e.high:.3g}, the lowest loss {lowest:.3g}"
    if e.low <= NEAR_ZERO * lowest:
        return f"the irreducible loss is not identified: it may be 0 ({interval})"
    if e.high >= lowest:
        return f"the irreducible loss is not identified: it may have been reached ({interval})"
    if exponent.high - exponent.low > abs(exponent.value):
        return (
            "with an irreducible loss the exponent is not identified: its 95% interval is "
            f"{exponent.low:.2g} to {exponent.high:.2g}, wider than the exponent"
        )
    return None


def _in_units(parameters: FloatArray, centre: float, unit: float) -> FloatArray:
    """(D, 3): log amplitude at x = 1, exponent and E, from b, alpha and E about ``centre`` in units of ``unit``."""
    b, alpha, floor = parameters.T
    return np.column_stack([b + math.log(unit) + alpha * centre, alpha, floor * unit])


def _r2(log_loss: FloatArray, residuals: FloatArray) -> float:
    total = float(((log_loss - log_loss.mean()) ** 2).sum())
    return 1 - float((residuals**2).sum()) / total if total > 0 else math.nan


def students_factor(degrees: int) -> float:
    """How much wider Student's 95% interval is than the normal one."""
    from scipy.stats import norm, t

    return float(t.ppf(HIGH, degrees) / norm.ppf(HIGH))


def undefined_fit(reason: str, *, irreducible: bool, n: int = 0, decades: float = 0.0) -> PowerFit:
    """No fit, for this reason."""
    return PowerFit(
        with_irreducible=irreducible,
        exponent=Interval.missing(),
        irreducible=Interval.missing(),
        log_amplitude=math.nan,
        r2=math.nan,
        residual_scale=math.nan,
        noise_scale=math.nan,
        n=n,
        decades=decades,
        redrawn=np.empty((0, 3)),
        reason=reason,
    )
