"""Windows found again from the measured steps."""

import itertools

import numpy as np
import pytest

from analysis.synthetic_study import SyntheticRun, as_run_data
from spectral_reach.studies.analysis.windows import group, windows
from spectral_reach.tracking.schedule import log_windows


def steps_of(pieces, steps):
    return [steps[piece].tolist() for piece in pieces]


def test_separate_stretches_are_windows_and_long_ones_are_cut():
    steps = np.array([*range(12), 100, 101, 102, 103, 300, 301, 302, 303])
    assert steps_of(group(steps, np.ones(20)), steps) == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
        [100, 101, 102, 103],
        [300, 301, 302, 303],
    ]


def test_a_short_remainder_joins_the_window_before_it():
    steps = np.arange(13)
    assert steps_of(group(steps, np.ones(13)), steps)[-1] == [8, 9, 10, 11, 12]


def test_late_measurements_between_windows_are_one_window():
    steps = np.array([400, 401, 402, 403, *range(540, 600, 6), 596, 597, 598, 599])
    steps = np.unique(steps)
    assert [len(piece) for piece in steps_of(group(steps, np.ones(len(steps))), steps)] == [4, len(steps) - 4]


def test_a_measurement_every_n_steps_is_grouped_by_span():
    steps = np.arange(0, 1000, 10)
    pieces = steps_of(group(steps, np.ones(100)), steps)
    assert all(len(piece) >= 4 for piece in pieces)
    assert len(pieces) >= 8


def test_a_change_of_units_ends_a_window():
    steps = np.arange(500, 510)
    assert steps_of(group(steps, np.repeat([32, 64], 5)), steps) == [[*range(500, 505)], [*range(505, 510)]]


@pytest.mark.parametrize(
    ("total", "per_decade", "width"), [(600, 4, 4), (600, 8, 5), (5000, 10, 16), (30, 3, 2), (1, 1, 1)]
)
def test_every_measurement_of_a_schedule_is_in_one_window(total, per_decade, width):
    steps = np.array(log_windows(total, per_decade, width))
    pieces = group(steps, np.ones(len(steps)))
    assert list(itertools.chain(*(range(len(steps))[piece] for piece in pieces))) == list(range(len(steps)))


def test_no_measurement_no_window():
    assert group(np.array([], dtype=np.int64), np.array([], dtype=np.int64)) == ()


def test_values_of_a_window_by_direct_formula():
    run = SyntheticRun(name="a", parameters=1000, position_noise=1e-5)
    measurements = as_run_data(run).measurements
    rows = run.measurement_rows()
    found = windows(measurements)
    window = found[len(found) // 2]
    inside = [row for row in rows if window.first_step <= row["step"] <= window.last_step]
    scale = np.array([row["chi_loss"] * row["chi_net"] for row in inside])
    unbiased = np.array([row["delta_loss_unbiased"] for row in inside])
    assert window.chi_pos.value == pytest.approx(np.mean([row["chi_pos"] for row in inside]), rel=1e-12)
    assert window.chi_pos_unbiased.value == pytest.approx(unbiased.mean() / scale.mean(), rel=1e-12)
    assert window.chi_pos_unbiased.value != pytest.approx((unbiased / scale).mean(), rel=1e-9)
    assert window.flops == pytest.approx(np.mean([row["flops"] for row in inside]), rel=1e-15)
    assert window.n_units == 32
    assert sum(w.chi_pos.n for w in found) == len(rows)
