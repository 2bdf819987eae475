"""chi_net exactly: one vector-Jacobian product for every output direction, in vectorised chunks.

Tr(J J^T) = sum_{n,k} ||J^T e_{nk}||^2. With ``units=m`` of B the sum runs over a random subset of units and is scaled
by B / m, which is unbiased; its standard error comes from the spread over units, with the finite-population factor.
"""

from __future__ import annotations

import math

import torch

from spectral_reach.estimators.interface import EstimatorOptions, TraceEstimate, population_error, register
from spectral_reach.estimators.subset import draw_units, generator
from spectral_reach.jacobian.vjp import batched_vjp, directions_per_chunk, squared_norms
from spectral_reach.measured.linearisation import Linearisation

AUTO_DIRECTIONS = 1024
"""``auto`` prefers the exact trace up to this many output directions (a few dozen vectorised backward passes)."""


@register
class Exact:
    """Every output direction."""

    name = "exact"
    rank = 0
    expected = False  # it is a matter of cost

    def unsuited(self, linearisation: Linearisation, options: EstimatorOptions) -> str:
        """Too many output directions."""
        share = 1.0 if options.units is None else options.units / linearisation.n_units
        directions = math.ceil(linearisation.f.numel() * share)
        return "" if directions <= AUTO_DIRECTIONS else f"{directions:,} output directions are many to go through"

    def estimate(self, linearisation: Linearisation, options: EstimatorOptions) -> TraceEstimate:
        """The sum over all directions, or over those of ``options.units`` random units."""
        n_units, n_samples, n_outputs = (
            linearisation.n_units,
            linearisation.n_samples,
            linearisation.n_outputs,
        )
        device = linearisation.f.device
        chosen = draw_units(n_units, options.units, generator(options.seed, "units", device))
        m = chosen.numel()
        rows = torch.isin(linearisation.unit_of_row, chosen).nonzero().squeeze(1)
        chunk = directions_per_chunk(linearisation, options.memory_budget)
        unit_traces = torch.zeros(n_units, dtype=torch.float64)
        unit_of_row = linearisation.unit_of_row.cpu()
        for directions in torch.split(torch.arange(rows.numel() * n_outputs, device=device), chunk):
            row, output = rows[directions // n_outputs], directions % n_outputs
            cotangents = linearisation.f.new_zeros((directions.numel(), n_samples, n_outputs))
            cotangents[torch.arange(directions.numel(), device=device), row, output] = 1.0
            norms = squared_norms(batched_vjp(linearisation, cotangents))
            unit_traces.index_add_(0, unit_of_row[row.cpu()], norms)
        traces = unit_traces[chosen.cpu()]
        stderr, undefined = 0.0, ""
        if m < n_units:
            if m == 1:
                stderr, undefined = math.nan, "one unit has no spread: ask for units >= 2"
            else:
                stderr = n_units / n_samples * math.sqrt((1 - m / n_units) / m) * float(traces.std())
        samples = linearisation.samples_of_unit.cpu()[chosen.cpu()].to(torch.float64)
        population_stderr, population_undefined = population_error(traces, samples)
        return TraceEstimate(
            chi_net=n_units / m * float(traces.sum()) / n_samples,
            stderr=stderr,
            undefined=undefined,
            population_stderr=population_stderr,
            population_undefined=population_undefined,
            units=m,
            probes=0,
            unit_traces=unit_traces if m == n_units else None,
            estimator=self.name,
        )
