"""Estimators of chi_net: unbiased, with standard errors that are what the estimates really scatter by.

All bounds are a number of standard errors of the statistic itself, over many seeds on one fixed linearisation.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import oracle
import pytest
import small_models
import torch
from comparing import assert_equal
from torch import nn

import spectral_reach as sr
from spectral_reach.estimators import EstimatorOptions, TraceEstimate, estimate_trace
from spectral_reach.estimators.exact import AUTO_DIRECTIONS
from spectral_reach.measured.isolation import leaving_no_trace
from spectral_reach.measured.linearisation import Linearisation, linearise
from spectral_reach.measured.losses import resolve_loss
from spectral_reach.measured.parameters import select_parameters

SEEDS = 400
# Two-sided: one test in 16,000 fails by chance, and the seeds are fixed.
STANDARD_ERRORS = 4


@contextmanager
def linearised(kind: str, units: int) -> Iterator[tuple[Linearisation, np.ndarray, np.ndarray]]:
    """A linearisation, its kernel Theta / N from the oracle, and the unit of each output."""
    subject = small_models.draw(kind, 4)
    batch = subject.draw_batch(units)
    explicit = subject.explicit(batch)
    J = explicit.J.reshape(-1, explicit.J.shape[2])
    with leaving_no_trace(subject.model):
        yield (
            linearise(
                subject.model,
                batch,
                resolve_loss(subject.loss.given),
                select_parameters(subject.model),
                seed=0,
            ),
            J @ J.T / explicit.n,
            np.repeat(explicit.unit, explicit.J.shape[1]),
        )


def estimates(name: str, linearisation: Linearisation, probes: int, units: int | None) -> list[TraceEstimate]:
    return [
        estimate_trace(
            name, linearisation, EstimatorOptions(probes=probes, units=units, seed=seed, memory_budget=2**28)
        )
        for seed in range(SEEDS)
    ]


def assert_mean(values: np.ndarray, expected: float) -> None:
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - expected) < STANDARD_ERRORS * error


def check_honest(found: list[TraceEstimate], trace: float, variance: float) -> None:
    """The estimates scatter around ``trace`` with ``variance``, and the mean of their squared errors is that."""
    values = np.array([estimate.chi_net for estimate in found])
    assert_mean(values, trace)
    assert_mean((values - trace) ** 2, variance)
    assert_mean(np.array([estimate.stderr**2 for estimate in found]), variance)


# A kind whose units have unequal numbers of labelled rows, and one of one row each. What a kind changes, the traces of
# the units, and what a count changes, how many of them are averaged, do not meet: no need for every pair of the two.
@pytest.mark.parametrize(("kind", "probes"), [("causal-lm-tied", 2), ("mlp", 5)])
def test_batch_is_unbiased_and_its_error_honest(kind: str, probes: int) -> None:
    with linearised(kind, 6) as (linearisation, theta, _):
        off_diagonal = theta - np.diag(np.diag(theta))
        check_honest(
            estimates("batch", linearisation, probes, None),
            np.trace(theta),
            # Var(v^T Theta v) for Rademacher signs v.
            2 * (off_diagonal**2).sum() / probes,
        )


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "m"), [("causal-lm-tied", 2), ("mlp", 1), ("mlp", 4)])
def test_batch_on_some_units_is_unbiased_and_its_error_honest(kind: str, m: int) -> None:
    with linearised(kind, 5) as (linearisation, theta, unit):
        n = linearisation.n_units
        # Over all subsets of m units: mean of the variances given the subset, plus variance of their means.
        means, variances = [], []
        for subset in map(list, combinations(sorted(set(unit.tolist())), m)):
            inside = np.isin(unit, subset)
            part = theta[np.ix_(inside, inside)] * n / m
            means.append(np.trace(part))
            variances.append(2 * ((part - np.diag(np.diag(part))) ** 2).sum())
        assert np.mean(means) == pytest.approx(np.trace(theta), rel=1e-9)
        check_honest(estimates("batch", linearisation, 3, m), np.trace(theta), (np.mean(variances) + np.var(means)) / 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["causal-lm-tied", "mlp"])
@pytest.mark.parametrize("m", [2, 3])
def test_exact_on_some_units_is_unbiased_and_its_error_honest(kind: str, m: int) -> None:
    with linearised(kind, 7) as (linearisation, theta, unit):
        traces = [np.diag(theta)[unit == i].sum() for i in sorted(set(unit.tolist()))]
        means = [len(traces) / m * sum(part) for part in combinations(traces, m)]
        found = estimates("exact", linearisation, 1, m)
        assert {round(estimate.chi_net, 9) for estimate in found} <= {round(mean, 9) for mean in means}
        check_honest(found, np.trace(theta), np.var(means))


def test_exact_on_all_units_has_no_error() -> None:
    with linearised("causal-lm-tied", 5) as (linearisation, theta, unit):
        for units in (None, linearisation.n_units):
            options = EstimatorOptions(probes=1, units=units, seed=0, memory_budget=2**28)
            estimate = estimate_trace("exact", linearisation, options)
            assert estimate.chi_net == pytest.approx(np.trace(theta), rel=1e-12)
            assert (estimate.stderr, estimate.probes) == (0, 0)
            assert estimate.unit_traces is not None
            by_unit = [np.diag(theta)[unit == i].sum() * linearisation.n_samples for i in sorted(set(unit.tolist()))]
            assert estimate.unit_traces.numpy() == pytest.approx(by_unit, rel=1e-12)


# --- an independent probe for each unit ----------------------------------------------------------------------------


def traces_by_unit(linearisation: Linearisation, theta: np.ndarray, unit: np.ndarray) -> np.ndarray:
    return np.array([np.diag(theta)[unit == i].sum() for i in sorted(set(unit.tolist()))])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["causal-lm-tied", "convolution-group-norm", "lstm"])
def test_per_unit_is_unbiased_and_its_error_honest(kind: str) -> None:
    with linearised(kind, 6) as (linearisation, theta, unit):
        found = estimates("per_unit", linearisation, 3, None)
        values = np.array([estimate.chi_net for estimate in found])
        assert_mean(values, np.trace(theta))
        # The variance of a probe is that of the mean of three, which the estimates claim, and have.
        claimed = np.array([estimate.stderr**2 for estimate in found])
        squares = (values - np.trace(theta)) ** 2
        error = math.hypot(claimed.std(ddof=1), squares.std(ddof=1)) / math.sqrt(SEEDS)
        assert abs(claimed.mean() - squares.mean()) < STANDARD_ERRORS * error
        by_unit = np.array([estimate.unit_traces.numpy() for estimate in found])
        for got, expected in zip(by_unit.T, traces_by_unit(linearisation, theta, unit), strict=True):
            assert_mean(got, expected * linearisation.n_samples)


def test_a_probe_for_each_unit_scatters_less_than_one_over_the_batch() -> None:
    with linearised("causal-lm-untied", 6) as (linearisation, _, _):
        batch, per_unit = (
            np.std([estimate.chi_net for estimate in estimates(name, linearisation, 1, None)])
            for name in ("batch", "per_unit")
        )
        # No products between units, and the readout's own share is exact.
        assert per_unit < batch / 2


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "m"), [("causal-lm-tied", 2), ("mlp", 4)])
def test_per_unit_on_some_units_is_unbiased_and_its_error_honest(kind: str, m: int) -> None:
    with linearised(kind, 7) as (linearisation, theta, _):
        found = estimates("per_unit", linearisation, 2, m)
        values = np.array([estimate.chi_net for estimate in found])
        assert_mean(values, np.trace(theta))
        squares = (values - np.trace(theta)) ** 2
        claimed = np.array([estimate.stderr**2 for estimate in found])
        error = math.hypot(claimed.std(ddof=1), squares.std(ddof=1)) / math.sqrt(SEEDS)
        assert abs(claimed.mean() - squares.mean()) < STANDARD_ERRORS * error


def test_some_units_have_a_pass_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of seven: the numbers are those of the same units within the whole batch, for fewer operations."""
    from spectral_reach.jacobian.unit_backward import UnitBackward

    with linearised("causal-lm-tied", 7) as (linearisation, _, _):
        backward = UnitBackward.of(linearisation)
        units = torch.tensor([1, 4])
        part = backward.over(units)
        assert part is not None
        assert part.linearisation.n_units == 2
        chosen = torch.cat([(linearisation.unit_of_row == unit).nonzero().squeeze(1) for unit in units])
        v = torch.randn(linearisation.f.shape, generator=torch.Generator().manual_seed(0)).double()
        alone = part.squared_norms(v[chosen])
        assert alone.numpy() == pytest.approx(backward.squared_norms(v)[units].numpy(), rel=1e-10)
    with linearised("dropout", 7) as (linearisation, _, _):
        assert UnitBackward.of(linearisation).over(units) is None


