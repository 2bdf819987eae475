"""Curves of a size: means over seeds with honest errors; which runs count, and where they stop."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.synthetic_study import as_run_data, text_runs, with_seeds
from spectral_reach.studies.analysis.estimate import Estimate, mean, ratio_of_means
from spectral_reach.studies.analysis.loss_curve import loss_curve
from spectral_reach.studies.analysis.size_windows import (
    QUANTITIES,
    by_size,
    heldout_losses,
    loss_windows,
    measurement_windows,
    over_runs,
)
from spectral_reach.studies.analysis.windows import windows

SMALL, LARGE = text_runs(heldout_units=16, late_units=64)[:2]
SEEDS = [as_run_data(run) for run in with_seeds([SMALL], (3, 4, 5))]


def test_one_run_is_its_own_windows() -> None:
    for found, expected in zip(measurement_windows(SEEDS[:1]), windows(SEEDS[0].measurements), strict=True):
        assert (found.first_step, found.last_step, found.flops) == (
            expected.first_step,
            expected.last_step,
            expected.flops,
        )
        assert found.estimates["chi_pos"] == expected.chi_pos
        assert found.estimates["chi_pos_unbiased"] == expected.chi_pos_unbiased
        assert (found.n_units, found.runs) == (expected.n_units, 1)


def test_every_quantity_by_hand() -> None:
    m = SEEDS[0].measurements
    for window in measurement_windows(SEEDS[:1]):
        rows = (m.step >= window.first_step) & (m.step <= window.last_step)
        loss, net, unbiased = m.chi_loss[rows], m.chi_net[rows], m.delta_loss_unbiased[rows]
        expected = {
            "chi_loss": mean(loss),
            "chi_net": mean(net),
            "chi_pos": mean(m.chi_pos[rows]),
            "chi_pos_unbiased": ratio_of_means(unbiased, loss * net),
            "delta_loss": mean(m.delta_loss[rows]),
            "delta_loss_unbiased": mean(unbiased),
            "chi_net_chi_pos": mean(m.delta_loss[rows] / loss),
            "chi_net_chi_pos_unbiased": ratio_of_means(unbiased, loss),
        }
        assert set(window.estimates) == set(QUANTITIES)
        for name, estimate in expected.items():
            assert window.estimates[name].value == pytest.approx(estimate.value, rel=1e-12), name
            assert window.estimates[name].stderr == pytest.approx(estimate.stderr, rel=1e-9), name
        assert window.tokens == m.tokens[rows].mean()


def test_several_runs_are_averaged_window_by_window() -> None:
    apart = [measurement_windows([run]) for run in SEEDS]
    together = measurement_windows(SEEDS)
    assert len(together) == len(apart[0])
    for window, *each in zip(together, *apart, strict=True):
        of_runs = [one.estimates["chi_pos_unbiased"] for one in each]
        values = [one.value for one in of_runs]
        spread = np.std(values, ddof=1) / math.sqrt(3)
        own = math.hypot(*(one.stderr for one in of_runs)) / 3
        found = window.estimates["chi_pos_unbiased"]
        assert found.value == pytest.approx(np.mean(values))
        assert found.stderr == pytest.approx(max(spread, own))
        assert found.n == sum(one.n for one in of_runs)
        assert window.runs == 3


def test_held_out_measurements() -> None:
    found = measurement_windows(SEEDS, lambda run: run.heldout)
    assert {window.n_units for window in found} == {16}
    assert sum(window.estimates["chi_pos"].n for window in found) == 3 * len(SEEDS[0].heldout)


def test_losses_on_their_grid() -> None:
    curve = loss_curve(SEEDS[0])
    alone = loss_windows(SEEDS[:1])
    assert [window.estimates["train_loss"].value for window in alone] == [window.loss for window in curve]
    assert [window.flops for window in alone] == [window.flops for window in curve]
    for window, *each in zip(loss_windows(SEEDS), *(loss_curve(run) for run in SEEDS), strict=True):
        assert window.estimates["train_loss"].value == pytest.approx(np.mean([one.loss for one in each]))
        assert window.flops == pytest.approx(each[0].flops)


def test_held_out_losses_are_taken_step_by_step_without_step_0() -> None:
    found = heldout_losses(SEEDS)
    assert [window.first_step for window in found] == [50, 100, 150, 200, 250, 300]
    assert all(window.runs == 3 for window in found)
    assert found[0].estimates["heldout_loss"].value == pytest.approx(1.02 * SMALL.loss(50))
    assert math.isnan(heldout_losses(SEEDS[:1])[0].estimates["heldout_loss"].stderr)


def test_of_a_size_with_finished_runs_only_these_count() -> None:
    running = as_run_data(replace(SMALL, name="running", done=60))
    large = as_run_data(LARGE)
    sizes = by_size([large, running, *SEEDS])
    assert list(sizes) == [SMALL.parameters, LARGE.parameters]
    assert sizes[SMALL.parameters] == tuple(SEEDS)
    assert by_size([running]) == {SMALL.parameters: (running,)}


def test_runs_under_way_are_averaged_where_both_have_the_whole_window() -> None:
    behind, ahead = (as_run_data(replace(SMALL, done=done, seed=done)) for done in (60, 200))
    found = measurement_windows([behind, ahead])
    assert [w.first_step for w in found] == [w.first_step for w in measurement_windows([ahead])]
    assert {window.runs for window in found if window.last_step < 50} == {2}
    assert {window.runs for window in found if window.last_step >= 60} == {1}
    runs = [window.runs for window in found]
    assert runs == sorted(runs, reverse=True)


def test_nothing_yet() -> None:
    empty = as_run_data(replace(SMALL, done=0))
    assert measurement_windows([empty]) == loss_windows([empty]) == heldout_losses([empty]) == ()
    assert measurement_windows([]) == ()


def test_a_run_without_value_leaves_none() -> None:
    known = Estimate(value=1.0, stderr=0.1, n=3)
    missing = Estimate.missing("the loss is not finite")
    assert over_runs([known]) is known
    found = over_runs([known, missing, known])
    assert math.isnan(found.value)
    assert found.reason == "1 of 3 runs: the loss is not finite"


def test_runs_that_agree_by_chance_keep_their_own_errors() -> None:
    twins = [Estimate(value=2.0, stderr=0.3, n=5), Estimate(value=2.0, stderr=0.4, n=5)]
    assert over_runs(twins).stderr == pytest.approx(0.25)
    assert over_runs(twins).n == 10
