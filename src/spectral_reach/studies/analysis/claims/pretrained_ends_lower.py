"""Claim: a linear probe on a pre-trained backbone ends at a lower spectral position than one on a random backbone.

Statistic: late position on random over that on pre-trained backbones of the same sizes and seeds
(``backbone_ratio``), geometric mean over sizes.

Supported if the 95% interval lies above 1, contradicted if it lies below 1, else inconclusive; so too where an
average is not significantly positive.
"""

from __future__ import annotations

import numpy as np

from spectral_reach.studies.analysis.claims.backbone_ratio import backbone_ratio
from spectral_reach.studies.analysis.claims.finding import POSITIONS, Judgement
from spectral_reach.studies.analysis.claims.probe_families import ProbeFamilies, claim_on_probes
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.probe_sets import PRETRAINED, RANDOM
from spectral_reach.studies.analysis.size_ratio import as_factor
from spectral_reach.studies.analysis.verdict import Verdict, above


def judge(families: ProbeFamilies, measure: str) -> Judgement:
    """The rule of this file's head."""
    ratios = backbone_ratio(families, measure)
    ratio = as_factor(ratios.mean)
    verdict = above(ratio, 1.0)
    sentence = f"Not decided: {ratios.reason}"
    if ratios.reason is None:
        each = [f"{np.exp(log):.2g} at {size(p)}" for p, log in zip(ratios.parameters, ratios.logs, strict=True)]
        sentence = f"{_WHICH[verdict]}; the ratio is {', '.join(each)} parameters"
    return Judgement(
        statistic=f"late {measure} on random over pre-trained backbones, geometric mean over sizes",
        interval=ratio,
        n=ratios.runs,
        counted="pairs of runs",
        verdict=verdict,
        reason=sentence,
    )


_WHICH = {
    Verdict.SUPPORTED: "Pre-trained backbones end lower",
    Verdict.CONTRADICTED: "Pre-trained backbones end higher",
    Verdict.INCONCLUSIVE: "The interval holds 1, no difference",
}

CLAIM = claim_on_probes(
    "pretrained-ends-lower",
    "Probes on a pre-trained backbone end at a lower spectral position than probes on a random one.",
    (PRETRAINED, RANDOM),
    judge,
    POSITIONS,
)
