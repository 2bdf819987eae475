"""Claim: at fixed compute, spectral position follows test loss.

Statistic: at every budget of FLOPs where the held-out loss has an interior minimum over sizes the sizes are ranked by
held-out loss and by spectral position; the mean of the budgets' Spearman correlations (``iso_rank``). At other budgets
size alone may explain both (``isocompute``).

Supported if it is positive, with one-sided permutation p <= 0.05 over the sizes, and positive in 97.5% of redraws
within the errors; contradicted by the same with the sign turned round; else inconclusive. Fewer than four sizes
cannot reach that p. The interval is that of the redraws: it does not cover other sizes.
"""

from __future__ import annotations

from spectral_reach.studies.analysis.claims.claim import claim_on_families
from spectral_reach.studies.analysis.claims.finding import Judgement
from spectral_reach.studies.analysis.claims.sources import PIXELS, TEXT
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.isocompute import IsoCompute, isocompute
from spectral_reach.studies.analysis.rank import RankCorrelation
from spectral_reach.studies.analysis.size_order import LEVEL
from spectral_reach.studies.analysis.study_data import FamilyData
from spectral_reach.studies.analysis.verdict import Verdict


def judge(family: FamilyData, measure: str) -> Judgement:
    """The rule of this file's head."""
    curves = isocompute(family.runs)
    rank: RankCorrelation = getattr(curves, f"follows_{measure}")
    verdict = _verdict(rank)
    return Judgement(
        statistic=f"Spearman correlation of held-out loss with {measure} at fixed FLOPs, one-sided permutation p",
        interval=Interval(value=rank.rho, low=rank.low, high=rank.high),
        n=rank.n,
        counted="sizes",
        verdict=verdict,
        reason=_sentence(curves, rank, verdict),
    )


def _verdict(rank: RankCorrelation) -> Verdict:
    if rank.p_rising <= LEVEL and rank.low > 0:
        return Verdict.SUPPORTED
    if rank.p_falling <= LEVEL and rank.high < 0:
        return Verdict.CONTRADICTED
    return Verdict.INCONCLUSIVE


def _sentence(curves: IsoCompute, rank: RankCorrelation, verdict: Verdict) -> str:
    if curves.reason is not None or rank.reason is not None:
        return f"Not decided: {curves.reason or rank.reason}"
    p = min(rank.p_rising, rank.p_falling)
    at = f"at {curves.telling} of {len(curves.curves)} budgets, those with an interior minimum"
    at += f", one-sided p {f'= {p:.2g}' if p >= 0.001 else '< 0.001'}"
    match verdict:
        case Verdict.SUPPORTED:
            return f"Sizes with lower held-out loss have lower position {at}"
        case Verdict.CONTRADICTED:
            return f"Sizes with lower held-out loss have higher position {at}"
        case _ if p > LEVEL:
            return f"Chance alone would too often give so clear an order, {at}"
        case _:
            return f"The errors leave the order open, {at}"


CLAIM = claim_on_families(
    "position-follows-test-loss",
    "At fixed compute, spectral position follows test loss over model sizes.",
    (TEXT, PIXELS),
    (judge,),
)
