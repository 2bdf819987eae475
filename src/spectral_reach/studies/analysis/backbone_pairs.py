"""Probes on random backbones beside those on pre-trained ones: late averages of runs of one size and one seed."""

from __future__ import annotations

from spectral_reach.studies.analysis.late_average import late_average
from spectral_reach.studies.analysis.size_ratio import Pair
from spectral_reach.studies.analysis.study_data import FamilyData


def backbone_pairs(random: FamilyData, pretrained: FamilyData, measure: str) -> dict[int, list[Pair]]:
    """Random over pre-trained by parameters; a run without a finished partner of its seed is in none."""
    partners = {(run.parameters, run.seed): run for run in pretrained.runs if run.is_finished}
    pairs: dict[int, list[Pair]] = {}
    for run in random.runs:
        partner = partners.get((run.parameters, run.seed))
        if run.is_finished and partner is not None:
            above, below = (getattr(late_average(each), measure) for each in (run, partner))
            pairs.setdefault(run.parameters, []).append(Pair(seed=run.seed, above=above, below=below))
    return pairs
