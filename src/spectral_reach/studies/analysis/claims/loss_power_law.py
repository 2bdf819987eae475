"""Claim: loss falls as a power law of compute.

Statistic: the exponent alpha of the train loss L along the compute frontier, fitted robustly (``compute_law``): of
L = E + A C^-alpha where the data show an irreducible loss E, else of L = A C^-alpha, a straight line in log-log.

Supported if the 95% interval of alpha lies above 0 and the law explains at least 95% of the variance of log L along
the frontier: a power law to that accuracy. Where its residuals are more than three times the noise of the redrawn
curves, the reason says that it is not exactly one, which the interval does not cover. Contradicted if the interval lies
below 0, or if the law explains less than 95%, its residuals are more than three times that noise, and the curve gets
steeper with compute: another law, with or without an irreducible loss. Else inconclusive; so is a curve that flattens
without showing where to.
"""

from __future__ import annotations

import numpy as np

from spectral_reach.studies.analysis.claims.claim import claim_on_families
from spectral_reach.studies.analysis.claims.finding import Judgement
from spectral_reach.studies.analysis.claims.sources import PIXELS, TEXT
from spectral_reach.studies.analysis.compute_law import ComputeLaw, compute_law
from spectral_reach.studies.analysis.numbers import interval
from spectral_reach.studies.analysis.power_fit import PowerFit
from spectral_reach.studies.analysis.study_data import FamilyData
from spectral_reach.studies.analysis.verdict import Verdict

EXPLAINED = 0.95
MISFIT = 3.0


def judge(family: FamilyData, measure: str) -> Judgement:
    """The rule of this file's head."""
    law = compute_law(family.runs)
    fit = law.without_irreducible if law.with_irreducible.reason is not None else law.with_irreducible
    verdict = _verdict(law, fit)
    return Judgement(
        statistic=(
            f"exponent α of the train {measure} L = {_FORMS[fit.with_irreducible]} along the compute frontier, "
            "Huber fit"
        ),
        interval=fit.exponent,
        n=fit.n,
        counted="windows of compute",
        verdict=verdict,
        reason=_sentence(law, fit, verdict) if fit.reason is None else f"Not decided: {fit.reason}",
    )


_FORMS = {True: "E + A C^−α", False: "A C^−α"}


def _verdict(law: ComputeLaw, fit: PowerFit) -> Verdict:
    if fit.reason is not None:
        return Verdict.INCONCLUSIVE
    if fit.exponent.low > 0 and fit.r2 >= EXPLAINED:
        return Verdict.SUPPORTED
    if fit.exponent.high < 0 or (_is_bent(fit) and not _flattens(law)):
        return Verdict.CONTRADICTED
    return Verdict.INCONCLUSIVE


def _is_bent(fit: PowerFit) -> bool:
    return fit.r2 < EXPLAINED and _leaves_noise(fit)


def _leaves_noise(fit: PowerFit) -> bool:
    return fit.residual_scale > MISFIT * fit.noise_scale


def _in_noise(fit: PowerFit) -> str:
    ratio = f"{fit.residual_scale / fit.noise_scale:.1f} times" if fit.noise_scale > 0 else "above"
    return f"residuals are {ratio} the noise"


def _flattens(law: ComputeLaw) -> bool:
    """Whether log L against log C gets less steep, as an irreducible loss makes it."""
    x = np.log([point.flops for point in law.points])
    return bool(np.polyfit(x - x.mean(), np.log([point.loss for point in law.points]), 2)[0] > 0)


def _sentence(law: ComputeLaw, fit: PowerFit, verdict: Verdict) -> str:
    if fit.with_irreducible:
        e = fit.irreducible
        form = f"log L bends to an irreducible loss of {e.value:.2f} ({interval(e.low, e.high)}), above which the law"
    else:
        form = "a straight line in log-log"
    how = f"{form} explains {fit.r2:.1%} of the variance of log L over {fit.decades:.1f} decades of compute"
    noise = "" if law.covers_seeds else ", by batches alone: seeds are not covered"
    match verdict:
        case Verdict.SUPPORTED if _leaves_noise(fit):
            return f"It falls: {how}, though not exactly: {_in_noise(fit)}{noise}"
        case Verdict.SUPPORTED:
            return f"It falls: {how}{noise}"
        case Verdict.CONTRADICTED if fit.exponent.high < 0:
            return f"It rises with compute: {how}{noise}"
        case Verdict.CONTRADICTED:
            return f"It is no power law: {how}, {_in_noise(fit)}{noise}"
        case _ if _is_bent(fit):
            return f"It flattens, but no irreducible loss can be told: {how}{noise}"
        case _:
            return f"Neither a fall nor a rise is clear: {how}{noise}"


CLAIM = claim_on_families(
    "loss-power-law",
    "Loss falls as a power law of compute.",
    (TEXT, PIXELS),
    (judge,),
    ("loss",),
)
