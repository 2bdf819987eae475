"""L(C) and L(N): known laws are found, replicates are used, what the runs cannot carry says so."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from analysis.synthetic_study import SyntheticRun, as_run_data, text_runs
from spectral_reach.studies.analysis.compute_law import compute_law
from spectral_reach.studies.analysis.frontier import frontier
from spectral_reach.studies.analysis.size_law import FinalLoss, size_law
from spectral_reach.studies.analysis.study_data import Losses, RunData

SIZES = (1_000, 4_000, 16_000, 64_000, 256_000)
STEPS = 400
E, A, ALPHA = 1.5, 30.0, 0.3


def with_losses(parameters: int, train, heldout, *, name: str = "") -> RunData:
    """A finished run with these losses at steps 0 to n - 1 and n; 3072 FLOPs a parameter and step."""
    steps = len(train)
    step = np.arange(steps + 1)
    template = as_run_data(SyntheticRun(name=name or f"run-{parameters}", parameters=parameters, steps=steps, done=0))
    flops = 3072.0 * parameters * step
    evaluated = np.full(steps + 1, math.nan)
    evaluated[-1] = heldout
    losses = Losses(step=step, tokens=flops, flops=flops, train_loss=np.append(train, math.nan), heldout_loss=evaluated)
    return replace(template, unigram_entropy=math.inf, warmup_steps=5, is_finished=True, losses=losses)


def on_frontier(parameters: int, rng, *, noise: float = 0.01, irreducible: float = E) -> RunData:
    """Its loss is the law between steps 30 and 120, where the next size takes over, and above it elsewhere."""
    step = np.maximum(np.arange(STEPS), 1).astype(float)
    above = 0.15 * np.maximum(0, np.log(step / 120)) + 0.15 * np.maximum(0, np.log(30 / step))
    law = irreducible + A * (3072 * parameters * step / 1e6) ** -ALPHA
    return with_losses(parameters, law * np.exp(above + noise * rng.standard_normal(STEPS)), 1.0)


def at_end(parameters: int, rng, *, spread: float, name: str = "", off: float = 0.0, batch: float = 0.01) -> RunData:
    """Ends on L = A N^-0.1, but for the seed's deviation and what is off for all runs of its size."""
    level = 8 * parameters**-0.1 * math.exp(spread * rng.standard_normal() + off)
    return with_losses(parameters, level * np.exp(batch * rng.standard_normal(40)), 1.1 * level, name=name)


def test_the_compute_law_is_fitted_to_the_points_of_the_frontier():
    runs = [as_run_data(run) for run in text_runs()]
    line, law = frontier(runs), compute_law(runs)
    assert law.points == line.points
    assert law.covers_seeds == line.covers_seeds
    assert law.without_irreducible.n == len(line.points)
    assert law.without_irreducible.exponent.value == pytest.approx(line.exponent, rel=0.02)
    assert law.without_irreducible.exponent.low == pytest.approx(line.low, rel=0.02)
    assert law.without_irreducible.exponent.high == pytest.approx(line.high, rel=0.02)
    assert not law.without_irreducible.from_scatter


@pytest.mark.slow
def test_an_irreducible_loss_along_the_frontier_is_found_and_covered():
    repeats = 30
    hits = 0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        law = compute_law([on_frontier(p, rng) for p in SIZES], seed=seed, draws=100)
        found = law.with_irreducible
        assert found.reason is None
        assert found.irreducible.value == pytest.approx(E, rel=0.05)
        hits += found.irreducible.low <= E <= found.irreducible.high
        assert law.without_irreducible.residual_scale > 3 * found.residual_scale
    assert hits >= binom.ppf(0.01, repeats, 0.90)


def test_a_straight_frontier_has_no_irreducible_loss():
    rng = np.random.default_rng(0)
    law = compute_law([on_frontier(p, rng, irreducible=0.0) for p in SIZES], draws=100)
    assert law.without_irreducible.exponent.value == pytest.approx(ALPHA, abs=0.003)
    assert "no irreducible loss" in law.with_irreducible.reason


def test_without_a_frontier_both_forms_have_its_reason():
    law = compute_law([on_frontier(1000, np.random.default_rng(0))])
    assert law.points == ()
    for fit in (law.without_irreducible, law.with_irreducible):
        assert "1 sizes get below the unigram entropy after warm-up" in fit.reason
        assert math.isnan(fit.exponent.value)


@pytest.mark.slow
def test_runs_of_one_size_are_replicates_whose_spread_the_law_of_size_covers():
    repeats, hits, spread = 80, 0, 0.01
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        runs = [at_end(p, rng, spread=spread, name=f"{p}-{i}") for p in SIZES for i in range(3)]
        law = size_law(runs, FinalLoss.HELDOUT, seed=seed, draws=200)
        assert law.degrees == 10
        hits += law.without_irreducible.exponent.low <= 0.1 <= law.without_irreducible.exponent.high
    assert binom.ppf(0.01, repeats, 0.90) <= hits <= binom.ppf(0.99, repeats, 0.98)


