"""Ratios against size: those of the claims, what a seed does to both cancels, and nothing is made up."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.synthetic_study import as_run_data, text_runs, with_seeds
from spectral_reach.figures import fig4_data, fig8_data
from spectral_reach.figures.late_points import ratio_points
from spectral_reach.figures.points import known
from spectral_reach.figures.words import at_ends
from spectral_reach.studies.analysis.claims.train_and_test_agree import judge_late
from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.probe_sets import probe_sets
from spectral_reach.studies.analysis.size_ratio import Pair
from spectral_reach.studies.analysis.study_data import FamilyData

SPREAD = 1.0  # of the logarithm of position from seed to seed: far more than the ratio's error


def family_of(runs: list, key: str = "text") -> FamilyData:
    data = tuple(as_run_data(run) for run in runs)
    return FamilyData(key=key, label=key, is_sweep=False, runs=data, not_started=())


def pair(seed: int, above: float, below: float, error: float = 0.05) -> Pair:
    return Pair(
        seed=seed,
        above=Estimate(value=above, stderr=error * abs(above), n=9),
        below=Estimate(value=below, stderr=error * abs(below), n=9),
    )


def test_held_out_over_training_is_that_of_the_claim() -> None:
    runs = [replace(run, steps=150, heldout_units=32, position_noise=2e-8) for run in text_runs(seed_spread=SPREAD)[:2]]
    family = family_of(with_seeds(runs))
    for name in ("chi_pos_unbiased", "chi_pos"):
        points = known(fig8_data.family_points(family), f"ratio_{name}")
        assert [(point.parameters, point.runs) for point in points] == [(21_000, 3), (56_300, 3)]
        claim = judge_late(family, name).interval
        assert math.exp(np.mean([math.log(point.value) for point in points])) == pytest.approx(claim.value)
        for point in points:
            assert point.low < point.value < point.high
            # Independent quantities that vary by a factor of 2.7 from seed to seed would leave 1 / 3 to 3 or more.
            assert point.high / point.low < 1.6


def test_backbones_are_compared_seed_by_seed() -> None:
    full = with_seeds([replace(run, steps=150) for run in text_runs(seed_spread=SPREAD, position_noise=2e-8)[:2]])
    probes = [replace(run, name=f"p-{run.name}", trained="readout", backbone=run.name) for run in full]
    random = [replace(run, name=f"r-{run.name}", trained="readout", late_position=2e-6) for run in full]
    families = [family_of(probes[:-1], "pretrained"), family_of(random, "random")]
    (probe_set,) = probe_sets(families)
    points = known(fig4_data.set_points(probe_set), "ratio_chi_pos_unbiased")
    assert [point.runs for point in points] == [3, 2]  # one has no partner
    assert all(point.high / point.low < 1.6 for point in points)


def test_a_size_that_is_not_clearly_positive_has_no_ratio() -> None:
    good = [pair(0, 3.0, 2.0), pair(1, 3.3, 2.2)]
    for bad in (pair(0, -0.1, 2.0), pair(0, 3.0, -0.1), pair(0, 0.1, 2.0, error=2.0)):
        points = list(ratio_points("text", "ratio", {1000: [bad], 2000: good}))
        assert [(point.parameters, point.runs) for point in points] == [(1000, 1), (2000, 2)]
        assert math.isnan(points[0].value)
        assert points[1].value == pytest.approx(1.5)
        assert points[1].low < 1.5 < points[1].high
        words = at_ends(points, {"ratio": "it"}, level=1.0)
        assert "at 2k (1 of 1 intervals hold 1; none at 1k, not significantly positive)." in words


def test_a_single_evaluation_or_measurement_has_no_interval() -> None:
    once = Estimate(value=3.0, stderr=0.0, n=1)
    alone = Estimate(value=3.0, stderr=math.nan, n=1, reason="one measurement")
    for above in (once, alone):
        (point,) = ratio_points("text", "ratio", {1000: [replace(pair(0, 3.0, 2.0), above=above)]})
        assert point.value == pytest.approx(1.5)
        assert math.isnan(point.low)
        assert math.isnan(point.high)
    seeds = [replace(pair(seed, 3.0, 2.0), above=replace(once, value=3.0 + 0.1 * seed)) for seed in (0, 1)]
    (point,) = ratio_points("text", "ratio", {1000: seeds})
    assert point.low < point.value < point.high
    missing = replace(pair(0, 3.0, 2.0), above=Estimate.missing("not run"))
    assert list(ratio_points("text", "ratio", {1000: [missing]})) == []
