"""The head of the report: what it is about, how far it is, what it has cost, and how the claims stand."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spectral_reach import __version__
from spectral_reach.reports.amounts import UNKNOWN, compute, counted, duration, memory, moment
from spectral_reach.reports.collected import StudyRecord, cost, time_of, together
from spectral_reach.reports.markup import Markup, element, joined
from spectral_reach.reports.private_paths import without_paths
from spectral_reach.reports.tables import Cell, number, table, text


def overview(studies: Sequence[StudyRecord], now: float) -> Markup:
    """Sentences and numbers; ``now`` is the moment of the report, in seconds since 1970."""
    spent = cost(*(run for study in studies for run in study.runs))
    presets = sorted({str(without_paths(study.data.preset)) for study in studies})
    finished = sum(study.runs_finished for study in studies), sum(study.runs_planned for study in studies)
    tasks = sum(study.tasks_finished for study in studies), sum(len(study.tasks) for study in studies)
    made = f"Made {moment(now)} with spectral-reach {__version__}; preset{'s' if len(presets) > 1 else ''} "
    last = "" if math.isnan(spent.ended) else f" The last run ended {moment(spent.ended)}."
    numbers = (
        ("studies", f"{sum(study.is_finished for study in studies)} of {len(studies)} finished"),
        ("runs", _of(*finished)),
        ("tasks", _of(*tasks)),
        (_time_name(studies), duration(together((spent.seconds, time_of(*(t for s in studies for t in s.tasks)))))),
        ("training compute", compute(spent.flops)),
        ("peak memory of a run", memory(spent.peak_bytes)),
    )
    return joined(
        element("p", f"{made}{', '.join(presets)}.{last}", class_="faint"),
        element(
            "dl",
            (element("div", element("dt", name), element("dd", value)) for name, value in numbers),
            class_="numbers",
        ),
    )


def study_table(studies: Sequence[StudyRecord]) -> Markup:
    """What each study has done and cost."""
    columns = (
        "study",
        "preset",
        "runs",
        "tasks",
        "time of its runs",
        "time of its tasks",
        "training compute",
        "peak memory",
    )
    return table("Studies", columns, (_row(study) for study in studies), sortable=True)


def _row(study: StudyRecord) -> list[Cell]:
    spent, on_tasks = cost(*study.runs), time_of(*study.tasks)
    return [
        text(study.name),
        text(str(without_paths(study.data.preset))),
        number(_of(study.runs_finished, study.runs_planned), study.runs_finished),
        number(_of(study.tasks_finished, len(study.tasks)), study.tasks_finished),
        number(duration(spent.seconds), spent.seconds),
        number(duration(on_tasks), on_tasks),
        number(compute(spent.flops), spent.flops),
        number(memory(spent.peak_bytes), spent.peak_bytes),
    ]


def _time_name(studies: Sequence[StudyRecord]) -> str:
    """What the time is of; tasks done by a version that kept no record of their time are left out of it."""
    untimed = sum(study.tasks_untimed for study in studies)
    return "time of all runs and tasks" + (f" ({counted(untimed, 'task')} not timed)" if untimed else "")


def _of(finished: int, planned: int) -> str:
    if planned == 0:
        return UNKNOWN
    return f"{finished} of {planned} finished"
