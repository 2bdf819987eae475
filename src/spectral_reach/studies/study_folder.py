"""A study on disk: ``study.json`` says what it is; ``runs/`` has a folder a run, ``results/`` a file a task.

``usage.json`` says what the tasks have cost (``studies.tasks.usage``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from spectral_reach.records.atomic import is_leftover, make_folder, write_json_atomically
from spectral_reach.records.differences import differences
from spectral_reach.records.errors import ForeignFolderError, RunFolderBusyError, write_errors_told
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.plan import Begun, StudyPlan

FORMAT = "spectral-reach study"
VERSION = 1

_STUDY = "study.json"
_RUNS = "runs"
_LOCK = ".lock"
_SECONDS_TO_LOCK = 2.0
_MOST_SHOWN = 5


@contextmanager
def sole_owner(path: Path) -> Iterator[None]:
    """Hold the study folder: one process at a time runs a study. The lock goes when the process does.

    Raises:
        ForeignFolderError: the folder holds something other than a study.
        RunFolderBusyError: another process holds it.
        RecordError: it cannot be written.
    """
    _refuse_other_content(path)
    make_folder(path)
    lock = FileLock(path / _LOCK, timeout=_SECONDS_TO_LOCK)
    with write_errors_told(path):
        try:
            lock.acquire()
        except Timeout as error:
            raise RunFolderBusyError(
                f"{path} is in use: another process is running this study. Wait until it has ended or stop it, or "
                "choose another output folder."
            ) from error
    try:
        yield
    finally:
        lock.release()


def write_plan(path: Path, plan: StudyPlan) -> list[Path]:
    """Make the study folder and all its run folders, or check that those there are of this plan.

    Returns:
        The run folders, in the order of the plan.

    Raises:
        ForeignFolderError: the folder holds another study, or something else; the message says what differs.
        RecordError: it cannot be written.
    """
    existing = check_plan(path, plan)
    header = _header(plan)
    make_folder(path / _RUNS)
    if existing is None:
        write_json_atomically(path / _STUDY, header)
    return [RunFolder.create(run_path(path, run.name), run.as_dict()).path for run in plan.runs]


def check_plan(path: Path, plan: StudyPlan) -> dict[str, Any] | None:
    """What ``study.json`` says where the folder holds this plan already; None where there is no study yet.

    Raises:
        ForeignFolderError: the folder holds another study, or something else; the message says what differs.
        RecordError: it cannot be read.
    """
    _refuse_other_content(path)
    header = _header(plan)
    existing = read_header(path) if (path / _STUDY).exists() else None
    if existing is not None and (differing := [k for k in header if existing.get(k) != header[k]]):
        # The runs know the details: they name each setting that differs.
        for run in plan.runs:
            if (run_path(path, run.name) / "config.json").exists():
                RunFolder.create(run_path(path, run.name), run.as_dict())
        settings = differences(existing.get("settings"), header["settings"])
        details = f" ({'; '.join(settings[:_MOST_SHOWN])})" if settings else ""
        raise ForeignFolderError(
            f"{path} holds another study: {', '.join(differing)} differ{details}. Choose another output folder, or "
            "repeat the settings of that study."
        )
    return existing


def begun(path: Path) -> Begun | None:
    """What the study in the folder was planned with; None where there is none yet, or nothing that tells.

    Raises:
        ForeignFolderError: it cannot be read.
    """
    if not (path / _STUDY).is_file():
        return None
    header = read_header(path)
    data: dict[str, Any] = {}
    for name, family in header["families"].items():
        folders = [run_path(path, run) for run in family["runs"]]
        if there := [folder for folder in folders if (folder / "config.json").is_file()]:
            data[name] = RunFolder.open(there[0]).config["data"]
    return Begun(settings=header["settings"], data=data)


def run_path(path: Path, name: str) -> Path:
    """The folder of the run called ``name``."""
    return path / _RUNS / name


def read_header(path: Path, study: str | None = None) -> dict[str, Any]:
    """What ``study.json`` says, of the study called ``study`` if it has to be that one.

    Raises:
        ForeignFolderError: there is none, none that this version reads, or that of another study.
    """
    file = path / _STUDY
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ForeignFolderError(
            f"{file} cannot be read: {error}. Expected the folder of a study; check the path."
        ) from error
    if not isinstance(header, dict) or (header.get("format"), header.get("version")) != (FORMAT, VERSION):
        raise ForeignFolderError(
            f"{file} is not a {FORMAT!r} of version {VERSION}. Choose another folder, or read it with the version of "
            "spectral-reach that wrote it."
        )
    if study is not None and header.get("study") != study:
        raise ForeignFolderError(
            f"{path} holds the study {header.get('study')!r}; expected {study!r}: give the folder of such a study."
        )
    return header


def _header(plan: StudyPlan) -> dict[str, Any]:
    header = {
        "format": FORMAT,
        "version": VERSION,
        "study": plan.study,
        "preset": plan.preset,
        "settings": dict(plan.settings),
        "families": {
            name: {"label": family.label, "is_sweep": family.is_sweep, "runs": [run.name for run in family.runs]}
            for name, family in plan.families.items()
        },
        "tasks": [task.name for task in plan.tasks],
    }
    as_read: dict[str, Any] = json.loads(json.dumps(header))
    return as_read


def _refuse_other_content(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise ForeignFolderError(f"{path} is a file; expected a folder, or a path where there is nothing yet.")
    if not path.is_dir() or (path / _STUDY).exists():
        return
    # A study killed before its first file has left its lock, an unfinished write and an empty folder for the runs.
    names = sorted(each.name for each in path.iterdir())
    if others := [name for name in names if name not in (_LOCK, _RUNS) and not is_leftover(Path(name))]:
        raise ForeignFolderError(
            f"{path} holds {', '.join(others[:3])}{', ...' if len(others) > 3 else ''} and no {_STUDY}; expected "
            "the folder of a study, an empty folder or a new one. Choose another output folder."
        )
