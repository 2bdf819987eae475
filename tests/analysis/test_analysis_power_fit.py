"""Power laws: the minimiser against scipy's, known laws found, intervals that cover, fits that data cannot carry."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom, t

from spectral_reach.studies.analysis.power_fit import PowerFit, power_fit, undefined_fit
from spectral_reach.studies.analysis.robust_regression import STEEPEST, minimise

E, A, ALPHA = 2.0, 2.0, 0.4  # A at the smallest x


def sizes(n: int = 12, decades: float = 2.0):
    return np.logspace(4, 4 + decades, n)


def law(x, e=E, a=A, alpha=ALPHA):
    return e + a * (x / x.min()) ** -alpha


def redrawn(y, noise, rng, draws=100):
    return y * np.exp(noise * rng.standard_normal((draws, len(y))))


@pytest.mark.slow
@pytest.mark.parametrize("delta", [1e-3, 0.01, 1.0])
def test_no_minimum_of_scipy_is_lower(delta):
    rng = np.random.default_rng(0)
    u = np.linspace(-3, 3, 12)
    curves = np.array([e + np.exp(rng.normal() / 2 - a * u) for e in (0.0, 0.5, 2.0) for a in (0.05, 0.2, 0.7)])
    curves *= np.exp(0.01 * rng.standard_t(2, curves.shape))
    ours = minimise(np.tile(u, (9, 1)), curves, delta, irreducible=True)

    def objective(p, y):
        r = np.abs(np.log(y) - np.log(np.exp(p[2]) + np.exp(p[0] - p[1] * u)))
        return np.where(r <= delta, r**2 / 2, delta * (r - delta / 2)).sum()

    for y, found, (b, alpha, e) in zip(curves, ours.objective, ours.parameters, strict=True):
        assert objective([b, alpha, math.log(e) if e > 0 else -1e6], y) == pytest.approx(found, rel=1e-9)
        starts = [(0.0, a, e) for a in (0.1, 0.5) for e in (-8.0, -0.5, 0.5)]
        best = min(minimize(objective, start, args=(y,), method="L-BFGS-B").fun for start in starts)
        assert found <= best * (1 + 1e-6)


def test_laws_without_noise_are_found_exactly():
    x = sizes()
    straight = power_fit(x, 3 * x**-0.11, irreducible=False)
    assert straight.exponent.value == pytest.approx(0.11, rel=1e-9)
    assert straight.log_amplitude == pytest.approx(math.log(3), rel=1e-9)
    assert (straight.irreducible.low, straight.irreducible.high) == (0, 0)
    bent = power_fit(x, 1.5 + 40 * x**-0.3, irreducible=True)
    assert bent.reason is None
    assert bent.exponent.value == pytest.approx(0.3, rel=1e-5)
    assert bent.irreducible.value == pytest.approx(1.5, rel=1e-5)
    assert bent.log_amplitude == pytest.approx(math.log(40), rel=1e-5)
    assert bent.r2 == pytest.approx(1, abs=1e-9)
    assert bent.loss_at(x) == pytest.approx(1.5 + 40 * x**-0.3, rel=1e-6)
    assert (bent.n, bent.decades) == (12, pytest.approx(2))


def test_scaling_the_axes_scales_the_law():
    rng = np.random.default_rng(1)
    x, y = sizes(), law(sizes()) * np.exp(0.003 * rng.standard_normal(12))
    one = power_fit(x, y, irreducible=True)
    other = power_fit(1e6 * x, 50 * y, irreducible=True)
    assert other.exponent.value == pytest.approx(one.exponent.value, rel=1e-4)
    assert other.irreducible.value == pytest.approx(50 * one.irreducible.value, rel=1e-4)
    assert other.loss_at(1e6 * x) == pytest.approx(50 * one.loss_at(x), rel=1e-6)
    assert other.residual_scale == pytest.approx(one.residual_scale, rel=1e-6)


def repeat(n, decades, e, alpha, noise, *, irreducible, given, repeats) -> tuple[list[PowerFit], np.ndarray]:
    x = sizes(n, decades)
    fits = []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        y = law(x, e=e, alpha=alpha) * np.exp(noise * rng.standard_normal(n))
        copies = redrawn(y, noise, rng) if given else None
        fits.append(power_fit(x, y, irreducible=irreducible, redrawn_loss=copies, draws=100, seed=seed))
    return fits, x


def assert_covers(hits: int, repeats: int) -> None:
    """Between 90 and 98%, give or take what ``repeats`` can tell."""
    assert binom.ppf(0.01, repeats, 0.90) <= hits <= binom.ppf(0.99, repeats, 0.98)


@pytest.mark.slow
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("n", [5, 12])
def test_the_interval_of_a_straight_law_covers_it(given, n):
    fits, _ = repeat(n, 1.6, 0.0, 0.1, 0.01, irreducible=False, given=given, repeats=120)
    assert_covers(sum(fit.exponent.low <= 0.1 <= fit.exponent.high for fit in fits), 120)
    assert {fit.from_scatter for fit in fits} == {not given}


@pytest.mark.slow
@pytest.mark.parametrize(("n", "noise", "given"), [(5, 0.002, True), (12, 0.005, False)])
def test_a_strong_irreducible_loss_is_found_and_its_intervals_cover_it(n, noise, given):
    fits, x = repeat(n, 2.0, E, ALPHA, noise, irreducible=True, given=given, repeats=80)
    assert [fit.reason for fit in fits] == [None] * 80
    assert_covers(sum(fit.exponent.low <= ALPHA <= fit.exponent.high for fit in fits), 80)
    assert_covers(sum(fit.irreducible.low <= E <= fit.irreducible.high for fit in fits), 80)
    ends = [(fit.band_at(x[-1:])) for fit in fits]
    assert_covers(sum(low[0] <= law(x)[-1] <= high[0] for low, high in ends), 80)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "given"), [(12, True), (30, False)])
def test_a_straight_law_has_no_irreducible_loss(n, given):
    fits, _ = repeat(n, 2.0, 0.0, 0.1, 0.01, irreducible=True, given=given, repeats=100)
    found = sum(fit.reason is None for fit in fits)
    assert found <= binom.ppf(0.99, 100, 0.025)  # the F-test at 5%, of which the half with E above 0 counts
    reasons = {fit.reason.split(":")[0] for fit in fits if fit.reason}
    assert {"no irreducible loss", "no irreducible loss is needed"} <= reasons


def test_a_bend_that_the_noise_hides_is_not_identified():
    """The redrawn curves are noisier than the curve: its bend is clear to the F-test, but not what it means."""
    x, rng = sizes(), np.random.default_rng(0)
    y = law(x, e=0.8, a=2.0, alpha=0.15)
    found = power_fit(x, y, irreducible=True, redrawn_loss=redrawn(y, 0.03, rng, 400))
    assert "the irreducible loss is not identified: it may be 0 (its 95% interval is" in found.reason


def test_a_curve_that_is_over_is_not_identified():
    x, rng = sizes(8), np.random.default_rng(0)
    y = law(x, e=2.0, a=1.0, alpha=1.2)
    found = power_fit(x, y, irreducible=True, redrawn_loss=redrawn(y, 0.02, rng, 400))
    assert "it may have been reached" in found.reason
    assert f"the lowest loss {y.min():.3g}" in found.reason


def test_an_exponent_less_certain_than_itself_is_not_identified():
    x, rng = sizes(30, 3), np.random.default_rng(0)
    y = law(x, e=4.0, a=1.0, alpha=0.2)
    found = power_fit(x, y, irreducible=True, redrawn_loss=redrawn(y, 0.01, rng, 400))
    assert "the exponent is not identified" in found.reason
    assert "wider than the exponent" in found.reason


@pytest.mark.parametrize(
    ("x", "y", "irreducible", "reason"),
    [
        ([], [], False, "0 points cannot carry 2 parameters, 3 are needed"),
        ([1e4, 1e5], [3.0, 2.0], False, "2 points cannot carry 2 parameters, 3 are needed"),
        ([1e4, 1e5, 1e6], [3.0, 2.0, 1.5], True, "3 points cannot carry 3 parameters, 4 are needed"),
        ([1e4, 1.5e4, 2e4], [3.0, 2.9, 2.8], False, "the points span 0.3 decades, 0.5 are needed"),
        ([1e4, 2e4, 4e4, 8e4], [3.0, 2.6, 2.4, 2.3], True, "the points span 0.9 decades, 1.0 are needed"),
        ([1e4, 1e5, 1e6], [3.0, 2.0, 0.0], False, "a loss is not above 0"),
        ([1, 10, 100], [1e20, 1e10, 1.0], False, f"the best exponent is at the bound of the search, {STEEPEST}"),
    ],
)
def test_what_cannot_be_fitted_has_a_reason(x, y, irreducible, reason):
    found = power_fit(np.array(x), np.array(y), irreducible=irreducible)
    assert reason in found.reason
    numbers = (found.exponent, found.irreducible)
    assert all(math.isnan(v) for interval in numbers for v in (interval.value, interval.low, interval.high))
    assert math.isnan(found.log_amplitude)
    assert np.isnan(found.loss_at(np.array([1e5]))).all()
    assert np.isnan(found.band_at(np.array([1e5]))).all()
    assert not found.from_scatter
    assert found.n == len(x)


def test_copies_that_reach_zero_are_refused():
    x = sizes(5)
    found = power_fit(x, law(x), irreducible=False, redrawn_loss=law(x) * np.array([[1, 1, 1, 1, -1]]))
    assert "within its noise a loss is not above 0" in found.reason


def test_one_wild_point_hardly_moves_the_exponent():
    rng = np.random.default_rng(0)
    x = sizes()
    y = law(x, e=0.0, alpha=0.1) * np.exp(0.005 * rng.standard_normal(12))
    clean = power_fit(x, y, irreducible=False).exponent.value
    y[-1] *= 1.2
    wild = power_fit(x, y, irreducible=False).exponent.value
    squares = -np.polyfit(np.log(x), np.log(y), 1)[0]
    assert abs(wild - clean) < 0.2 * abs(squares - clean)


def test_the_interval_from_scatter_is_students():
    """Least squares in log-log; Huber's loss of few points cuts some, so it is somewhat wider."""
    rng = np.random.default_rng(3)
    ratios = []
    for seed in range(40):
        x, u = sizes(6), np.log(sizes(6))
        y = law(x, e=0.0, alpha=0.1) * np.exp(0.01 * rng.standard_normal(6))
        fit = power_fit(x, y, irreducible=False, draws=400, seed=seed)
        squares = np.polyfit(u, np.log(y), 1)
        s = math.sqrt(((np.log(y) - np.polyval(squares, u)) ** 2).sum() / 4)
        exact = 2 * t.ppf(0.975, 4) * s / math.sqrt(((u - u.mean()) ** 2).sum())
        ratios.append((fit.exponent.high - fit.exponent.low) / exact)
    assert 0.9 < np.median(ratios) < 1.2


