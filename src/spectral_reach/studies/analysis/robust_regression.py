"""The minimiser behind ``power_fit``: Huber's loss on the residuals of log L, for many curves at once.

The model is log L = log(E + exp(b - alpha u)), u = log x. It minimises sum_i rho(r_i), r_i the residuals of log L,
rho(r) = r^2 / 2 up to |r| = delta and delta (|r| - delta / 2) beyond. The amplitude is fitted as its logarithm, so that
it is positive; E itself is, in [0, highest loss], because its best value may be 0 exactly (a curve that does not
flatten), and a logarithm would run to minus infinity there. alpha is bounded by ``STEEPEST``.

The steps are Levenberg's and Marquardt's damped ones, with parameters that press against a bound held there. The
function has several minima in E, so every curve is started from several. A whole bootstrap is one batch of 3 x 3
systems, a hundred times faster than a call of ``scipy.optimize`` for each curve; the tests compare the minima.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import FloatArray

STEEPEST = 5.0
START_SHARES = (0.0, 0.5, 0.8, 0.95, 0.99)  # of the lowest loss, as starts of E
_EASE, _TIGHTEN = 0.3, 3.0  # of the damping, after a step that is taken or refused
STEPS = 80
_ENOUGH = 1e-9  # a step that promises less of the objective is the last: some 1e-5 of a standard error
_BEYOND = 0.1  # curvature of a residual beyond delta, as a share of that of its Huber weight: it is 0 in truth
_MOST_DAMPING = 1e5
_ROUNDING = 1e-20


@dataclass(frozen=True, kw_only=True, slots=True)
class Minima:
    """The best fit of every curve.

    Attributes:
        parameters: (D, 3) b, alpha and E.
        objective: (D) sum of Huber's losses.
        residuals: (D, n) of log L.
    """

    parameters: FloatArray
    objective: FloatArray
    residuals: FloatArray


def minimise(
    u: FloatArray,
    loss: FloatArray,
    delta: float,
    *,
    irreducible: bool,
    start_shares: tuple[float, ...] = START_SHARES,
    start: FloatArray | None = None,
    steps: int = STEPS,
) -> Minima:
    """Fit every row of ``loss`` (D, n) against ``u`` (D, n), keeping the best of the starts.

    Each start is a straight line through log(L - E), E being one of ``start_shares`` of the lowest loss; ``start``, b,
    alpha and E, is one more. Without ``irreducible`` E is 0 and one start is enough: the function is convex. ``steps``
    is the most that any start takes.
    """
    curves = len(loss)
    starts = [_line_above(u, loss, share) for share in (start_shares if irreducible else (0.0,))]
    if start is not None:
        starts.append(np.broadcast_to(start, (curves, 3)))
    least = np.tile([-np.inf, -STEEPEST, 0.0], (curves, 1))
    most = np.tile([np.inf, STEEPEST, 0.0], (curves, 1))
    if irreducible:
        most[:, 2] = loss.max(axis=1)
    copies = len(starts)
    found = _descend(
        np.tile(u, (copies, 1)),
        np.tile(np.log(loss), (copies, 1)),
        np.concatenate(starts),
        np.tile(least, (copies, 1)),
        np.tile(most, (copies, 1)),
        delta,
        steps,
    )
    best = found.objective.reshape(copies, curves).argmin(axis=0) * curves + np.arange(curves)
    return Minima(parameters=found.parameters[best], objective=found.objective[best], residuals=found.residuals[best])


def _line_above(u: FloatArray, loss: FloatArray, share: float) -> FloatArray:
    """(D, 3): E a share of the lowest loss, b and alpha by least squares on log(L - E)."""
    floor = share * loss.min(axis=1, keepdims=True)
    x = u - u.mean(axis=1, keepdims=True)
    y = np.log(loss - floor)
    slope = (x * y).sum(axis=1) / (x * x).sum(axis=1)
    alpha = np.clip(-slope, -STEEPEST, STEEPEST)
    return np.column_stack([y.mean(axis=1) + alpha * u.mean(axis=1), alpha, floor[:, 0]])


def _descend(
    u: FloatArray,
    log_loss: FloatArray,
    start: FloatArray,
    least: FloatArray,
    most: FloatArray,
    delta: float,
    steps: int,
) -> Minima:
    theta = np.clip(start, least, most)
    residuals = _residuals(u, log_loss, theta)
    objective = _huber(residuals, delta)
    damping = np.full(len(theta), 1e-3)
    rows = np.arange(len(theta))  # those that still move
    for _ in range(steps):
        step, promised = _step(u[rows], residuals[rows], theta[rows], least[rows], most[rows], delta, damping[rows])
        trial = np.clip(theta[rows] + step, least[rows], most[rows])
        trial_residuals = _residuals(u[rows], log_loss[rows], trial)
        trial_objective = _huber(trial_residuals, delta)
        gain = objective[rows] - trial_objective
        better = gain > 0
        done = (promised < _ENOUGH * objective[rows] + _ROUNDING) | (damping[rows] > _MOST_DAMPING)
        damping[rows] *= np.where(better, _EASE, _TIGHTEN)
        moved = rows[better]
        theta[moved], residuals[moved] = trial[better], trial_residuals[better]
        objective[moved] = trial_objective[better]
        rows = rows[~done]
        if len(rows) == 0:
            break
    return Minima(parameters=theta, objective=objective, residuals=residuals)


def _residuals(u: FloatArray, log_loss: FloatArray, theta: FloatArray) -> FloatArray:
    b, alpha, floor = theta.T[:, :, None]
    # A step may try a power that overflows or vanishes: its residuals are huge, and the step is refused.
    with np.errstate(over="ignore"):
        fitted = np.maximum(floor + np.exp(b - alpha * u), np.finfo(np.float64).tiny)
    residuals: FloatArray = log_loss - np.log(fitted)
    return residuals


def _step(
    u: FloatArray,
    residuals: FloatArray,
    theta: FloatArray,
    least: FloatArray,
    most: FloatArray,
    delta: float,
    damping: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """(D, 3) one damped step downhill, and (D) twice what the quadratic model gains by it.

    A parameter at a bound that downhill points out of does not move.
    """
    b, alpha, floor = theta.T[:, :, None]
    reducible = np.exp(b - alpha * u)
    share = reducible / (floor + reducible)
    jacobian = np.stack([share, -u * share, 1 / (floor + reducible)], axis=-1)  # (D, n, 3), of log L
    size = np.abs(residuals)
    downhill = np.einsum("dnp,dn->dp", jacobian, np.clip(residuals, -delta, delta))
    weights = np.where(size <= delta, 1.0, _BEYOND * delta / np.maximum(size, delta))
    curvature = np.einsum("dnp,dnq->dpq", jacobian * weights[..., None], jacobian)
    free = ((theta > least) | (downhill > 0)) & ((theta < most) | (downhill < 0)) & (least < most)
    curvature = curvature * (free[:, :, None] & free[:, None, :])
    scale = np.maximum(np.einsum("dpp->dp", curvature), _ROUNDING)
    curvature = curvature + np.eye(3) * np.where(free, scale * damping[:, None], 1.0)[:, None, :]
    downhill = np.where(free, downhill, 0.0)
    step: FloatArray = np.linalg.solve(curvature, downhill[..., None])[..., 0]
    return step, (step * downhill).sum(axis=1)


def _huber(residuals: FloatArray, delta: float) -> FloatArray:
    size = np.abs(residuals)
    objective: FloatArray = np.where(size <= delta, residuals**2 / 2, delta * (size - delta / 2)).sum(axis=-1)
    return objective
