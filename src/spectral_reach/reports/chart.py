"""A chart of the page: panels that plotly draws, and the legends above them whose buttons show and hide its curves.

A panel is a plotly figure as plain dictionaries, but for its colours, which come in two (``colours.Colour``) and are
chosen by the page. Every trace says in its ``meta`` which item of which legend it belongs to; it is shown where all of
them are switched on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spectral_reach.reports.colours import Colour
from spectral_reach.reports.markup import Markup, element

SIGNIFICANT = 7
"""Digits of a number in a chart: single precision, far below what a screen shows."""

_FEW = 5.0
_MANY_POWERS, _MANY_PLAIN = 50.0, 1000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One entry of a legend: a button. ``look`` is line, dotted, dashed, dot, square or ring (of the style sheet)."""

    key: str
    label: str
    colour: Colour
    look: str = "line"
    is_on: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Legend:
    """A row of buttons. ``name`` is the entry of a trace's ``meta`` that it decides about."""

    name: str
    title: str
    items: tuple[Item, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One axis.

    Attributes:
        title: with its unit.
        log: whether it is logarithmic.
        span: its ends, where they are not left to plotly.
        powers: of a logarithmic one: ticks in powers of ten, not in plain numbers.
        ticks: values to be labelled, in these words; all others are not.
    """

    title: str
    log: bool = True
    span: tuple[float, float] | None = None
    powers: bool = True
    ticks: Mapping[float, str] = field(default_factory=dict)

    def layout(self, drawn: Iterable[float]) -> dict[str, Any]:
        """As plotly has it, for what is ``drawn`` along it."""
        entries: dict[str, Any] = {"title": {"text": self.title}, "type": "log" if self.log else "linear"}
        if self.span is not None:
            low, high = self.span
            entries["range"] = [math.log10(low), math.log10(high)] if self.log else [low, high]
        if self.log:
            entries |= {"exponentformat": "power", "showexponent": "all"} if self.powers else {"tickformat": "~g"}
            ratio = _ratio(self.span or drawn)
            if ratio >= _FEW:
                # Labels at 1, 2 and 5 times the powers of ten, or at these alone.
                entries["dtick"] = 1 if ratio >= (_MANY_POWERS if self.powers else _MANY_PLAIN) else "D2"
        if self.ticks:
            entries |= {"tickmode": "array", "tickvals": list(self.ticks), "ticktext": list(self.ticks.values())}
        return entries


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """Axes and what is drawn between them. ``shapes`` and ``notes`` are plotly's shapes and annotations."""

    title: str
    x: Axis
    y: Axis
    traces: tuple[Mapping[str, Any], ...]
    shapes: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[Mapping[str, Any], ...] = ()

    def figure(self) -> dict[str, Any]:
        """``data`` and ``layout`` for plotly, ready for JSON: what is not a number is null."""
        x, y = ([value for trace in self.traces for value in trace[along]] for along in "xy")
        layout: dict[str, Any] = {"xaxis": self.x.layout(x), "yaxis": self.y.layout(y)}
        if self.shapes:
            layout["shapes"] = list(self.shapes)
        if self.notes:
            layout["annotations"] = list(self.notes)
        figure: dict[str, Any] = _plain({"data": list(self.traces), "layout": layout})
        return figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """One chart.

    Attributes:
        key: in the page's addresses, and the name of the static figure that shows the same.
        title: its heading.
        shows: how to read it.
        legends: above the panels.
        panels: side by side where there is room, row by row.
        columns: panels of a row on a wide page.
        words: what the numbers say, paragraph by paragraph.
    """

    key: str
    title: str
    shows: str
    legends: tuple[Legend, ...]
    panels: tuple[Panel, ...]
    columns: int = 2
    words: tuple[str, ...] = ()

    def data(self) -> dict[str, Any]:
        """What the page's script needs."""
        return {"key": self.key, "panels": [panel.figure() for panel in self.panels]}

    def html(self, static: Markup | None = None) -> Markup:
        """The chart's place on the page, with the figure that stands there in print and without scripts, if any."""
        return element(
            "section",
            element("h3", self.title),
            element("p", self.shows, class_="shows"),
            element("div", (_legend(each) for each in self.legends), class_="legends"),
            element(
                "div",
                (_place(self.key, i, panel) for i, panel in enumerate(self.panels)),
                class_="panels needs-script",
                style=f"--columns:{self.columns}",
            ),
            static,
            (element("p", paragraph, class_="words") for paragraph in self.words),
            class_="chart" + (" has-static" if static is not None else ""),
            id=f"chart-{self.key}",
        )


def _place(key: str, i: int, panel: Panel) -> Markup:
    return element(
        "figure",
        element("figcaption", panel.title),
        element(
            "div",
            id=f"plot-{key}-{i}",
            class_="plot",
            role="group",
            aria_label=f"{panel.title}: {panel.y.title} against {panel.x.title}",
        ),
        class_="panel",
    )


def _legend(legend: Legend) -> Markup:
    everything = ("all", "none") if len(legend.items) > 1 else ()
    return element(
        "div",
        element("span", legend.title, class_="legend-title"),
        (_button(item) for item in legend.items),
        (
            element("button", word, type="button", class_=word, aria_label=f"{legend.title}: show {word}")
            for word in everything
        ),
        class_="legend",
        role="group",
        aria_label=f"Show by {legend.title}",
        data_legend=legend.name,
    )


def _button(item: Item) -> Markup:
    swatch = element("span", class_=f"swatch {item.look}", style=item.colour.style, aria_hidden="true")
    pressed = "true" if item.is_on else "false"
    return element("button", swatch, item.label, type="button", class_="item", aria_pressed=pressed, data_key=item.key)


def _ratio(values: Iterable[float]) -> float:
    """Of the largest to the smallest of the positive ones."""
    positive = [value for value in values if value > 0]
    return max(positive) / min(positive) if positive else 1.0


def _plain(value: Any) -> Any:
    if isinstance(value, Colour):
        return value.token
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT}g}") if math.isfinite(value) else None
    return value


def resolved(figure: Mapping[str, Any], *, dark: bool) -> dict[str, Any]:
    """A panel's figure with the colours of one scheme: what the page's script makes of it before plotly draws."""

    def of(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: of(item) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [of(item) for item in value]
        if isinstance(value, str) and value.startswith("$#"):
            return value[1:].split("|")[dark]
        return value

    chosen: dict[str, Any] = of(figure)
    return chosen
