"""What an estimator of chi_net is, and how it is found by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from spectral_reach.measured.linearisation import Linearisation


@dataclass(frozen=True, kw_only=True, slots=True)
class EstimatorOptions:
    """What a caller may ask of any estimator.

    Attributes:
        probes: M, random probes; ignored by exact estimators.
        units: estimate from this many units, drawn at random; None for all.
        seed: starts the probes' own generator.
        memory_budget: bytes that batched products may take.
    """

    probes: int
    units: int | None
    seed: int
    memory_budget: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceEstimate:
    """An unbiased estimate of chi_net = Tr(J J^T) / N of this batch.

    Attributes:
        chi_net: the normalised estimate.
        stderr: its standard error for this batch; 0 if exact; NaN if one draw has no spread.
        undefined: why ``stderr`` is NaN; empty otherwise.
        probes: random probes used; 0 without any.
        unit_traces: Tr(J_i J_i^T), (n_units,) float64, where the estimator resolves all units; else None.
        estimator: the name it is registered under.
    """

    chi_net: float
    stderr: float
    undefined: str
    probes: int
    unit_traces: Tensor | None
    estimator: str


class TraceEstimator(Protocol):
    """One way to estimate chi_net.

    ``estimator="auto"`` takes the first one, by ``rank``, that ``suits`` the linearisation.
    """

    name: str
    rank: int

    def suits(self, linearisation: Linearisation, options: EstimatorOptions) -> bool:
        """Whether ``auto`` may take it here: it applies, and nothing of a higher rank would be cheaper."""
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


def estimate_trace(name: str, linearisation: Linearisation, options: EstimatorOptions) -> TraceEstimate:
    """chi_net by the estimator ``name``, or by the first one that suits if ``name`` is ``"auto"``."""
    if options.units is not None and options.units > linearisation.n_units:
        raise ValueError(
            f"units={options.units}, but the batch holds {linearisation.n_units} labelled units; expected at most that"
        )
    if name == "auto":
        by_rank = sorted(_REGISTRY.values(), key=lambda estimator: estimator.rank)
        chosen = next(estimator for estimator in by_rank if estimator.suits(linearisation, options))
    else:
        chosen = _REGISTRY[name]
    return chosen.estimate(linearisation, options)
