"""Scaling on images: Llamas of several sizes and seeds learn to predict the next pixel (Figures 1, 7, 8, 10, 11)."""

from __future__ import annotations

from dataclasses import replace

from spectral_reach.studies import scaling_text
from spectral_reach.studies.analysis.scaling_report import report
from spectral_reach.studies.families import FamiliesConfig, register_families
from spectral_reach.studies.learning_rate import RateConfig
from spectral_reach.studies.training.config import MeasurementConfig
from spectral_reach.studies.training.run_config import DataConfig

FAMILY = "pixels"


def quick() -> FamiliesConfig:
    """Minutes on two cores: five sizes of 14k to 336k parameters, six seeds, 8 x 8 digits."""
    config = scaling_text.quick()
    text = config.families[scaling_text.FAMILY]
    family = replace(
        text,
        # 1,500 images alone the largest model would begin to learn by heart.
        data=DataConfig(name="digits", options={"shifts": 1}),
        widths=(32, 48, 64, 80, 96),
        training=replace(
            text.training,
            steps=500,
            batch_size=64,
            learning_rate=0.002,
            # At a constant rate the small models' gradients go up and down by bursts to the end.
            schedule="cosine",
            heldout_every=20,
            heldout_units=297,
        ),
        measurement=MeasurementConfig(
            per_decade=4, units=64, late_measurements=24, late_units=64, heldout_units=64, noise_units=16
        ),
    )
    # Seeds 0 to 7 served to choose these sizes: in a trial with them models of 14k parameters ended twice as high as
    # those of 336k, and models of 4k, which hardly learn, in between. Other seeds tell whether that was chance.
    return replace(config, families={FAMILY: family}, seeds=tuple(range(8, 14)))


def toy() -> FamiliesConfig:
    """Seconds: two sizes that show nothing, for tests and CI."""
    config = scaling_text.toy()
    family = replace(config.families[scaling_text.FAMILY], data=DataConfig(name="digits"), rates=RateConfig())
    return replace(config, families={FAMILY: family}, seeds=(0,))


def laptop() -> FamiliesConfig:
    """Hours on a laptop: six sizes of up to 2.3M parameters on photographs of CIFAR-5M, 16 x 16 pixels of 32 greys."""
    config = scaling_text.laptop()
    text = config.families[scaling_text.FAMILY]
    data = DataConfig(name="cifar5m", options={"folder": "cifar5m", "task": "pixels", "size": 16, "levels": 32})
    family = replace(
        text,
        data=data,
        widths=(32, 48, 64, 96, 128, 176),
        training=replace(text.training, batch_size=32, learning_rate=0.002),
    )
    return replace(config, families={FAMILY: family})


def paper() -> FamiliesConfig:
    """Llamas of 0.1M to 21M parameters on CIFAR-5M in 256 greys, 20,000 steps of 65,536 pixels, three seeds (GPU).

    1.3 billion pixels of 1.28 million images: a quarter of the data, none seen twice.
    """
    config = scaling_text.paper()
    text = config.families[scaling_text.FAMILY]
    family = replace(
        text,
        data=DataConfig(name="cifar5m", options={"folder": "cifar5m", "task": "pixels", "levels": 256}),
        shapes=(),
        widths=(64, 96, 128, 192, 256, 384),
        training=replace(text.training, steps=20_000, learning_rate=0.002),
    )
    return replace(config, families={FAMILY: family})


PRESETS = {"quick": quick, "toy": toy, "laptop": laptop, "paper": paper}

register_families(
    "scaling-pixels",
    "Loss and spectral position of Llamas of several sizes that learn images pixel by pixel.",
    PRESETS,
    default="quick",
    report=report,
)
