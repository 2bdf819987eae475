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
from spectral_reach.jacobian.jacobian import signs
from spectral_reach.jacobian.vjp import squared_norm, vjp
from spectral_reach.measured.linearisation import Linearisation


@register
class Batch:
    """Random probes over the whole batch."""

    name = "batch"
    rank = 100
    expected = False

    def unsuited(self, linearisation: Linearisation, options: EstimatorOptions) -> str:
        """Never: it needs nothing but backward passes."""
        return ""

    def estimate(self, linearisation: Linearisation, options: EstimatorOptions) -> TraceEstimate:
        """Mean over probes, with the standard error from their spread."""
        random = generator(options.seed, "probes", linearisation.f.device)
        # One backward pass a probe: each fills the machine already, and vectorising them only costs memory.
        norms = [
            squared_norm(vjp(linearisation.f, self._probe(linearisation, options.units, random), linearisation))
            for _ in range(options.probes)
        ]
        share = 1.0 if options.units is None else options.units / linearisation.n_units
        draws = torch.tensor(norms, dtype=torch.float64) / share / linearisation.n_samples
        single = options.probes == 1
        return TraceEstimate(
            chi_net=float(draws.mean()),
            stderr=math.nan if single else float(draws.std()) / math.sqrt(options.probes),
            undefined="one probe has no spread: ask for probes >= 2" if single else "",
            population_stderr=math.nan,
            population_undefined="probes over the whole batch do not tell how much its units differ",
            units=linearisation.n_units if options.units is None else options.units,
            probes=options.probes,
            unit_traces=None,
            estimator=self.name,
        )

    @staticmethod
    def _probe(linearisation: Linearisation, units: int | None, random: torch.Generator) -> Tensor:
        probe = signs(linearisation.f, random)
        if units is None:
            return probe
        chosen = draw_units(linearisation.n_units, units, random)
        return probe * torch.isin(linearisation.unit_of_row, chosen).unsqueeze(1)
