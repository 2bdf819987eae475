"""A study from its plan to its report, as ``demo``, ``figure`` and ``study run`` show it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from spectral_reach.cli.exits import Stopped, require_studies_extra
from spectral_reach.cli.progress import RunsDisplay
from spectral_reach.cli.task_progress import TasksDisplay
from spectral_reach.cli.terminal import stderr, stdout
from spectral_reach.studies.engines.errors import RunsFailedError, raise_together

if TYPE_CHECKING:
    from spectral_reach.studies.analysis.report import Report, Section
    from spectral_reach.studies.engines.options import EngineOptions
    from spectral_reach.studies.engines.registry import Engine
    from spectral_reach.studies.plan import StudyPlan

_UNLIMITED = 1000


def run_study(
    name: str, settings: Mapping[str, Any], out: Path, *, options: EngineOptions, command: Sequence[str]
) -> None:
    """Plan, run or resume, do the tasks, report; ``command`` is what the user would type to go on after Ctrl-C.

    ``options`` say who executes the runs. The tasks follow in this process, one after another.

    Raises:
        ValueError: the study or a setting is unknown or impossible.
        RecordError: ``out`` is busy, holds something else or cannot be written.
        RunsFailedError: some runs or tasks failed; the others are reported.
        ModuleNotFoundError: the extra ``studies``, or that of the engine, is not installed.
        Stopped: Ctrl-C; everything recorded so far is kept.
    """
    console = stdout()
    require_studies_extra()
    with resumable(out, command):
        from spectral_reach.studies import registry
        from spectral_reach.studies.analysis.report import write_report
        from spectral_reach.studies.engines.registry import engine
        from spectral_reach.studies.study_folder import sole_owner, write_plan

        study = registry.find(name)
        # Before the folder is touched: a mistyped setting or a missing package leaves nothing behind.
        run_all = engine(options)
        plan = study.plan_for(settings, out)
        with sole_owner(out):
            console.print(f"Expected cost: {_expected(plan, options)}.", markup=False)
            folders = write_plan(out, plan)
            failures = [
                *_failure_of(lambda: _run_all(run_all, folders, plan, console)),
                *_failure_of(lambda: _do_tasks(out, plan, options.task_threads, console)),
            ]
            report = study.report(out)
            files = write_report(report, out)
    show(report, console)
    console.print("Summary: " + ", ".join(str(file) for file in files), markup=False)
    raise_together(failures)


def look_ahead(studies: Mapping[str, Mapping[str, Any]], folder: Path, options: EngineOptions) -> None:
    """Plan every study with its settings, say what each costs, and look whether its folder can take it.

    Raises:
        ValueError: a study or a setting is unknown or impossible, or data are missing.
        ForeignFolderError: ``folder / name`` holds a study of other settings, or something else.
        ModuleNotFoundError: the extra ``studies`` is not installed.
    """
    require_studies_extra()
    from spectral_reach.studies import registry
    from spectral_reach.studies.study_folder import check_plan

    console = stdout()
    for name, settings in studies.items():
        plan = registry.find(name).plan_for(settings, folder / name)
        check_plan(folder / name, plan)
        console.print(f"{name}: {_expected(plan, options)}", markup=False)


def say_dry_run(name: str, settings: Mapping[str, Any]) -> None:
    """What every run of a study would take, without its data and without doing anything.

    Raises:
        ValueError: the study or a setting is unknown or impossible.
        ModuleNotFoundError: the extra ``studies`` is not installed.
    """
    require_studies_extra()
    from spectral_reach.studies import registry
    from spectral_reach.studies.dry_run import COLUMNS, as_cells, expected_runs

    plan = registry.find(name).outline(settings)
    runs = list(expected_runs(plan))
    shown = Table(title=f"{name}, preset {plan.preset}", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for i, column in enumerate(COLUMNS):
        shown.add_column(column, justify="right" if i else "left", no_wrap=True)
    for run in runs:
        shown.add_row(*as_cells(run))
    console = stdout()
    if runs:
        console.print(shown)
        hours = sum(run.gpu_hours for run in runs)
        flops = sum(run.flops + run.measurement_flops for run in runs)
        console.print(
            f"{name}: {len(runs)} runs, {flops:.1e} FLOPs, about {hours:.1f} hours of one H100 or H200.", markup=False
        )
    if plan.tasks:
        hours = sum(task.settings.seconds for task in plan.tasks) / 3600
        console.print(f"{name}: {len(plan.tasks)} tasks, about {hours:.1f} hours of one CPU core.", markup=False)


def _expected(plan: StudyPlan, options: EngineOptions) -> str:
    """The cost of the plan with that engine, and how much of it is done at a time."""
    from spectral_reach.studies.cost import expected_cost

    threads = options.task_threads
    if not plan.runs:
        return f"{expected_cost(plan, threads)}, with {threads} thread{'s' if threads > 1 else ''}"
    devices = options.cuda_devices() if any(run.training.device != "cpu" for run in plan.runs) else 0
    workers = options.at_once(max(run.threads for run in plan.runs), devices)
    if workers is None:
        return f"{expected_cost(plan, 1)} one at a time; on Ray as many at a time as there is room for"
    if devices:
        here = "a CUDA device" if devices == 1 else f"{devices} CUDA devices"
        return f"{expected_cost(plan, workers)} on CPU cores, {workers} at a time; less on {here}, as here"
    return f"{expected_cost(plan, workers)}, {workers} at a time"


def _run_all(run_all: Engine, folders: Sequence[Path], plan: StudyPlan, console: Console) -> None:
    from spectral_reach.records.run_folder import RunFolder

    if finished := sum(RunFolder.open(folder).is_finished for folder in folders):
        console.print(f"{finished} of {len(folders)} runs are finished already.")
    with RunsDisplay([(run.name, run.training.steps) for run in plan.runs], stderr()) as display:
        run_all(folders, on_progress=display)


def _do_tasks(out: Path, plan: StudyPlan, threads: int, console: Console) -> None:
    from spectral_reach.studies.tasks.execute import done, run_tasks

    finished = done(out, plan.tasks)
    if finished:
        console.print(f"{len(finished)} of {len(plan.tasks)} tasks are done already.")
    waiting = [(task.name, task.settings.seconds) for task in plan.tasks if task.name not in finished]
    with TasksDisplay(waiting, stderr()) as display:
        run_tasks(out, plan.tasks, threads=threads, on_progress=display)


def _failure_of(work: Callable[[], None]) -> list[RunsFailedError]:
    """What failed in it, if anything: the rest is worth a report first."""
    try:
        work()
    except RunsFailedError as failure:
        return [failure]
    return []


def show(report: Report, console: Console) -> None:
    """The table and the words of each section."""
    for section in report.sections:
        show_section(section, console)
    console.print()


def show_section(section: Section, console: Console) -> None:
    """Its table and words; in a narrow terminal without some of its columns."""
    shown = _table(section)
    if Measurement.get(console, console.options.update(width=_UNLIMITED), shown).maximum > console.width:
        shown = _table(section, narrow=True)
    console.print()
    console.print(shown)
    console.print(escape(section.text))


def _table(section: Section, *, narrow: bool = False) -> Table:
    """``narrow``: in 80 columns, without what stands in summary.md alone."""
    shown = Table(
        title=escape(section.title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    columns = section.columns
    kept = [i for i, column in enumerate(columns) if not (narrow and column in section.left_out_if_narrow)]
    for i in kept:
        heading = columns[i].replace(" ", "\n") if narrow else columns[i]
        shown.add_column(heading, justify="right" if i else "left", no_wrap=i > 0)
    for row in section.rows:
        shown.add_row(*(escape(row[i]) for i in kept))
    return shown


@contextmanager
def resumable(out: Path, command: Sequence[str]) -> Iterator[None]:
    """Tell whoever presses Ctrl-C what is kept and how to go on.

    Raises:
        Stopped: Ctrl-C.
    """
    try:
        yield
    except Stopped:
        raise
    except KeyboardInterrupt:
        raise Stopped(f"What has been recorded is kept in {out}.", shlex.join(command)) from None