def test_the_noise_of_the_copies_is_told_apart_from_the_scatter():
    rng = np.random.default_rng(0)
    x = sizes(10)
    y = law(x, e=0.0, alpha=0.1) * np.exp(0.02 * rng.standard_normal(10))
    fit = power_fit(x, y, irreducible=False, redrawn_loss=redrawn(y, 0.001, rng, 1000))
    assert fit.noise_scale == pytest.approx(0.001, rel=0.05)
    assert fit.residual_scale == pytest.approx(0.02, rel=0.5)
    assert math.isnan(power_fit(x, y, irreducible=False).noise_scale)


def test_copies_may_have_their_own_x():
    """Copies of the law at shifted x, each exactly on the law: no spread is left in the fits."""
    rng = np.random.default_rng(0)
    x = sizes(10)
    shifted = x * np.exp(0.3 * rng.standard_normal((100, 10)))
    copies = 2 * (shifted / x.min()) ** -0.1
    fit = power_fit(x, law(x, e=0.0, alpha=0.1), irreducible=False, redrawn_loss=copies, redrawn_x=shifted)
    assert (fit.exponent.low, fit.exponent.high) == (pytest.approx(0.1, rel=1e-6), pytest.approx(0.1, rel=1e-6))


def test_the_same_seed_gives_the_same_fit_and_another_seed_another_interval():
    x, y = sizes(6), law(sizes(6)) * np.exp(0.002 * np.random.default_rng(0).standard_normal(6))
    one, same, other = (power_fit(x, y, irreducible=False, seed=seed) for seed in (3, 3, 4))
    assert one == same
    assert (one.redrawn == same.redrawn).all()
    assert one.exponent.value == other.exponent.value
    assert one.exponent.low != other.exponent.low


def test_equal_losses_have_no_variance_to_explain():
    fit = power_fit(sizes(6), np.full(6, 2.0), irreducible=False)
    assert fit.exponent.value == pytest.approx(0, abs=1e-12)
    assert math.isnan(fit.r2)


def test_no_fit_for_a_reason():
    found = undefined_fit("because", irreducible=True, n=3)
    assert (found.reason, found.n, found.with_irreducible) == ("because", 3, True)
