"""What the tasks of a study have cost: a record of each that is done, which no result depends on."""

from __future__ import annotations

import json
from pathlib import Path

from spectral_reach.records.atomic import write_json_atomically

FILE = "usage.json"


def write_task_seconds(study: Path, task: str, seconds: float) -> None:
    """Put down in ``usage.json`` of the study how long the task took, in wall-clock time; for who holds the study.

    It stands beside the results, not in them, so that equal results are equal files.

    Raises:
        RecordError: the operating system refuses.
    """
    write_json_atomically(study / FILE, {**read_task_seconds(study), task: seconds})


def read_task_seconds(study: Path) -> dict[str, float]:
    """Seconds by the name of the task, of those on record; none in a study without record, or with a damaged one."""
    try:
        record = json.loads((study / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = record.items() if isinstance(record, dict) else ()
    return {task: float(seconds) for task, seconds in found if isinstance(seconds, int | float)}
