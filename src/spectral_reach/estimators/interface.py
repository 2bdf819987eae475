"""What an estimator of chi_net is, and how it is found by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from spectral_reach.measured.extent import Extent
from spectral_reach.measured.finite import NotFiniteError
from spectral_reach.measured.linearisation import Linearisation


@dataclass(frozen=True, kw_only=True, slots=True)
class EstimatorOptions:
    """What a caller may ask of any estimator.

    Attributes:
        probes: M, random probes; ignored by exact estimators.
        units: estimate chi_net from this many units, drawn at random; None for all.
        seed: of the probes.
        memory_budget: bytes that batched products may take.
        noise_units: take the products of loss gradients for this many units, drawn at random; None for all.
        offload: sums of gradients stay in the host's memory, not beside the parameters.
        room: bytes that gradients of units may take which are multiplied with each other; None for as much as two
            gradients of all units take, and no less than the budget.
    """

    probes: int
    units: int | None
    seed: int
    memory_budget: int
    noise_units: int | None = None
    offload: bool = False
    room: int | None = None


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


class TraceSum(Protocol):
    """An estimate in the making, from the parts of a batch, each once and in their order."""

    def add(self, part: Linearisation) -> None:
        """The next units of the batch, or all of them. A ValueError names what the estimator cannot cover."""

    def result(self) -> TraceEstimate:
        """When all units have come."""


class TraceEstimator(Protocol):
    """One way to estimate chi_net.

    ``estimator="auto"`` takes the first one, by ``rank``, that is not ``unsuited`` to the linearisation. If it lacks
    something that this one ``expected`` of the model, the result tells.
    """

    name: str
    rank: int
    expected: bool

    def unsuited(self, part: Linearisation, extent: Extent, options: EstimatorOptions) -> str:
        """Why ``auto`` should not take it here; empty if it applies and nothing of a higher rank would be cheaper.

        ``extent`` is that of the whole batch, of which ``part`` is the beginning.
        """
        ...

    def begin(self, extent: Extent, options: EstimatorOptions) -> TraceSum:
        """An estimate for a batch of this extent."""
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


def check_count(name: str, units: int | None, extent: Extent) -> None:
    """A ValueError where more units are asked for than there are."""
    if units is not None and units > extent.n_units:
        raise ValueError(f"{name}={units}, but the batch holds {extent.n_units} labelled units; expected at most that")


class Trace:
    """chi_net of a batch that comes in parts, by one estimator or by the first that suits.

    Args:
        name: of the estimator, or ``"auto"``.
        extent: of the whole batch.
        options: of the caller.
    """

    def __init__(self, name: str, extent: Extent, options: EstimatorOptions) -> None:
        check_count("units", options.units, extent)
        self._name, self._extent, self._options = name, extent, options
        self._sum: TraceSum | None = None
        self._passed_over = ""

    def add(self, part: Linearisation) -> None:
        """The next units of the batch, or all of them.

        Raises:
            ValueError: what the estimator cannot cover.
        """
        if self._sum is None:
            self._sum = self._estimator(part).begin(self._extent, self._options)
        self._sum.add(part)

    def result(self) -> TraceEstimate:
        """When all units have come.

        Raises:
            ValueError: it is not finite.
        """
        assert self._sum is not None, "no part of the batch has come"
        estimate = self._sum.result()
        if not math.isfinite(estimate.chi_net):
            raise NotFiniteError(
                f"chi_net is {estimate.chi_net:g}: the Jacobian of the outputs is not finite although the loss "
                "gradient is; expected finite values: measure in float32, float64 or bfloat16, where it does not "
                "overflow"
            )
        return replace(estimate, passed_over=self._passed_over)

    def _estimator(self, part: Linearisation) -> TraceEstimator:
        if self._name != "auto":
            return _REGISTRY[self._name]
        for estimator in sorted(_REGISTRY.values(), key=lambda estimator: estimator.rank):
            why_not = estimator.unsuited(part, self._extent, self._options)
            if not why_not:
                return estimator
            if estimator.expected:
                self._passed_over = f"{estimator.name}: {why_not}"
        raise AssertionError("one estimator suits always")


def estimate_trace(name: str, linearisation: Linearisation, options: EstimatorOptions) -> TraceEstimate:
    """chi_net of a whole batch by the estimator ``name``, or by the first one that suits if that is ``"auto"``."""
    trace = Trace(name, linearisation.extent, options)
    trace.add(linearisation)
    return trace.result()


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
