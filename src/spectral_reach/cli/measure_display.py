"""What ``measure`` shows: the plan before, a bar on the way, a table with error bars at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich import box
from rich import progress as bars
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import pyarrow as pa

    from spectral_reach.checkpoints.measure_checkpoints import Progress
    from spectral_reach.checkpoints.plan import Plan
    from spectral_reach.decomposition.result import Decomposition

# Column -> the field with its value and that with its standard error.
_COLUMNS = {
    "loss": ("loss", None),
    "chi_loss": ("chi_loss", None),
    "chi_net": ("chi_net", "chi_net_stderr"),
    "chi_pos": ("chi_pos", "chi_pos_stderr"),
    "chi_pos unbiased": ("chi_pos_unbiased", "chi_pos_unbiased_stderr"),
}


def plan_lines(plan: Plan) -> Iterator[str]:
    """What there is to do, a line each."""
    from spectral_reach.checkpoints.foresight import expected_memory
    from spectral_reach.checkpoints.loading import outline
    from spectral_reach.decomposition.memory import told

    names = [each.name for each in plan.revisions]
    shown = ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:3])}, ..., {names[-1]}"
    network = outline(plan.revisions[0], plan.kind, plan.request.load)
    parameters = network.num_parameters(only_trainable=True)
    weights = f" ({told(sum(p.numel() * p.itemsize for p in network.parameters()))})"
    revisions = f"{len(names)} revision{'s' * (len(names) != 1)} ({shown})"
    yield f"{plan.request.model}: {plan.kind}, {parameters:,} trainable parameters{weights}, {revisions}"
    tokens = plan.tokens()
    for name, batch in plan.batches.by_name.items():
        cost = f", {6 * parameters * tokens[name]:.2g} FLOPs a forward and backward pass" if name in tokens else ""
        yield f"  {name}: {batch.description}{cost}"
    for first, second in plan.request.pairs:
        yield f"  {first},{second}: a step on {first}, felt by {second}"
    expected = expected_memory(plan, network)
    if expected is not None:
        limit = plan.request.max_memory
        more = "" if limit is None or expected.peak <= limit else f", more than the {told(limit)} of --max-memory"
        yield f"Memory: about {expected}{more}"
    total, left = len({each.key for each in plan.measurements}), len(plan.to_do)
    found = "" if plan.request.out is None else f", {total - left} of them are in {plan.request.out}"
    yield f"{total} measurement{'s' * (total != 1)}{found}: {left} to make"


class MeasureDisplay:
    """Shows the ``Progress`` that it is called with: a bar on a terminal, a line a measurement anywhere else."""

    def __init__(self, total: int, console: Console) -> None:
        self._console = console
        self._total = total
        self._began = time.monotonic()
        self._bar: bars.Progress | None = None
        if console.is_terminal and total:
            self._bar = bars.Progress(
                bars.TextColumn("{task.description}"),
                bars.BarColumn(bar_width=24),
                bars.MofNCompleteColumn(),
                bars.TimeRemainingColumn(),
                console=console,
                refresh_per_second=4,
            )
            self._task = self._bar.add_task("starting", total=total)

    def __call__(self, progress: Progress) -> None:
        """Show how far it is."""
        words = progress.revision
        if progress.batch is not None:
            words += f" {progress.batch}" + ("" if progress.against is None else f",{progress.against}")
        if self._bar is not None:
            verb = "loading " if progress.phase == "loading" else ""
            self._bar.update(self._task, completed=progress.done, description=escape(verb + words))
        elif progress.phase == "measured":
            left = (time.monotonic() - self._began) / progress.done * (self._total - progress.done)
            rest = f", about {_duration(left)} left" if progress.done < self._total else ""
            self._console.print(f"{words}  {progress.done} of {self._total}{rest}", markup=False)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def show(table: pa.Table, plan: Plan, console: Console) -> None:
    """One measurement in full, several as a table, with the reasons of what is undefined below."""
    found = list(_decompositions(table))
    if len(found) == 1:
        (row, result), (each,) = found[0], plan.measurements
        where = "" if row["step"] is None else f" after {row['step']} steps"
        console.print(f"{each.revision.label}{where}, on {each.batch.description}", markup=False)
        console.print(str(result), markup=False, soft_wrap=True)
        return
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("revision", "batch", *_COLUMNS):
        shown.add_column(heading, justify="right" if heading in _COLUMNS else "left", no_wrap=True)
    reasons: dict[str, None] = {}
    for row, result in found:
        batch = row["batch"] if row["against"] is None else f"{row['batch']},{row['against']}"
        values = [_with_error(result, value, stderr) for value, stderr in _COLUMNS.values()]
        shown.add_row(*map(escape, (row["revision"], batch, *values)))
        for value, _ in _COLUMNS.values():
            if value in result.undefined:
                reasons[f"{row['revision']} {batch}: {result.undefined[value]}"] = None
    console.print(shown)
    for reason in reasons:
        console.print(reason, markup=False)


def _decompositions(table: pa.Table) -> Iterator[tuple[dict[str, Any], Decomposition]]:
    from spectral_reach.checkpoints.schema import QUANTITIES, decomposition_of

    rows: Sequence[dict[str, Any]] = table.to_pylist()
    for start in range(0, len(rows), len(QUANTITIES)):
        some = rows[start : start + len(QUANTITIES)]
        yield some[0], decomposition_of(some)


def _with_error(result: Decomposition, value: str, stderr: str | None) -> str:
    number = getattr(result, value)
    error = math.nan if stderr is None else getattr(result, stderr)
    return f"{number:.4g}" + ("" if math.isnan(error) or error == 0 else f" ± {error:.1g}")


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
