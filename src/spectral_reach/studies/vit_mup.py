"""The study ``vit`` in maximal update parametrisation: one learning rate for all widths (Figure 9)."""

from __future__ import annotations

from dataclasses import replace

from spectral_reach.studies import vit
from spectral_reach.studies.analysis.scaling_report import report
from spectral_reach.studies.families import FamiliesConfig, register_families
from spectral_reach.studies.learning_rate import RateConfig

FAMILY = "vit-mup"


def _mup(config: FamiliesConfig, base_width: int) -> FamiliesConfig:
    """The same sizes on the same data; ``base_width`` is where both parametrisations are one."""
    family = config.families[vit.FAMILY]
    options = {**family.options, "parametrisation": "mup", "base_width": base_width}
    # The rate that the rule of the standard parametrisation gives at the base width.
    rate = family.rates.reference_width / base_width * family.training.learning_rate
    family = replace(
        family,
        options=options,
        rates=RateConfig(rule="constant"),
        training=replace(family.training, learning_rate=rate),
        label=None,
    )
    return replace(config, families={FAMILY: family})


def quick() -> FamiliesConfig:
    """Minutes on two cores: the sizes of ``vit``, three seeds, 8 x 8 digits."""
    return _mup(vit.quick(), 32)


def toy() -> FamiliesConfig:
    """Seconds: two sizes that show nothing, for tests and CI."""
    return _mup(vit.toy(), 16)


def laptop() -> FamiliesConfig:
    """Hours on a laptop: the sizes of ``vit`` on photographs of CIFAR-5M."""
    return _mup(vit.laptop(), 48)


def paper() -> FamiliesConfig:
    """The sizes of ``vit`` on CIFAR-5M, 10,000 steps of 500 images, three seeds (GPU)."""
    return _mup(vit.paper(), 192)


PRESETS = {"quick": quick, "toy": toy, "laptop": laptop, "paper": paper}

register_families(
    "vit-mup",
    "Loss and spectral position of vision transformers of several sizes in maximal update parametrisation.",
    PRESETS,
    default="quick",
    report=report,
)
