"""What an estimator of chi_net is, and how it is found by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from spectral_reach.measured.finite import NotFiniteError
from spectral_reach.measured.linearisation import Linearisation


@dataclass(frozen=True, kw_only=True, slots=True)
class EstimatorOptions:
    """What a caller may ask of any estimator.

    Attributes:
        probes: M, random probes; ignored by exact estimators.
        units: estimate chi_net from this many units, drawn at random; None for all.
        seed: starts the probes' own generator.
        memory_budget: bytes that batched products may take.
        noise_units: take the products of loss gradients for this many units, drawn at random; None for all.
    """

    probes: int
    units: int | None
    seed: int
    memory_budget: int
    noise_units: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceEstimate:
    """An unbiased estimate of chi_net = Tr(J J^T) / N of this batch.

    Attributes:
        chi_net: the normalised estimate.
        stderr: its standard error for this batch; 0 if exact; NaN if one draw has no spread.
        undefined: why ``stderr`` is NaN; empty otherwise.
        population_stderr: its standard error as an estimate for the population that the units are drawn from.
        population_undefined: why ``population_stderr`` is NaN; empty otherwise.
        units: behind the estimate.
        probes: random probes used; 0 without any.
        unit_traces: unbiased estimates of Tr(J_i J_i^T) with independent errors, (n_units,) float64, where the
            estimator resolves all units; else None.
        estimator: the name it is registered under.
        passed_over: what ``auto`` found amiss with the model, so that it did not take a better estimator; else empty.
    """

    chi_net: float
    stderr: float
    undefined: str
    population_stderr: float
    population_undefined: str
    units: int
    probes: int
    unit_traces: Tensor | None
    estimator: str
    passed_over: str = ""


class TraceEstimator(Protocol):
    """One way to estimate chi_net.

    ``estimator="auto"`` takes the first one, by ``rank``, that is not ``unsuited`` to the linearisation. If it lacks
    something that this one ``expected`` of the model, the result tells.
    """

    name: str
    rank: int
    expected: bool

    def unsuited(self, linearisation: Linearisation, options: EstimatorOptions) -> str:
        """Why ``auto`` should not take it here; empty if it applies and nothing of a higher rank would be cheaper."""
        ...

    def estimate(self, linearisation: Linearisation, options: EstimatorOptions) -> TraceEstimate:
        """The estimate; a ValueError names what it cannot cover."""
        ...


_REGISTRY: dict[str, TraceEstimator] = {}

E = TypeVar("E", bound=Callable[[], TraceEstimator])


def register(estimator: E) -> E:
    """Class decorator: make an estimator available under its ``name``."""
    instance = estimator()
    _REGISTRY[instance.name] = instance
    return estimator


def check_name(name: str) -> str:
    """``name`` if it is ``"auto"`` or a registered estimator; else a ValueError that lists them."""
    if name != "auto" and name not in _REGISTRY:
        raise ValueError(f"estimator={name!r} is unknown; expected 'auto' or one of {sorted(_REGISTRY)}")
    return name


def check_count(name: str, units: int | None, linearisation: Linearisation) -> None:
    """A ValueError where more units are asked for than there are."""
    if units is not None and units > linearisation.n_units:
        raise ValueError(
            f"{name}={units}, but the batch holds {linearisation.n_units} labelled units; expected at most that"
        )


def estimate_trace(name: str, linearisation: Linearisation, options: EstimatorOptions) -> TraceEstimate:
    """chi_net by the estimator ``name``, or by the first one that suits if ``name`` is ``"auto"``."""
    check_count("units", options.units, linearisation)
    estimate = (
        _first_suited(linearisation, options) if name == "auto" else _REGISTRY[name].estimate(linearisation, options)
    )
    if not math.isfinite(estimate.chi_net):
        raise NotFiniteError(
            f"chi_net is {estimate.chi_net:g}: the Jacobian of the outputs is not finite although the loss gradient "
            "is; expected finite values: measure in float32, float64 or bfloat16, where it does not overflow"
        )
    return estimate


def _first_suited(linearisation: Linearisation, options: EstimatorOptions) -> TraceEstimate:
    passed_over = ""
    for estimator in sorted(_REGISTRY.values(), key=lambda estimator: estimator.rank):
        why_not = estimator.unsuited(linearisation, options)
        if not why_not:
            return replace(estimator.estimate(linearisation, options), passed_over=passed_over)
        if estimator.expected:
            passed_over = f"{estimator.name}: {why_not}"
    raise AssertionError("one estimator suits always")


def population_error(unit_traces: Tensor, samples: Tensor) -> tuple[float, str]:
    """Standard error of sum(traces) / sum(samples) over draws of m units, and why it is NaN.

    ``unit_traces`` and ``samples`` (m,) float64. The error of a ratio by linearisation: the spread of what the units
    have over or under their share of the samples.
    """
    m = unit_traces.numel()
    if m < 2:
        return math.nan, "one unit has no spread: it takes two to tell how much units differ"
    residuals = unit_traces - float(unit_traces.sum()) / float(samples.sum()) * samples
    error = torch.sqrt(residuals.square().sum() / (m - 1) / m) / samples.mean()
    return float(error), ""
