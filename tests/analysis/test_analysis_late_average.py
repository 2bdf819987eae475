"""The last tenth of a run, by direct formula; what is not there has a reason."""

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.synthetic_study import SyntheticRun, as_run_data
from spectral_reach.studies.analysis.estimate import mean
from spectral_reach.studies.analysis.late_average import late_average

RUN = SyntheticRun(name="run", parameters=5000, steps=205, late_units=64, position_noise=3e-7)


def test_late_values_by_direct_formula():
    late = late_average(as_run_data(RUN))
    rows = [row for row in RUN.measurement_rows() if row["step"] >= 184.5]
    assert late.first_step == 185
    assert late.n_units == (64,)
    assert late.chi_pos.n == late.chi_pos_unbiased.n == len(rows) >= 10
    position = np.array([row["chi_pos"] for row in rows])
    assert late.chi_pos.value == pytest.approx(position.mean(), rel=1e-12)
    assert late.chi_pos == mean(position, in_sequence=True)
    above = np.array([row["delta_loss_unbiased"] for row in rows])
    below = np.array([row["chi_loss"] * row["chi_net"] for row in rows])
    assert late.chi_pos_unbiased.value == pytest.approx(above.mean() / below.mean(), rel=1e-12)
    losses = RUN.loss_rows()
    assert late.train_loss.n == 20
    assert late.train_loss.value == pytest.approx(np.mean([row["train_loss"] for row in losses[185:205]]), rel=1e-12)
    assert late.heldout_loss == losses[205]["heldout_loss"]
    assert late.heldout_reason is None


def test_the_known_position_is_found_within_its_error():
    estimates = [late_average(as_run_data(replace(RUN, seed=seed))).chi_pos_unbiased for seed in range(200)]
    steps = [row["step"] for row in RUN.measurement_rows() if row["step"] >= 185]
    truth = np.mean([RUN.position(step) for step in steps])
    scores = np.array([(e.value - truth) / e.stderr for e in estimates])
    # Errors from 10 blocks: Student's t with 9 degrees of freedom, whose spread is sqrt(9 / 7) = 1.13 and whose fourth
    # moment makes the spread of 200 scores uncertain by 1.13 * sqrt((4.2 - 1) / 800) = 0.07.
    assert estimates[0].n == 20
    assert abs(scores.mean()) < 4 * 1.13 / math.sqrt(200)
    assert scores.std() == pytest.approx(1.13, abs=4 * 0.07)


def test_an_unfinished_run_has_no_late_average():
    late = late_average(as_run_data(replace(RUN, done=200)))
    for value in (late.chi_pos.value, late.chi_pos_unbiased.value, late.train_loss.value, late.heldout_loss):
        assert math.isnan(value)
    reason = "unfinished: 200 of 205 steps"
    assert {late.chi_pos.reason, late.chi_pos_unbiased.reason, late.train_loss.reason, late.heldout_reason} == {reason}


def test_too_few_late_measurements():
    run = as_run_data(RUN)
    only = {name: getattr(run.measurements, name)[-1:] for name in run.measurements.__slots__}
    late = late_average(replace(run, measurements=type(run.measurements)(**only)))
    assert late.chi_pos.n == 1
    assert math.isnan(late.chi_pos_unbiased.stderr)
    assert "one measurement" in late.chi_pos_unbiased.reason
    none = {name: getattr(run.measurements, name)[:0] for name in run.measurements.__slots__}
    late = late_average(replace(run, measurements=type(run.measurements)(**none)))
    assert math.isnan(late.chi_pos_unbiased.value)
    assert late.chi_pos_unbiased.reason == "there is no measurement"


def test_a_diverged_loss_is_not_averaged_away():
    run = as_run_data(RUN)
    losses = run.losses.train_loss.copy()
    losses[190] = math.inf
    late = late_average(replace(run, losses=replace(run.losses, train_loss=losses)))
    assert math.isnan(late.train_loss.value)
    assert late.train_loss.reason == "the training loss is not finite at 1 late steps"


def test_without_a_final_evaluation_the_held_out_loss_has_a_reason():
    run = as_run_data(RUN)
    without = replace(run.losses, heldout_loss=np.where(run.losses.step == 205, math.nan, run.losses.heldout_loss))
    late = late_average(replace(run, losses=without))
    assert math.isnan(late.heldout_loss)
    assert "not evaluated" in late.heldout_reason
