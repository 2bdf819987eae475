"""chi_net exactly: one vector-Jacobian product for every output direction, in vectorised chunks.

Tr(J J^T) = sum_{n,k} ||J^T e_{nk}||^2. With ``units=m`` of B the sum runs over a random subset of units and is scaled
by B / m, which is unbiased; its standard error comes from the spread over units, with the finite-population factor.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spectral_reach.estimators.interface import EstimatorOptions, TraceEstimate, population_error, register
from spectral_reach.estimators.subset import ChosenUnits
from spectral_reach.jacobian.vjp import batched_vjp, directions_per_chunk, squared_norms
from spectral_reach.measured.extent import Extent
from spectral_reach.measured.linearisation import Linearisation

AUTO_DIRECTIONS = 1024
"""``auto`` prefers the exact trace up to this many output directions (a few dozen vectorised backward passes)."""


def n_directions(extent: Extent, options: EstimatorOptions) -> int:
    """Output directions of the units that are gone through."""
    share = 1.0 if options.units is None else options.units / extent.n_units
    return math.ceil(extent.n_samples * extent.n_outputs * share)


@register
class Exact:
    """Every output direction."""

    name = "exact"
    rank = 0
    expected = False  # it is a matter of cost

    def unsuited(self, part: Linearisation, extent: Extent, options: EstimatorOptions) -> str:
        """Too many output directions."""
        directions = n_directions(extent, options)
        return "" if directions <= AUTO_DIRECTIONS else f"{directions:,} output directions are many to go through"

    def begin(self, extent: Extent, options: EstimatorOptions) -> _Directions:
        """An estimate for a batch of this extent."""
        return _Directions(extent, options)


class _Directions:
    """The sum over all directions, or over those of ``options.units`` random units."""

    def __init__(self, extent: Extent, options: EstimatorOptions) -> None:
        self._extent, self._options = extent, options
        self._chosen = ChosenUnits(extent, options)
        self._traces: list[Tensor] = []

    def add(self, part: Linearisation) -> None:
        chosen = self._chosen.in_next(part.n_units)
        if not len(chosen):
            return
        device = part.f.device
        rows = torch.isin(part.unit_of_row, chosen.to(device)).nonzero().squeeze(1)
        chunk = directions_per_chunk(part, self._options.memory_budget)
        traces = torch.zeros(part.n_units, dtype=torch.float64)
        unit_of_row = part.unit_of_row.cpu()
        for directions in torch.split(torch.arange(rows.numel() * part.n_outputs, device=device), chunk):
            row, output = rows[directions // part.n_outputs], directions % part.n_outputs
            cotangents = part.f.new_zeros((directions.numel(), part.n_samples, part.n_outputs))
            cotangents[torch.arange(directions.numel(), device=device), row, output] = 1.0
            norms = squared_norms(batched_vjp(part, cotangents))
            traces.index_add_(0, unit_of_row[row.cpu()], norms)
        self._traces.append(traces[chosen])

    def result(self) -> TraceEstimate:
        """Exact for all units; else with the error of the choice."""
        chosen, traces = self._chosen.all, torch.cat(self._traces)
        n, m, N = self._extent.n_units, len(chosen), self._extent.n_samples
        stderr, undefined = 0.0, ""
        if m < n:
            if m == 1:
                stderr, undefined = math.nan, "one unit has no spread: ask for units >= 2"
            else:
                stderr = n / N * math.sqrt((1 - m / n) / m) * float(traces.std())
        samples = self._extent.samples_of_unit[chosen].to(torch.float64)
        population_stderr, population_undefined = population_error(traces, samples)
        return TraceEstimate(
            chi_net=n / m * float(traces.sum()) / N,
            stderr=stderr,
            undefined=undefined,
            population_stderr=population_stderr,
            population_undefined=population_undefined,
            units=m,
            probes=0,
            unit_traces=traces if m == n else None,
            estimator=Exact.name,
        )
