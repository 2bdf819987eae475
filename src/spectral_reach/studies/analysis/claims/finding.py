"""What a claim's rule makes of the runs of one family: the result type that all claims share."""

from __future__ import annotations

from dataclasses import dataclass

from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.numbers import with_interval
from spectral_reach.studies.analysis.verdict import Verdict

POSITIONS = ("chi_pos", "chi_pos_unbiased")
"""The two measures of spectral position: of the mini-batch, raised by gradient noise, and of the population."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What the numbers say, before it is known whose numbers they are.

    Attributes:
        statistic: in words.
        interval: its estimate with the 95% interval; NaN where there is none.
        n: how many runs, sizes or draws are behind it.
        counted: which of these.
        verdict: by the claim's rule.
        reason: a sentence that says why, without full stop.
    """

    statistic: str
    interval: Interval
    n: int
    counted: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A row of the claims table.

    Attributes:
        claim: key of the claim.
        study: the study that was looked at; of a claim that was not run the one that would be needed.
        family: label of the runs.
        measure: ``chi_pos``, ``chi_pos_unbiased``, ``chi_net`` or ``loss``; empty where nothing was run.
        statistic: in words.
        estimate: of the statistic; NaN if there is none.
        low: 95% interval.
        high: likewise.
        n: how many runs, sizes or draws are behind it.
        counted: which of these.
        verdict: by the rule at the head of the claim's file.
        reason: a sentence that says why.
    """

    claim: str
    study: str
    family: str
    measure: str
    statistic: str
    estimate: float
    low: float
    high: float
    n: int
    counted: str
    verdict: Verdict
    reason: str

    @classmethod
    def of(
        cls, judgement: Judgement, *, claim: str, study: str, family: str, measure: str, remark: str = ""
    ) -> Finding:
        """A judgement on the runs of a family; ``remark`` is a further sentence of the reason."""
        return cls(
            claim=claim,
            study=study,
            family=family,
            measure=measure,
            statistic=judgement.statistic,
            estimate=judgement.interval.value,
            low=judgement.interval.low,
            high=judgement.interval.high,
            n=judgement.n,
            counted=judgement.counted,
            verdict=judgement.verdict,
            reason=f"{judgement.reason}. {remark}".strip(),
        )

    @property
    def estimate_in_words(self) -> str:
        """``0.36 (0.31 to 0.42)``; a dash without estimate."""
        return with_interval(self.estimate, self.low, self.high)

    @property
    def n_in_words(self) -> str:
        """``12 runs``; a dash where nothing was run."""
        return f"{self.n} {self.counted}" if self.n else "–"
