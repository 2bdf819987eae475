"""Isocompute curves: interpolation within runs, budgets that sizes share, replicates, and what is left out."""

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.synthetic_study import SyntheticRun, as_run_data
from spectral_reach.studies.analysis import isocompute as module
from spectral_reach.studies.analysis.at_compute import LossPath, chi_pos_path, chi_pos_unbiased_path, loss_path
from spectral_reach.studies.analysis.estimate import ratio_of_means
from spectral_reach.studies.analysis.iso_minimum import Place
from spectral_reach.studies.analysis.isocompute import isocompute
from spectral_reach.studies.analysis.study_data import RunData
from spectral_reach.studies.analysis.windows import windows

SIZES = (10_000, 20_000, 40_000, 80_000)


def run_data(parameters: int, **changes) -> RunData:
    settings = {"name": f"run-{parameters}", "parameters": parameters, "steps": 600, **changes}
    return as_run_data(SyntheticRun(**settings))


def with_laws(parameters: int, loss, position, *, name: str = "", noise: float = 0.0, seed: int = 0) -> RunData:
    """A run whose held-out loss and positions are these functions of compute and parameters."""
    rng = np.random.default_rng([seed, parameters])
    run = run_data(parameters, name=name or f"run-{parameters}")
    flops = np.maximum(run.losses.flops, 1.0)
    heldout = np.where(np.isfinite(run.losses.heldout_loss), loss(flops, parameters), math.nan)
    m = run.measurements
    there = position(np.maximum(m.flops, 1.0), parameters) * np.exp(noise * rng.standard_normal(len(m)))
    return replace(
        run,
        unigram_entropy=math.inf,
        losses=replace(run.losses, heldout_loss=heldout * np.exp(0.1 * noise * rng.standard_normal(len(flops)))),
        measurements=replace(m, chi_pos=2 * there, delta_loss_unbiased=there * m.chi_loss * m.chi_net),
    )


def valley(flops, parameters):
    """A loss whose best size is 10 parameters for a million FLOPs to the power of one half."""
    best = 0.5 * np.log(flops / 1e10) + math.log(20_000)
    return 3 * (flops / 1e10) ** -0.1 * np.exp(0.05 * (math.log(parameters) - best) ** 2)


def family(position=None, **settings) -> list[RunData]:
    following = position or (lambda flops, parameters: 1e-6 * valley(flops, parameters) ** 3)
    return [with_laws(p, valley, following, **settings) for p in SIZES]


def test_a_loss_between_two_evaluations_is_interpolated_in_log_log():
    run = with_laws(20_000, lambda flops, _: 50 * flops**-0.12, lambda flops, _: flops * 0 + 1e-6)
    path = loss_path(run)
    for flops in np.geomspace(math.exp(path.log_flops[0]), math.exp(path.log_flops[-1]), 7):
        found = path.at(math.log(flops))
        assert found.value == pytest.approx(50 * flops**-0.12, rel=1e-12)
        assert found.stderr < 1e-12
    assert path.at(path.log_flops[0] - 0.01) is None
    assert path.at(path.log_flops[-1] + 0.01) is None


def test_losses_count_after_warm_up_and_below_the_unigram_entropy():
    run = run_data(20_000, warmup_steps=60)
    assert math.exp(loss_path(run).log_flops[0]) == pytest.approx(run.losses.flops[100])
    later = replace(run, unigram_entropy=float(run.losses.heldout_loss[150]) + 1e-9)
    assert math.exp(loss_path(later).log_flops[0]) == pytest.approx(run.losses.flops[150])
    assert len(loss_path(replace(run, unigram_entropy=0.0)).log_flops) == 0


def test_the_error_of_an_evaluation_is_that_of_its_noise():
    x = np.linspace(20, 23, 41)
    squares = []
    for seed in range(300):
        noise = 0.01 * np.random.default_rng(seed).standard_normal(41)
        found = LossPath(log_flops=x, log_loss=1 - 0.1 * x + noise).at(float(x[20]))
        squares.append((found.stderr / found.value) ** 2)
    # Five overlapping second differences have about three degrees of freedom, 82% relative error of each variance.
    assert np.mean(squares) == pytest.approx(1e-4, rel=4 * 0.82 / math.sqrt(300))
    assert math.isnan(LossPath(log_flops=x[:2], log_loss=x[:2]).at(20.01).stderr)


