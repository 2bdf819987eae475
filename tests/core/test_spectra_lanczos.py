"""Lanczos spectra against explicit measures: moments, certain bounds, ends, densities."""

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import oracle
import pytest
import small_models
import torch
from torch import nn

import spectral_reach as sr
from spectral_reach.spectra.golub_kahan import golub_kahan
from spectral_reach.spectra.krylov import Bidiagonal, Krylov
from spectral_reach.spectra.lanczos import lanczos
from spectral_reach.spectra.quadrature import ReductionBounds

CASES = [(kind, 200 + place) for place, kind in enumerate(small_models.KINDS)]
MOMENTS = 1e-8


@dataclass(frozen=True)
class Matrix:
    """J as a matrix."""

    J: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.J.shape[0], self.J.shape[1]

    def pull(self, u: torch.Tensor) -> torch.Tensor:
        return self.J.mT @ u

    def push(self, v: torch.Tensor) -> torch.Tensor:
        return self.J @ v


@dataclass(frozen=True)
class Known:
    """A prescribed Jacobian, and a vector with prescribed weights along its modes."""

    matrix: Matrix
    values: np.ndarray
    weights: np.ndarray
    u: torch.Tensor

    @property
    def reduction(self) -> np.ndarray:
        weighted = self.weights * self.values
        return weighted / weighted.sum()


