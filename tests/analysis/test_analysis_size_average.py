"""Late averages by size: means over seeds, errors that cover the spread between seeds, held-out measurements."""

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.synthetic_study import SyntheticRun, as_run_data, text_runs, with_seeds
from spectral_reach.studies.analysis.late_average import late_average
from spectral_reach.studies.analysis.seed_spread import errors_of_means
from spectral_reach.studies.analysis.size_average import size_averages

RUN = SyntheticRun(name="run", parameters=20_000, steps=60, late_position=4e-6, position_noise=4e-7)


def data(runs):
    return [as_run_data(run) for run in runs]


def test_a_size_is_the_mean_of_its_runs():
    runs = data(with_seeds([RUN, replace(RUN, name="large", parameters=50_000, late_position=1e-6)], (0, 3)))
    averages = size_averages(runs)
    assert [(a.parameters, a.seeds) for a in averages] == [(20_000, (0, 3)), (50_000, (0, 3))]
    assert averages[0].runs == ("run-seed0", "run-seed3")
    for average, own in zip(averages, (runs[:2], runs[2:]), strict=True):
        late = [late_average(run) for run in own]
        for name in ("chi_pos", "chi_pos_unbiased", "train_loss"):
            each = [getattr(one, name) for one in late]
            assert average.estimate(name).value == pytest.approx(np.mean([one.value for one in each]), rel=1e-12)
            assert average.estimate(name).n == sum(one.n for one in each)
        assert average.heldout_loss.value == pytest.approx(np.mean([one.heldout_loss for one in late]), rel=1e-12)
        assert average.covers_seeds
        assert average.n_units == (32,)
        assert average.degrees["chi_pos_unbiased"] == 2


def test_one_seed_has_the_error_of_its_windows():
    runs = data([RUN, replace(RUN, name="large", parameters=50_000)])
    for average, run in zip(size_averages(runs), runs, strict=True):
        late = late_average(run)
        assert average.chi_pos_unbiased == late.chi_pos_unbiased
        assert average.train_loss == late.train_loss
        assert not average.covers_seeds
        interval = average.interval("chi_pos_unbiased")
        # At most eight blocks, so that a factor of 2.36 and more stands for 1.96.
        assert interval.high - interval.value > 2.3 * late.chi_pos_unbiased.stderr
        assert math.isnan(average.heldout_loss.stderr)
        assert average.heldout_loss.value == late.heldout_loss
        assert "one evaluation" in average.heldout_loss.reason


def test_unfinished_runs_are_left_out_and_told():
    unfinished = replace(RUN, name="part", seed=1, done=30)
    never = replace(RUN, name="large", parameters=50_000, done=10)
    small, large = size_averages(data([RUN, unfinished, never]))
    assert small.runs == ("run",)
    assert small.chi_pos_unbiased == late_average(as_run_data(RUN)).chi_pos_unbiased
    assert large.runs == ()
    assert large.chi_pos_unbiased.reason == "unfinished: 10 of 60 steps"
    assert math.isnan(large.interval("chi_pos").low)
    assert size_averages([]) == ()


def test_held_out_measurements_have_averages_of_their_own():
    run = as_run_data(replace(RUN, heldout_units=16, heldout_ratio=3.0))
    train, held = size_averages([run])[0], size_averages([run], heldout=True)[0]
    assert (train.n_units, held.n_units) == ((32,), (16,))
    assert held.chi_pos_unbiased == late_average(run, heldout=True).chi_pos_unbiased
    assert held.chi_pos_unbiased.value == pytest.approx(3 * train.chi_pos_unbiased.value, rel=0.2)
    assert held.train_loss == train.train_loss
    without = size_averages([as_run_data(RUN)], heldout=True)[0]
    assert without.chi_pos_unbiased.reason == "there is no measurement"


def test_without_own_errors_the_spread_is_the_pooled_relative_deviation():
    values = [np.array([1.0, 1.2, 1.1]), np.array([20.0, 24.0])]
    means = [each.mean() for each in values]
    errors = errors_of_means(values, [np.zeros(3), np.zeros(2)], means)
    pooled = sum((((v - m) / m) ** 2).sum() for v, m in zip(values, means, strict=True)) / 3
    assert errors.spread == pytest.approx(math.sqrt(pooled), rel=1e-9)
    assert errors.degrees == 3
    np.testing.assert_allclose(errors.stderr, errors.spread * np.array(means) / np.sqrt([3, 2]), rtol=1e-9)


def test_deviations_that_own_errors_explain_leave_no_spread():
    errors = errors_of_means([np.array([1.0, 1.1])], [np.array([0.2, 0.4])], [1.05])
    assert errors.spread == 0
    assert errors.stderr[0] == pytest.approx(math.sqrt((0.04 + 0.16) / 2 / 2))
    same = errors_of_means([np.array([2.0, 2.0])], [np.zeros(2)], [2.0])
    assert (same.spread, same.stderr[0]) == (0, 0)


@pytest.mark.parametrize(("own", "spread"), [(0.0, 0.2), (0.15, 0.0), (0.15, 0.2)])
def test_intervals_cover_the_mean_over_seeds_that_were_not_run(own, spread):
    rng = np.random.default_rng(5)
    truth, covered, trials = np.array([8.0, 3.0, 1.0, 0.5]), 0, 1500
    for _ in range(trials):
        values = [m * (1 + math.hypot(own, spread) * rng.standard_normal(2)) for m in truth]
        errors = errors_of_means(values, [np.full(2, own * m) for m in truth], [v.mean() for v in values])
        factor = 2.776  # Student's, 4 degrees of freedom
        covered += sum(abs(v.mean() - m) <= factor * e for v, m, e in zip(values, truth, errors.stderr, strict=True))
    # Where there is no spread beyond their own errors, Student's factor is wider than it need be.
    assert 0.935 <= covered / (trials * len(truth)) <= (0.97 if spread else 0.999)


def test_a_family_of_noisy_runs_is_covered_through_the_records():
    truth, covered, trials = 1.1e-6, 0, 40
    for first in range(0, 2 * trials, 2):
        runs = with_seeds(text_runs(steps=40, seed_spread=0.2)[:3], (first, first + 1))
        interval = size_averages(data(runs))[0].interval("chi_pos_unbiased")
        # The late tenth of such short runs lies 3% above its end.
        covered += interval.low <= 1.04 * truth <= interval.high
    assert covered >= 33