def test_position_is_that_of_its_windows_there_and_between_them_averages_both_parts_apart():
    run = run_data(20_000, late_position=1e-6)
    path, mini = chi_pos_unbiased_path(run), chi_pos_path(run)
    kept = [w for w in windows(run.measurements) if w.first_step >= run.warmup_steps and w.chi_pos.is_defined]
    assert np.exp(path.log_flops) == pytest.approx([w.flops for w in kept], rel=1e-12)
    for i in (1, 4):
        at = float(path.log_flops[i])
        assert path.at(at).value == pytest.approx(kept[i].chi_pos_unbiased.value, rel=1e-12)
        assert path.at(at).stderr == pytest.approx(kept[i].chi_pos_unbiased.stderr, rel=1e-9)
        assert mini.at(at).value == pytest.approx(kept[i].chi_pos.value, rel=1e-12)
    m = run.measurements
    first, second = ((m.step >= window.first_step) & (m.step <= window.last_step) for window in (kept[3], kept[4]))
    scale = m.chi_loss * m.chi_net
    between = path.at(float(0.75 * path.log_flops[3] + 0.25 * path.log_flops[4]))
    numerator = 0.75 * m.delta_loss_unbiased[first].mean() + 0.25 * m.delta_loss_unbiased[second].mean()
    denominator = 0.75 * scale[first].mean() + 0.25 * scale[second].mean()
    assert between.value == pytest.approx(numerator / denominator, rel=1e-9)
    assert path.at(float(path.log_flops[-1]) + 0.01) is None


def test_budgets_lie_where_three_sizes_have_data_and_every_size_there_has_a_point():
    found = isocompute(family())
    assert len(found.curves) == 5
    steps = np.diff([math.log(curve.flops) for curve in found.curves])
    assert steps == pytest.approx(np.full(4, steps[0]))
    runs = {run.parameters: run for run in family()}
    for curve in found.curves:
        assert len(curve.points) >= 3
        for point in curve.points:
            run = runs[point.parameters]
            assert run.losses.flops[50] * 0.999 <= curve.flops <= run.losses.flops[-1]
            assert point.heldout_loss.value == pytest.approx(valley(curve.flops, point.parameters), rel=0.01)
            expected = 1e-6 * valley(curve.flops, point.parameters) ** 3
            assert point.chi_pos_unbiased.value == pytest.approx(expected, rel=0.05)
            assert point.chi_pos.value == pytest.approx(2 * expected, rel=0.05)
            assert point.runs == 1
    assert found.reason is None
    assert found.left_out == ()
    assert len(isocompute(family(), budgets=2).curves) == 2


def test_the_minimum_of_the_valley_is_marked():
    curve = isocompute(family(noise=0.02)).curves[2]
    best = 20_000 * (curve.flops / 1e10) ** 0.5
    assert curve.heldout_loss.place is Place.INTERIOR
    assert curve.heldout_loss.parameters.value == pytest.approx(best, rel=0.1)
    assert curve.chi_pos_unbiased.parameters.value == pytest.approx(best, rel=0.2)


def test_position_that_follows_the_loss_is_found_and_position_that_opposes_it():
    found = isocompute(family(noise=0.01))
    for rank in (found.follows_chi_pos, found.follows_chi_pos_unbiased):
        assert rank.n == 4
        assert rank.rho > 0.9
        assert rank.p_rising <= 0.05
        assert rank.low > 0
    opposed = isocompute(family(position=lambda flops, parameters: 1e-6 * valley(flops, parameters) ** -3))
    assert opposed.follows_chi_pos_unbiased.rho < -0.9
    assert opposed.follows_chi_pos_unbiased.p_falling <= 0.05


def test_minima_that_chance_may_have_put_between_the_ends_do_not_tell(monkeypatch):
    assert isocompute(family(noise=0.01)).telling > 0
    monkeypatch.setattr(module, "LEAST_SHARE", 1.1)
    found = isocompute(family(noise=0.01))
    assert found.telling == 0
    assert found.follows_chi_pos.reason.endswith("or as likely there as between them: size alone may explain both")


