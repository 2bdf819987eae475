"""Late position of probes on random over that on pre-trained backbones, by size: what two claims judge."""

from __future__ import annotations

from spectral_reach.studies.analysis.claims.probe_families import ProbeFamilies
from spectral_reach.studies.analysis.late_average import late_average
from spectral_reach.studies.analysis.probe_sets import PRETRAINED, RANDOM
from spectral_reach.studies.analysis.size_ratio import Pair, SizeRatios, size_ratios


def backbone_ratio(families: ProbeFamilies, measure: str) -> SizeRatios:
    """Random over pre-trained, runs of a size paired by their seeds; one without a finished partner does not count."""
    pretrained = {(run.parameters, run.seed): run for run in families.by_role[PRETRAINED].runs if run.is_finished}
    pairs: dict[int, list[Pair]] = {}
    for run in families.by_role[RANDOM].runs:
        partner = pretrained.get((run.parameters, run.seed))
        if run.is_finished and partner is not None:
            random, trained = late_average(run), late_average(partner)
            pairs.setdefault(run.parameters, []).append(
                Pair(seed=run.seed, above=getattr(random, measure), below=getattr(trained, measure))
            )
    return size_ratios(pairs, (f"late {measure} on random backbones", f"late {measure} on pre-trained backbones"))
