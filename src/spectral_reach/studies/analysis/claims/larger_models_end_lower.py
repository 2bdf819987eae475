"""Claim: larger models end at a lower spectral position.

Two statistics over the late averages of a family, and both have to agree:

1. Spearman's rank correlation of size with late position over all runs (``rank``), by the rule of ``words``:
   supported if negative, with one-sided permutation p <= 0.05, and negative in 97.5% of redraws within the errors;
   contradicted by the same with the sign turned round.
2. The smallest against the largest size, each with its 95% interval over seeds (``size_average``): supported if the
   intervals do not overlap and the largest is lower, contradicted if they do not overlap and the largest is higher.

Supported if both support, contradicted if both contradict, else inconclusive. The estimate is the ratio of the
largest to the smallest. Inconclusive too where one of the two is not significantly positive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spectral_reach.studies.analysis.claims.claim import claim_on_families
from spectral_reach.studies.analysis.claims.finding import Judgement
from spectral_reach.studies.analysis.claims.sources import PIXELS, TEXT
from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.late_average import late_average
from spectral_reach.studies.analysis.numbers import signed, size, small
from spectral_reach.studies.analysis.positive import why_not_positive
from spectral_reach.studies.analysis.rank import RankCorrelation, rank_correlation
from spectral_reach.studies.analysis.ratio import ratio
from spectral_reach.studies.analysis.size_average import SizeAverage, size_averages
from spectral_reach.studies.analysis.study_data import FamilyData
from spectral_reach.studies.analysis.verdict import Verdict
from spectral_reach.studies.analysis.words import LEVEL
from spectral_reach.studies.analysis.words import verdict as verdict_of_rank

PERMUTATIONS = 50_000  # of a table with many findings: p = 0.05 to within 0.002


def judge_order(family: FamilyData, measure: str) -> Judgement:
    """The rule of this file's head; also that of the ViTs' claims."""
    finished = [run for run in family.runs if run.is_finished]
    averages = size_averages(finished)
    ends = (averages[0], averages[-1])
    late: dict[int, list[Estimate]] = {}
    for run in finished:
        late.setdefault(run.parameters, []).append(getattr(late_average(run), measure))
    rank = rank_correlation(
        [parameters for parameters, runs in late.items() for _ in runs],
        [each for runs in late.values() for each in runs],
        permutations=PERMUTATIONS,
    )
    reason = _why_not(ends, late, rank, measure)
    smallest, largest = (end.estimate(measure) for end in ends)
    degrees = min(end.degrees[measure] for end in ends)
    by_ends = _verdict_of_ends(ends, measure)
    by_rank = verdict_of_rank(rank)
    verdict = Verdict.INCONCLUSIVE if reason is not None or by_ends != by_rank else by_rank
    return Judgement(
        statistic=(
            f"late {measure} at the largest over the smallest size; besides, Spearman correlation of size with it over "
            "runs, one-sided permutation p"
        ),
        interval=Interval.missing() if ends[0] is ends[1] else ratio(largest, smallest, degrees).interval,
        n=len(finished),
        counted="runs",
        verdict=verdict,
        reason=_sentence(ends, rank, by_ends, by_rank, measure) if reason is None else f"Not decided: {reason}",
    )


def _why_not(
    ends: tuple[SizeAverage, SizeAverage], late: Mapping[int, Sequence[Estimate]], rank: RankCorrelation, measure: str
) -> str | None:
    """Why there is nothing to compare; None if there is."""
    if ends[0] is ends[1]:
        return "there is one size only"
    for end in ends:
        estimate, at = end.estimate(measure), f"the late average at {size(end.parameters)} parameters"
        if not estimate.is_defined:
            return f"{at} has no error: {estimate.reason}"
        reason = why_not_positive([each for each in late[end.parameters] if each.is_defined])
        if reason is not None:
            return f"{at} is {reason}"
    return rank.reason


def _verdict_of_ends(ends: tuple[SizeAverage, SizeAverage], measure: str) -> Verdict:
    smallest, largest = (end.interval(measure) for end in ends)
    if largest.high < smallest.low:
        return Verdict.SUPPORTED
    if largest.low > smallest.high:
        return Verdict.CONTRADICTED
    return Verdict.INCONCLUSIVE


def _sentence(
    ends: tuple[SizeAverage, SizeAverage], rank: RankCorrelation, by_ends: Verdict, by_rank: Verdict, measure: str
) -> str:
    values = " against ".join(f"{small(end.estimate(measure))} at {size(end.parameters)}" for end in reversed(ends))
    overlap = {
        Verdict.SUPPORTED: "the largest is lower, the intervals do not overlap",
        Verdict.CONTRADICTED: "the largest is higher, the intervals do not overlap",
    }.get(by_ends, "the intervals overlap")
    falling = rank.rho < 0
    p = rank.p_falling if falling else rank.p_rising
    chance = f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"
    order = (
        f"rank correlation {signed(rank.rho)} ({signed(rank.low)} to {signed(rank.high)} within the errors, {chance})"
    )
    undecided = "" if by_rank in (Verdict.SUPPORTED, Verdict.CONTRADICTED) else _why_open(p)
    return f"{values} parameters: {overlap}; {order}{undecided}"


def _why_open(p: float) -> str:
    return ", an order that chance alone gives too often" if p > LEVEL else ", an order that the errors leave open"


CLAIM = claim_on_families(
    "larger-models-end-lower",
    "Larger models end at a lower spectral position, on text and on images.",
    (TEXT, PIXELS),
    (judge_order,),
)
