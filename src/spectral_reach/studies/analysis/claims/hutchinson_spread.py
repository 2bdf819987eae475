"""Claim: the spread of Hutchinson's estimate of chi_net, averaged over M probes, falls as M^(-1/2).

Statistic: the fitted exponent (``draws.power_law``) on the largest trained model.

Supported if the 95% interval lies within 0.1 of -1/2, contradicted if it lies wholly outside of that, else
inconclusive.
"""

from __future__ import annotations

from collections.abc import Iterator

from spectral_reach.studies.analysis.claims.claim import Claim, not_run
from spectral_reach.studies.analysis.claims.finding import Finding, Judgement
from spectral_reach.studies.analysis.claims.sources import Studies
from spectral_reach.studies.analysis.convergence import STUDY, Row, read_convergence
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.verdict import Verdict, within

PREDICTED = -0.5
MARGIN = 0.1

_KEY = "hutchinson-spread"
_FAMILY = "estimators of chi_net"


def evaluate(studies: Studies) -> Iterator[Finding]:
    """The rule of this file's head."""
    folder = studies.folder(STUDY)
    result = None if folder is None else read_convergence(folder)
    if result is None or result.main is None:
        why = f"It takes the study {STUDY}." if result is None else "No draw is made on the largest trained model."
        yield not_run(_KEY, STUDY, _FAMILY, why)
        return
    remark = f"{result.tasks - result.done} of {result.tasks} tasks are not done." if result.done < result.tasks else ""
    yield Finding.of(judge(result.main), claim=_KEY, study=STUDY, family=_FAMILY, measure="chi_net", remark=remark)


def judge(row: Row) -> Judgement:
    """The judgement on the draws of one estimator on one model."""
    power = row.power
    exponent = Interval(value=power.exponent, low=power.low, high=power.high)
    verdict = within(exponent, PREDICTED - MARGIN, PREDICTED + MARGIN)
    where = (
        f"up to {power.longest:,} probes, {power.blocks} repetitions, on a model of {size(row.parameters)} parameters"
    )
    return Judgement(
        statistic="exponent of the coefficient of variation against the number of probes averaged",
        interval=exponent,
        n=len(row.draws),
        counted="draws",
        verdict=verdict,
        reason=f"{_HOW[verdict]}: {where}" if power.reason is None else f"Not decided: {power.reason}",
    )


_HOW = {
    Verdict.SUPPORTED: f"The exponent is −1/2 within {MARGIN}",
    Verdict.CONTRADICTED: f"The exponent differs from −1/2 by more than {MARGIN}",
    Verdict.INCONCLUSIVE: f"The interval reaches beyond {MARGIN} from −1/2",
}

CLAIM = Claim(
    key=_KEY,
    statement="The spread of Hutchinson's estimate falls as M^(−1/2) with M probes.",
    studies=(STUDY,),
    evaluate=evaluate,
)
