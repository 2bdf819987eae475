"""``noise_units``: noise-corrected values from the pair products of some units with all others."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import small_models
import torch
from by_unit import _forward_mode
from pair_tables import some

import spectral_reach as sr
from spectral_reach.decomposition import one_batch
from spectral_reach.estimators.gradient_noise import noise_free_norm, noise_free_norm_of_some
from spectral_reach.estimators.subset import draw_units, generator
from spectral_reach.jacobian.unit_gradients import UnitGradientProducts

M = 3


@pytest.mark.parametrize("kind", [kind for kind in small_models.KINDS if "gpt2" not in kind])
@pytest.mark.parametrize("route", ["rules", "passes"])
def test_values_are_those_of_the_oracles_gradients(kind: str, route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = small_models.draw(kind, 3)
    batch = subject.draw_batch(6)
    with _forward_mode():
        explicit = subject.explicit(batch, None, 0)
    n = len(explicit.units)
    if route == "passes":
        monkeypatch.setattr(one_batch.UnitBackward, "of", lambda _: SimpleNamespace(reason="not today"))
    result = sr.decompose(subject.model, batch, loss=subject.loss.given, estimator="exact", noise_units=M)

    units = draw_units(n, M, generator(0, "noise units", torch.device("cpu"))).numpy()
    gradients = explicit.unit_gradients()
    pairs = gradients @ gradients.T
    w = np.bincount(np.searchsorted(explicit.units, explicit.unit)) / explicit.n
    expected = (pairs[units].sum(1) - pairs.diagonal()[units]).sum() / (w[units] * (1 - w[units])).sum()
    assert result.delta_loss == pytest.approx(pairs.sum(), rel=1e-9, abs=1e-25)
    assert result.delta_loss_unbiased == pytest.approx(expected, rel=1e-9, abs=1e-12 * abs(pairs).sum())
    assert result.chi_pos_unbiased == pytest.approx(expected / result.chi_loss / result.chi_net, rel=1e-9, abs=1e-12)
    assert result.n_units == n


def test_all_units_are_the_whole_table() -> None:
    """The same value; the same error but for the ways in which its two parts are estimated, for equal units."""
    rng = np.random.default_rng(0)
    n = 12
    signal, noise = rng.normal(size=40), rng.normal(size=(n, 40))
    gradients = (signal + 3 * noise) / n
    pairs = gradients @ gradients.T
    weights, ones = torch.full((n,), 1 / n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    whole = noise_free_norm(UnitGradientProducts.of_pairs(torch.from_numpy(pairs)), weights, ones, None)
    rows = noise_free_norm_of_some(some(pairs, np.arange(n)), weights, ones, None)
    assert rows.value == pytest.approx(whole.value, rel=1e-12)
    assert rows.stderr == pytest.approx(whole.stderr, rel=0.02)
    assert rows.noise_scale == pytest.approx(whole.noise_scale, rel=1e-12)


@pytest.mark.parametrize("signal", [0.0, 0.3, 1.0], ids=["noise", "between", "signal"])
@pytest.mark.parametrize("m", [2, 4, 9])
def test_unbiased_with_an_honest_error(signal: float, m: int) -> None:
    """Over many draws of a batch of known gradients: the mean is ||G||^2, the mean square error is the scatter.

    A bias of a seventh of one value's standard deviation is noticed, 5.6 standard errors of the mean of 1,500.
    """
    rng = np.random.default_rng(m)
    n, P, draws = 10, 30, 1500
    G = signal * np.ones(P)
    weights, ones = torch.full((n,), 1 / n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    values, variances = np.empty(draws), np.empty(draws)
    for draw in range(draws):
        gradients = (G + rng.normal(size=(n, P))) / n
        found = noise_free_norm_of_some(
            some(gradients @ gradients.T, rng.choice(n, size=m, replace=False)), weights, ones, None
        )
        values[draw], variances[draw] = found.value, found.stderr**2
    assert abs(values.mean() - G @ G) < 4 * values.std() / math.sqrt(draws)
    # zeta_1 and zeta_2 are kept from going below 0, which adds to the variance where there is little of one of them.
    assert 0.85 < variances.mean() / values.var() < 1.4


def test_with_the_norms_of_all_units_the_value_is_that_of_all() -> None:
    rng = np.random.default_rng(1)
    weights = torch.from_numpy(rng.dirichlet(np.ones(12)))
    gradients = (1 + rng.normal(size=(12, 30))) * weights.numpy()[:, None]
    pairs, ones = gradients @ gradients.T, torch.ones(12, dtype=torch.float64)
    whole = noise_free_norm(UnitGradientProducts.of_pairs(torch.from_numpy(pairs)), weights, ones, None)
    found = noise_free_norm_of_some(some(pairs, np.array([3, 0, 7]), norms_of_all=True), weights, ones, None)
    assert found.value == pytest.approx(whole.value, rel=1e-12)
    assert found.position[0] == pytest.approx(whole.position[0], rel=1e-12)
    assert found.noise_scale == pytest.approx(whole.noise_scale, rel=1e-12)
    assert found.units == 3


@pytest.mark.parametrize("signal", [0.0, 0.2, 1.0], ids=["noise", "between", "signal"])
@pytest.mark.parametrize("together", [False, True], ids=["", "large gradients where losses are large"])
def test_eight_units_tell_the_error_of_a_value_from_all(signal: float, together: bool) -> None:
    rng = np.random.default_rng(0)
    n, P, draws = 32, 60, 1000
    G = signal * np.ones(P)
    weights = torch.full((n,), 1 / n, dtype=torch.float64)
    found = []
    for _ in range(draws):
        # A loss and a trace that vary from unit to unit, by themselves or with the gradients.
        loss, net = (torch.from_numpy(rng.uniform(0.5, 1.5, n)) for _ in range(2))
        scale = loss.sqrt().numpy() if together else np.ones(n)
        gradients = scale[:, None] * (G + rng.normal(size=(n, P))) / n
        products = some(gradients @ gradients.T, rng.choice(n, size=8, replace=False), norms_of_all=True)
        found.append(noise_free_norm_of_some(products, weights, loss, net))
    values = np.array([[each.value, *each.position] for each in found])
    variances = np.array([each.stderr**2 for each in found])
    truth = G @ G * (2 / 3 * (1.5**1.5 - 0.5**1.5)) ** 2 if together else G @ G
    assert abs(values[:, 0].mean() - truth) < 4 * values[:, 0].std() / math.sqrt(draws)
    # zeta_1 is kept from going below 0, which adds to the variance where it is 0: twice the scatter of its estimate
    # from 7 degrees of freedom, sqrt(2 / 7) / sqrt(2 pi), in the units of the other part.
    assert 0.85 < variances.mean() / values[:, 0].var() < 1.15 + 2 * math.sqrt(2 / 7) / math.sqrt(2 * math.pi)
    assert 0.85 < (values[:, 2] ** 2).mean() / values[:, 1].var() < 1.6


def test_a_few_units_have_the_larger_error() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.Tanh(), torch.nn.Linear(30, 5)).double()
    batch = torch.randn(32, 20).double(), torch.randint(0, 5, (32,))
    few = np.mean([sr.decompose(model, batch, noise_units=4, seed=s).delta_loss_unbiased_stderr for s in range(40)])
    whole = sr.decompose(model, batch)
    assert whole.delta_loss_unbiased_stderr < few < 4 * whole.delta_loss_unbiased_stderr
    everything = sr.decompose(model, batch, noise_units=32)
    assert everything == whole


def test_bad_counts() -> None:
    model, batch = torch.nn.Linear(3, 2), (torch.randn(4, 3), torch.randint(0, 2, (4,)))
    with pytest.raises(ValueError, match="noise_units is 1; expected 2 or more"):
        sr.decompose(model, batch, noise_units=1)
    with pytest.raises(ValueError, match="noise_units=5, but the batch holds 4 labelled units"):
        sr.decompose(model, batch, noise_units=5)
    with pytest.raises(TypeError, match="noise_units"):
        sr.decompose(model, batch, noise_units=2.5)
    with pytest.raises(ValueError, match="noise_units"):
        sr.Tracker(model, schedule=1, noise_units=1)
