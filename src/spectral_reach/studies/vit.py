"""Vision transformers that learn to tell images apart, in standard parametrisation (Figure 9)."""

from __future__ import annotations

from dataclasses import replace

from spectral_reach.studies.analysis.scaling_report import report
from spectral_reach.studies.families import FamiliesConfig, register_families
from spectral_reach.studies.family import FamilyConfig
from spectral_reach.studies.learning_rate import RateConfig
from spectral_reach.studies.training.config import MeasurementConfig, TrainingConfig
from spectral_reach.studies.training.run_config import DataConfig

FAMILY = "vit"


def quick() -> FamiliesConfig:
    """Minutes on two cores: four sizes of 7k to 401k parameters, three seeds, 8 x 8 digits."""
    family = FamilyConfig(
        data=DataConfig(name="digits-images", options={"shifts": 1}),
        model="vit",
        widths=(16, 32, 64, 128),
        options={"patch": 2, "depth": 2},
        training=TrainingConfig(
            steps=800,
            batch_size=64,
            learning_rate=0.002,
            warmup_steps=30,
            schedule="cosine",
            heldout_every=20,
            heldout_units=297,
            checkpoint_every=50,
        ),
        measurement=MeasurementConfig(
            per_decade=4,
            width=4,
            # An image is one prediction, where a sequence is as many as it has tokens.
            units=256,
            late_measurements=24,
            late_units=256,
            heldout_units=256,
            probed_units=16,
            noise_units=32,
        ),
    )
    return FamiliesConfig(preset="quick", families={FAMILY: family}, seeds=(0, 1, 2))


def toy() -> FamiliesConfig:
    """Seconds: two sizes that show nothing, for tests and CI."""
    config = quick()
    family = config.families[FAMILY]
    family = replace(
        family,
        widths=(16, 32),
        training=replace(
            family.training,
            steps=24,
            batch_size=8,
            warmup_steps=3,
            heldout_every=8,
            heldout_units=16,
            checkpoint_every=8,
        ),
        measurement=MeasurementConfig(
            per_decade=2, width=2, units=8, late_measurements=3, late_units=8, heldout_units=8
        ),
    )
    return replace(config, preset="toy", families={FAMILY: family}, seeds=(0,))


def laptop() -> FamiliesConfig:
    """Hours on a laptop: six sizes of up to 1.8M parameters on photographs of CIFAR-5M."""
    config = quick()
    family = config.families[FAMILY]
    family = replace(
        family,
        data=DataConfig(name="cifar5m", options={"folder": "cifar5m", "task": "classes"}),
        widths=(32, 48, 64, 96, 128, 192),
        options={"patch": 4, "depth": 4},
        training=replace(
            family.training, steps=3000, warmup_steps=100, heldout_every=100, heldout_units=1000, checkpoint_every=250
        ),
    )
    return replace(config, preset="laptop", families={FAMILY: family})


def paper() -> FamiliesConfig:
    """ViTs of 0.2M to 19M parameters on CIFAR-5M, 10,000 steps of 500 images, one pass, three seeds (GPU)."""
    family = FamilyConfig(
        data=DataConfig(name="cifar5m", options={"folder": "cifar5m", "task": "classes"}),
        model="vit",
        widths=(48, 96, 192, 288, 384, 512),
        options={"patch": 4, "depth": 6},
        rates=RateConfig(rule="sweep", reference_width=192, factors=(0.5, 1.0, 2.0), sweep_steps=1000),
        training=TrainingConfig(
            steps=10_000,
            batch_size=500,
            learning_rate=0.001,
            warmup_steps=500,
            schedule="cosine",
            precision="bfloat16",
            heldout_every=250,
            heldout_units=10_000,
            checkpoint_every=500,
        ),
        measurement=MeasurementConfig(
            per_decade=6, width=4, units=500, late_measurements=80, late_units=500, heldout_units=500, probed_units=64
        ),
    )
    return FamiliesConfig(preset="paper", families={FAMILY: family}, seeds=(0, 1, 2))


PRESETS = {"quick": quick, "toy": toy, "laptop": laptop, "paper": paper}

register_families(
    "vit",
    "Loss and spectral position of vision transformers of several sizes that learn to tell images apart.",
    PRESETS,
    default="quick",
    report=report,
)
