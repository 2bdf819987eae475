"""The demo's study: the same training at many sizes, on text and on images, as in Figure 1 of the paper, in minutes."""

from __future__ import annotations

from dataclasses import replace

from spectral_reach.studies.analysis.scaling_report import report
from spectral_reach.studies.families import FamiliesConfig, register_families
from spectral_reach.studies.family import FamilyConfig
from spectral_reach.studies.training.config import MeasurementConfig, TrainingConfig
from spectral_reach.studies.training.run_config import DataConfig


def demo() -> FamiliesConfig:
    """Both families in a few minutes on two cores: five sizes of text (57 x), four of pixels (85 x)."""
    training = TrainingConfig(
        steps=600,
        batch_size=32,
        learning_rate=0.004,
        warmup_steps=30,
        schedule="constant",
        heldout_every=50,
        heldout_units=256,
        checkpoint_every=100,
    )
    text = FamilyConfig(
        data=DataConfig(name="stdlib", options={"vocabulary": 384, "context": 64}),
        widths=(16, 32, 64, 96, 128),
        training=training,
        measurement=MeasurementConfig(units=32, late_measurements=12, late_units=32),
    )
    pixels = FamilyConfig(
        data=DataConfig(name="digits"),
        widths=(16, 32, 64, 96),
        # There are 1,500 images only: the largest model begins to learn them by heart.
        training=replace(training, steps=400, batch_size=64, learning_rate=0.002),
        measurement=MeasurementConfig(units=64, late_measurements=12, late_units=64),
    )
    return FamiliesConfig(preset="demo", families={"text": text, "pixels": pixels})


def toy() -> FamiliesConfig:
    """Seconds: the whole machinery at sizes that show nothing, for tests and CI."""
    config = demo()
    training = TrainingConfig(
        steps=30,
        batch_size=8,
        learning_rate=0.004,
        warmup_steps=3,
        schedule="constant",
        heldout_every=10,
        heldout_units=16,
        checkpoint_every=8,
    )
    measurement = MeasurementConfig(per_decade=2, width=2, units=8, late_measurements=3, late_units=16)
    widths = {"text": (16, 32), "pixels": (16, 32)}
    families = {
        name: replace(family, widths=widths[name], training=training, measurement=measurement)
        for name, family in config.families.items()
    }
    return FamiliesConfig(preset="toy", families=families)


PRESETS = {"demo": demo, "toy": toy}

register_families(
    "scaling",
    "Loss and spectral position against compute, for sizes of one architecture on text and on images.",
    PRESETS,
    default="demo",
    report=report,
)
