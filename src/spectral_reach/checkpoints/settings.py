"""Everything that a result depends on besides the model and the batches, and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.estimators import check_name
from spectral_reach.measured.arguments import integer_from, seed_from

_METHOD = 1
"""Raised when the same settings give other values: rows of before are then not taken for theirs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How revisions are measured. Devices and sizes of micro-batches are not among it: they change values by rounding.

    Attributes:
        kind: what the network is loaded as.
        loss: ``"model"``, ``"cross_entropy"``, ``"mse"``, ``"dpo"`` or ``"module:function"``.
        loss_digest: of the source of ``module:function``; empty for the others.
        reference: identity of the reference model of a preference loss; None without one.
        beta: of a preference loss; None for the others.
        estimator, probes, noise_units, seed: as in ``sr.decompose``.
        parameters: names of parameters or modules that are measured; None for all that are trainable.
        dtype: what the weights are loaded as.
        in_parts: batches are measured a few units at a time, which gives the errors of the noise-corrected values
            from fewer products of gradients.
    """

    kind: Kind
    loss: str = "model"
    loss_digest: str = ""
    reference: str | None = None
    beta: float | None = None
    estimator: str = "auto"
    probes: int = 1
    noise_units: int | None = None
    parameters: tuple[str, ...] | None = None
    seed: int = 0
    dtype: str = "float32"
    in_parts: bool = False

    def __post_init__(self) -> None:
        check_name(self.estimator)
        integer_from(1, "probes", self.probes)
        if self.noise_units is not None:
            integer_from(2, "noise_units", self.noise_units)
        seed_from(self.seed)

    @property
    def digest(self) -> str:
        """sha256 of all of it, 32 hexadecimal digits."""
        text = json.dumps({"method": _METHOD, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def names_of(parameters: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """A selection of parameters by name, sorted, each once.

    Raises:
        TypeError: something else than names: of a predicate or a module nobody knows tomorrow what it was.
        ValueError: no name at all.
    """
    if parameters is None:
        return None
    several = (parameters,) if isinstance(parameters, str) else tuple(parameters)
    if not all(isinstance(name, str) for name in several):
        raise TypeError(
            f"parameters is {parameters!r}; expected names of parameters or modules: results are kept by them"
        )
    if not several:
        raise ValueError("parameters is empty; expected names of parameters or modules, or None for all")
    return tuple(sorted(set(several)))
