"""The frontier: known power laws are found, the interval covers as promised, the rule of participation holds."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from analysis.synthetic_study import SyntheticRun, as_run_data, text_runs
from spectral_reach.studies.analysis.frontier import Frontier, frontier
from spectral_reach.studies.analysis.loss_curve import loss_curve
from spectral_reach.studies.analysis.size_curve import size_curves
from spectral_reach.studies.analysis.study_data import Losses, RunData

ALPHA, AMPLITUDE = 0.11, 60.0
SIZES = (1_000, 4_000, 16_000, 64_000)
STEPS = 400
FLOPS_PER_STEP = 6 * 512  # per parameter


def exact_run(
    parameters: int, rng: np.random.Generator, *, noise: float = 0.03, between: float = 0.0, name: str = ""
) -> RunData:
    """A run whose loss is the power law while it is on the frontier, from step 30 to step 120, and above it elsewhere.

    The next size is four times as large: it comes on the frontier where this one leaves it. Losses carry lognormal
    noise from step to step (``noise``) and a factor for the whole run (``between``: the spread between seeds).
    """
    step = np.arange(STEPS + 1)
    compute = FLOPS_PER_STEP * parameters * np.maximum(step, 1).astype(float)
    late = np.maximum(0, np.log(step / 120, where=step > 0, out=np.zeros(STEPS + 1)))
    early = np.maximum(0, np.log(30 / np.maximum(step, 1)))
    law = AMPLITUDE * compute**-ALPHA * np.exp(0.15 * late + 0.15 * early + between * rng.standard_normal())
    losses = law * np.exp(noise * rng.standard_normal(STEPS + 1))
    losses[-1] = math.nan
    template = as_run_data(SyntheticRun(name=name or f"run-{parameters}", parameters=parameters, steps=STEPS, done=0))
    spent = np.where(step > 0, compute, 0.0)
    return replace(
        template,
        unigram_entropy=math.inf,
        warmup_steps=5,
        is_finished=True,
        losses=Losses(
            step=step, tokens=spent, flops=spent, train_loss=losses, heldout_loss=np.full(STEPS + 1, math.nan)
        ),
    )


def on_frontier(found: Frontier, run: RunData) -> set[float]:
    return {point.flops for point in found.points if point.parameters == run.parameters}


def test_a_known_power_law_without_noise_is_found_exactly():
    rng = np.random.default_rng(0)
    found = frontier([exact_run(p, rng, noise=0.0) for p in SIZES])
    # Within a window the mean of C^-alpha is not the power of the mean of log C: 0.1 decade of it, alpha = 0.11.
    assert found.exponent == pytest.approx(ALPHA, abs=2e-3)
    middle = found.points[len(found.points) // 2]
    assert found.loss_at(middle.flops) == pytest.approx(middle.loss, rel=5e-3)
    assert found.loss_at(middle.flops) == pytest.approx(AMPLITUDE * middle.flops**-ALPHA, rel=5e-3)
    assert {point.parameters for point in found.points} == set(SIZES)
    assert found.reason is None


@pytest.mark.slow
def test_the_interval_covers_the_truth_in_95_percent_of_repeats():
    repeats, hits, widths, spread = 200, 0, [], []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        found = frontier([exact_run(p, rng) for p in SIZES], seed=seed, draws=400)
        hits += found.low <= ALPHA <= found.high
        widths.append(found.high - found.low)
        spread.append(found.exponent)
    low, high = binom.ppf([0.001, 0.999], repeats, 0.95)
    assert low <= hits <= high
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(spread, ddof=1), rel=0.25)


@pytest.mark.slow
def test_with_several_seeds_the_interval_covers_their_spread_and_with_one_it_does_not():
    repeats, hits, hits_of_one = 120, 0, 0
    for seed in range(repeats):
        rng = np.random.default_rng([7, seed])
        runs = [exact_run(p, rng, noise=0.01, between=0.03, name=f"{p}-{i}") for p in SIZES for i in range(4)]
        found = frontier(runs, seed=seed, draws=400)
        alone = frontier(runs[::4], seed=seed, draws=400)
        assert (found.covers_seeds, alone.covers_seeds) == (True, False)
        hits += found.low <= ALPHA <= found.high
        hits_of_one += alone.low <= ALPHA <= alone.high
    # Normal quantiles where Student's with 4 * (4 - 1) degrees of freedom were due cover 92.6%; the sizes at the
    # ends weigh more, so fewer degrees count: 90%.
    assert hits >= binom.ppf(0.001, repeats, 0.90)
    assert hits_of_one <= binom.ppf(0.999, repeats, 0.5)


def test_the_frontier_is_the_lowest_size_in_every_window():
    runs = [as_run_data(run) for run in text_runs(loss_noise=0.0)]
    found = frontier(runs)
    curves = {run.parameters: {window.index: window for window in loss_curve(run)} for run in runs}
    for point in found.points:
        index = math.floor(10 * math.log10(point.flops))
        there = [curve[index] for curve in curves.values() if index in curve and curve[index].n >= 5]
        assert point.loss == min(window.loss for window in there)
        assert len(there) >= 2


def test_sizes_take_part_after_warm_up_and_below_the_unigram_entropy():
    rng = np.random.default_rng(0)
    runs = [exact_run(p, rng, noise=0.0) for p in SIZES]
    all_of_it = frontier(runs)
    warm = frontier([replace(run, warmup_steps=60) for run in runs])
    assert len(warm.points) >= 5
    for run in runs:
        assert all(flops >= run.losses.flops[60] for flops in on_frontier(warm, run))
    assert min(on_frontier(all_of_it, runs[1])) < runs[1].losses.flops[60]
    entropy = float(runs[1].losses.train_loss[100])
    below = frontier([replace(run, unigram_entropy=entropy) for run in runs])
    assert all(point.loss < entropy for point in below.points)
    assert any(point.loss > entropy for point in all_of_it.points)


def test_only_compute_at_which_two_sizes_are_compared_counts():
    rng = np.random.default_rng(0)
    found = frontier([exact_run(p, rng) for p in SIZES])
    assert max(point.flops for point in found.points) <= STEPS * FLOPS_PER_STEP * SIZES[-2]
    assert min(point.flops for point in found.points) >= 5 * FLOPS_PER_STEP * SIZES[1]


def test_the_range_without_each_size_brackets_fits_of_the_others():
    rng = np.random.default_rng(0)
    runs = [exact_run(p, rng) for p in SIZES]
    low, high = frontier(runs).without_each_size
    others = [frontier([r for r in runs if r is not run]).exponent for run in runs]
    assert (low, high) == pytest.approx((min(others), max(others)), rel=1e-12)
    assert low < high


def test_an_unfinished_seed_does_not_shorten_the_curve_of_its_size():
    rng = np.random.default_rng(0)
    runs = [exact_run(p, rng) for p in SIZES]
    started = replace(as_run_data(SyntheticRun(name="b", parameters=SIZES[0], steps=STEPS, done=20)), warmup_steps=5)
    assert frontier([*runs, started]) == frontier(runs)


def test_a_size_that_diverges_leaves_the_frontier():
    rng = np.random.default_rng(0)
    runs = [exact_run(p, rng, noise=0.0) for p in SIZES]
    broken = runs[1].losses.train_loss.copy()
    broken[60:] = math.nan
    found = frontier([runs[0], replace(runs[1], losses=replace(runs[1].losses, train_loss=broken)), *runs[2:]])
    assert max(on_frontier(found, runs[1])) < runs[1].losses.flops[60]
    assert math.isfinite(found.exponent)


def test_the_same_seed_gives_the_same_frontier_and_another_seed_another_interval():
    rng = np.random.default_rng(0)
    runs = [exact_run(p, rng) for p in SIZES]
    assert frontier(runs, seed=3) == frontier(runs, seed=3)
    assert frontier(runs, seed=3).low != frontier(runs, seed=4).low
    assert frontier(runs, seed=3).exponent == frontier(runs, seed=4).exponent


def best_of(losses_below: float) -> list[RunData]:
    rng = np.random.default_rng(0)
    runs = [exact_run(p, rng, noise=0.0) for p in SIZES[:2]]
    lower = replace(runs[0].losses, train_loss=runs[0].losses.train_loss * losses_below)
    return [replace(runs[0], losses=lower), runs[1]]


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ([], "0 sizes get below the unigram entropy"),
        ([exact_run(1000, np.random.default_rng(0))], "1 sizes get below the unigram entropy after warm-up"),
        (
            [replace(exact_run(p, np.random.default_rng(0)), unigram_entropy=0.0) for p in SIZES],
            "0 sizes get below the unigram entropy",
        ),
        ([exact_run(p, np.random.default_rng(0)) for p in (1_000, 1_000_000)], "no two sizes spent the same compute"),
        ([exact_run(p, np.random.default_rng(0)) for p in (1_000, 8_000)], "a fit needs 0.5 decades and 5 windows"),
        (best_of(0.5), "one size alone, 1000 parameters, has the lowest loss at every compute"),
    ],
)
def test_what_cannot_be_fitted_has_a_reason(runs, reason):
    found = frontier(runs)
    for value in (found.exponent, found.low, found.high, *found.without_each_size):
        assert math.isnan(value)
    assert found.points == ()
    assert reason in found.reason


def test_windows_hold_every_loss_once_and_average_it():
    run = exact_run(1000, np.random.default_rng(0))
    curve = loss_curve(run)
    assert sum(window.n for window in curve) == STEPS - 1  # all but step 0
    window = curve[-2]
    inside = slice(window.first_step, window.last_step + 1)
    assert window.loss == pytest.approx(run.losses.train_loss[inside].mean(), rel=1e-14)
    assert window.log_flops == pytest.approx(np.log(run.losses.flops[inside]).mean(), rel=1e-14)
    assert math.floor(10 * math.log10(run.losses.flops[window.last_step])) == window.index


@pytest.mark.parametrize("n", [3, 5, 40])
def test_the_error_of_a_window_is_that_of_its_noise_not_of_its_slope(n):
    windows = [
        next(w for w in loss_curve(exact_run(1000, np.random.default_rng(seed))) if n <= w.n) for seed in range(300)
    ]
    n = windows[0].n
    ratio = np.mean([w.stderr**2 / (0.03 * w.loss) ** 2 * n for w in windows])
    # Each variance has n - 2 degrees of freedom, relative error sqrt(2 / (n - 2)); there are 300 of them.
    assert ratio == pytest.approx(1, abs=4 * math.sqrt(2 / (n - 2) / 300))
    steep = loss_curve(exact_run(1000, np.random.default_rng(0), noise=0.0))
    assert steep[-1].stderr < 0.02 * windows[0].stderr


def test_copies_of_several_runs_spread_as_their_mean_does():
    runs = [exact_run(1000, np.random.default_rng(i), between=0.1, name=f"run-{i}") for i in range(3)]
    (size,) = size_curves(runs, 20_000, np.random.default_rng(0))
    window = -2
    values = [loss_curve(run)[window].loss for run in runs]
    assert size.several_runs
    assert size.loss[window] == pytest.approx(np.mean(values), rel=1e-14)
    assert size.redrawn[:, window].mean() == pytest.approx(np.mean(values), rel=1e-3)
    # A variance from 20,000 draws is known to 1%, its root to 0.5%; four of these.
    assert size.redrawn[:, window].std() == pytest.approx(np.std(values, ddof=1) / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("normal_from", [5, 10**6])
def test_copies_of_one_run_spread_as_the_mean_of_its_batches_does(monkeypatch, normal_from):
    monkeypatch.setattr("spectral_reach.studies.analysis.size_curve.NORMAL_FROM", normal_from)
    run = exact_run(1000, np.random.default_rng(0))
    (size,) = size_curves([run], 20_000, np.random.default_rng(0))
    curve = loss_curve(run)
    checked = [window for window in curve if window.n >= 5 and window.first_step >= 5]
    assert len(checked) >= 8
    for window in checked:
        i = window.index - curve[0].index
        assert size.redrawn[:, i].mean() == pytest.approx(window.loss, rel=1e-3)
        assert size.redrawn[:, i].std() == pytest.approx(window.stderr, rel=0.02)  # as above
