"""Llamas that learn text and keep snapshots, for studies that measure them afterwards."""

from __future__ import annotations

from spectral_reach.studies.family import FamilyConfig
from spectral_reach.studies.training.config import MeasurementConfig, TrainingConfig
from spectral_reach.studies.training.run_config import DataConfig

FAMILY = "text"


def text_family(
    *,
    vocabulary: int,
    context: int,
    widths: tuple[int, ...],
    steps: int,
    batch_size: int,
    learning_rate: float,
    snapshots: tuple[int, ...],
) -> FamilyConfig:
    """One family on the standard library's text; ``learning_rate`` is for a width of 64, as in the scaling study."""
    return FamilyConfig(
        data=DataConfig(name="stdlib", options={"vocabulary": vocabulary, "context": context}),
        widths=widths,
        training=TrainingConfig(
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            warmup_steps=steps // 20,
            schedule="constant",
            heldout_every=max(1, steps // 4),
            heldout_units=batch_size,
            checkpoint_every=max(1, steps // 4),
            snapshots=snapshots,
        ),
        # The snapshots are what is measured; along the way as little as a run can.
        measurement=MeasurementConfig(per_decade=1, width=1, units=4, late_measurements=0, late_units=4),
    )