def test_points_are_means_over_runs_with_the_pooled_error_of_seeds():
    rng = np.random.default_rng(0)
    runs = [at_end(p, rng, spread=0.02, name=f"{p}-{i}") for p in SIZES for i in range(3)]
    heldout, train = (size_law(runs, quantity) for quantity in (FinalLoss.HELDOUT, FinalLoss.TRAIN))
    for point in heldout.points:
        values = [run.losses.heldout_loss[-1] for run in runs if run.parameters == point.parameters]
        assert point.loss.value == pytest.approx(np.mean(values), rel=1e-12)
        assert (point.runs, point.loss.n) == (3, 3)
    relative = {round(point.loss.stderr / point.loss.value, 12) for point in heldout.points}
    assert len(relative) == 1
    # The standard deviation of 15 runs about 5 means is known to 1 / sqrt(2 * 10) = 22%.
    assert relative.pop() == pytest.approx(0.02 / math.sqrt(3), rel=0.6)
    late = [run.losses.train_loss[36:40].mean() for run in runs if run.parameters == SIZES[0]]
    assert train.points[0].loss.value == pytest.approx(np.mean(late), rel=1e-12)


def test_one_run_a_size_is_judged_by_the_scatter_about_the_law():
    rng = np.random.default_rng(1)
    law = size_law([at_end(p, rng, spread=0.01) for p in SIZES], FinalLoss.HELDOUT)
    assert law.degrees == 0
    assert law.without_irreducible.from_scatter
    assert law.without_irreducible.exponent.low < 0.1 < law.without_irreducible.exponent.high
    assert "the spread of seeds has 0 degrees of freedom, 3 are needed" in law.points[0].loss.reason


def test_sizes_off_the_law_by_more_than_their_seeds_are_judged_by_the_scatter():
    rng = np.random.default_rng(0)
    off = [0.05, -0.05, 0.05, -0.05, 0.05]
    runs = [
        at_end(p, rng, spread=0.002, off=o, name=f"{p}-{i}") for p, o in zip(SIZES, off, strict=True) for i in range(3)
    ]
    law = size_law(runs, FinalLoss.HELDOUT)
    assert law.degrees == 10
    fit = law.without_irreducible
    assert fit.from_scatter
    assert fit.exponent.high - fit.exponent.low > 0.02


def test_a_law_of_size_with_an_irreducible_loss_is_found_with_seeds():
    rng = np.random.default_rng(0)
    runs = []
    for p in SIZES:
        for i in range(3):
            level = (2 + 20 * p**-0.4) * math.exp(0.001 * rng.standard_normal())
            runs.append(with_losses(p, np.full(40, level), level, name=f"{p}-{i}"))
    law = size_law(runs, FinalLoss.HELDOUT)
    assert law.with_irreducible.reason is None
    assert not law.with_irreducible.from_scatter
    assert law.with_irreducible.irreducible.value == pytest.approx(2, rel=0.01)
    assert law.with_irreducible.exponent.value == pytest.approx(0.4, rel=0.03)
    assert law.without_irreducible.from_scatter


@pytest.mark.parametrize(
    ("n", "plain", "irreducible"), [(2, "2 points cannot carry", "2 points"), (3, None, "3 points")]
)
def test_few_sizes_say_what_they_cannot_carry(n, plain, irreducible):
    rng = np.random.default_rng(0)
    law = size_law([at_end(p, rng, spread=0.01) for p in SIZES[:n]], FinalLoss.TRAIN)
    assert (law.without_irreducible.reason or "").startswith(plain or "")
    assert (law.without_irreducible.reason is None) == (plain is None)
    assert f"{irreducible} cannot carry 3 parameters, 4 are needed" in law.with_irreducible.reason


def test_runs_that_cannot_be_compared_are_left_out_with_their_reason():
    rng = np.random.default_rng(0)
    runs = [at_end(p, rng, spread=0.01) for p in SIZES]
    level = float(runs[1].losses.train_loss[36:40].mean())
    broken = runs[2].losses.train_loss.copy()
    broken[38] = math.nan
    changed = [
        replace(runs[0], is_finished=False),
        replace(runs[1], unigram_entropy=level),
        replace(runs[2], losses=replace(runs[2].losses, train_loss=broken)),
        replace(runs[3], losses=replace(runs[3].losses, heldout_loss=np.full(41, math.nan))),
        runs[4],
    ]
    law = size_law(changed, FinalLoss.HELDOUT)
    assert [point.parameters for point in law.points] == [SIZES[4]]
    expected = [
        "unfinished: 40 of 40 steps",
        "not below the unigram entropy",
        "the training loss is not finite at 1 late steps",
        "the final model was not evaluated on held-out data",
    ]
    assert len(law.left_out) == 4
    for reason, text, run in zip(law.left_out, expected, runs, strict=False):
        assert reason.startswith(f"{run.name}: ")
        assert text in reason
    assert len(size_law(changed, FinalLoss.TRAIN).points) == 2


def test_no_runs_give_no_law():
    law = size_law([], FinalLoss.TRAIN)
    assert law.points == ()
    assert "0 points cannot carry" in law.without_irreducible.reason


def test_the_laws_are_the_same_for_the_same_seed():
    rng = np.random.default_rng(0)
    runs = [at_end(p, rng, spread=0.01, name=f"{p}-{i}") for p in SIZES for i in range(2)]
    assert size_law(runs, FinalLoss.TRAIN, seed=1) == size_law(runs, FinalLoss.TRAIN, seed=1)
    family = [as_run_data(run) for run in text_runs()]
    one, two = (compute_law(family, seed=2, draws=100) for _ in range(2))
    assert one == two
    assert (
        one.without_irreducible.exponent.low != compute_law(family, seed=3, draws=100).without_irreducible.exponent.low
    )
