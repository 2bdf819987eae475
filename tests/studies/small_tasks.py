"""A study of tasks alone, for the tests of what runs tasks: each takes a moment, and can be told to fail."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectral_reach.records.errors import RecordError
from spectral_reach.records.results import Results
from spectral_reach.studies import registry, tasks
from spectral_reach.studies.analysis.report import Report, Section
from spectral_reach.studies.plan import StudyPlan
from spectral_reach.studies.tasks import Task
from spectral_reach.studies.tasks.registry import OnShare

STUDY = "squares"


@tasks.register("square")
@dataclass(frozen=True, kw_only=True, slots=True)
class Square:
    """The square of a number; as an array if asked for."""

    number: int
    as_array: bool = False
    fails: str = ""

    @property
    def seconds(self) -> float:
        return 30.0

    def execute(self, study: Path, on_share: OnShare) -> Mapping[str, Any]:
        on_share(0.5)
        if self.fails == "interrupt":
            raise KeyboardInterrupt
        if self.fails == "waits":
            print("waiting", flush=True)
            time.sleep(600)
        if self.fails == "folder":
            raise RecordError("the folder said no.")
        if self.fails:
            raise RuntimeError(self.fails)
        square = self.number**2
        return {
            "square": np.array([square]) if self.as_array else square,
            "undefined": float("nan"),
            "threads": torch.get_num_threads(),
        }


def square(number: int, **settings: Any) -> Task:
    return Task(name=f"square-{number}", settings=Square(number=number, **settings))


def plan(settings: Mapping[str, Any]) -> StudyPlan:
    known = {"preset": "toy", "count": 3, "fails": "", **settings}
    chosen = tuple(square(n, fails=known["fails"] if n == 1 else "") for n in range(known["count"]))
    return StudyPlan(study=STUDY, preset=known["preset"], settings=known, tasks=chosen)


def report(study: Path) -> Report:
    results = Results(study)
    rows = tuple((name, str(results.load(name).values["square"])) for name in results.names())
    section = Section(title="Squares", columns=("task", "square"), rows=rows, text=f"There are {len(rows)} squares.")
    return Report(study=STUDY, preset="toy", sections=(section,), legend="square: of the number.", values={})


ENTRY = registry.Study(
    name=STUDY,
    description="Squares of numbers.",
    presets={"toy": "A moment."},
    default_preset="toy",
    plan=plan,
    outline=plan,
    report=report,
)
"""To be put into the registry of studies for the time of a test."""
