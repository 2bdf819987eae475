"""chi_net by Rademacher probes over the whole batch: E ||J^T v||^2 = Tr(J J^T) for E[v v^T] = I (Hutchinson 1989).

Unbiased because E[v^T Theta v] = Tr(Theta E[v v^T]); Rademacher signs give the least variance among independent
entries, 2 sum_{i != j} Theta_ij^2, which off-diagonal coupling between the outputs of *all* units dominates. One
forward pass serves all probes. With ``units=m`` of B each probe lives on a fresh random subset of units and is scaled
by B / m, so the spread over probes covers the choice of units too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spectral_reach.estimators.interface import EstimatorOptions, TraceEstimate, register
from spectral_reach.estimators.subset import draw_units, generator
from spectral_reach.jacobian.gradient_sum import GradientSum
from spectral_reach.jacobian.one_by_one import each_gradient
from spectral_reach.jacobian.unit_signs import unit_signs
from spectral_reach.jacobian.vjp import squared_norm, vjp
from spectral_reach.measured.extent import Extent
from spectral_reach.measured.linearisation import Linearisation


@register
class Batch:
    """Random probes over the whole batch."""

    name = "batch"
    rank = 100
    expected = False

    def unsuited(self, part: Linearisation, extent: Extent, options: EstimatorOptions) -> str:
        """Never: it needs nothing but backward passes."""
        return ""

    def begin(self, extent: Extent, options: EstimatorOptions) -> _Probes:
        """An estimate for a batch of this extent."""
        return _Probes(extent, options)


class _Probes:
    def __init__(self, extent: Extent, options: EstimatorOptions) -> None:
        self._extent, self._options = extent, options
        self._norms: list[float] = []
        # A batch in parts needs the gradient of every probe until its last part; a whole one has it at once.
        self._sums: list[GradientSum] = []
        self._units = 0

    def add(self, part: Linearisation) -> None:
        first, self._units = self._units, self._units + part.n_units
        is_whole = part.n_units == self._extent.n_units
        for probe in range(self._options.probes):
            # One backward pass a probe: each fills the machine already, and vectorising them only costs memory.
            cotangent = self._cotangent(part, probe, first)
            if is_whole:
                self._norms.append(squared_norm(vjp(part.f, cotangent, part)))
                continue
            if len(self._sums) == probe:
                self._sums.append(GradientSum(part.parameters, offload=self._options.offload))
            each_gradient(part.f, cotangent, part.parameters, self._sums[probe].add)

    def result(self) -> TraceEstimate:
        """Mean over probes, with the standard error from their spread."""
        options, extent = self._options, self._extent
        norms = self._norms or [total.squared_norm() for total in self._sums]
        share = 1.0 if options.units is None else options.units / extent.n_units
        draws = torch.tensor(norms, dtype=torch.float64) / share / extent.n_samples
        single = options.probes == 1
        return TraceEstimate(
            chi_net=float(draws.mean()),
            stderr=math.nan if single else float(draws.std()) / math.sqrt(options.probes),
            undefined="one probe has no spread: ask for probes >= 2" if single else "",
            population_stderr=math.nan,
            population_undefined="probes over the whole batch do not tell how much its units differ",
            units=extent.n_units if options.units is None else options.units,
            probes=options.probes,
            unit_traces=None,
            estimator=Batch.name,
        )

    def _cotangent(self, part: Linearisation, probe: int, first: int) -> Tensor:
        signs = unit_signs(part, part.n_outputs, part.f.dtype, seed=self._options.seed, probe=probe)
        if self._options.units is None:
            return signs
        random = generator(self._options.seed, f"units of probe {probe}", torch.device("cpu"))
        chosen = draw_units(self._extent.n_units, self._options.units, random).to(signs.device)
        return signs * torch.isin(part.unit_of_row + first, chosen).unsqueeze(1)
