"""Claim: random-feature values sit on theory.

Statistic: of all exponents of the data's spectrum, the excess of chi_pos over the predicted sum of p_k^2 that is
farthest from 0, relative to the prediction, over draws of inputs, features and teachers.

Supported if at every exponent the study's bounds hold (``random_features``: chi_loss and chi_net within 2% of 1,
chi_pos within its standard error and 3%) and the 95% intervals are no wider than 10% to either side, so that they say
something. Contradicted if at some exponent a 95% interval lies wholly outside 2% (chi_loss, chi_net) or 3% (chi_pos).
Else inconclusive. The gradient is taken on all the data that there are, so that there is one chi_pos only.
"""

from __future__ import annotations

from collections.abc import Iterator

from spectral_reach.studies.analysis.claims.claim import Claim, not_run
from spectral_reach.studies.analysis.claims.finding import Finding, Judgement
from spectral_reach.studies.analysis.claims.sources import Studies
from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.random_features import (
    STUDY,
    TOLERANCE_OF_POSITION,
    TOLERANCE_OF_UNITY,
    ExponentResult,
    RandomFeaturesResult,
    read_random_features,
)
from spectral_reach.studies.analysis.seed_spread import student_interval
from spectral_reach.studies.analysis.verdict import Verdict

WIDEST = 0.1

_KEY = "random-features-on-theory"
_FAMILY = "random ReLU features"


def evaluate(studies: Studies) -> Iterator[Finding]:
    """The rule of this file's head."""
    folder = studies.folder(STUDY)
    result = None if folder is None else read_random_features(folder)
    if result is None or not result.exponents:
        why = f"It takes the study {STUDY}." if result is None else "No draw is finished."
        yield not_run(_KEY, STUDY, _FAMILY, why)
        return
    remark = (
        f"{result.planned - result.draws} of {result.planned} draws are not made."
        if result.draws < result.planned
        else ""
    )
    yield Finding.of(judge(result), claim=_KEY, study=STUDY, family=_FAMILY, measure="chi_pos", remark=remark)


def judge(result: RandomFeaturesResult) -> Judgement:
    """The judgement on one study's draws."""
    farthest = max(result.exponents, key=lambda each: abs(each.excess.value))
    outside = [f"{each.exponent:g}" for each in result.exponents if _is_outside(each)]
    missed = [f"{each.exponent:g}" for each in result.exponents if not each.holds]
    vague = [f"{each.exponent:g}" for each in result.exponents if not _says_something(each)]
    if outside:
        verdict, sentence = Verdict.CONTRADICTED, f"Values lie off the theory at exponent {', '.join(outside)}"
    elif vague:
        verdict, sentence = (
            Verdict.INCONCLUSIVE,
            f"Too few draws at exponent {', '.join(vague)}: intervals are wider than ±{WIDEST:.0%}",
        )
    elif missed:
        verdict, sentence = (
            Verdict.INCONCLUSIVE,
            f"The bounds are missed at exponent {', '.join(missed)}, within the errors",
        )
    else:
        verdict, sentence = Verdict.SUPPORTED, f"The bounds hold at all {len(result.exponents)} exponents"
    return Judgement(
        statistic="relative excess of chi_pos over the predicted Σp², the farthest from 0 of all exponents",
        interval=_interval(farthest.excess),
        n=result.draws,
        counted="draws",
        verdict=verdict,
        reason=f"{sentence}; the farthest excess is that at exponent {farthest.exponent:g}",
    )


def _components(result: ExponentResult) -> tuple[tuple[Interval, float], ...]:
    """What should be 0, with its tolerance."""
    unity = [_interval(each) for each in (result.chi_loss, result.chi_net)]
    less_one = [Interval(value=each.value - 1, low=each.low - 1, high=each.high - 1) for each in unity]
    return (*((each, TOLERANCE_OF_UNITY) for each in less_one), (_interval(result.excess), TOLERANCE_OF_POSITION))


def _is_outside(result: ExponentResult) -> bool:
    return any(each.low > tolerance or each.high < -tolerance for each, tolerance in _components(result))


def _says_something(result: ExponentResult) -> bool:
    return all((each.high - each.low) / 2 <= WIDEST for each, _ in _components(result))


def _interval(estimate: Estimate) -> Interval:
    return student_interval(estimate, max(1, estimate.n - 1))


CLAIM = Claim(
    key=_KEY,
    statement="The components of random features sit on the values that theory predicts.",
    studies=(STUDY,),
    evaluate=evaluate,
)
