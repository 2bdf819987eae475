"""A claim of the paper: what it says, which studies bear on it, and the rule that judges them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from spectral_reach.studies.analysis.claims.finding import POSITIONS, Finding, Judgement
from spectral_reach.studies.analysis.claims.sources import Source, Studies
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.study_data import FamilyData
from spectral_reach.studies.analysis.verdict import Verdict

Judge = Callable[[FamilyData, str], Judgement]
"""A rule for one family and one measure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One claim.

    Attributes:
        key: its name, in files and links.
        statement: what the paper says, in one sentence.
        studies: the studies that bear on it.
        evaluate: the rule: from the studies at hand to one finding or more.
    """

    key: str
    statement: str
    studies: tuple[str, ...]
    evaluate: Callable[[Studies], Iterable[Finding]]


def claim_on_families(
    key: str, statement: str, sources: Sequence[Source], judges: Sequence[Judge], measures: Sequence[str] = POSITIONS
) -> Claim:
    """A claim that is judged family by family: with each of the ``judges``, for each of the ``measures``."""

    def evaluate(studies: Studies) -> Iterator[Finding]:
        for source in sources:
            found = studies.family(source)
            if found is None:
                yield not_run(key, source.studies[0], source.name, source.why_not_run)
            elif not any(run.is_finished for run in found.family.runs):
                yield not_run(key, found.study, found.family.label, "No run is finished.")
            else:
                for judge in judges:
                    for measure in measures:
                        yield Finding.of(
                            judge(found.family, measure),
                            claim=key,
                            study=found.study,
                            family=found.family.label,
                            measure=measure,
                            remark=unfinished(found.family),
                        )

    return Claim(
        key=key,
        statement=statement,
        studies=tuple(dict.fromkeys(study for source in sources for study in source.studies)),
        evaluate=evaluate,
    )


def not_run(claim: str, study: str, family: str, reason: str) -> Finding:
    """A row that says that there is nothing to judge by."""
    missing = Interval.missing()
    return Finding(
        claim=claim,
        study=study,
        family=family,
        measure="",
        statistic="",
        estimate=missing.value,
        low=missing.low,
        high=missing.high,
        n=0,
        counted="",
        verdict=Verdict.NOT_RUN,
        reason=reason,
    )


def unfinished(*families: FamilyData) -> str:
    """A sentence on the runs that are still missing; empty if all are finished."""
    total = sum(len(family.runs) + len(family.not_started) for family in families)
    finished = sum(run.is_finished for family in families for run in family.runs)
    return f"{total - finished} of {total} runs are not finished." if finished < total else ""
