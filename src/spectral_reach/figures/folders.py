"""The study folders that a figure is given: one alone, or the families of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spectral_reach.figures.errors import NothingToDrawError
from spectral_reach.records.errors import ForeignFolderError
from spectral_reach.studies.analysis.probe_sets import PRETRAINED, RANDOM, ProbeSet, kind_of, probe_sets
from spectral_reach.studies.analysis.study_data import FamilyData, read_study
from spectral_reach.studies.analysis.summary import FamilySummary, summarise


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """A family of which a run has begun, and what its study's summary says of it."""

    data: FamilyData
    summary: FamilySummary


def only_folder(studies: Sequence[Path], figure: str) -> Path:
    """The one study folder of a figure that is drawn from one study.

    Raises:
        ValueError: there is none, or more than one.
    """
    if len(studies) != 1:
        got = ", ".join(str(folder) for folder in studies) or "none"
        raise ValueError(f"{figure} is drawn from one study folder: got {len(studies)} ({got}); give one.")
    return studies[0]


def read_families(studies: Sequence[Path]) -> tuple[FamilyData, ...]:
    """The families of all these studies of which a run has recorded a loss, in the order of the folders.

    Raises:
        NothingToDrawError: no run has begun.
        ValueError: two folders have a family of one name.
        ForeignFolderError: a folder is not a study of this library, or cannot be read.
        RecordError: a table is damaged, or a finished run has lost one.
    """
    return _begun(_declared(studies), studies)


def summarised_families(studies: Sequence[Path]) -> tuple[Begun, ...]:
    """``read_families``, each with its summary; raises the same."""
    begun = []
    for folder in studies:
        data = read_study(folder)
        for family, summary in zip(data.families, summarise(data).families, strict=True):
            if any(len(run.losses) for run in family.runs):
                begun.append(Begun(data=family, summary=summary))
    _check([each.data for each in begun], studies)
    return tuple(begun)


def read_probes(studies: Sequence[Path]) -> tuple[ProbeSet, ...]:
    """The families of linear probes in these studies, by data set; none as long as no run of a probe has begun.

    Raises:
        NothingToDrawError: as ``read_families``.
        ValueError: as ``read_families``, or two families are of one kind.
        ForeignFolderError: as ``read_families``, or no family is declared to be of probes.
        RecordError: as ``read_families``.
    """
    declared = _declared(studies)
    sets = probe_sets(_begun(declared, studies))
    if not sets and not any(_is_of_probes(family) for family in declared):
        raise ForeignFolderError(
            f"{', '.join(str(folder) for folder in studies)} has the families "
            f"{', '.join(family.key for family in declared)}, in which everything is trained; expected linear probes: "
            "give the folder of the study probes."
        )
    return sets


def _declared(studies: Sequence[Path]) -> tuple[FamilyData, ...]:
    return tuple(family for folder in studies for family in read_study(folder).families)


def _begun(declared: Sequence[FamilyData], studies: Sequence[Path]) -> tuple[FamilyData, ...]:
    begun = tuple(family for family in declared if any(len(run.losses) for run in family.runs))
    _check(begun, studies)
    return begun


def _is_of_probes(family: FamilyData) -> bool:
    """What its runs train says it; of a family without runs only its name can."""
    kind = kind_of(family) if family.runs else family.key.partition("-")[0]
    return kind in (PRETRAINED, RANDOM)


def _check(begun: Sequence[FamilyData], studies: Sequence[Path]) -> None:
    folders = ", ".join(str(folder) for folder in studies)
    if not begun:
        raise NothingToDrawError(f"no run of {folders} has recorded a loss: got nothing to draw; run the study first.")
    keys = [family.key for family in begun]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(
            f"the folders {folders} have more than one family called {', '.join(twice)}: expected families of "
            "different names; draw the figure from one of the folders at a time."
        )
