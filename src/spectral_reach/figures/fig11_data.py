"""The numbers behind Figure 11, by family: chi_net * chi_pos and its factors along training, each over its value at the
early peak of chi_pos."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spectral_reach.figures.points import Point, curve_points, known, of_sizes
from spectral_reach.studies.analysis.early_peak import EARLY_FRACTION
from spectral_reach.studies.analysis.size_windows import SizeWindow, by_size, measurement_windows
from spectral_reach.studies.analysis.study_data import FamilyData

POSITIONS = ("chi_pos_unbiased", "chi_pos")
LEAST_WINDOWS = 3
QUANTITIES = ("chi_net·chi_pos", "chi_pos", "chi_net")
"""What is drawn along training, a panel each."""


def names(position: str) -> tuple[str, str, str]:
    """The quantities of the points of this position: the product, chi_net and the position over their peak values."""
    return f"chi_net_{position}_over_peak", f"chi_net_over_peak_of_{position}", f"{position}_over_peak"


def curves_of(quantity: str) -> tuple[str, str]:
    """The quantities of the points of one of ``QUANTITIES``, with chi_pos_unbiased and with chi_pos of mini-batches."""
    unbiased, mini_batch = (
        {"chi_net·chi_pos": product, "chi_pos": factor, "chi_net": net}[quantity]
        for product, net, factor in map(names, POSITIONS)
    )
    return unbiased, mini_batch


def family_points(family: FamilyData) -> tuple[Point, ...]:
    """All points of a family, size by size, for each of ``POSITIONS``.

    The peak of a size is the window of highest position among those that end before half of its steps and in which
    position and product are positive (they are averages of different kinds, so noise may leave one of them negative);
    a size without such a window has none and no points. chi_pos of mini-batches counts where a measurement has as
    many units as at the peak, for it depends on them. Errors are those of the window, not of the peak.
    """
    return tuple(
        point
        for parameters, runs in by_size(family.runs).items()
        for position in POSITIONS
        for point in _of_size(family.key, parameters, measurement_windows(runs), position, runs[0].steps)
    )


def _of_size(family: str, parameters: int, windows: Sequence[SizeWindow], position: str, steps: int) -> Iterator[Point]:
    early = [w for w in windows if w.flops > 0 and w.last_step < EARLY_FRACTION * steps]
    early = [w for w in early if min(w.estimates[position].value, w.estimates[f"chi_net_{position}"].value) > 0]
    if not early:
        return
    peak = max(early, key=lambda window: window.estimates[position].value)
    if position == "chi_pos":
        windows = [window for window in windows if window.n_units == peak.n_units]
    sources = (f"chi_net_{position}", "chi_net", position)
    for source, name in zip(sources, names(position), strict=True):
        scale = peak.estimates[source].value
        for point in curve_points(family, parameters, windows, (source,)):
            yield replace(point, quantity=name, value=point.value / scale, stderr=point.stderr / scale)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Log changes of one size since its peak, in W windows from the peak on in which position and product are positive.

    Attributes:
        parameters: of the size.
        position: (W) of the position over its peak.
        product: (W) of chi_net times the position over its peak.
        slope: of the product's logarithm against the position's, by least squares; NaN below ``LEAST_WINDOWS``.
    """

    parameters: int
    position: tuple[float, ...]
    product: tuple[float, ...]
    slope: float


def changes(points: Sequence[Point], position: str) -> tuple[Change, ...]:
    """What the points of a family say, by size."""
    product_name, _, position_name = names(position)
    found = []
    for parameters, of_size in of_sizes(known(points, product_name, position_name)):
        at = {p.first_step: p.value for p in of_size if p.quantity == position_name}
        product = {p.first_step: p.value for p in of_size if p.quantity == product_name}
        steps = [step for step in at if step is not None]
        peak = max(step for step in steps if at[step] == 1.0)
        after = [step for step in steps if step >= peak and min(at[step], product[step]) > 0]
        x, y = [at[step] for step in after], [product[step] for step in after]
        slope = float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(after) >= LEAST_WINDOWS else math.nan
        found.append(Change(parameters=parameters, position=tuple(x), product=tuple(y), slope=slope))
    return tuple(found)
