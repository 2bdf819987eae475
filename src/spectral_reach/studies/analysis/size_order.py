"""Do larger models end at a lower spectral position? The one rule for it, of summaries, figures and claims.

Two statistics over the late averages of a family, and both have to agree:

1. Spearman's rank correlation of size with late position over all runs (``rank``): supported if negative, with a
   one-sided p of at most ``LEVEL`` when the sizes are permuted, and negative in 97.5% of redraws within the errors;
   contradicted by the same with the sign turned round. Fewer than four sizes cannot reach that p.
2. The smallest against the largest size, each with its 95% interval (``size_average``), over seeds where there are
   several: supported if the intervals do not overlap and the largest is lower, contradicted if they do not overlap and
   the largest is higher.

Supported if both support, contradicted if both contradict, else inconclusive. Inconclusive too where the late average
of one of the two sizes is not significantly positive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.positive import why_not_positive
from spectral_reach.studies.analysis.rank import RankCorrelation
from spectral_reach.studies.analysis.seed_spread import student_interval
from spectral_reach.studies.analysis.size_average import means_over_seeds
from spectral_reach.studies.analysis.verdict import Verdict

LEVEL = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """The smallest or the largest size: the mean of its runs' late averages, and its 95% interval."""

    parameters: int
    late: Estimate
    interval: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeOrder:
    """What late position does with size.

    Attributes:
        rank: over all runs.
        smallest: the smallest size.
        largest: the largest size.
        degrees: of freedom of the errors of both.
        covers_seeds: whether these errors cover the spread between seeds.
        by_rank: the verdict of the first statistic alone.
        by_ends: of the second.
        reason: why nothing is decided; None if something is.
        verdict: of both.
    """

    rank: RankCorrelation
    smallest: End
    largest: End
    degrees: int
    covers_seeds: bool
    by_rank: Verdict
    by_ends: Verdict
    reason: str | None
    verdict: Verdict


def size_order(late: Mapping[int, Sequence[Estimate]], rank: RankCorrelation) -> SizeOrder:
    """The rule of this file's head.

    Args:
        late: late averages by parameters, smallest first, one a run, defined or not.
        rank: theirs.
    """
    sizes = list(late)
    means = means_over_seeds(list(late.values()))
    smallest, largest = (
        End(
            parameters=sizes[i],
            late=means.estimates[i],
            interval=student_interval(means.estimates[i], means.degrees),
        )
        for i in (0, -1)
    )
    by_rank, by_ends = verdict_of_rank(rank), _verdict_of_ends(smallest, largest)
    reason = _why_not(late, (smallest, largest)) or rank.reason
    return SizeOrder(
        rank=rank,
        smallest=smallest,
        largest=largest,
        degrees=means.degrees,
        covers_seeds=means.covers_seeds,
        by_rank=by_rank,
        by_ends=by_ends,
        reason=reason,
        verdict=by_rank if reason is None and by_rank == by_ends else Verdict.INCONCLUSIVE,
    )


def verdict_of_rank(rank: RankCorrelation) -> Verdict:
    """What the order of the sizes alone says; undefined correlations are inconclusive."""
    if rank.p_falling <= LEVEL and rank.high < 0:
        return Verdict.SUPPORTED
    if rank.p_rising <= LEVEL and rank.low > 0:
        return Verdict.CONTRADICTED
    return Verdict.INCONCLUSIVE


def _verdict_of_ends(smallest: End, largest: End) -> Verdict:
    if largest.interval.high < smallest.interval.low:
        return Verdict.SUPPORTED
    if largest.interval.low > smallest.interval.high:
        return Verdict.CONTRADICTED
    return Verdict.INCONCLUSIVE


def _why_not(late: Mapping[int, Sequence[Estimate]], ends: tuple[End, End]) -> str | None:
    """Why there is nothing to compare; None if there is."""
    if len(late) == 1:
        return "there is one size only"
    for end in ends:
        at = f"the late average at {size(end.parameters)} parameters"
        if not end.late.is_defined:
            return f"{at} has no error: {end.late.reason}"
        reason = why_not_positive([each for each in late[end.parameters] if each.is_defined])
        if reason is not None:
            return f"{at} is {reason}"
    return None
