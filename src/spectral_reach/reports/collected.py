"""What a report is made from: the studies in a folder, read once, with how far each is and what it has cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from spectral_reach.records.errors import ForeignFolderError
from spectral_reach.records.results import Results
from spectral_reach.studies.analysis.study_data import FamilyData, RunData, StudyData, read_study
from spectral_reach.studies.study_folder import read_header
from spectral_reach.studies.tasks.usage import read_task_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskState:
    """A task of a study.

    Attributes:
        name: of the task.
        done_at: when its result was written, in seconds since 1970; None as long as it has none.
        seconds: of wall-clock time that it took; NaN where that is not on record, as of tasks not done.
    """

    name: str
    done_at: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What runs have cost: wall-clock ``seconds`` of all sittings, the highest ``peak_bytes`` of memory, ``flops`` of
    training; NaN where nothing is on record. ``ended`` is the last moment of a sitting, in seconds since 1970."""

    seconds: float
    peak_bytes: float
    flops: float
    ended: float

    @property
    def is_known(self) -> bool:
        """Whether any sitting is on record."""
        return not math.isnan(self.seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRecord:
    """One study of the report."""

    name: str
    data: StudyData
    tasks: tuple[TaskState, ...]

    @property
    def families(self) -> tuple[FamilyData, ...]:
        """All of them, those of sweeps last."""
        return (*self.data.families, *self.data.sweeps)

    @property
    def runs(self) -> tuple[RunData, ...]:
        """Every run that has a folder, those of sweeps last."""
        return tuple(run for family in self.families for run in family.runs)

    @property
    def runs_planned(self) -> int:
        """Runs of the study, begun or not."""
        return sum(len(family.runs) + len(family.not_started) for family in self.families)

    @property
    def runs_finished(self) -> int:
        """Runs that have made all their steps."""
        return sum(run.is_finished for run in self.runs)

    @property
    def tasks_finished(self) -> int:
        """Tasks that have a result."""
        return sum(task.done_at is not None for task in self.tasks)

    @property
    def tasks_untimed(self) -> int:
        """Tasks that have a result and no record of their time: results of earlier versions."""
        return sum(task.done_at is not None and math.isnan(task.seconds) for task in self.tasks)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.runs_finished == self.runs_planned and self.tasks_finished == len(self.tasks)


def find_studies(folder: Path) -> dict[str, Path]:
    """The study folders in ``folder`` by the name of their study, or ``folder`` itself if it is one.

    Raises:
        ForeignFolderError: there is none, two of the same study, or one that this version does not read.
    """
    if (folder / "study.json").exists():
        return {_name(folder): folder}
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not (path / "study.json").exists():
            continue
        name = _name(path)
        if name in found:
            raise ForeignFolderError(
                f"{folder} has two folders of the study {name!r}, {found[name].name} and {path.name}; expected one of "
                "each study: give one of them, or move the other away."
            )
        found[name] = path
    if not found:
        raise ForeignFolderError(
            f"{folder} is no study folder and holds none; expected a folder with a study.json, or one whose folders "
            "have one each, as `spectral-reach reproduce` makes them."
        )
    return found


def read_studies(paths: Mapping[str, Path]) -> tuple[StudyRecord, ...]:
    """Read every study.

    Raises:
        ForeignFolderError: a folder is not of this library or version.
        RecordError: a table is damaged, or a finished run has lost one.
    """
    return tuple(StudyRecord(name=name, data=read_study(path), tasks=_tasks(path)) for name, path in paths.items())


def cost(*runs: RunData) -> Cost:
    """What these runs have cost together, as far as it is on record."""
    sittings = [sitting for run in runs for sitting in run.usage]
    return Cost(
        seconds=together(_numbers(sittings, "seconds")),
        peak_bytes=max(_numbers(sittings, "peak_bytes"), default=math.nan),
        flops=together(float(run.losses.flops.max()) for run in runs if len(run.losses)),
        ended=max((began + seconds for began, seconds in _ends(sittings)), default=math.nan),
    )


def time_of(*tasks: TaskState) -> float:
    """The seconds of these tasks together, as far as they are on record; NaN if none is."""
    return together(task.seconds for task in tasks)


def together(values: Iterable[float]) -> float:
    """The sum of those that are known; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) if known else math.nan


def _name(path: Path) -> str:
    return str(read_header(path)["study"])


def _tasks(path: Path) -> tuple[TaskState, ...]:
    results = Results(path)
    files = {file.stem: file for file in results.folder.glob("*.*")} if results.folder.is_dir() else {}
    have, seconds = set(results.names()), read_task_seconds(path)
    return tuple(
        TaskState(name=name, done_at=files[name].stat().st_mtime, seconds=seconds.get(name, math.nan))
        if name in have
        else TaskState(name=name, done_at=None, seconds=math.nan)
        for name in read_header(path).get("tasks", ())
    )


def _numbers(sittings: list[Mapping[str, object]], key: str) -> Iterator[float]:
    for sitting in sittings:
        value = sitting.get(key)
        if isinstance(value, int | float):
            yield float(value)


def _ends(sittings: list[Mapping[str, object]]) -> Iterator[tuple[float, float]]:
    for sitting in sittings:
        began, seconds = sitting.get("began"), sitting.get("seconds")
        if isinstance(began, int | float) and isinstance(seconds, int | float):
            yield float(began), float(seconds)
