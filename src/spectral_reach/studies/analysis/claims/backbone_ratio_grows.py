"""Claim: the ratio of spectral position on a random to that on a pre-trained backbone grows with model size.

Statistic: the factor by which the ratio (``backbone_ratio``) grows for every factor of ten in parameters: least
squares of its logarithm against theirs.

Supported if the 95% interval lies above 1, contradicted if it lies below 1, else inconclusive; so too below three
sizes, and where an average is not significantly positive.
"""

from __future__ import annotations

import numpy as np

from spectral_reach.studies.analysis.claims.backbone_ratio import backbone_ratio
from spectral_reach.studies.analysis.claims.finding import POSITIONS, Judgement
from spectral_reach.studies.analysis.claims.probe_families import ProbeFamilies, claim_on_probes
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.probe_sets import PRETRAINED, RANDOM
from spectral_reach.studies.analysis.size_ratio import SizeRatios, as_factor
from spectral_reach.studies.analysis.verdict import Verdict, above

LEAST_SIZES = 3


def judge(families: ProbeFamilies, measure: str) -> Judgement:
    """The rule of this file's head."""
    ratios = backbone_ratio(families, measure)
    sizes = len(ratios.parameters)
    reason = ratios.reason
    if reason is None and sizes < LEAST_SIZES:
        reason = f"{sizes} sizes show no trend, {LEAST_SIZES} are needed"
    growth = Interval.missing() if reason is not None else as_factor(ratios.slope)
    verdict = above(growth, 1.0)
    return Judgement(
        statistic=f"growth, per factor of ten in parameters, of late {measure} on random over pre-trained backbones",
        interval=growth,
        n=ratios.runs,
        counted="pairs of runs",
        verdict=verdict,
        reason=_sentence(ratios, verdict) if reason is None else f"Not decided: {reason}",
    )


def _sentence(ratios: SizeRatios, verdict: Verdict) -> str:
    ends = " to ".join(f"{np.exp(ratios.logs[i]):.2g} at {size(ratios.parameters[i])}" for i in (0, -1))
    return f"{_HOW[verdict]}; the ratio goes from {ends} parameters"


_HOW = {
    Verdict.SUPPORTED: "It grows with size",
    Verdict.CONTRADICTED: "It shrinks with size",
    Verdict.INCONCLUSIVE: "The interval holds 1, no growth",
}

CLAIM = claim_on_probes(
    "backbone-ratio-grows",
    "The ratio of spectral position on a random to that on a pre-trained backbone grows with model size.",
    (PRETRAINED, RANDOM),
    judge,
    POSITIONS,
)
