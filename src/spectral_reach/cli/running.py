"""A study from its plan to its figure, as ``demo`` and ``study run`` show it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
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
from spectral_reach.cli.terminal import stderr, stdout
from spectral_reach.studies.engines.errors import RunsFailedError

if TYPE_CHECKING:
    from spectral_reach.studies.analysis.summary import FamilySummary, Summary
    from spectral_reach.studies.training.progress import OnProgress

_UNLIMITED = 1000
_COUNTS = ("parameters", "without embeddings")


def run_study(
    name: str, settings: Mapping[str, Any], out: Path, *, workers: int | None, command: Sequence[str]
) -> None:
    """Plan, run or resume, summarise; ``command`` is what the user would type to go on after Ctrl-C.

    Raises:
        ValueError: the study or a setting is unknown or impossible.
        RecordError: ``out`` is busy, holds something else or cannot be written.
        RunsFailedError: some runs failed; the others are summarised.
        ModuleNotFoundError: the extra ``studies`` is not installed.
        Stopped: Ctrl-C; everything recorded so far is kept.
    """
    console = stdout()
    require_studies_extra()
    with _resumable(out, command):
        from spectral_reach.records.run_folder import RunFolder
        from spectral_reach.studies import registry
        from spectral_reach.studies.analysis.report import write_summary
        from spectral_reach.studies.analysis.summary import summarise
        from spectral_reach.studies.cost import expected_cost
        from spectral_reach.studies.engines.local import available_cores
        from spectral_reach.studies.study_folder import sole_owner, write_plan

        workers = available_cores() if workers is None else workers
        # Before the folder is touched: a mistyped setting leaves nothing behind.
        plan = registry.find(name).plan(settings)
        with sole_owner(out):
            console.print(f"Expected cost: {expected_cost(plan, workers)}, {workers} at a time.", markup=False)
            folders = write_plan(out, plan)
            if finished := sum(RunFolder.open(folder).is_finished for folder in folders):
                console.print(f"{finished} of {len(folders)} runs are finished already.")
            with RunsDisplay([(run.name, run.training.steps) for run in plan.runs], stderr()) as display:
                failure = _run_all(folders, workers, display)
            summary = summarise(out)
            files = write_summary(summary, out)
    show(summary, console)
    console.print("Summary: " + ", ".join(str(file) for file in files), markup=False)
    if failure is not None:
        raise failure


def _run_all(folders: Sequence[Path], workers: int, on_progress: OnProgress) -> RunsFailedError | None:
    """The failure of some runs, if any: the others are worth a summary first."""
    from spectral_reach.studies.engines.local import run_all

    try:
        run_all(folders, workers=workers, on_progress=on_progress)
    except RunsFailedError as failure:
        return failure
    return None


def show(summary: Summary, console: Console) -> None:
    """The table and the words of each family."""
    from spectral_reach.studies.analysis.words import describe_family

    for family in summary.families:
        shown = _table(family)
        if Measurement.get(console, console.options.update(width=_UNLIMITED), shown).maximum > console.width:
            shown = _table(family, narrow=True)
        console.print()
        console.print(shown)
        console.print(escape(describe_family(family)))
    console.print()


def _table(family: FamilySummary, *, narrow: bool = False) -> Table:
    """``narrow``: in 80 columns, without the exact counts, which stand in summary.md."""
    from spectral_reach.studies.analysis.report import COLUMNS, table

    shown = Table(
        title=escape(family.label),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    kept = [i for i, column in enumerate(COLUMNS) if not (narrow and column in _COUNTS)]
    for i in kept:
        heading = COLUMNS[i].replace(" ", "\n") if narrow else COLUMNS[i]
        shown.add_column(heading, justify="right" if i else "left", no_wrap=i > 0)
    for row in table(family):
        shown.add_row(*(escape(row[i]) for i in kept))
    return shown


@contextmanager
def _resumable(out: Path, command: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(f"What has been recorded is kept in {out}.", shlex.join(command)) from None
