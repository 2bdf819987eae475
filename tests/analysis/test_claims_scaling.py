"""Claims on families of sizes: worlds in which each holds, is contradicted, or cannot be told, through real folders."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest

from analysis.claims_world import SIZES, STEPS, family, findings, of_text
from analysis.synthetic_study import SyntheticRun, write_study
from spectral_reach.studies.analysis.claims import ClaimsTable, Verdict, evaluate
from spectral_reach.studies.analysis.claims.finding import POSITIONS

SUPPORTED, CONTRADICTED, INCONCLUSIVE = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.INCONCLUSIVE


@dataclass(frozen=True, kw_only=True)
class Opposed(SyntheticRun):
    """Held-out position moves against that on training data."""

    def heldout_rows(self) -> list[dict[str, Any]]:
        rows = super().heldout_rows()
        for row in rows:
            scale = row["chi_loss"] * row["chi_net"]
            position = 1e-12 / self.position(row["step"])
            row.update(chi_pos=position, delta_loss=position * scale, delta_loss_unbiased=position * scale)
        return rows


@dataclass(frozen=True, kw_only=True)
class HighestAtOnce(SyntheticRun):
    """Position falls from the first step on."""

    def position(self, step: float) -> float:
        return super().position(step) + 5 * self.peak * math.exp(-step / 3)


@pytest.fixture(scope="module")
def true_world(tmp_path_factory: pytest.TempPathFactory) -> ClaimsTable:
    return of_text(tmp_path_factory.mktemp("true"), family())


@pytest.fixture(scope="module")
def false_world(tmp_path_factory: pytest.TempPathFactory) -> ClaimsTable:
    """The other way round: loss and position rise, position with size too, and on held-out data it is twice as high."""
    runs = family(direction=-1.0, heldout_ratio=2.0, chi_net_growth=1e4, start=3.0, floor=2.0, decay=-0.1)
    runs = [replace(run, late_position=4 * run.peak, heldout_every=10) for run in runs]
    return of_text(tmp_path_factory.mktemp("false"), runs)


ON_SCALING = (
    "spectral-position-falls",
    "larger-models-end-lower",
    "train-and-test-agree",
    "position-governs",
)


@pytest.mark.parametrize("claim", ON_SCALING)
def test_where_a_claim_holds_it_is_supported_for_both_measures(true_world, claim):
    found = findings(true_world, claim)
    assert {each.measure for each in found} == set(POSITIONS)
    for each in found:
        assert each.verdict == SUPPORTED, each
        assert each.low <= each.estimate <= each.high
        assert (each.n, each.counted) == (8, "runs")


def test_a_power_law_is_supported_and_rising_loss_contradicts_it(true_world, false_world):
    (falls,), (rises,) = (findings(world, "loss-power-law") for world in (true_world, false_world))
    assert (falls.verdict, falls.measure, falls.family) == (SUPPORTED, "loss", "Text: Python standard library")
    assert falls.low > 0
    assert falls.statistic == "exponent α of the train loss L = A C^−α along the compute frontier, Huber fit"
    assert "It falls: a straight line in log-log explains 99." in falls.reason
    assert rises.verdict == CONTRADICTED
    assert rises.high < 0
    assert rises.reason.startswith("It rises with compute")


def test_a_law_that_the_curves_leave_by_more_than_their_noise_is_not_exactly_one(tmp_path):
    (law,) = findings(of_text(tmp_path, family(loss_noise=1e-5)), "loss-power-law")
    assert law.verdict == SUPPORTED
    assert ", though not exactly: residuals are " in law.reason


def test_whether_the_peak_is_in_the_first_window_is_told(true_world, tmp_path):
    at_once = [HighestAtOnce(**{name: getattr(run, name) for name in run.__dataclass_fields__}) for run in family()]
    for table, sizes in ((true_world, 4), (of_text(tmp_path, at_once), 0)):
        (fall,) = findings(table, "spectral-position-falls", "chi_pos_unbiased")
        assert fall.verdict == SUPPORTED
        assert fall.reason.endswith(f"; that is in a later window than the first in {sizes} of 4.")


@pytest.mark.parametrize("measure", POSITIONS)
def test_where_claims_are_false_they_are_contradicted(false_world, measure):
    (fall,) = findings(false_world, "spectral-position-falls", measure)
    assert (fall.verdict, fall.reason[:9]) == (CONTRADICTED, "It rises;")
    assert fall.low > 1
    (order,) = findings(false_world, "larger-models-end-lower", measure)
    assert order.verdict == CONTRADICTED
    assert "the largest is higher, the intervals do not overlap; rank correlation 0." in order.reason
    late, curve = findings(false_world, "train-and-test-agree", measure)
    assert late.verdict == CONTRADICTED
    assert late.low < 2 < late.high
    assert curve.verdict == SUPPORTED  # twice as high, but together
    (governed,) = findings(false_world, "position-governs", measure)
    assert governed.verdict == CONTRADICTED
    assert governed.high < 0.8


def valley(floors, direction):
    """Sizes so close that at fixed compute, too, their losses are in the order of these floors; positions follow them
    or oppose them."""
    runs = []
    for run in family(direction=0.0, sizes=(20_000, 21_000, 22_000, 23_000)):
        floor = floors[run.parameters // 1000 - 20]
        ratio = floor**direction
        scales = ("peak", "late_position", "position_noise", "batch_noise")
        runs.append(replace(run, floor=floor, **{name: ratio * getattr(run, name) for name in scales}))
    return runs


@pytest.mark.parametrize(("direction", "verdict"), [(2.0, SUPPORTED), (-2.0, CONTRADICTED)])
def test_position_with_or_against_test_loss_at_fixed_compute(tmp_path, direction, verdict):
    table = of_text(tmp_path, valley((3.0, 2.0, 2.5, 3.6), direction))
    for measure in POSITIONS:
        (follows,) = findings(table, "position-follows-test-loss", measure)
        assert follows.verdict == verdict, follows
        assert (follows.low > 0) if direction > 0 else (follows.high < 0)
        assert (follows.n, follows.counted) == (4, "sizes")
        assert f"lower held-out loss have {'lower' if direction > 0 else 'higher'} position" in follows.reason
        assert "budgets, those with an interior minimum" in follows.reason


def test_a_loss_that_falls_with_size_throughout_does_not_tell_what_position_follows(tmp_path):
    """Size alone would explain both."""
    table = of_text(tmp_path, valley((3.6, 3.0, 2.5, 2.0), 2.0))
    for measure in POSITIONS:
        (follows,) = findings(table, "position-follows-test-loss", measure)
        assert follows.verdict == INCONCLUSIVE
        assert math.isnan(follows.estimate)
        assert "budgets the held-out loss is lowest at the smallest or the largest size, or as likely" in follows.reason


@pytest.mark.parametrize("measure", POSITIONS)
def test_curves_that_move_against_each_other_contradict(tmp_path, measure):
    runs = [Opposed(**{name: getattr(run, name) for name in run.__dataclass_fields__}) for run in family(seeds=(0,))]
    late, curve = findings(of_text(tmp_path, runs), "train-and-test-agree", measure)
    assert curve.verdict == CONTRADICTED
    assert curve.high < 0
    assert late.statistic != curve.statistic


def test_runs_without_a_correlation_are_told(tmp_path):
    runs = family(sizes=SIZES[:2])
    runs[1] = replace(runs[1], heldout_units=0)
    _, curve = findings(of_text(tmp_path, runs), "train-and-test-agree", "chi_pos")
    assert (curve.verdict, curve.n) == (SUPPORTED, 3)
    assert curve.statistic.endswith("over training, mean over sizes")
    assert curve.reason.endswith(
        "; left out: 1 of 4 runs (0 windows have a held-out and a training position, 5 are needed)."
    )


@pytest.fixture(scope="module")
def vague_world(tmp_path_factory: pytest.TempPathFactory) -> ClaimsTable:
    """Three sizes, one seed, noise as large as the position of the population late in training."""
    runs = family(sizes=SIZES[:3], seeds=(0,), position_noise=6e-6, batch_noise=2e-5, warmup_steps=70, late_units=64)
    return of_text(tmp_path_factory.mktemp("vague"), runs)


@pytest.mark.parametrize(
    ("claim", "measure", "reason"),
    [
        ("spectral-position-falls", "chi_pos", "mini-batches of 32 units at the peak and of 64 late do not compare"),
        ("spectral-position-falls", "chi_pos_unbiased", "is not significantly positive: ("),
        ("larger-models-end-lower", "chi_pos", "an order that chance alone gives too often"),
        ("larger-models-end-lower", "chi_pos_unbiased", "is not significantly positive: ("),
        ("train-and-test-agree", "chi_pos", "mini-batches of different numbers of units do not compare"),
        ("train-and-test-agree", "chi_pos_unbiased", "is not significantly positive: ("),
        ("position-follows-test-loss", "chi_pos", "at no compute do 3 sizes have"),
        (
            "position-governs",
            "chi_pos",
            "windows after warm-up have a significantly positive chi_pos; 4 and 75% of all are needed",
        ),
        ("position-governs", "chi_pos_unbiased", "4 and 75% of all are needed"),
    ],
)
def test_what_cannot_be_told_is_inconclusive_with_a_reason(vague_world, claim, measure, reason):
    found = findings(vague_world, claim, measure)[0]
    assert found.verdict == INCONCLUSIVE
    assert reason in found.reason


def test_one_size_has_no_frontier_and_no_order(tmp_path):
    table = of_text(tmp_path, family(sizes=SIZES[:1]))
    (law,) = findings(table, "loss-power-law")
    assert law.verdict == INCONCLUSIVE
    assert "a frontier needs at least 2" in law.reason
    order = findings(table, "larger-models-end-lower")[0]
    assert (order.verdict, order.reason) == (INCONCLUSIVE, "Not decided: there is one size only.")


def test_position_that_neither_falls_nor_depends_on_size_is_inconclusive(tmp_path):
    flat = family(direction=0.0, late_position=2e-5, position_noise=8e-6, batch_noise=8e-6, seed_spread=0.2)
    table = of_text(tmp_path, flat)
    for measure in POSITIONS:
        (fall,) = findings(table, "spectral-position-falls", measure)
        assert fall.verdict == INCONCLUSIVE, fall
        assert fall.low < 1 < fall.high
        assert fall.reason.startswith("The interval holds 1, no change")
        (order,) = findings(table, "larger-models-end-lower", measure)
        assert order.verdict == INCONCLUSIVE
        assert "the intervals overlap" in order.reason


def test_a_loss_that_flattens_is_no_contradiction(tmp_path):
    """Four sizes that all end at one loss: an irreducible one, if it were known where."""
    runs = [replace(run, floor=3.0, decay=3.0, loss_noise=0.001) for run in family()]
    (law,) = findings(of_text(tmp_path, runs), "loss-power-law")
    assert law.verdict in (INCONCLUSIVE, SUPPORTED)
    assert "flattens" in law.reason or "irreducible" in law.reason


@pytest.mark.parametrize("claim", ["vit", "vit-mup"])
def test_vits_are_judged_by_the_same_rules(tmp_path, claim):
    true, false = family(), family(direction=-1.0)
    false = [replace(run, late_position=4 * run.peak) for run in false]
    few = family(sizes=SIZES[:2], seeds=(0,), position_noise=6e-6)
    for runs, verdict in ((true, SUPPORTED), (false, CONTRADICTED), (few, INCONCLUSIVE)):
        folder = write_study(tmp_path / str(verdict), {claim: runs}, study=claim)
        found = findings(evaluate({claim: folder}), claim, "chi_pos_unbiased")
        assert [each.verdict for each in found] == [verdict, verdict]
        assert {each.study for each in found} == {claim}
        assert "early peak" in found[0].statistic
        assert "largest over the smallest size" in found[1].statistic


def test_unfinished_runs_are_told_and_left_out(tmp_path):
    runs = family()
    part = [replace(run, done=STEPS // 2) if run.parameters == SIZES[1] else run for run in runs]
    table = of_text(tmp_path / "part", part, not_started={"text": ["text-900k"]})
    (fall,) = findings(table, "spectral-position-falls", "chi_pos_unbiased")
    assert fall.n == 6
    assert fall.reason.endswith("3 of 9 runs are not finished.")
    none = of_text(tmp_path / "none", [replace(run, done=20) for run in runs[:2]])
    not_run = next(each for each in none.findings if each.claim == "spectral-position-falls")
    assert (not_run.verdict, not_run.reason) == (Verdict.NOT_RUN, "No run is finished.")