def known(outputs: int, parameters: int, values: np.ndarray, seed: int = 0, weights: np.ndarray | None = None) -> Known:
    """Theta = Q diag(values, 0 ...) Q^T; ``weights`` (outputs,) of the vector along Q, random by default."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(outputs, outputs)))
    v, _ = np.linalg.qr(rng.normal(size=(parameters, parameters)))
    r = len(values)
    J = (q[:, :r] * np.sqrt(values)) @ v[:, :r].T
    if weights is None:
        weights = rng.normal(size=outputs) ** 2
    weights = weights / weights.sum()
    u = q @ (np.sqrt(weights) * rng.choice([-1, 1], outputs))
    full = np.concatenate([values, np.zeros(outputs - r)])
    return Known(Matrix(torch.from_numpy(J)), full, weights, torch.from_numpy(u))


def by_golub_kahan(problem: Known, steps: int) -> Krylov:
    return golub_kahan(problem.matrix, problem.u, steps)


def by_lanczos(problem: Known, steps: int) -> Krylov:
    theta = (problem.matrix.J @ problem.matrix.J.mT).numpy()
    return lanczos(lambda vector: theta @ vector, problem.u.numpy(), steps)


PROCESSES = [by_golub_kahan, by_lanczos]
Process = Callable[[Known, int], Krylov]

PROBLEMS = [
    (60, 150, np.arange(1, 61.0) ** -1.0),
    (150, 60, np.arange(1, 61.0) ** -1.0),
    (80, 80, np.arange(1, 81.0) ** -3.0),
    (50, 120, np.linspace(1, 2, 50)),
    (50, 120, np.geomspace(1e-6, 1e6, 20)),
]


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("problem", range(len(PROBLEMS)))
@pytest.mark.parametrize("steps", [1, 2, 5, 11, 20])
def test_m_steps_have_the_first_2m_moments(process: Process, problem: int, steps: int) -> None:
    case = known(*PROBLEMS[problem])
    small = process(case, steps)
    scale = case.values.max()
    # Lanczos on the kernel itself knows one moment of the loss reduction fewer.
    fewer = 0 if isinstance(small, Bidiagonal) else 1
    for rule, weights, moments in (
        (small.along_the_vector(), case.weights, 2 * small.steps),
        (small.along_the_gradient(), case.reduction, 2 * small.steps - fewer),
    ):
        assert rule.weights.sum() == pytest.approx(1, abs=1e-12)
        for power in range(moments):
            expected = (weights * (case.values / scale) ** power).sum()
            assert (rule.weights * (rule.nodes / scale) ** power).sum() == pytest.approx(expected, abs=MOMENTS)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("problem", range(len(PROBLEMS)))
@pytest.mark.parametrize("steps", [2, 5, 11, 20])
def test_bounds_hold_everywhere_and_tighten(process: Process, problem: int, steps: int) -> None:
    case = known(*PROBLEMS[problem])
    small = process(case, steps)
    bounds, fewer = ReductionBounds(small), ReductionBounds(small.first(max(1, steps // 2)))
    positive = case.values[case.values > 0]
    for x in np.geomspace(positive.min() / 2, positive.max() * 2, 60):
        found, before = bounds.cumulative(x), fewer.cumulative(x)
        assert found.low - 1e-9 <= case.reduction[case.values <= x].sum()
        assert case.reduction[case.values < x].sum() <= found.high + 1e-9
        assert before.low - 1e-9 <= found.low
        assert found.high <= before.high + 1e-9
    ascending = np.argsort(case.values)
    for q in (0.03, 0.25, 0.5, 0.9, 0.999):
        place = int(np.searchsorted(np.cumsum(case.reduction[ascending]), q))
        truth = case.values[ascending][min(place, len(ascending) - 1)]
        found = bounds.quantile(q)
        assert found.low <= truth * (1 + 1e-7)
        assert truth * (1 - 1e-7) <= found.high
        assert fewer.quantile(q).low <= found.low * (1 + 1e-9)
        assert found.high <= fewer.quantile(q).high * (1 + 1e-9)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("shape", [(40, 90), (90, 40)])
@pytest.mark.parametrize("touched", [1, 3, 7])
@pytest.mark.parametrize("in_the_range", [True, False])
@pytest.mark.parametrize("spread", [10.0, 1e4])
def test_an_invariant_subspace_ends_it_with_the_exact_measure(
    process: Process, shape: tuple[int, int], touched: int, in_the_range: bool, spread: float
) -> None:
    """u lies on a few modes, with or without a part where the kernel is 0: degenerate eigenvalues count as one.

    After more steps rounding leaves traces of other modes, with weights of the size of rounding.
    """
    values = np.repeat(np.linspace(spread, 1, 10), 3)
    weights = np.zeros(shape[0])
    weights[: 3 * touched] = np.arange(1, 3 * touched + 1)
    if not in_the_range:
        weights[35] = 5.0
    case = known(*shape, values, weights=weights)
    small = process(case, 30)
    if touched <= 3:
        assert small.exhausted
        assert len(small.along_the_vector().nodes) == touched + (not in_the_range)
        bounds = ReductionBounds(small)
        assert bounds.quantile(0.5).low == bounds.quantile(0.5).high
    rule = small.along_the_vector()
    expected: dict[float, float] = {}
    for value, weight in zip(case.values, case.weights, strict=True):
        if weight > 0:
            expected[value] = expected.get(value, 0.0) + weight
    # Rounding may find another vector of the same mode: two nodes in one place are one.
    found = {value: rule.weights[np.abs(rule.nodes - value) < 1e-6 * spread].sum() for value in expected}
    assert found == pytest.approx(expected, rel=1e-8)
    assert sum(found.values()) == pytest.approx(1, abs=1e-12)


def test_a_vector_where_the_kernel_is_zero_has_no_reduction() -> None:
    weights = np.zeros(20)
    weights[15:] = 1
    case = known(20, 30, np.arange(1.0, 11), weights=weights)
    found = sr.kernel_decompose((case.matrix.J @ case.matrix.J.mT).numpy(), case.u.numpy(), method="lanczos")
    assert found.chi_pos == pytest.approx(0, abs=1e-12)


def test_a_kernel_with_a_negative_eigenvalue_is_refused() -> None:
    theta = np.diag([3.0, 2.0, 1.0, -0.5])
    with pytest.raises(ValueError, match="not positive semi-definite"):
        lanczos(lambda v: theta @ v, np.ones(4), 4)


# --- models ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "number"), CASES, ids=lambda value: str(value))
def test_a_models_rules_have_the_moments_of_its_dense_jacobian(kind: str, number: int) -> None:
    subject = small_models.draw(kind, number)
    choice = random.Random(number)
    batch, seed = subject.draw_batch(4), choice.randrange(2**32)
    explicit = subject.explicit(batch, seed=seed)
    modes = oracle.spectrum(explicit)
    steps = choice.randint(1, 6)
    found = sr.spectrum(subject.model, batch, loss=subject.loss.given, steps=steps, tolerance=0, seed=seed, probes=2)
    # The trace that normalises p may be estimated; the process itself is exact.
    trace = found.chi_net * found.n_samples
    scale = modes.eigenvalues.max()
    for power in range(2 * found.steps):
        expected = (modes.gamma2 * (modes.eigenvalues / scale) ** power).sum()
        assert (found.gamma2 * (found.p * trace / scale) ** power).sum() == pytest.approx(expected, abs=MOMENTS)
    raw = oracle.raw_components(explicit)
    assert found.delta_loss == pytest.approx(raw["delta_loss"], rel=1e-8)
    assert found.chi_loss == pytest.approx(raw["chi_loss"] * explicit.n, rel=1e-9)
    assert found.chi_pos == pytest.approx(found.delta_loss / found.chi_loss / found.chi_net, rel=1e-9)
    reduction = modes.gamma2 * modes.eigenvalues / (modes.gamma2 * modes.eigenvalues).sum()
    total = np.cumsum(reduction)
    for q in (0.2, 0.5, 0.8):
        truth = modes.eigenvalues[np.searchsorted(total, q)] / trace
        bounds = found.position_bounds(q)
        assert bounds.low * (1 - 1e-7) <= truth <= bounds.high * (1 + 1e-7)
        assert bounds.low <= found.position_quantile(q) <= bounds.high


def small() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 5)).double()
    return model, (torch.randn(10, 6).double(), torch.randint(5, (10,)))


def test_enough_steps_give_the_explicit_spectrum() -> None:
    model, batch = small()
    explicit = sr.spectrum(model, batch, method="explicit")
    found = sr.spectrum(model, batch, steps=200, tolerance=0)
    assert found.converged
    assert found.krylov.exhausted
    for q in (0.05, 0.3, 0.5, 0.95):
        assert found.position_quantile(q) == pytest.approx(explicit.position_quantile(q), rel=1e-6)
    assert found.chi_pos == pytest.approx(explicit.chi_pos, rel=1e-9)


def test_it_stops_by_the_tolerance_and_says_whether_it_got_there() -> None:
    model, batch = small()
    loose = sr.spectrum(model, batch, steps=200, tolerance=0.5)
    tight = sr.spectrum(model, batch, steps=200, tolerance=0.001)
    short = sr.spectrum(model, batch, steps=3, tolerance=0.001)
    assert loose.steps < tight.steps
    assert loose.converged
    assert tight.converged
    assert not short.converged
    assert short.steps == 3
    for q in (0.1, 0.5, 0.9):
        bounds = tight.position_bounds(q)
        assert bounds.high <= bounds.low * 1.001
        assert tight.position_bounds(q, steps=2).low <= bounds.low * (1 + 1e-9)


def test_quantiles_narrow_with_steps() -> None:
    model, batch = small()
    found = sr.spectrum(model, batch, steps=12, tolerance=0)
    widths = []
    for steps in range(2, found.steps + 1):
        bounds = found.position_bounds(0.5, steps=steps)
        widths.append(bounds.high - bounds.low)
    assert all(b <= a * (1 + 1e-9) for a, b in itertools.pairwise(widths))
    assert widths[-1] < widths[0] / 3


def test_chosen_outputs_are_their_own_space() -> None:
    model, batch = small()
    outputs = {"samples": [3, 1, 7, 4], "classes": [0, 4]}
    explicit = sr.spectrum(model, batch, method="explicit", **outputs)
    found = sr.spectrum(model, batch, steps=50, tolerance=0, probes=1000, **outputs)
    assert found.chi_net == pytest.approx(explicit.chi_net, abs=5 * found.chi_net_stderr)
    assert found.chi_net_stderr < 0.04 * found.chi_net
    assert found.delta_loss == pytest.approx(explicit.delta_loss, rel=1e-9)
    assert found.share_of_loss_gradient == explicit.share_of_loss_gradient < 1


def test_a_zero_loss_gradient_is_undefined() -> None:
    model = nn.Linear(3, 2).double()
    x = torch.randn(4, 3).double()
    batch = (x, model(x).detach())
    for method in ("explicit", "lanczos"):
        found = sr.spectrum(model, batch, loss="mse", method=method)
        assert math.isnan(found.chi_pos)
        assert found.undefined["gamma2"] == "the loss gradient is zero"
        assert "is undefined" in str(found)
        with pytest.raises(ValueError, match="loss reduction is zero"):
            found.position_quantile(0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_comes_close(dtype: torch.dtype) -> None:
    model, (x, y) = small()
    expected = sr.spectrum(model, (x, y), steps=10, tolerance=0)
    model.to(dtype)
    found = sr.spectrum(model, (x.to(dtype), y), steps=10, tolerance=0)
    assert found.chi_pos == pytest.approx(expected.chi_pos, rel=200 * torch.finfo(dtype).eps)
    assert found.position_quantile(0.5) == pytest.approx(expected.position_quantile(0.5), rel=0.05)


# --- densities ------------------------------------------------------------------------------------------------------


def test_the_density_counts_modes_within_its_error() -> None:
    """Over 40 seeds: unbiased moments, and errors that are those of the scatter."""
    model, batch = small()
    explicit = sr.spectrum(model, batch, method="explicit")
    seconds, errors = [], []
    for seed in range(40):
        density = sr.spectrum(model, batch, steps=12, tolerance=0, density_vectors=6, seed=seed).density
        assert density.vectors == 6
        seconds.append(density.moment(2).value)
        errors.append(density.moment(2).stderr)
    truth = (explicit.p**2).sum()
    scatter = np.std(seconds, ddof=1)
    assert abs(np.mean(seconds) - truth) < 3.5 * scatter / math.sqrt(40)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(scatter, rel=0.45)


def test_the_density_of_many_vectors_is_the_spectrum() -> None:
    model, batch = small()
    explicit = sr.spectrum(model, batch, method="explicit")
    density = sr.spectrum(model, batch, steps=60, tolerance=0, density_vectors=60).density
    for p in (1e-1, 1e-2, 3e-3):
        found = density.modes_above(p)
        assert found.value == pytest.approx((explicit.p > p).sum(), abs=4 * found.stderr + 1e-6)
    assert density.moment(0).value == pytest.approx(50)
    assert density.moment(1).value == pytest.approx(1, abs=5 * density.moment(1).stderr)
    ratio, rank = density.participation_ratio, density.effective_rank
    assert ratio.value == pytest.approx(explicit.participation_ratio, abs=4 * ratio.stderr)
    assert rank.value == pytest.approx(explicit.effective_rank, abs=4 * rank.stderr)
    p, above, errors = density.curve(20)
    assert p.shape == above.shape == errors.shape == (20,)
    assert (np.diff(above) <= 0).all()


def test_one_vector_has_no_error() -> None:
    model, batch = small()
    density = sr.spectrum(model, batch, steps=5, density_vectors=1).density
    assert math.isnan(density.moment(2).stderr)
