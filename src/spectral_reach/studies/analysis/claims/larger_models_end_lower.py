"""Claim: larger models end at a lower spectral position. The rule is that of ``size_order``.

The estimate is the ratio of the late average at the largest to that at the smallest size.
"""

from __future__ import annotations

from spectral_reach.studies.analysis.claims.claim import claim_on_families
from spectral_reach.studies.analysis.claims.finding import Judgement
from spectral_reach.studies.analysis.claims.sources import PIXELS, TEXT
from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.late_average import late_average
from spectral_reach.studies.analysis.numbers import signed, size, small
from spectral_reach.studies.analysis.rank import rank_correlation
from spectral_reach.studies.analysis.ratio import ratio
from spectral_reach.studies.analysis.size_order import LEVEL, SizeOrder, size_order
from spectral_reach.studies.analysis.study_data import FamilyData
from spectral_reach.studies.analysis.verdict import Verdict

PERMUTATIONS = 50_000  # of a table with many findings; all orders of eight sizes, p = 0.05 to within 0.002


def judge_order(family: FamilyData, measure: str) -> Judgement:
    """The rule of ``size_order``; also that of the ViTs' claims."""
    late: dict[int, list[Estimate]] = {}
    for run in family.runs:
        if run.is_finished:
            late.setdefault(run.parameters, []).append(getattr(late_average(run), measure))
    runs = [(parameters, each) for parameters, of_size in late.items() for each in of_size]
    rank = rank_correlation([each[0] for each in runs], [each[1] for each in runs], permutations=PERMUTATIONS)
    order = size_order(late, rank)
    return Judgement(
        statistic=(
            f"late {measure} at the largest over the smallest size; besides, Spearman correlation of size with it over "
            "runs, one-sided p by permuting sizes"
        ),
        interval=Interval.missing()
        if len(late) == 1
        else ratio(order.largest.late, order.smallest.late, order.degrees).interval,
        n=len(runs),
        counted="runs",
        verdict=order.verdict,
        reason=_sentence(order) if order.reason is None else f"Not decided: {order.reason}",
    )


def _sentence(order: SizeOrder) -> str:
    rank = order.rank
    values = " against ".join(f"{small(end.late)} at {size(end.parameters)}" for end in (order.largest, order.smallest))
    overlap = {
        Verdict.SUPPORTED: "the largest is lower, the intervals do not overlap",
        Verdict.CONTRADICTED: "the largest is higher, the intervals do not overlap",
    }.get(order.by_ends, "the intervals overlap")
    p = rank.p_falling if rank.rho < 0 else rank.p_rising
    chance = f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"
    by_rank = (
        f"rank correlation {signed(rank.rho)} ({signed(rank.low)} to {signed(rank.high)} within the errors, {chance})"
    )
    undecided = "" if order.by_rank in (Verdict.SUPPORTED, Verdict.CONTRADICTED) else _why_open(p)
    return f"{values} parameters: {overlap}; {by_rank}{undecided}"


def _why_open(p: float) -> str:
    return ", an order that chance alone gives too often" if p > LEVEL else ", an order that the errors leave open"


CLAIM = claim_on_families(
    "larger-models-end-lower",
    "Larger models end at a lower spectral position, on text and on images.",
    (TEXT, PIXELS),
    (judge_order,),
)
