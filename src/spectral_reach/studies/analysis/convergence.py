"""The convergence study read: rows of draws of every estimator, on every model that has been looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spectral_reach.records.results import Results
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.analysis.draws import PowerLaw, SpreadPoint, power_law, single_variation, spread
from spectral_reach.studies.analysis.estimate import Estimate, FloatArray
from spectral_reach.studies.study_folder import read_header, run_path

STUDY = "convergence"
TARGET = 0.01
"""Relative standard error whose price is named."""

_BATCH, _ONE_FOR_ALL = "batch", "one_for_all"


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """Draws of one estimator on one model, in the order of their numbers.

    Attributes:
        run: the model's run.
        parameters: of the model.
        step: updates that it had made.
        way: ``batch``, ``per_unit`` or ``one_for_all``.
        units: that a draw measures; 0 for all.
        draws: normalised chi_net, one a draw.
        seconds: of one draw, the median; the forward pass that all share is not in it.
        longest: draws of the longest average that is looked at.
    """

    run: str
    parameters: int
    step: int
    way: str
    units: int
    draws: FloatArray
    seconds: float
    longest: int

    @property
    def label(self) -> str:
        """What a reader calls the estimator."""
        if self.way == _BATCH:
            return "Hutchinson, one probe for the batch"
        if self.way == _ONE_FOR_ALL:
            return "by unit, one probe for all units"
        return "by unit, a probe for each" + (f", {self.units} units" if self.units else "")

    @cached_property
    def points(self) -> tuple[SpreadPoint, ...]:
        """The spread of averages, up to the longest."""
        return spread(self.draws, self.longest)

    @cached_property
    def single(self) -> Estimate:
        """The coefficient of variation of one draw."""
        return single_variation(self.draws)

    @cached_property
    def power(self) -> PowerLaw:
        """How the variation of averages falls."""
        return power_law(self.draws, self.longest)

    @property
    def draws_for_target(self) -> float:
        """Draws whose average has the relative standard error ``TARGET``, one at least."""
        return max(1.0, (self.single.value / TARGET) ** 2)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Convergence:
    """The study, as far as it is.

    Attributes:
        preset: of the study.
        settings: of the study.
        main: Hutchinson's row on the largest model when it is trained; None as long as it has no draws.
        ways: the rows of all estimators on that model, the main one first.
        along: Hutchinson's rows at every size and snapshot, by size and step, the main one among them.
        done: tasks that are done, of ``tasks``.
        tasks: that there are.
    """

    preset: str
    settings: dict[str, Any]
    main: Row | None
    ways: tuple[Row, ...]
    along: tuple[Row, ...]
    done: int
    tasks: int


def read_convergence(study: Path | str) -> Convergence:
    """Read the folder of a convergence study, finished or not.

    Raises:
        ForeignFolderError: it is none.
        RecordError: a result cannot be read.
    """
    path = Path(study)
    header = read_header(path, STUDY)
    settings, results = header["settings"], Results(path)
    have = set(results.names())
    names = [name for name in header["tasks"] if name in have]
    rows: dict[_Key, list[Mapping[str, Any]]] = {}
    for name in names:
        # In the order of the plan, which is that of the draws.
        result = results.load(name)
        of = result.task["settings"]
        rows.setdefault((of["run"], of["step"], of["way"], of["units"]), []).append(result.values)
    runs = [name for family in header["families"].values() for name in family["runs"]]
    read = sorted((_row(path, key, parts, settings, runs[-1]) for key, parts in rows.items()), key=lambda row: row.step)
    read.sort(key=lambda row: row.parameters)
    ways = tuple(row for row in read if (row.run, row.step) == (runs[-1], settings["steps"]))
    return Convergence(
        preset=header["preset"],
        settings=settings,
        main=next((row for row in ways if row.way == _BATCH), None),
        ways=ways,
        along=tuple(row for row in read if row.way == _BATCH),
        done=len(names),
        tasks=len(header["tasks"]),
    )


_Key = tuple[str, int, str, int]


def _row(study: Path, key: _Key, parts: list[Mapping[str, Any]], settings: Mapping[str, Any], largest: str) -> Row:
    run, step, way, units = key
    longest = 1
    if (run, step) == (largest, settings["steps"]):
        longest = settings["averaged" if way == _BATCH else "compared"]
    return Row(
        run=run,
        parameters=int(RunFolder.open(run_path(study, run)).config["facts"]["parameters"]),
        step=step,
        way=way,
        units=units,
        draws=np.concatenate([part["chi_net"] for part in parts]),
        seconds=float(np.median(np.concatenate([part["seconds"] for part in parts]))),
        longest=longest,
    )
