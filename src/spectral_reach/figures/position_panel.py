"""A panel of spectral position against compute: chi_pos_unbiased with its error, and chi_pos of the mini-batch."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from spectral_reach.figures.curves import (
    any_below,
    ceiling_of,
    draw_band,
    draw_line,
    draw_mini_batch,
    floor_of,
    key_band,
    key_below,
    key_line,
    key_mini_batch,
)
from spectral_reach.figures.points import Point, known, of_sizes
from spectral_reach.figures.style import SizeColours, log_axis, log_compute_axis


def draw_positions(
    axes: Axes,
    points: Sequence[Point],
    colours: SizeColours,
    *,
    unbiased: str = "chi_pos_unbiased",
    mini_batch: str = "chi_pos",
    labelled: bool = True,
    beside: Sequence[Point] = (),
) -> None:
    """Draw the ``unbiased`` and ``mini_batch`` points of every size; also of delta_loss, which has the same noise.

    ``labelled``: whether the axis of compute has its name and numbers. ``beside``: points of other panels that the
    vertical axis has to hold too.
    """
    log_compute_axis(axes, labelled=labelled)
    held = known([*points, *beside], unbiased, mini_batch)
    floor = floor_of(held)
    log_axis(axes, floor, ceiling_of(held, floor))
    for size, of_size in of_sizes(known(points, unbiased, mini_batch)):
        colour = colours(size)
        curve = known(of_size, unbiased)
        draw_band(axes, curve, floor, colour)
        draw_line(axes, curve, floor, colour)
        draw_mini_batch(axes, known(of_size, mini_batch), colour)


def has_positions_below(
    points: Sequence[Point],
    *,
    unbiased: str = "chi_pos_unbiased",
    mini_batch: str = "chi_pos",
    beside: Sequence[Point] = (),
) -> bool:
    """Whether ``draw_positions`` of the same points marks any that lie below the axis."""
    return any_below(known(points, unbiased), floor_of(known([*points, *beside], unbiased, mini_batch)))


def key_of_lines(points: Sequence[Point], *, triangles: bool) -> list[Artist]:
    """What the lines mean, for a key that all panels share; ``triangles``: whether any is drawn."""
    return [
        key_line("chi_pos_unbiased", marker="o", markersize=2),
        key_band(known(points, "chi_pos_unbiased")),
        *key_below(is_drawn=triangles),
        key_mini_batch(points),
    ]
