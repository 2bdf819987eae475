"""How the cost of one probe grows with units, tokens and vocabulary, beside that of a training step.

Weights and tokens are random here: time depends on shapes alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from timing import interleaved
from ways import linearised, options, unmeasured
from workload import Preset, Workload, step_in_place

from spectral_reach.estimators import estimate_trace
from spectral_reach.jacobian.unit_backward import UnitBackward

WORKS = ("training_step", "probe")


def growth(preset: Preset, rounds: int) -> dict[str, Any]:
    """For each axis the points, and the exponents b of seconds ~ size^b; for the vocabulary the growth as a share."""
    base = preset.workload
    axes = {
        "units": [(units, base.of(units=units)) for units in preset.units],
        "tokens": [(tokens, base.of(units=preset.units_at_tokens, context=tokens)) for tokens in preset.tokens],
        "vocabulary": [(size, base.of(vocabulary=size)) for size in preset.vocabulary],
    }
    found: dict[str, Any] = {}
    for axis, workloads in axes.items():
        points = list(_points(axis, workloads, rounds))
        found[axis] = {
            "points": points,
            **{f"{work}_exponent": _exponent([p[axis] for p in points], [p[work] for p in points]) for work in WORKS},
            "probe_growth": points[-1]["probe"] / points[0]["probe"] - 1,
        }
    return found


def _points(axis: str, workloads: Sequence[tuple[int, Workload]], rounds: int) -> Iterator[dict[str, float]]:
    works: dict[str, Callable[[int], object]] = {}
    for size, workload in workloads:
        model, batch = workload.build()
        linearisation = linearised(model, batch)
        UnitBackward.of(linearisation)
        step = step_in_place(copy.deepcopy(model), batch)  # its weights may not change under the graph of the other
        works[f"training_step at {size}"] = lambda _, step=step: step()
        works[f"probe at {size}"] = lambda seed, at=linearisation: estimate_trace(
            "per_unit", unmeasured(at), options(seed)
        )
    times, _ = interleaved(works, rounds)
    for size, _ in workloads:
        yield {axis: size, **{work: times[f"{work} at {size}"].median for work in WORKS}}


def _exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    slope, _ = np.polyfit([math.log(size) for size in sizes], [math.log(second) for second in seconds], 1)
    return float(slope)
