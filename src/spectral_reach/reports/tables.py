"""Tables of the page: they scroll inside their own box, and their columns sort where that says something."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spectral_reach.reports.markup import Content, Markup, element


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        content: what is shown.
        order: what it is sorted by; None: its text. NaN comes last.
        is_number: whether it is set to the right.
        kind: a class for the style sheet.
    """

    content: Content
    order: float | str | None = None
    is_number: bool = False
    kind: str | None = None


def number(content: Content, order: float | None) -> Cell:
    """A cell that is sorted by ``order``; None stands for what is not known."""
    return Cell(content=content, order=math.nan if order is None else order, is_number=True)


def text(content: Content) -> Cell:
    """A cell that is sorted by what it says."""
    return Cell(content=content)


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, sortable: bool = False, kind: str = ""
) -> Markup:
    """A table in a box that scrolls, reachable with the keyboard; the first cell of a row names it."""
    listed = [list(row) for row in rows]
    numbers = [bool(listed) and all(row[i].is_number for row in listed) for i in range(len(columns))]
    head = (
        element(
            "th",
            element("button", column, type="button", class_="sort") if sortable else column,
            scope="col",
            class_="number" if is_number else None,
        )
        for column, is_number in zip(columns, numbers, strict=True)
    )
    return scrolling(
        caption,
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", head)),
            element("tbody", (_row(row) for row in listed)),
            class_=f"{'sortable ' if sortable else ''}{kind}".strip() or None,
        ),
    )


def scrolling(label: str, *content: Content) -> Markup:
    """A box in which what is wider than the page scrolls."""
    return element("div", *content, class_="scroll", tabindex=0, role="region", aria_label=label)


def _row(row: Sequence[Cell]) -> Markup:
    return element("tr", (_cell(cell, names_row=i == 0) for i, cell in enumerate(row)))


def _cell(cell: Cell, *, names_row: bool) -> Markup:
    classes = " ".join(name for name in ("number" if cell.is_number else "", cell.kind or "") if name)
    order = None if cell.order is None else str(cell.order)
    return element(
        "th" if names_row else "td",
        cell.content,
        scope="row" if names_row else None,
        class_=classes or None,
        data_order=order,
    )
