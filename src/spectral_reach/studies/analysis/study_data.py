"""A study folder read into frozen arrays: what the analyses and the figures work on, finished or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from spectral_reach.records.errors import ForeignFolderError, RecordError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.records.table import Table
from spectral_reach.studies.analysis.estimate import FloatArray
from spectral_reach.studies.training.rate_choice import read_chosen_rate
from spectral_reach.studies.training.usage import read_usage

STUDY_FORMAT = "spectral-reach study"
STUDY_VERSION = 1

T = TypeVar("T")
Columns = TypeVar("Columns", "Measurements", "Losses")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurements:
    """The columns of ``measurements.parquet``, sorted by step; undefined values are NaN. All of one
    length."""

    step: NDArray[np.int64]
    tokens: FloatArray
    flops: FloatArray
    chi_loss: FloatArray
    chi_net: FloatArray
    chi_pos: FloatArray
    delta_loss: FloatArray
    delta_loss_unbiased: FloatArray
    n_units: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """The columns of ``losses.parquet``, sorted by step; a loss that was not taken at a step is NaN."""

    step: NDArray[np.int64]
    tokens: FloatArray
    flops: FloatArray
    train_loss: FloatArray
    heldout_loss: FloatArray

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunData:
    """One run: what it was meant to be, and what it has recorded so far.

    Attributes:
        name: name of the run and of its folder.
        parameters: of the whole model, its size. Compute is 6 x parameters x tokens where all of them are trained
            (``RunConfig.spent``).
        parameters_without_embeddings: the same without token and position embeddings.
        unigram_entropy: entropy of the training targets' frequencies in nats: the loss of knowing nothing else.
        steps: updates that the run was planned to make.
        warmup_steps: updates over which the learning rate rises.
        is_finished: whether the run has made them all.
        seed: of its weights, data order and probes.
        width: of the model.
        learning_rate: its peak, the chosen one where a sweep has chosen it.
        trained: ``all``, or the ``readout`` on a frozen backbone.
        backbone: the run whose final weights that backbone has; None where it is random, or all is trained.
        facts: everything that the run recorded about its model and data.
        usage: a record of every sitting (``studies.training.usage``).
        config: its whole configuration.
        measurements: on training data.
        heldout: on held-out data; empty where the run takes none.
    """

    name: str
    parameters: int
    parameters_without_embeddings: int
    unigram_entropy: float
    steps: int
    warmup_steps: int
    is_finished: bool
    seed: int
    width: int
    learning_rate: float
    trained: str
    backbone: str | None
    facts: Mapping[str, Any]
    usage: tuple[Mapping[str, Any], ...]
    config: Mapping[str, Any]
    measurements: Measurements
    heldout: Measurements
    losses: Losses

    @property
    def steps_done(self) -> int:
        """Steps whose training loss is on record."""
        return int(np.isfinite(self.losses.train_loss).sum())


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyData:
    """The runs of one family, sorted by parameters, then by name.

    Attributes:
        key: the name of the family in its study.
        label: what a figure calls it.
        is_sweep: whether these are short runs that choose learning rates, not to be compared by size.
        runs: those that have a folder.
        not_started: the names of the others.
    """

    key: str
    label: str
    is_sweep: bool
    runs: tuple[RunData, ...]
    not_started: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyData:
    """A study: its families in the order in which they were declared.

    Attributes:
        path: its folder.
        study: its name in the registry.
        preset: of its settings.
        settings: all of them.
        families: those that are compared by size.
        sweeps: those of short runs that choose learning rates.
    """

    path: Path
    study: str
    preset: str
    settings: Mapping[str, Any]
    families: tuple[FamilyData, ...]
    sweeps: tuple[FamilyData, ...] = ()

    def family(self, key: str) -> FamilyData:
        """The family called ``key``.

        Raises:
            ForeignFolderError: the study has none of this name.
        """
        for family in self.families:
            if family.key == key:
                return family
        raise ForeignFolderError(
            f"{self.path} has the families {', '.join(family.key for family in self.families) or '(none)'}; expected "
            f"one called {key!r}: give the folder of a study that has it."
        )


def read_study(folder: Path | str) -> StudyData:
    """Read ``study.json`` and every run folder that exists.

    Raises:
        ForeignFolderError: the folder has no readable study.json of this format and version, or one of its
            run folders is not a run of this library.
        RecordError: a table is damaged, or a finished run has lost one.
    """
    path = Path(folder)
    header = _read_header(path)
    families = [_read_family(path, key, family) for key, family in _entry(path, header, "families", dict).items()]
    return StudyData(
        path=path,
        study=_entry(path, header, "study", str),
        preset=_entry(path, header, "preset", str),
        settings=_entry(path, header, "settings", dict),
        families=tuple(family for family in families if not family.is_sweep),
        sweeps=tuple(family for family in families if family.is_sweep),
    )


def _read_header(path: Path) -> dict[str, Any]:
    file = path / "study.json"
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ForeignFolderError(
            f"{path} is no study folder: its study.json cannot be read ({error}). Give the folder that "
            "`spectral-reach demo` or `spectral-reach study run` wrote."
        ) from error
    got = (header.get("format"), header.get("version")) if isinstance(header, dict) else type(header).__name__
    if got != (STUDY_FORMAT, STUDY_VERSION):
        raise ForeignFolderError(
            f"{file} is of a format that this version does not read: got {got!r}, "
            f"expected {(STUDY_FORMAT, STUDY_VERSION)!r}. Give another folder, or the version that wrote this one."
        )
    assert isinstance(header, dict)
    return header


def _read_family(path: Path, key: str, family: Mapping[str, Any]) -> FamilyData:
    names = _entry(path, family, "runs", list)
    waiting = [name for name in names if _has_not_begun(path / "runs" / name)]
    runs = [_read_run(path / "runs" / name, name) for name in names if name not in waiting]
    return FamilyData(
        key=key,
        label=_entry(path, family, "label", str),
        is_sweep=bool(family.get("is_sweep", False)),
        runs=tuple(sorted(runs, key=lambda run: (run.parameters, run.name))),
        not_started=tuple(waiting),
    )


def _has_not_begun(run: Path) -> bool:
    """No folder, or one in which a kill has left nothing but hidden files: locks, unfinished writes."""
    return not run.exists() or (run.is_dir() and all(entry.name.startswith(".") for entry in run.iterdir()))


def _read_run(path: Path, name: str) -> RunData:
    folder = RunFolder.open(path)
    _refuse_lost_rows(folder)
    config = folder.config
    training = _entry(path, config, "training", dict)
    facts = _entry(path, config, "facts", dict)
    return RunData(
        name=name,
        parameters=_entry(path, facts, "parameters", int),
        parameters_without_embeddings=_entry(path, facts, "parameters_without_embeddings", int),
        unigram_entropy=_entry(path, facts, "unigram_entropy", float),
        steps=_entry(path, training, "steps", int),
        warmup_steps=_entry(path, training, "warmup_steps", int),
        is_finished=folder.is_finished,
        seed=_entry(path, training, "seed", int),
        width=_entry(path, _entry(path, config, "model", dict), "width", int),
        learning_rate=read_chosen_rate(path) or _entry(path, training, "learning_rate", float),
        trained=_entry(path, training, "trained", str),
        backbone=config.get("backbone"),
        facts=facts,
        usage=tuple(read_usage(path)),
        config=config,
        measurements=_columns(Measurements, folder.measurements),
        heldout=_columns(Measurements, folder.heldout_measurements),
        losses=_columns(Losses, folder.losses),
    )


def _refuse_lost_rows(folder: RunFolder) -> None:
    """A finished run has rows in its tables: without them a figure would show it as one that has measured nothing."""
    measured = not _entry(folder.path, folder.config, "training", dict).get("may_diverge", False)
    on_heldout = measured and _entry(folder.path, folder.config, "measurement", dict).get("heldout_units", 0) > 0
    expected = {folder.losses: True, folder.measurements: measured, folder.heldout_measurements: on_heldout}
    for table in (table for table, wanted in expected.items() if wanted):
        if folder.is_finished and len(table) == 0:
            raise RecordError(
                f"{table.path} is missing or empty, though its run is finished; expected the rows of the run. It has "
                f"been lost: restore it from a copy, or delete the folder {folder.path} and repeat the study to make "
                "the run again."
            )


def _entry(path: Path, record: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = record.get(key)
    if not isinstance(value, kind):
        raise ForeignFolderError(
            f"the record of {path} lacks {key!r}: got {value!r}, expected a value of type {kind.__name__}. "
            "Give a folder that this version of spectral-reach wrote."
        )
    return value


def _columns(kind: type[Columns], table: Table) -> Columns:
    """The columns that ``kind`` declares, null as NaN, read-only."""
    arrow = table.arrow()
    names = [field.name for field in fields(kind)]
    lacking = [name for name in names if name not in arrow.column_names]
    if arrow.num_rows and lacking:
        raise ForeignFolderError(
            f"{table.path} lacks the columns {lacking}: got {arrow.column_names}. "
            "Give a folder that this version of spectral-reach wrote."
        )
    arrays: dict[str, Any] = {}
    for name in names:
        values = arrow.column(name).to_pylist() if arrow.num_rows else []
        dtype = np.int64 if name in ("step", "n_units") else np.float64
        arrays[name] = np.array([np.nan if value is None else value for value in values], dtype=dtype)
        arrays[name].flags.writeable = False
    return kind(**arrays)
