"""Figure 2 of the paper: the changes that updates made to the loss, taken apart and summed up along training.

A column a run. Above: the loss of each batch before its update, and its mean in windows of equal ratio. Below: the
sums, over the updates made so far, of the change of the loss on the batch of the update, of the part of that which is
linear in the update, of the correction, and of the change on the next batch, which had no part in the update. The
paper's own panel was not at hand when this was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spectral_reach.figures.curves import DASHED, DOTTED
from spectral_reach.figures.fig2_data import COLUMNS, UpdatesOfRun, read_updates, table_of
from spectral_reach.figures.page import Column, Page, Row
from spectral_reach.figures.save import FORMATS, check_formats, save_figure, save_rows
from spectral_reach.figures.style import FAINT, INK, SizeColours, style

NAME = "fig2"

_LINEAR, _CORRECTION = "#2a788e", "#c2410c"  # told apart by colour-blind readers, and in grey print by their dashes
_LOOKS = {
    "linear": ("linear part, g·Δθ", {"color": _LINEAR, "linewidth": 2.4, "alpha": 0.75}),
    "correction": ("correction", {"color": _CORRECTION, **DASHED}),
    "change": ("change on the batch of the update", {"color": INK, "linewidth": 0.9}),
    "next_change": ("change on the next batch", {"color": INK, **DOTTED}),
}


def draw(runs: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of these run folders as ``out/fig2.*``, with its data as CSV; returns the files.

    Raises:
        NothingToDrawError: a run has no update on record.
        ValueError: an unknown format.
        ForeignFolderError: a folder is no run folder.
        RecordError: ``out`` cannot be written.
    """
    formats = FORMATS if formats is None else formats
    check_formats(formats)
    updates = read_updates(runs)
    with style():
        files = save_figure(_figure(updates), out / NAME, formats)
    return (*files, save_rows(table_of(updates), COLUMNS, out / f"{NAME}.csv"))


def _figure(runs: Sequence[UpdatesOfRun]) -> Figure:
    columns = [Column(title=run.name, words=_describe(run)) for run in runs]
    key = [Line2D([], [], label=label, **look) for label, look in _LOOKS.values()]
    page = Page(columns, (Row(height=1.3), Row()), key, SizeColours([1]))
    for i, run in enumerate(runs):
        above, below = page.panel(i, 0), page.panel(i, 1)
        _draw_loss(above, run)
        _draw_sums(below, run)
        if i == 0:
            above.set_ylabel("loss")
            below.set_ylabel("summed change of the loss")
        page.align((above, below))
    return page.figure


def _draw_loss(axes: Axes, run: UpdatesOfRun) -> None:
    axes.plot(run.steps + 1, run.losses, color=FAINT, linewidth=0.5, alpha=0.6)
    steps, losses = run.smoothed()
    axes.plot(steps + 1, losses, color=INK, marker="o", markersize=1.8)
    axes.set_xscale("log")
    axes.tick_params(labelbottom=False)


def _draw_sums(axes: Axes, run: UpdatesOfRun) -> None:
    axes.axhline(0, color=FAINT, linewidth=0.6)
    for name, (_, look) in _LOOKS.items():
        marker = "." if len(run.rows) == 1 else "none"  # a line through one point is invisible
        axes.plot(run.steps + 1, run.summed(name), **{**look, "marker": marker})
    axes.set_xscale("log")
    axes.set_xlabel("updates")


def _describe(run: UpdatesOfRun) -> str:
    n, last = len(run.rows), int(run.rows[-1]["step"]) + 1
    linear, correction, change, following = (float(run.summed(name)[-1]) for name in _LOOKS)
    over = f"over {n:,} updates" + ("" if run.every_update else f" that are on record of the first {last:,}")
    undone = f", of which the correction takes back {-correction / linear:.0%}" if linear < 0 < correction else ""
    left_out = f" Left out: {run.undefined:,} whose loss is not finite." if run.undefined else ""
    return (
        f"Summed {over}: the linear part is {linear:+.4g}{undone}; the loss of the batch of an update changes by "
        f"{change:+.4g}, that of the next batch by {following:+.4g}. Above: every loss, and its mean in windows."
        f"{left_out}"
    )
