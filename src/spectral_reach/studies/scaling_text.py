"""Scaling on text: Llamas of several sizes and seeds learn to predict the next token (Figures 1, 7, 8, 10, 11)."""

from __future__ import annotations

from dataclasses import replace

from spectral_reach.studies.analysis.scaling_report import report
from spectral_reach.studies.families import FamiliesConfig, register_families
from spectral_reach.studies.family import FamilyConfig
from spectral_reach.studies.learning_rate import RateConfig
from spectral_reach.studies.models.simplestories_sizes import SHAPES
from spectral_reach.studies.training.config import MeasurementConfig, TrainingConfig
from spectral_reach.studies.training.run_config import DataConfig

FAMILY = "text"


def quick() -> FamiliesConfig:
    """Minutes on two cores: five sizes of 16k to 890k parameters, three seeds, Python sources."""
    family = FamilyConfig(
        data=DataConfig(name="stdlib", options={"vocabulary": 384, "context": 64}),
        widths=(16, 32, 64, 96, 128),
        training=TrainingConfig(
            steps=800,
            batch_size=32,
            learning_rate=0.004,
            warmup_steps=30,
            schedule="constant",
            heldout_every=40,
            heldout_units=256,
            checkpoint_every=100,
        ),
        measurement=MeasurementConfig(
            per_decade=4, units=32, late_measurements=20, late_units=32, heldout_units=32, noise_units=8
        ),
    )
    return FamiliesConfig(preset="quick", families={FAMILY: family}, seeds=(0, 1, 2))


def toy() -> FamiliesConfig:
    """Seconds: two sizes that show nothing, with a sweep of learning rates, for tests and CI."""
    config = quick()
    family = replace(
        config.families[FAMILY],
        widths=(16, 32),
        rates=RateConfig(rule="sweep", factors=(0.5, 1.0), sweep_steps=6),
        training=TrainingConfig(
            steps=24,
            batch_size=8,
            learning_rate=0.004,
            warmup_steps=3,
            schedule="constant",
            heldout_every=8,
            heldout_units=16,
            checkpoint_every=8,
        ),
        measurement=MeasurementConfig(
            per_decade=2, width=2, units=8, late_measurements=3, late_units=8, heldout_units=8
        ),
    )
    return replace(config, preset="toy", families={FAMILY: family}, seeds=(0, 1))


def laptop() -> FamiliesConfig:
    """Hours on a laptop: seven sizes of 0.08M to 4.7M parameters, rates from a sweep, three seeds, 128 tokens."""
    config = quick()
    family = replace(
        config.families[FAMILY],
        data=DataConfig(name="stdlib", options={"vocabulary": 1024, "context": 128}),
        widths=(32, 48, 64, 96, 128, 176, 224),
        rates=RateConfig(rule="sweep", factors=(0.5, 1.0, 2.0), sweep_steps=300),
        training=replace(
            config.families[FAMILY].training,
            steps=3000,
            warmup_steps=100,
            heldout_every=100,
            heldout_units=512,
            checkpoint_every=250,
        ),
        measurement=MeasurementConfig(
            per_decade=4, width=4, units=32, late_measurements=60, late_units=32, heldout_units=32
        ),
    )
    return replace(config, preset="laptop", families={FAMILY: family})


def paper() -> FamiliesConfig:
    """The published SimpleStories sizes, 1.25M to 35M parameters, 14,000 steps of 32,768 tokens, three seeds (GPU).

    459 million tokens: about one pass over the 2.1 million stories.
    """
    family = FamilyConfig(
        data=DataConfig(name="simplestories", options={"context": 512}),
        shapes=tuple(SHAPES.values()),
        rates=RateConfig(rule="sweep", reference_width=128, factors=(0.5, 1.0, 2.0), sweep_steps=1000),
        training=TrainingConfig(
            steps=14_000,
            batch_size=64,
            learning_rate=0.003,
            warmup_steps=500,
            schedule="cosine",
            precision="bfloat16",
            heldout_every=250,
            heldout_units=512,
            checkpoint_every=500,
        ),
        measurement=MeasurementConfig(
            per_decade=6, width=4, units=64, late_measurements=100, late_units=64, heldout_units=64
        ),
    )
    return FamiliesConfig(preset="paper", families={FAMILY: family}, seeds=(0, 1, 2))


PRESETS = {"quick": quick, "toy": toy, "laptop": laptop, "paper": paper}

register_families(
    "scaling-text",
    "Loss and spectral position of Llamas of several sizes that learn text.",
    PRESETS,
    default="quick",
    report=report,
)
