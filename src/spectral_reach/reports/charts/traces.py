"""Lines, bands and marks of plotly, from points; and what is shown when the pointer rests on one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from spectral_reach.figures.curves import stretches
from spectral_reach.reports.colours import FAINT, Colour
from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.numbers import small, with_error

BAND_ALPHA, FAINT_BAND_ALPHA = 0.22, 0.06

Meta = Mapping[str, str]


def hover(*lines: str) -> str:
    """Lines of a hover box; plotly reads them as HTML of a kind, so they are escaped."""
    return "<br>".join(escape(line) for line in lines if line)


def quantity_text(name: str, value: float, stderr: float) -> str:
    """``chi_pos_unbiased = (1.23 ± 0.09)×10⁻⁶``, plain where the value is neither tiny nor huge."""
    reason = "no error" if math.isnan(value) or math.isnan(stderr) else None
    estimate = Estimate(value=value, stderr=stderr, n=1, reason=reason)
    is_plain = 0.01 <= abs(value) < 10_000
    return f"{name} = {with_error(estimate) if is_plain else small(estimate)}"


def steps_text(first: int | None, last: int | None) -> str:
    """``steps 12 to 15``."""
    if first is None or last is None:
        return ""
    return f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"


def line(
    x: Sequence[float],
    y: Sequence[float],
    texts: Sequence[str],
    *,
    colour: Colour,
    meta: Meta,
    dash: str = "solid",
    width: float = 1.8,
    markers: bool = True,
) -> dict[str, Any]:
    """A curve; NaN leaves a gap."""
    return {
        "type": "scatter",
        "mode": "lines+markers" if markers else "lines",
        "x": list(x),
        "y": list(y),
        "text": list(texts),
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": colour.token, "width": width, "dash": dash},
        "marker": {"color": colour.token, "size": 4},
        "connectgaps": False,
        "meta": dict(meta),
    }


def marks(
    x: Sequence[float],
    y: Sequence[float],
    texts: Sequence[str],
    *,
    colour: Colour,
    meta: Meta,
    symbol: str = "circle",
    size: float = 7,
    opacity: float = 1.0,
    bars: Sequence[tuple[float, float]] | None = None,
) -> dict[str, Any]:
    """Single points, with error bars from ``bars``, the ends (low, high) of each."""
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "x": list(x),
        "y": list(y),
        "text": list(texts),
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": colour.token, "size": size, "symbol": symbol, "opacity": opacity},
        "meta": dict(meta),
    }
    if bars is not None:
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [high - value for value, (_, high) in zip(y, bars, strict=True)],
            "arrayminus": [value - low for value, (low, _) in zip(y, bars, strict=True)],
            "color": colour.token,
            "thickness": 1.2,
            "width": 3,
        }
    return trace


def band(
    x: Sequence[float], low: Sequence[float], high: Sequence[float], *, colour: Colour, meta: Meta, floor: float | None
) -> list[dict[str, Any]]:
    """What lies between ``low`` and ``high``, in pieces for the stretches where both are known.

    On a logarithmic axis ``floor`` is where what reaches below it is cut off; a point wholly below is left out, and
    what reaches down to 0 is faint, as in the static figures.
    """
    lowest = -math.inf if floor is None else floor
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [x[i] for i in rows] + [x[i] for i in reversed(rows)],
            "y": [high[i] for i in rows] + [max(low[i], lowest) for i in reversed(rows)],
            "fill": "toself",
            "fillcolor": colour.faded(BAND_ALPHA if is_sure else FAINT_BAND_ALPHA).token,
            "line": {"width": 0, "color": colour.token},
            "hoverinfo": "skip",
            "meta": dict(meta),
        }
        for rows, is_sure in stretches(low, high, floor)
    ]


def level_line(y: float) -> dict[str, Any]:
    """A thin dotted line across a panel at ``y``."""
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": y,
        "y1": y,
        "line": {"color": FAINT.token, "width": 1, "dash": "dot"},
        "layer": "below",
    }


def level_name(y: float, text: str) -> dict[str, Any]:
    """The name of a line at ``y`` of a logarithmic axis, at the left under it."""
    return {
        "xref": "paper",
        "x": 0.01,
        "y": math.log10(y),  # which plotly wants of notes, and not of lines
        "text": escape(text),
        "showarrow": False,
        "xanchor": "left",
        "yanchor": "top",
        "font": {"size": 11, "color": FAINT.token},
    }
