"""What a coordinate check says, in tables and in words, whichever way its numbers fall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from spectral_reach.studies.analysis.coordinate_check import (
    FLAT,
    STEEP,
    CoordinateCheck,
    RateCurve,
    SideResult,
    SizeCurve,
    read_coordinate_check,
)
from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.numbers import signed
from spectral_reach.studies.analysis.report import Report, Section

FAMILY_NAMES = {"llama": "Llama", "vit": "ViT"}
PARAMETRISATION_NAMES = {"standard": "standard", "mup": "muP"}
KIND_NAMES = {"mlp": "MLP"}


def report(study: Path) -> Report:
    """The report of a study folder. Raises as ``read_coordinate_check`` does."""
    return report_of(read_coordinate_check(study))


def report_of(result: CoordinateCheck) -> Report:
    """Two sections: slopes of sizes, and best learning rates."""
    sized = [side for side in result.sides if side.sizes]
    kinds = [KIND_NAMES.get(each.name, each.name) for each in sized[0].sizes] if sized else []
    slopes = Section(
        title="Sizes against width",
        columns=("model", *kinds),
        rows=tuple((label(side), *(_with_error(each.slope) for each in side.sizes)) for side in sized),
        text=describe_sizes(result),
    )
    rates = Section(
        title="Best learning rates",
        columns=("model", "width", "best rate", "log2", "loss there"),
        rows=tuple(_rate_row(side, curve) for side in result.sides for curve in side.rates),
        text=describe_rates(result),
    )
    values = {"settings": dict(result.settings), "sides": [_numbers(side) for side in result.sides]}
    return Report(
        study="coordinate-check", preset=result.preset, sections=(slopes, rates), legend=_LEGEND, values=values
    )


def label(side: SideResult) -> str:
    """``ViT, muP``."""
    return f"{FAMILY_NAMES[side.side.family]}, {PARAMETRISATION_NAMES[side.side.parametrisation]}"


def describe_sizes(result: CoordinateCheck) -> str:
    """One paragraph: the steepest and the flattest slopes of each side, and whether they are those of a right one."""
    sized = [side for side in result.sides if side.sizes]
    if not sized:
        return "Sizes have not been taken at two widths yet."
    settings = result.settings
    waiting = f" {result.done} of {result.planned} tasks are done." if result.done < result.planned else ""
    head = (
        f"Slopes of log size against log width, {settings['widths'][0]} to {settings['widths'][-1]}, after "
        f"{settings['steps']} steps of AdamW at a rate of {settings['rate']:.2g}, {_seeds(settings['seeds'])}.{waiting}"
    )
    return " ".join((head, *(_sizes_of(side) for side in sized)))


def _sizes_of(side: SideResult) -> str:
    slopes = [each.slope.value for each in side.sizes]
    if any(math.isnan(slope) for slope in slopes):
        return f"{label(side)}: undefined, for training diverged."
    if side.is_flat:
        verdict = f"no size depends on the width (all within ±{FLAT:g})"
    elif side.grows:
        verdict = f"every size grows with the width (all above {STEEP:g})"
    else:
        verdict = f"neither all within ±{FLAT:g} nor all above {STEEP:g}"
    return f"{label(side)}: {signed(min(slopes))} to {signed(max(slopes))}, {verdict}."


def describe_rates(result: CoordinateCheck) -> str:
    """One paragraph: how far the best rate of the widest model is from that of the narrowest."""
    compared = [side for side in result.sides if len(side.rates) >= 2]
    if not compared:
        return "Learning rates have not been swept at two widths yet."
    settings = result.settings
    head = (
        f"Best rates after {settings['sweep_steps']} steps, {_seeds(settings['sweep_seeds'])}, from the narrowest "
        "to the widest model, in octaves (factors of two)."
    )
    return " ".join((head, *(_shift_of(side) for side in compared)))


def _shift_of(side: SideResult) -> str:
    narrow, wide = side.rates[0].width, side.rates[-1].width
    if math.isnan(side.shift.value):
        return f"{label(side)}: undefined ({side.shift.reason})."
    if side.shift_is_bound:
        verdict = "and further, for the widest is best at the lowest rate that was tried: the rate does not transfer"
    elif any(curve.at_edge for curve in side.rates):
        verdict = "unsettled, for a best rate is the lowest or highest that was tried"
    elif not side.shift.is_defined:
        verdict = f"unsettled, for {side.shift.reason}"
    elif side.transfers is None:
        verdict = "unsettled, for its 95% interval holds shifts of more and of less than an octave"
    elif side.transfers:
        verdict = "the rate transfers"
    else:
        verdict = "the rate does not transfer"
    return f"{label(side)}: {_with_error(side.shift)} from width {narrow} to {wide}, {verdict}."


def _rate_row(side: SideResult, curve: RateCurve) -> tuple[str, ...]:
    best = curve.best.value
    edge = " (edge)" if curve.at_edge else ""
    rate = "–" if math.isnan(best) else f"{2**best:.2g}{edge}"
    lowest = mean_losses(curve)
    loss = "–" if math.isnan(best) else f"{np.nanmin(lowest):.3f}"
    return (label(side), str(curve.width), rate, _with_error(curve.best), loss)


def mean_losses(curve: RateCurve) -> Any:
    """Over the seeds, (R,); NaN where a seed diverged."""
    return curve.losses.mean(0)


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _with_error(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    value = signed(estimate.value)
    return value if math.isnan(estimate.stderr) else f"{value} ± {estimate.stderr:.2f}"


def _numbers(side: SideResult) -> dict[str, Any]:
    return {
        "family": side.side.family,
        "parametrisation": side.side.parametrisation,
        "sizes": _size_numbers(side.sizes),
        "initial_sizes": _size_numbers(side.initial),
        "changes_of_logits": _size_numbers(side.along),
        "rates": [
            {"width": curve.width, "best_log2": asdict(curve.best), "at_edge": curve.at_edge} for curve in side.rates
        ],
        "shift_in_octaves": asdict(side.shift),
        "is_flat": side.is_flat if side.sizes else None,
        "transfers": side.transfers if len(side.rates) >= 2 else None,
    }


def _size_numbers(curves: Sequence[SizeCurve]) -> list[dict[str, Any]]:
    return [{"name": each.name, "step": each.step, "slope": asdict(each.slope)} for each in curves]


_LEGEND = (
    "Sizes are root mean squares over entries, layers and a batch: of queries, of what attention and MLP add to the "
    "stream, of the stream after each layer, and of the change of the logits since the first step. A best rate is the "
    "minimum of the parabola through the lowest loss, a mean over seeds, and its neighbours in log2 of the rate; the "
    "loss is that of the last tenth of the steps. Errors are standard errors over seeds, of rates by the jackknife; "
    "whether a rate transfers is judged by the 95% interval, with Student's factor for the seeds."
)
