"""Claim: chi_net * chi_pos is governed by chi_pos.

Statistic: over windows of measurements after warm-up, the share of log chi_pos in the variances of log chi_pos and
log chi_net (``position_share``), mean over sizes, seeds averaged first. It is 1 where chi_net stands still. All sizes
see the same units, so their errors are taken as wholly alike (``mean_of_sizes``).

*Governed* means a share above 0.8: the variance of log chi_pos is more than four times that of log chi_net. Supported
if the 95% interval lies above 0.8, contradicted if it lies below, else inconclusive. Slope and R^2 of
log(chi_net chi_pos) against log chi_pos are given besides.
"""

from __future__ import annotations

import numpy as np

from spectral_reach.studies.analysis.claims.claim import claim_on_families
from spectral_reach.studies.analysis.claims.finding import Judgement
from spectral_reach.studies.analysis.claims.sources import PIXELS, TEXT
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.mean_of_sizes import MeanOfSizes, RunValue, mean_of_sizes
from spectral_reach.studies.analysis.numbers import signed
from spectral_reach.studies.analysis.numbers import size as size_in_words
from spectral_reach.studies.analysis.position_share import PositionShare, position_share
from spectral_reach.studies.analysis.study_data import FamilyData
from spectral_reach.studies.analysis.verdict import Verdict, above

GOVERNED = 0.8


def judge(family: FamilyData, measure: str) -> Judgement:
    """The rule of this file's head."""
    finished = [run for run in family.runs if run.is_finished]
    sizes = sorted({run.parameters for run in finished})
    shares = [position_share([run for run in finished if run.parameters == size], measure) for size in sizes]
    result = mean_of_sizes(
        [RunValue(parameters=size, estimate=each.share) for size, each in zip(sizes, shares, strict=True)],
        least=0,
        most=1,
    )
    lacking = [(size, each.share.reason) for size, each in zip(sizes, shares, strict=True) if not each.share.is_defined]
    if lacking:
        reason = f"at {size_in_words(lacking[0][0])} parameters {lacking[0][1]}"
        more = f"; {len(lacking)} of {len(sizes)} sizes are not decided" if len(lacking) > 1 else ""
        result = MeanOfSizes(interval=Interval.missing(), runs=0, reason=reason + more)
    verdict = above(result.interval, GOVERNED)
    return Judgement(
        statistic=f"share of log {measure} in its variance and that of log chi_net after warm-up, mean over sizes",
        interval=result.interval,
        n=len(finished),
        counted="runs",
        verdict=verdict,
        reason=_sentence(shares, verdict, measure) if result.reason is None else f"Not decided: {result.reason}",
    )


def _sentence(shares: list[PositionShare], verdict: Verdict, measure: str) -> str:
    known = [each for each in shares if each.share.is_defined]
    slope, r2 = (float(np.median([getattr(each, name) for each in known])) for name in ("slope", "r2"))
    sentence = {
        Verdict.SUPPORTED: f"{measure} makes more than {GOVERNED:.0%} of the changes",
        Verdict.CONTRADICTED: f"{measure} makes less than {GOVERNED:.0%} of the changes",
    }.get(verdict, f"The interval holds {GOVERNED:.0%}")
    sentence += f"; median slope {signed(slope)} and R² {r2:.2f} over sizes"
    left_out = sum(each.left_out for each in known)
    windows = left_out + sum(each.share.n for each in known)
    return sentence + (f"; left out as not significantly positive: {left_out} of {windows} windows" if left_out else "")


CLAIM = claim_on_families(
    "position-governs",
    "chi_net · chi_pos is governed by chi_pos: its changes over training are those of spectral position.",
    (TEXT, PIXELS),
    (judge,),
)
