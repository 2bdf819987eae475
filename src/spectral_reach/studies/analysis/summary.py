"""A whole study in numbers and words: late averages per run, frontier and rank correlation per family."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spectral_reach.studies.analysis.frontier import Frontier, frontier
from spectral_reach.studies.analysis.late_average import LateAverage, late_average
from spectral_reach.studies.analysis.rank import RankCorrelation, rank_correlation
from spectral_reach.studies.analysis.study_data import FamilyData, StudyData, read_study


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """One run: its size, how far it is, and where it ended. Losses and entropy in nats."""

    name: str
    parameters: int
    parameters_without_embeddings: int
    unigram_entropy: float
    steps: int
    steps_done: int
    is_finished: bool
    late: LateAverage


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilySummary:
    """One family: its runs by size, the loss-compute frontier and how late spectral position goes with
    size."""

    key: str
    label: str
    runs: tuple[RunSummary, ...]
    not_started: tuple[str, ...]
    frontier: Frontier
    rank_chi_pos: RankCorrelation
    rank_chi_pos_unbiased: RankCorrelation


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A study, family by family."""

    study: str
    preset: str
    families: tuple[FamilySummary, ...]


def summarise(study: StudyData | Path | str, *, seed: int = 0) -> Summary:
    """Summarise a study folder, or one already read. The same folder and seed give the same summary, to the
    bit.

    Raises:
        ForeignFolderError: the folder is not a study of this library, or cannot be read.
        RecordError: a table is damaged, or a finished run has lost one.
    """
    data = study if isinstance(study, StudyData) else read_study(study)
    return Summary(
        study=data.study,
        preset=data.preset,
        families=tuple(_summarise_family(family, seed) for family in data.families),
    )


def _summarise_family(family: FamilyData, seed: int) -> FamilySummary:
    late = [late_average(run) for run in family.runs]
    parameters = [run.parameters for run in family.runs]
    return FamilySummary(
        key=family.key,
        label=family.label,
        runs=tuple(
            RunSummary(
                name=run.name,
                parameters=run.parameters,
                parameters_without_embeddings=run.parameters_without_embeddings,
                unigram_entropy=run.unigram_entropy,
                steps=run.steps,
                steps_done=run.steps_done,
                is_finished=run.is_finished,
                late=average,
            )
            for run, average in zip(family.runs, late, strict=True)
        ),
        not_started=family.not_started,
        frontier=frontier(family.runs, seed=seed),
        rank_chi_pos=rank_correlation(parameters, [average.chi_pos for average in late], seed=seed),
        rank_chi_pos_unbiased=rank_correlation(parameters, [average.chi_pos_unbiased for average in late], seed=seed),
    )