def covered(results: list[sr.Decomposition], truth: float, error: str) -> None:
    """95% intervals hold the truth as often as they say, up to the binomial spread, and a little less for the tails of
    an error that is itself estimated."""
    inside = np.mean([abs(result.chi_net - truth) < 1.96 * getattr(result, error) for result in results])
    binomial = math.sqrt(0.95 * 0.05 / len(results))
    assert 0.94 - STANDARD_ERRORS * binomial < inside < 0.95 + STANDARD_ERRORS * binomial


def wide_network() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10)).double()
    return model, torch.randn(200, 8).double(), torch.randint(10, (200,))


@pytest.mark.slow
def test_intervals_for_the_batch_cover_it() -> None:
    model, x, y = wide_network()
    batch = x[:48], y[:48]
    truth = sr.decompose(model, batch, estimator="exact").chi_net
    found = [sr.decompose(model, batch, estimator="per_unit", probes=4, seed=seed) for seed in range(SEEDS)]
    covered(found, truth, "chi_net_stderr")


@pytest.mark.slow
def test_intervals_for_the_population_cover_it() -> None:
    """Drawn with replacement from a finite set of examples, whose chi_net is known."""
    model, x, y = wide_network()
    truth = sr.decompose(model, (x, y), estimator="exact").chi_net
    random = torch.Generator().manual_seed(0)
    found = []
    for seed in range(SEEDS):
        chosen = torch.randint(len(x), (48,), generator=random)
        found.append(sr.decompose(model, (x[chosen], y[chosen]), estimator="per_unit", seed=seed))
    assert_mean(np.array([result.chi_net for result in found]), truth)
    covered(found, truth, "chi_net_population_stderr")


