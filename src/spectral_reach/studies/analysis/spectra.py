"""The spectra that a study has measured on snapshots of its runs, with where in training each was taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectral_reach.records.results import Results
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.spectra.arrays import from_arrays
from spectral_reach.spectra.result import Spectrum
from spectral_reach.studies.study_folder import read_header, run_path
from spectral_reach.studies.training.run_config import RunConfig


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measured:
    """One spectrum.

    Attributes:
        run: name of the run.
        parameters: of its model.
        step: updates made.
        flops: compute until then.
        batch: number of the batch.
        spectrum: what was found.
    """

    run: str
    parameters: int
    step: int
    flops: float
    batch: int
    spectrum: Spectrum


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SpectraResult:
    """A study, finished or not; spectra by size, step and batch."""

    study: str
    preset: str
    settings: Mapping[str, Any]
    measured: tuple[Measured, ...]
    planned: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Parameters of the runs with a spectrum, ascending."""
        return tuple(sorted({each.parameters for each in self.measured}))

    def steps_of(self, parameters: int) -> tuple[int, ...]:
        """Snapshots of this size that have been measured, ascending."""
        return tuple(sorted({each.step for each in self.measured if each.parameters == parameters}))

    def at(self, parameters: int, step: int) -> tuple[Measured, ...]:
        """All batches of one snapshot."""
        return tuple(each for each in self.measured if (each.parameters, each.step) == (parameters, step))


def read_spectra(folder: Path | str, study: str) -> SpectraResult:
    """Read what there is so far of a study of this name.

    Raises:
        ForeignFolderError: the folder holds something else.
        RecordError: a result cannot be read.
    """
    folder = Path(folder)
    header = read_header(folder, study)
    results = Results(folder)
    have = set(results.names())
    loaded = (results.load(name) for name in header["tasks"] if name in have)
    measured = [_measured(folder, each.task["settings"], each.values) for each in loaded]
    measured.sort(key=lambda each: (each.parameters, each.step, each.batch))
    return SpectraResult(
        study=study,
        preset=header["preset"],
        settings=header["settings"],
        measured=tuple(measured),
        planned=len(header["tasks"]),
    )


def _measured(folder: Path, settings: Mapping[str, Any], values: Mapping[str, Any]) -> Measured:
    config = RunConfig.from_dict(RunFolder.open(run_path(folder, settings["run"])).config)
    return Measured(
        run=settings["run"],
        parameters=config.model.parameters,
        step=settings["step"],
        flops=float(config.spent(settings["step"])["flops"]),
        batch=settings["batch"],
        spectrum=from_arrays(values),
    )
