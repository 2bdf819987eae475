"""Linear probes: only the readout learns, on a backbone that is pre-trained or random (Figures 4 and 5).

Three families of the same sizes and seeds: ``full`` trains everything and is the pre-training; ``pretrained`` trains a
fresh readout on the final backbones of ``full``, ``random`` one on backbones as they were drawn. Both see the data in
the same order, which is not that of the pre-training (``data.batches``).
"""

from __future__ import annotations

from dataclasses import replace

from spectral_reach.studies import scaling_text
from spectral_reach.studies.analysis.scaling_report import report
from spectral_reach.studies.families import FamiliesConfig, register_families
from spectral_reach.studies.family import FamilyConfig

FULL, PRETRAINED, RANDOM = "full", "pretrained", "random"


def _families(full: FamilyConfig) -> dict[str, FamilyConfig]:
    # A readout that is tied to the embedding would change the backbone that it reads.
    full = replace(full, options={**full.options, "tied": False}, label="all layers trained")
    full = replace(full, shapes=tuple({k: v for k, v in shape.items() if k != "tied"} for shape in full.shapes))
    probe = replace(full, training=replace(full.training, trained="readout"))
    return {
        FULL: full,
        PRETRAINED: replace(probe, backbones=FULL, label="probes on pre-trained backbones"),
        RANDOM: replace(probe, label="probes on random backbones"),
    }


def quick() -> FamiliesConfig:
    """Minutes on two cores: four sizes of 16k to 406k parameters, three seeds, Python sources."""
    config = scaling_text.quick()
    text = config.families[scaling_text.FAMILY]
    full = replace(
        text,
        widths=(16, 32, 64, 96),
        training=replace(text.training, steps=400, schedule="cosine"),
        # Late gradients of a convex problem are small beside their noise: more units tell them from it.
        measurement=replace(text.measurement, heldout_units=0, late_units=128),
    )
    return replace(config, families=_families(full))


def toy() -> FamiliesConfig:
    """Seconds: two sizes that show nothing, for tests and CI."""
    config = scaling_text.toy()
    text = config.families[scaling_text.FAMILY]
    full = replace(
        text,
        rates=scaling_text.quick().families[scaling_text.FAMILY].rates,
        measurement=replace(text.measurement, heldout_units=0),
    )
    return replace(config, families=_families(full), seeds=(0,))


def laptop() -> FamiliesConfig:
    """Hours on a laptop: five sizes of up to 2.6M parameters, three seeds, 128 tokens."""
    config = scaling_text.laptop()
    text = config.families[scaling_text.FAMILY]
    full = replace(
        text,
        widths=(32, 64, 96, 128, 176),
        rates=scaling_text.quick().families[scaling_text.FAMILY].rates,
        training=replace(text.training, steps=1500),
        measurement=replace(text.measurement, heldout_units=0),
    )
    return replace(config, families=_families(full))


def paper() -> FamiliesConfig:
    """The published SimpleStories sizes, readouts untied, 14,000 steps of 32,768 tokens, three seeds (GPU)."""
    config = scaling_text.paper()
    text = config.families[scaling_text.FAMILY]
    rates = replace(scaling_text.quick().families[scaling_text.FAMILY].rates, reference_width=128)
    full = replace(text, rates=rates, measurement=replace(text.measurement, heldout_units=0))
    return replace(config, families=_families(full))


PRESETS = {"quick": quick, "toy": toy, "laptop": laptop, "paper": paper}

register_families(
    "probes",
    "Spectral position and chi_net of linear probes on pre-trained and on random backbones, beside full training.",
    PRESETS,
    default="quick",
    report=report,
)