def test_one_probe_tells_how_much_units_differ_but_not_its_own_error() -> None:
    result = measure(units=6, estimator="per_unit")
    assert "one probe has no spread" in result.undefined["chi_net_stderr"]
    assert result.chi_net_population_stderr > 0
    # The corrected position varies over draws of units, which it knows from their spread.
    assert result.chi_pos_unbiased_stderr > 0
    assert set(result.undefined) == {"chi_net_stderr", "chi_pos_stderr"}


# --- through decompose ------------------------------------------------------------------------------------------------


def measure(kind: str = "causal-lm-untied", units: int = 4, **arguments: Any) -> sr.Decomposition:
    subject = small_models.draw(kind, 4)
    return sr.decompose(subject.model, subject.draw_batch(units), loss=subject.loss.given, **arguments)


def test_the_error_of_the_position_is_that_of_the_trace() -> None:
    result = measure(estimator="batch", probes=4)
    relative = result.chi_net_stderr / result.chi_net
    assert result.chi_pos_stderr == pytest.approx(result.chi_pos * relative, rel=1e-12)
    assert result.probes == 4
    # The corrected position also varies over draws of the batch, as much as delta_loss_unbiased and more.
    assert result.chi_pos_unbiased_stderr > abs(result.chi_pos_unbiased) * relative


@pytest.mark.slow
def test_the_error_of_a_pair_is_honest() -> None:
    subject = small_models.draw("mlp", 4)
    torch.manual_seed(0)
    a, b = subject.draw_batch(5), subject.draw_batch(4)
    found = [
        sr.decompose(subject.model, a, against=b, loss=subject.loss.given, estimator="batch", probes=16, seed=seed)
        for seed in range(150)
    ]
    values = np.array([result.chi_net for result in found])
    squared_errors = np.array([result.chi_net_stderr**2 for result in found])
    expected = values.var(ddof=1)
    scatter = ((values - values.mean()) ** 2).std(ddof=1) / math.sqrt(len(found))
    # A square root of two noisy factors: the delta method is right up to the relative error of a factor, a few percent.
    assert abs(squared_errors.mean() - expected) < STANDARD_ERRORS * scatter + 0.1 * expected


