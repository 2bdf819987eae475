"""The spectrum of the empirical kernel of a snapshot, explicitly for some outputs or by Lanczos over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectral_reach.studies.config import check, check_types
from spectral_reach.studies.data.batches import measurement_batch
from spectral_reach.studies.study_folder import run_path
from spectral_reach.studies.tasks.registry import OnShare, register
from spectral_reach.studies.training.run_config import check_data
from spectral_reach.studies.training.snapshot import load_snapshot

METHODS = ("explicit", "lanczos")

# Measured on one core of a 2-core cloud machine: a product with J^T and one with J are 8 FLOPs a parameter and token.
_FLOPS_PER_SECOND = 2.5e10
_SECONDS_TO_START = 2.0


@register("snapshot_spectrum")
@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotSpectrum:
    """One spectrum.

    Attributes:
        run: whose model, by the name of its folder.
        step: the snapshot of it.
        method: ``explicit`` or ``lanczos``.
        sequences: of the batch.
        batch: its number; another number is another batch.
        classes: the most frequent next tokens of the batch, so many; 0 for the whole vocabulary.
        steps: of Lanczos, at most.
        tolerance: of its quantiles.
        density_vectors: of the density of all eigenvalues.
        probes: of the trace.
        seed: of the batch and all that is drawn.
        tokens: of a sequence; ``parameters``: of the model. Known from the run; here for the expected cost.
    """

    run: str
    step: int
    method: str
    sequences: int
    batch: int
    classes: int
    steps: int
    tolerance: float
    density_vectors: int
    probes: int
    seed: int
    tokens: int
    parameters: int

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "method", self.method in METHODS, " or ".join(METHODS))
        for name in ("sequences", "steps", "probes"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("batch", "classes", "density_vectors", "tolerance"):
            check(self, name, getattr(self, name) >= 0, "at least 0")
        check(self, "classes", self.method == "lanczos" or self.classes > 0, "at least 1 for an explicit spectrum")

    @property
    def seconds(self) -> float:
        """Two products a direction or a step."""
        if self.method == "explicit":
            directions = self.sequences * self.tokens * self.classes
        else:
            directions = self.steps * (1 + self.density_vectors) + self.probes
        flops = 8 * self.parameters * self.sequences * self.tokens
        return _SECONDS_TO_START + directions * flops / _FLOPS_PER_SECOND

    def execute(self, study: Path, on_share: OnShare) -> Mapping[str, Any]:
        """The arrays of ``spectra.arrays``.

        Raises:
            ValueError: the data have changed since the run was planned.
        """
        from spectral_reach.spectra.arrays import to_arrays
        from spectral_reach.spectra.spectrum import spectrum

        model, config = load_snapshot(run_path(study, self.run), self.step)
        data = config.data.load()
        check_data(config, data)
        batch = measurement_batch(data, self.batch, seed=self.seed, units=self.sequences)
        explicit = self.method == "explicit"
        return to_arrays(
            spectrum(
                model,
                batch,
                method="explicit" if explicit else "lanczos",
                classes=most_frequent(batch[1], self.classes) if self.classes else None,
                steps=self.steps,
                tolerance=self.tolerance,
                density_vectors=0 if explicit else self.density_vectors,
                probes=self.probes,
                seed=self.seed,
                progress=lambda done, total: on_share(done / total),
            )
        )


def most_frequent(labels: torch.Tensor, count: int) -> list[int]:
    """So many different labels, the most frequent ones, ascending; lower ones first among equals."""
    values, times = np.unique(labels.numpy(), return_counts=True)
    if count > len(values):
        raise ValueError(
            f"the batch has {len(values)} different next tokens, and the {count} most frequent were asked for; "
            "expected fewer classes or more sequences"
        )
    order = np.argsort(-times, kind="stable")[:count]
    return sorted(int(value) for value in values[order])
