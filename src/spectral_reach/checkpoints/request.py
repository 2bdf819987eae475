"""What is asked for: the arguments of ``sr.measure_checkpoints`` in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spectral_reach.checkpoints.data.options import DataOptions
from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.checkpoints.loading import LoadOptions
from spectral_reach.checkpoints.preference import DEFAULT_BETA


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Which revisions of which model are measured on which batches, and how; see ``sr.measure_checkpoints``.

    Attributes:
        model, revisions, data, pairs, out, loss, reference, beta, estimator, probes, noise_units, parameters: as there.
        micro_batch, checkpointing, offload, max_memory: as there.
        kind: as there, told from the configuration where it is None.
        data_options: units, seed and so on of the batches.
        data_set_options: of the bundled data sets (vocabulary and context of ``stdlib``).
        load: precision, device, and what is trusted.
    """

    model: str
    data: Mapping[str, Any]
    revisions: str | Sequence[str] | None = None
    pairs: Sequence[tuple[str, str]] = ()
    out: Path | None = None
    loss: str = "model"
    reference: str | None = None
    beta: float | None = None
    kind: Kind | None = None
    estimator: str = "auto"
    probes: int = 1
    noise_units: int | None = None
    parameters: str | Sequence[str] | None = None
    micro_batch: int | None = None
    checkpointing: bool = False
    offload: bool = False
    max_memory: int | None = None
    data_options: DataOptions = field(default_factory=DataOptions)
    data_set_options: Mapping[str, Any] = field(default_factory=dict)
    load: LoadOptions = field(default_factory=LoadOptions)

    @property
    def units_at_a_time(self) -> int | None:
        """Units of a pass, as far as that is said.

        One under activation checkpointing: layer rules, which tell several apart, cannot read what is not kept, and
        another estimator in their place would give other values. Probes over the whole batch need no rules.
        """
        if self.micro_batch is None and self.max_memory is None and self.checkpointing and self.estimator != "batch":
            return 1
        return self.micro_batch

    @property
    def beta_of_dpo(self) -> float:
        """That of the user, or the default."""
        return DEFAULT_BETA if self.beta is None else self.beta

    @property
    def in_parts(self) -> bool:
        """Whether batches are measured a few units at a time."""
        return self.units_at_a_time is not None or self.max_memory is not None

    def __post_init__(self) -> None:
        if not isinstance(self.loss, str):
            raise TypeError(
                f"loss is a {type(self.loss).__name__}; expected a name, or 'module:function': results are kept by it"
            )
        if self.beta is not None and self.loss != "dpo":
            raise ValueError(
                f"beta is {self.beta} and the loss {self.loss!r}; expected one with dpo only: leave it out"
            )
        for pair in self.pairs:
            if len(pair) != 2:
                raise ValueError(f"a pair is {pair!r}; expected two names of batches, the first makes the step")
            for name in pair:
                if self.data and name not in self.data:
                    raise ValueError(f"a pair names {name!r}; expected one of the batches {', '.join(self.data)}")


def kind_named(name: str | None) -> Kind | None:
    """The kind that a user names.

    Raises:
        ValueError: there is none of that name.
    """
    if name is not None and name not in tuple(Kind):
        raise ValueError(f"kind is {name!r}; expected one of {', '.join(Kind)}")
    return None if name is None else Kind(name)