def test_seeds_decide_the_probes_and_nothing_else_does() -> None:
    first = measure(estimator="batch", probes=2, seed=3)
    torch.manual_seed(99)
    torch.rand(5)
    assert_equal(measure(estimator="batch", probes=2, seed=3), first)
    other = measure(estimator="batch", probes=2, seed=4)
    assert other.chi_net != first.chi_net
    assert (other.delta_loss, other.chi_loss, other.loss) == (first.delta_loss, first.chi_loss, first.loss)


def test_more_probes_continue_the_same_sequence() -> None:
    """Cheap to reason about: a measurement with more probes refines the one with fewer."""
    one, two = (measure(estimator="batch", probes=probes).chi_net for probes in (1, 2))
    spread = measure(estimator="batch", probes=2).chi_net_stderr
    # Of two draws x and y: mean (x + y) / 2 and standard error |x - y| / 2.
    assert abs(one - two) == pytest.approx(spread, rel=1e-9)


def test_auto_is_exact_where_that_is_cheap() -> None:
    torch.manual_seed(0)
    model, k = nn.Linear(3, 8), 8

    def chosen(rows: int, units: int | None = None) -> str:
        batch = torch.randn(rows, 3), torch.randint(0, k, (rows,))
        auto = sr.decompose(model, batch, units=units)
        named = sr.decompose(model, batch, units=units, estimator=auto.estimator)
        assert_equal(replace(auto, passed_over=""), named)
        return auto.estimator

    assert chosen(AUTO_DIRECTIONS // k) == "exact"
    assert chosen(AUTO_DIRECTIONS // k + 1) == "per_unit"
    assert chosen(AUTO_DIRECTIONS // k + 1, units=AUTO_DIRECTIONS // k) == "exact"


def test_auto_says_why_it_takes_the_whole_batch() -> None:
    class Centred(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.mean(0)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), Centred(), nn.Linear(4, 8))
    batch = torch.randn(200, 3), torch.randint(0, 8, (200,))
    result = sr.decompose(model, batch)
    assert result.estimator == "batch"
    assert result.passed_over == (
        "per_unit: units see each other: the gradient of one reaches others where parameter '0.weight' is used"
    )
    assert result.passed_over in str(result)
    with pytest.raises(ValueError, match=r"per_unit' cannot tell the units.*parameter '0\.weight'.*use 'batch'"):
        sr.decompose(model, batch, estimator="per_unit")


def test_a_pair_names_both_estimators() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 8)
    small, large = ((torch.randn(n, 3), torch.randint(0, 8, (n,))) for n in (4, AUTO_DIRECTIONS // 8 + 1))
    assert sr.decompose(model, small, against=large).estimator == "exact+per_unit"
    assert sr.decompose(model, large, against=small).estimator == "per_unit+exact"
    assert sr.decompose(model, small, against=small).estimator == "exact"


def test_exact_needs_no_more_than_its_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget decides how many directions one vectorised product takes, and a direction at a time always works."""
    from spectral_reach.estimators import exact

    chunks: list[int] = []
    batched_vjp = exact.batched_vjp

    def spy(linearisation: Linearisation, cotangents: torch.Tensor) -> Any:
        chunks.append(len(cotangents))
        return batched_vjp(linearisation, cotangents)

    monkeypatch.setattr(exact, "batched_vjp", spy)
    with linearised("mlp", 5) as (linearisation, theta, _):
        directions = theta.shape[0]
        assert oracle.IGNORED not in linearisation.unit_of_row
        for budget, expected in ((1, [1] * directions), (2**40, [directions])):
            chunks.clear()
            estimate_trace("exact", linearisation, EstimatorOptions(probes=1, units=None, seed=0, memory_budget=budget))
            assert chunks == expected
