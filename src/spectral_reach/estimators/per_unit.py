"""chi_net by an independent random probe for every unit, all in one backward pass.

Sum_i ||J_i^T v_i||^2 with E[v_i v_i^T] = I is unbiased for sum_i Tr(J_i J_i^T) = Tr(J J^T), like ``batch``, but holds
no products between units, which are most of the variance of a probe over the whole batch. A linear readout is counted
exactly and probed through in its hidden space (``readout``). Each unit's value is an estimate of its own trace, so one
pass also tells how much the units differ: the standard error of the population's chi_net.

With ``units=m`` of B a random subset is measured, in a forward pass of its own if that is less work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from spectral_reach.estimators.interface import EstimatorOptions, TraceEstimate, population_error, register
from spectral_reach.estimators.subset import draw_units, generator
from spectral_reach.jacobian.forms import Form, LookUps
from spectral_reach.jacobian.readout import HiddenProbes, Readout, find_readout, own_share, tied_share
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.measured.linearisation import Linearisation

Probe = Callable[[torch.Generator], Tensor]
"""One draw: estimates of Tr(J_i J_i^T) for every unit, (n_units,) float64."""


@register
class PerUnit:
    """An independent probe for each unit."""

    name = "per_unit"
    rank = 50
    expected = True

    def unsuited(self, linearisation: Linearisation, options: EstimatorOptions) -> str:
        """Some parameter's gradients cannot be told apart by unit."""
        return UnitBackward.of(linearisation).reason

    def estimate(self, linearisation: Linearisation, options: EstimatorOptions) -> TraceEstimate:
        """Mean over units and probes, with the errors for this batch and for the population."""
        backward = UnitBackward.of(linearisation)
        if backward.reason:
            raise ValueError(
                f"estimator='per_unit' cannot tell the units of this model apart: {backward.reason}; expected units "
                "that do not see each other: use 'batch' or 'exact'"
            )
        random = generator(options.seed, "probes", linearisation.f.device)
        chosen = draw_units(
            linearisation.n_units, options.units, generator(options.seed, "units", linearisation.f.device)
        ).cpu()
        few = backward.over(chosen) if 2 * len(chosen) <= linearisation.n_units else None
        probe = _probe(backward if few is None else few)
        kept = chosen if few is None else slice(None)
        traces = torch.stack([probe(random)[kept] for _ in range(options.probes)])  # (M, m)
        return _estimate(traces, linearisation, chosen)


def _estimate(traces: Tensor, linearisation: Linearisation, chosen: Tensor) -> TraceEstimate:
    """From estimates of the traces of m of n units, (M, m)."""
    M, m = traces.shape
    n, N = linearisation.n_units, linearisation.n_samples
    samples = linearisation.samples_of_unit.cpu()[chosen].to(torch.float64)
    of_unit = traces.mean(0)
    chi_net = n / m * float(of_unit.sum()) / N
    # What probes add to the variance of a unit's value, and what that value varies by over units altogether.
    within = float(traces.var(0).mean()) / M if M > 1 else math.nan
    between = float(of_unit.var()) if m > 1 else math.nan
    if m < n:
        # Without a second probe all variance is put down to the choice of units: too much by a share m / n of noise.
        noise = within if M > 1 else between
        variance = ((1 - m / n) * between + m / n * noise) / m
        undefined = "one unit has no spread: ask for units >= 2" if m == 1 else ""
    else:
        variance = within / m
        undefined = "one probe has no spread: ask for probes >= 2" if M == 1 else ""
    population_stderr, population_undefined = population_error(of_unit, samples)
    return TraceEstimate(
        chi_net=chi_net,
        stderr=n / N * math.sqrt(variance),
        undefined=undefined,
        population_stderr=population_stderr,
        population_undefined=population_undefined,
        units=m,
        probes=M,
        unit_traces=of_unit if m == n else None,
        estimator=PerUnit.name,
    )


def _probe(backward: UnitBackward) -> Probe:
    readout = find_readout(backward)
    linearisation = backward.linearisation
    if readout is None:
        return lambda random: backward.squared_norms(_signs(linearisation.f, random))
    own = own_share(readout, linearisation)
    if readout.hidden is None:
        return lambda random: own
    probes = HiddenProbes.of(readout.weight)
    return lambda random: own + _through(readout, probes, backward, random)


def _through(readout: Readout, probes: HiddenProbes, backward: UnitBackward, random: torch.Generator) -> Tensor:
    """One draw of everything that acts through the hidden state."""
    linearisation = backward.linearisation
    place = linearisation.place
    assert place is not None
    assert readout.hidden is not None
    q, c = (_in_rows(readout, place, drawn) for drawn in probes.draw(linearisation.n_samples, random))
    products = torch.zeros(linearisation.n_units_in_batch, dtype=torch.float64)

    def add_products(name: str, found: Sequence[Form]) -> None:
        if name == readout.weight_name:
            for form in found:
                assert isinstance(form, LookUps)
                products.add_(tied_share(readout, form, c).cpu())

    dtype = readout.hidden.node._input_metadata[readout.hidden.output_nr].dtype
    norms = backward.squared_norms(q.to(dtype), root=readout.hidden, without=readout.nodes, also=add_products)
    return norms + products[linearisation.unit_in_batch.cpu()]


def _in_rows(readout: Readout, place: Tensor, labelled: Tensor) -> Tensor:
    """Values of the labelled rows among all rows, where the others are 0."""
    return labelled.new_zeros((readout.n_rows, labelled.shape[1])).index_copy_(0, place, labelled)


def _signs(like: Tensor, random: torch.Generator) -> Tensor:
    return torch.randint(0, 2, like.shape, generator=random, device=like.device).to(like.dtype).mul_(2).sub_(1)
