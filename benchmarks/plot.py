"""The plot of the benchmark: what 1% costs by each way, on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from spectral_reach.figures.save import save_figure
from spectral_reach.figures.style import FAINT, INK, SMALL_SIZE, style

_BASELINES = ("batch_fresh", "opacus")
_OURS = "#31688e"  # from the middle of viridis, the ramp of all figures


def draw_costs(result: Mapping[str, Any], stem: Path) -> Path:
    """Write ``stem.png`` and return it."""
    rows = [row for row in result["ways"] if not row["missing"]]
    step = result["training_step"]["seconds"]
    costs = [row["cost_of_one_percent"] for row in rows]
    with style():
        figure = Figure(figsize=(6.8, 0.62 + 0.3 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xscale("log")
        places = range(len(rows))
        axes.barh(
            places,
            costs,
            height=0.62,
            color=[FAINT if row["way"] in _BASELINES else _OURS for row in rows],
        )
        axes.set_yticks(places, [row["title"] for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlim(min([*costs, step]) / 2, max(costs) * 5)
        for place, row in zip(places, rows, strict=True):
            axes.annotate(
                _label(row),
                (row["cost_of_one_percent"], place),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=SMALL_SIZE,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
            )
        axes.axvline(step, color=INK, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
        axes.annotate(
            "one training step",
            (step, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL_SIZE,
        )
        axes.set_xlabel(r"seconds for a relative standard error of 1% in $\chi_{\mathrm{net}}$ of one batch")
        (file,) = save_figure(figure, stem, ("png",))
    return file


def _label(row: Mapping[str, Any]) -> str:
    text = f"{_short(row['cost_of_one_percent'])} s"
    factor = row["cheaper_than_batch_fresh"]
    if row["way"] == "batch_fresh":
        return text
    return f"{text}, {_short(factor)}× below (a)" if factor >= 1 else f"{text}, {_short(1 / factor)}× above (a)"


def _short(number: float) -> str:
    """Two digits, without an exponent."""
    return f"{number:.0f}" if number >= 9.95 else f"{number:.{1 if number >= 0.995 else 2}f}"
