"""What a study is going to do: families of runs, then tasks, worked out and checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spectral_reach.studies.training.run_config import RunConfig

if TYPE_CHECKING:
    from spectral_reach.studies.tasks.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyPlan:
    """Runs that differ in size and seed alone, or a sweep.

    Attributes:
        label: what a figure calls them.
        runs: smallest first.
        is_sweep: whether they are short runs that choose learning rates, which no figure compares.
    """

    label: str
    runs: tuple[RunConfig, ...]
    is_sweep: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """What a study that has begun was planned with.

    Attributes:
        settings: its own configuration as JSON values.
        data: the data of a run of each family, as JSON values: where settings name a branch of a hub, the commit that
            it stood for.
    """

    settings: Mapping[str, Any]
    data: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyPlan:
    """Every run of a study, by family, and every task that follows them.

    Attributes:
        study: the study's name in the registry.
        preset: which of its presets this is, or comes from.
        settings: the study's own configuration as JSON values.
        families: the runs; none in a study that trains nothing.
        tasks: what is measured when the runs have ended, in this order.
    """

    study: str
    preset: str
    settings: Mapping[str, Any]
    families: Mapping[str, FamilyPlan] = field(default_factory=dict)
    tasks: tuple[Task, ...] = ()

    def __post_init__(self) -> None:
        tasks = [task.name for task in self.tasks]
        if twice := sorted({name for name in tasks if tasks.count(name) > 1}):
            raise ValueError(f"The study has more than one task named {', '.join(twice)}; expected different names.")
        names = [run.name for run in self.runs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"The study has more than one run named {', '.join(twice)}; expected sizes that differ by at least a "
                "thousand parameters."
            )
        for i, run in enumerate(self.runs):
            if lacking := [name for name in run.needs if name not in names[:i]]:
                raise ValueError(
                    f"The run {run.name!r} needs {', '.join(lacking)}; expected runs of the same study that come "
                    "before it: put their family first."
                )

    @property
    def runs(self) -> tuple[RunConfig, ...]:
        """All runs, family after family."""
        return tuple(run for family in self.families.values() for run in family.runs)
