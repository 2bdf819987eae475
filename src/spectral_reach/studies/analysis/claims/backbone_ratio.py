"""Late position of probes on random over that on pre-trained backbones, by size: what two claims judge."""

from __future__ import annotations

from spectral_reach.studies.analysis.backbone_pairs import backbone_pairs
from spectral_reach.studies.analysis.claims.probe_families import ProbeFamilies
from spectral_reach.studies.analysis.probe_sets import PRETRAINED, RANDOM
from spectral_reach.studies.analysis.size_ratio import SizeRatios, size_ratios


def backbone_ratio(families: ProbeFamilies, measure: str) -> SizeRatios:
    """Random over pre-trained, runs of a size paired by their seeds; one without a finished partner does not count."""
    pairs = backbone_pairs(families.by_role[RANDOM], families.by_role[PRETRAINED], measure)
    return size_ratios(pairs, (f"late {measure} on random backbones", f"late {measure} on pre-trained backbones"))