def test_runs_of_one_size_are_replicates_averaged_in_both_parts():
    runs = [run for seed in range(3) for run in family(noise=0.1, seed=seed)]
    named = [replace(run, name=f"{run.name}-{i}") for i, run in enumerate(runs)]
    found = isocompute(named)
    curve = found.curves[2]
    point = curve.points[1]
    same = [run for run in runs if run.parameters == point.parameters]
    at = math.log(curve.flops)
    losses = np.array([loss_path(run).at(at).value for run in same])
    assert point.runs == point.heldout_loss.n == 3
    assert point.heldout_loss.value == pytest.approx(losses.mean(), rel=1e-12)
    assert point.heldout_loss.stderr >= losses.std(ddof=1) / math.sqrt(3) * (1 - 1e-9)
    parts = [chi_pos_unbiased_path(run).at(at) for run in same]
    numerator, denominator = np.array([(p.numerator, p.denominator) for p in parts]).T
    pooled = ratio_of_means(numerator, denominator)
    own = math.hypot(*(p.stderr * p.denominator for p in parts)) / denominator.sum()
    assert point.chi_pos_unbiased.value == pytest.approx(pooled.value, rel=1e-12)
    assert point.chi_pos_unbiased.stderr == pytest.approx(max(pooled.stderr, own), rel=1e-9)


def test_an_unfinished_replicate_is_left_out_and_an_unfinished_size_counts_as_far_as_it_is():
    runs = family()
    started = replace(run_data(SIZES[0], name="late", done=200), unigram_entropy=math.inf)
    with_late = isocompute([*runs, started])
    assert with_late.left_out == ("late: unfinished, while other runs of its size are finished",)
    assert with_late.curves == isocompute(runs).curves
    alone = replace(run_data(SIZES[3], done=300), unigram_entropy=math.inf)
    reached = isocompute([*runs[:3], alone])
    assert any(SIZES[3] in [p.parameters for p in curve.points] for curve in reached.curves)
    for curve in reached.curves:
        if SIZES[3] in [p.parameters for p in curve.points]:
            assert curve.flops <= alone.losses.flops[-1]


def test_chi_pos_uses_windows_of_one_number_of_units():
    runs = [run_data(p, units=32, late_units=64) for p in SIZES]
    found = isocompute([replace(run, unigram_entropy=math.inf) for run in runs])
    assert found.n_units == 32
    last = [math.exp(chi_pos_path(run).of_units(32).log_flops[-1]) for run in runs]
    for curve in found.curves:
        for point in curve.points:
            assert curve.flops <= last[SIZES.index(point.parameters)] * 1.001
            assert point.chi_pos.is_defined


def test_what_cannot_be_compared_has_a_reason():
    runs = family()
    assert "at no compute do 3 sizes have both" in isocompute(runs[:2]).reason
    assert isocompute([]).n_units is None
    far = isocompute([run_data(p) for p in (1_000, 100_000, 10_000_000)])
    assert far.curves == ()
    assert "at no compute do 3 sizes" in far.reason
    assert "at no compute do 3 sizes have a loss and a position" in far.follows_chi_pos.reason
    none = np.full(len(runs[0].losses), math.nan)
    blind = replace(runs[0], losses=replace(runs[0].losses, heldout_loss=none))
    unmeasured = replace(runs[1], measurements=as_run_data(SyntheticRun(name="x", parameters=1, done=0)).measurements)
    found = isocompute([blind, unmeasured, *runs[2:]])
    assert found.left_out == (
        f"run-{SIZES[0]}: 0 evaluations behind warm-up and below the unigram entropy, 2 are needed",
        f"run-{SIZES[1]}: 0 windows of measurements behind warm-up, 2 are needed",
    )


def test_two_evaluations_have_a_value_and_no_error():
    runs = []
    for run in family():
        kept = np.where(np.isin(run.losses.step, [50, 600]), run.losses.heldout_loss, math.nan)
        runs.append(replace(run, losses=replace(run.losses, heldout_loss=kept)))
    found = isocompute(runs)
    loss = found.curves[0].points[0].heldout_loss
    assert math.isfinite(loss.value)
    assert loss.reason == "too few evaluations to take a standard error from"
    assert "0 sizes have a value and an error, 3 are needed" in found.curves[0].heldout_loss.reason


def test_the_curves_are_the_same_for_the_same_seed():
    runs = family(noise=0.1)
    assert isocompute(runs, seed=1) == isocompute(runs, seed=1)
    middle = [isocompute(runs, seed=seed).curves[2].heldout_loss.parameters for seed in (1, 2)]
    assert middle[0].value == middle[1].value
    assert middle[0].low != middle[1].low
