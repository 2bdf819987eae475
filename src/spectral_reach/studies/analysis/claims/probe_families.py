"""The families of the study of linear probes: full training, probes on its backbones, probes on random ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from spectral_reach.studies.analysis.claims.claim import Claim, not_run, unfinished
from spectral_reach.studies.analysis.claims.finding import Finding, Judgement
from spectral_reach.studies.analysis.claims.sources import Studies
from spectral_reach.studies.analysis.probe_sets import ProbeSet, kind_of, probe_sets
from spectral_reach.studies.analysis.study_data import FamilyData

STUDY = "probes"
_LABEL = "linear probes"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeFamilies:
    """The families of one data set, by what they train (``probe_sets``); ``label`` is what the table calls them."""

    label: str
    by_role: dict[str, FamilyData]

    @classmethod
    def of(cls, found: ProbeSet) -> ProbeFamilies:
        """Those of a set that have begun."""
        label = f"{_LABEL}, {found.data}" if found.data else _LABEL
        return cls(label=label, by_role={kind_of(family): family for family in found.families})


Judge = Callable[[ProbeFamilies, str], Judgement]


def claim_on_probes(key: str, statement: str, roles: tuple[str, ...], judge: Judge, measures: tuple[str, ...]) -> Claim:
    """A claim that compares the families of these ``roles``, of every data set that the study has."""

    def evaluate(studies: Studies) -> Iterator[Finding]:
        study = studies.study(STUDY)
        sets = () if study is None else probe_sets(study.families)
        groups = [each for each in map(ProbeFamilies.of, sets) if all(role in each.by_role for role in roles)]
        if not groups:
            yield not_run(key, STUDY, _LABEL, f"It takes the study {STUDY} with the families {' and '.join(roles)}.")
        for group in groups:
            families = [group.by_role[role] for role in roles]
            if not all(any(run.is_finished for run in family.runs) for family in families):
                yield not_run(key, STUDY, group.label, f"No run is finished of {' or of '.join(roles)}.")
                continue
            for measure in measures:
                yield Finding.of(
                    judge(group, measure),
                    claim=key,
                    study=STUDY,
                    family=group.label,
                    measure=measure,
                    remark=unfinished(*families),
                )

    return Claim(key=key, statement=statement, studies=(STUDY,), evaluate=evaluate)
