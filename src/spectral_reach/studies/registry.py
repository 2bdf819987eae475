"""Studies by name: what each shows, its presets, and the functions that plan and report it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from spectral_reach.studies.analysis.report import Report
from spectral_reach.studies.plan import Begun, StudyPlan
from spectral_reach.studies.study_folder import begun


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A registered study.

    Attributes:
        name: how it is called.
        description: one sentence on what it shows.
        presets: what each ready-made configuration is for, by name.
        default_preset: the one for who names none.
        plan: ``plan({"preset": ..., setting: value, ...})`` works out the runs and tasks; settings not given are the
            preset's.
        resume: the same for a folder in which the study has begun, with the data that it was planned with, whatever a
            hub has by now and where there is no network; None where no setting depends on such.
        outline: the same without data that have to be downloaded first, for who only wants to look at it.
        report: what the folder of this study has to say, finished or not.
    """

    name: str
    description: str
    presets: Mapping[str, str]
    default_preset: str
    plan: Callable[[Mapping[str, Any]], StudyPlan]
    outline: Callable[[Mapping[str, Any]], StudyPlan]
    report: Callable[[Path], Report]
    resume: Callable[[Mapping[str, Any], Begun], StudyPlan] | None = None

    def plan_for(self, settings: Mapping[str, Any], folder: Path) -> StudyPlan:
        """The plan to execute in ``folder``, where the study may have begun.

        Raises:
            ValueError: a setting is unknown or impossible, or data are missing.
            ForeignFolderError: what the folder holds cannot be read.
        """
        before = None if self.resume is None else begun(folder)
        return self.plan(settings) if self.resume is None or before is None else self.resume(settings, before)


_MODULES = (
    "spectral_reach.studies.convergence",
    "spectral_reach.studies.coordinate_check",
    "spectral_reach.studies.loss_reduction",
    "spectral_reach.studies.probes",
    "spectral_reach.studies.random_features",
    "spectral_reach.studies.scaling",
    "spectral_reach.studies.scaling_pixels",
    "spectral_reach.studies.scaling_text",
    "spectral_reach.studies.spectra",
    "spectral_reach.studies.vit",
    "spectral_reach.studies.vit_mup",
)
"""Where studies register themselves; a new study is one file and a line here."""

_studies: dict[str, Study] = {}


def register(study: Study) -> Study:
    """Make a study known under its name."""
    if study.name in _studies:
        raise ValueError(f"A study named {study.name!r} is registered already; choose another name.")
    _studies[study.name] = study
    return study


def known() -> tuple[str, ...]:
    """The names of all registered studies, sorted."""
    for module in _MODULES:
        import_module(module)
    return tuple(sorted(_studies))


def find(name: str) -> Study:
    """The study called ``name``.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    if name not in known():
        raise ValueError(f"Unknown study {name!r}; the known ones are {', '.join(known())}.")
    return _studies[name]
