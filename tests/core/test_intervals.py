"""``Decomposition.interval``: Student's factor, and ends of noise-corrected values that lean upwards."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from pair_tables import some
from scipy.stats import t as student

import spectral_reach as sr
from spectral_reach.estimators.gradient_noise import noise_free_norm, noise_free_norm_of_some
from spectral_reach.jacobian.unit_gradients import UnitGradientProducts


def measured(**options: Any) -> sr.Decomposition:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.Tanh(), torch.nn.Linear(9, 4))
    return sr.decompose(model, (torch.randn(12, 6), torch.randint(0, 4, (12,))), **options)


@pytest.mark.parametrize(
    ("name", "options", "freedom"),
    [
        ("chi_net", {"estimator": "per_unit", "probes": 3}, 12 * 2),
        ("chi_pos", {"estimator": "per_unit", "probes": 3}, 12 * 2),
        ("chi_net", {"estimator": "per_unit", "units": 5}, 4),
        ("chi_net", {"estimator": "batch", "probes": 6}, 5),
        ("chi_net_population", {"estimator": "per_unit"}, 11),
        ("chi_net_population", {"estimator": "exact", "units": 4}, 3),
    ],
)
def test_students_factor_for_what_is_behind_the_error(name: str, options: dict[str, Any], freedom: int) -> None:
    result = measured(**options)
    value = getattr(result, name.removesuffix("_population"))
    for level in (0.5, 0.95):
        reach = student.ppf(0.5 + level / 2, freedom) * getattr(result, f"{name}_stderr")
        assert result.interval(name, level) == pytest.approx((value - reach, value + reach))


@pytest.mark.parametrize("name", ["delta_loss_unbiased", "chi_pos_unbiased"])
@pytest.mark.parametrize("value", [-1.0, 0.0, 0.4, 2.0, 50.0])
@pytest.mark.parametrize(("units", "freedom"), [(12, 11), (7, 2 / (1 / 7 + 2 / 6)), (2, 1)])
def test_both_ends_are_as_far_as_the_error_there_allows(name: str, value: float, units: int, freedom: float) -> None:
    result = dataclasses.replace(measured(noise_units=units), **{name: value, f"{name}_stderr": 0.5})
    assert result.noise_units == units
    low, high = result.interval(name)
    factor = student.ppf(0.975, freedom)
    for end in (low, high):
        squared_error = 0.25 + 0.25 / (2 * max(value, 0.5)) * (end - value)
        assert (end - value) ** 2 == pytest.approx(factor**2 * squared_error)
    assert low < value < high
    assert high - value > value - low


def test_two_batches_have_the_freedom_of_the_smaller() -> None:
    result = dataclasses.replace(measured(), n_samples_against=5, noise_units=5, delta_loss_unbiased=50.0)
    low, high = result.interval("delta_loss_unbiased")
    fewer = dataclasses.replace(result, n_samples_against=None)
    assert high - low < fewer.interval("delta_loss_unbiased")[1] - fewer.interval("delta_loss_unbiased")[0]


def test_what_has_no_error_has_no_interval() -> None:
    result = measured(estimator="per_unit")  # one probe
    assert all(map(math.isnan, result.interval("chi_net")))
    assert result.interval("delta_loss_unbiased")[0] < result.delta_loss_unbiased
    exact = measured(estimator="exact")
    assert exact.interval("chi_net") == (exact.chi_net, exact.chi_net)


def test_bad_arguments() -> None:
    result = measured()
    with pytest.raises(ValueError, match="name is 'loss'; expected one of chi_net, chi_pos, chi_net_population"):
        result.interval("loss")
    with pytest.raises(ValueError, match="level is 95; expected a number between 0 and 1"):
        result.interval("chi_net", 95)


@pytest.mark.parametrize("signal", [0.0, 0.045, 0.09], ids=["noise", "between", "signal"])
@pytest.mark.parametrize("in_step", [False, True], ids=["all pairs", "in a step"])
def test_intervals_hold_the_truth(signal: float, in_step: bool) -> None:
    """Unit gradients with a spectrum: about as often as promised, and hardly ever less often than symmetric ones."""
    rng = np.random.default_rng(1)
    n, P, draws = 32, 60, 600
    template = measured()
    weights, ones = torch.full((n,), 1 / n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    truth = P * signal**2
    inside, symmetric = 0, 0
    for _ in range(draws):
        gradients = (signal + rng.normal(size=(n, P)) * np.arange(1, P + 1) ** -0.5) / n
        pairs = gradients @ gradients.T
        if in_step:
            found = noise_free_norm_of_some(
                some(pairs, rng.choice(n, 8, replace=False), norms_of_all=True), weights, ones, None
            )
        else:
            found = noise_free_norm(UnitGradientProducts.of_pairs(torch.from_numpy(pairs)), weights, ones, None)
        result = dataclasses.replace(
            template,
            delta_loss_unbiased=found.value,
            delta_loss_unbiased_stderr=found.stderr,
            n_units=n,
            noise_units=found.units,
        )
        low, high = result.interval("delta_loss_unbiased")
        inside += low <= truth <= high
        symmetric += abs(found.value - truth) <= 1.96 * found.stderr
    # Three binomial deviations below 93%.
    assert inside / draws > 0.93 - 3 * math.sqrt(0.93 * 0.07 / draws)
    assert inside >= symmetric - 0.02 * draws
