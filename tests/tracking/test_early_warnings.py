"""Warnings: of what is there they tell, of chance they seldom do."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import spectral_reach as sr
from spectral_reach.tracking.early_warnings import early_warnings

UNITS = 32


def rows_of(
    random: np.random.Generator, *, n: int = 20, signal: float = 0.5, slope: float = -1.0, noise: float = 0.2
) -> list[dict[str, Any]]:
    """Rows over the last tenfold of 1,000 steps: a share of signal, a position that goes as step to the slope."""
    steps = np.unique(np.round(np.geomspace(101, 1000, n)).astype(int))
    found = []
    for step in steps:
        # ||g||^2 of a batch scatters, and the corrected value with it.
        total = 1 + 0.1 * random.standard_normal()
        unbiased = signal + noise * random.standard_normal()
        position = 1e-6 * (step / 1000) ** slope * (1 + noise * random.standard_normal())
        found.append(
            {
                "step": int(step),
                "delta_loss": total,
                "delta_loss_unbiased": unbiased,
                "chi_pos_unbiased": position,
                "chi_pos": position,
                "n_units": UNITS,
                "n_samples_against": None,
            }
        )
    return found


def kinds(rows: list[dict[str, Any]]) -> set[str]:
    return {warning.kind for warning in early_warnings(rows)}


def test_nothing_stands_out_of_an_ordinary_training() -> None:
    random = np.random.default_rng(0)
    assert kinds(rows_of(random)) == set()


@pytest.mark.parametrize(
    ("signal", "noise", "text"),
    [(0.01, 0.05, "squared gradient is noise: the noise scale is above"), (0.99, 0.02, "noise scale is below")],
)
def test_noise_and_signal(signal: float, noise: float, text: str) -> None:
    [warning] = early_warnings(rows_of(np.random.default_rng(0), signal=signal, noise=noise))
    assert warning.kind == "gradient_noise"
    assert warning.low < signal < warning.high
    assert text in warning.text
    assert (warning.step, warning.rows) == (1000, 20)


@pytest.mark.parametrize(("signal", "share"), [(-0.2, "at least 100%"), (1.1, "at most 0%")])
def test_shares_beyond_all_of_it(signal: float, share: str) -> None:
    """A corrected value below 0 or above the squared gradient comes about by chance."""
    [warning] = early_warnings(rows_of(np.random.default_rng(0), signal=signal, noise=0.01))
    assert warning.kind == "gradient_noise"
    assert warning.text.startswith(f"{share} of the squared gradient is noise")
    assert "inf" not in warning.text
    assert "-" not in warning.text


def test_a_position_that_no_longer_falls() -> None:
    [warning] = early_warnings(rows_of(np.random.default_rng(1), slope=0, noise=0.05))
    assert warning.kind == "flat_position"
    assert 1 / 1.25 < warning.low < 1 < warning.high < 1.25


def test_a_pair_that_interferes() -> None:
    random = np.random.default_rng(0)
    rows = rows_of(random)
    for row in rows:
        row |= {"n_samples_against": UNITS, "chi_pos": -0.1 + 0.1 * random.standard_normal()}
    [warning] = early_warnings(rows)
    assert warning.kind == "interference"
    assert warning.high < 0


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("gradient_noise", {"signal": 0.1}),
        ("gradient_noise", {"signal": 0.9}),
        ("flat_position", {"slope": math.log(1.25) / math.log(10) * -2}),
    ],
)
def test_at_the_border_chance_tells_in_one_of_forty(kind: str, settings: dict[str, float]) -> None:
    random = np.random.default_rng(0)
    trials = 2000
    told = sum(kind in kinds(rows_of(random, noise=0.1, **settings)) for _ in range(trials))
    assert told <= 0.025 * trials + 3 * math.sqrt(0.025 * trials)


def test_chance_calls_no_pair_negative() -> None:
    random = np.random.default_rng(0)
    trials, told = 2000, 0
    for _ in range(trials):
        rows = rows_of(random, n=8)
        for row in rows:
            row |= {"n_samples_against": UNITS, "chi_pos": random.standard_normal()}
        told += "interference" in kinds(rows)
    assert abs(told - 0.025 * trials) < 4 * math.sqrt(0.025 * trials)


def test_few_rows_old_rows_and_undefined_values_tell_nothing() -> None:
    random = np.random.default_rng(0)
    noisy = rows_of(random, signal=0.0, noise=0.01)
    assert kinds(noisy[:4]) == set()
    assert kinds([]) == set()
    undefined = [row | {"delta_loss_unbiased": math.nan} for row in noisy]
    assert kinds(undefined) == set()
    later = [row | {"step": 100_000 + row["step"]} for row in rows_of(random)]
    assert kinds(noisy + later) == set()


def test_a_real_gradient_that_is_noise_and_one_that_is_signal() -> None:
    """Labels at random: once the biases are right, small batches have nothing to follow; a large one at first has."""
    generator = torch.Generator().manual_seed(0)

    def batch(units: int) -> tuple[Tensor, Tensor]:
        inputs = torch.randn(units, 4, generator=generator)
        return inputs, torch.randint(0, 3, (units,), generator=generator)

    model = nn.Linear(4, 3)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    with sr.Tracker(model, schedule=1) as tracker:
        for step in range(400):
            tracker.measure(step, batch(8))
    [noise] = early_warnings(tracker.history)
    assert (noise.kind, noise.low < 0 < noise.high < 0.1) == ("gradient_noise", True)
    assert "is noise: the noise scale is above" in noise.text

    nn.init.normal_(model.weight, std=3.0, generator=generator)
    with sr.Tracker(model, schedule=1) as tracker:
        for step in range(12):
            tracker.measure(step, batch(1024))
    signal = {warning.kind: warning for warning in early_warnings(tracker.history)}["gradient_noise"]
    assert signal.low > 0.9
    assert "noise scale is below" in signal.text
