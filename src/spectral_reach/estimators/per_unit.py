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
from spectral_reach.estimators.subset import ChosenUnits
from spectral_reach.jacobian.forms import Form, LookUps
from spectral_reach.jacobian.one_unit import trace_of_one_unit
from spectral_reach.jacobian.readout import HiddenProbes, Readout, find_readout, own_share, tied_share
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.jacobian.unit_signs import unit_signs
from spectral_reach.measured.extent import Extent
from spectral_reach.measured.linearisation import Linearisation

Signs = Callable[[int, torch.dtype], Tensor]
"""Random signs for so many columns of every labelled row, (N, columns)."""
Probe = Callable[[Signs], Tensor]
"""One draw: estimates of Tr(J_i J_i^T) for every unit, (n_units,) float64."""


@register
class PerUnit:
    """An independent probe for each unit."""

    name = "per_unit"
    rank = 50
    expected = True

    def unsuited(self, part: Linearisation, extent: Extent, options: EstimatorOptions) -> str:
        """Some parameter's gradients cannot be told apart by unit."""
        return "" if _is_alone(part) else UnitBackward.of(part).reason

    def begin(self, extent: Extent, options: EstimatorOptions) -> _Units:
        """An estimate for a batch of this extent."""
        return _Units(extent, options)


class _Units:
    def __init__(self, extent: Extent, options: EstimatorOptions) -> None:
        self._extent, self._options = extent, options
        self._chosen = ChosenUnits(extent, options)
        self._traces: list[Tensor] = []

    def add(self, part: Linearisation) -> None:
        """Draws of the chosen ones among the units of the part."""
        chosen = self._chosen.in_next(part.n_units)
        if not len(chosen):
            return
        # One unit at a time is for little memory: finding layer rules takes passes over several.
        if _is_alone(part) and (self._extent.n_units > 1 or UnitBackward.of(part).reason):
            traces = trace_of_one_unit(part, seed=self._options.seed, probes=self._options.probes)
            self._traces.append(traces.unsqueeze(1))
            return
        backward = UnitBackward.of(part)
        if backward.reason:
            raise ValueError(
                f"estimator='per_unit' cannot tell the units of this model apart: {backward.reason}; expected units "
                "that do not see each other: use 'batch' or 'exact'"
            )
        few = backward.over(chosen) if 2 * len(chosen) <= part.n_units else None
        probed = backward if few is None else few
        probe = _probe(probed)
        kept = chosen if few is None else slice(None)
        draws = [probe(_signs(probed.linearisation, self._options.seed, m))[kept] for m in range(self._options.probes)]
        self._traces.append(torch.stack(draws))

    def result(self) -> TraceEstimate:
        """Mean over units and probes, with the errors for this batch and for the population."""
        return _estimate(torch.cat(self._traces, 1), self._extent, self._chosen.all)


def _estimate(traces: Tensor, extent: Extent, chosen: Tensor) -> TraceEstimate:
    """From estimates of the traces of m of n units, (M, m)."""
    M, m = traces.shape
    n, N = extent.n_units, extent.n_samples
    samples = extent.samples_of_unit[chosen].to(torch.float64)
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
        return lambda signs: backward.squared_norms(signs(linearisation.n_outputs, linearisation.f.dtype))
    own = own_share(readout, linearisation)
    if readout.hidden is None:
        return lambda signs: own
    probes = HiddenProbes.of(readout.weight)
    return lambda signs: own + _through(readout, probes, backward, signs)


def _through(readout: Readout, probes: HiddenProbes, backward: UnitBackward, signs: Signs) -> Tensor:
    """One draw of everything that acts through the hidden state."""
    linearisation = backward.linearisation
    place = linearisation.place
    assert place is not None
    assert readout.hidden is not None
    z = signs(probes.rank, probes.mix.dtype)
    q, c = (_in_rows(readout, place, drawn) for drawn in probes.of_signs(z))
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


def _is_alone(part: Linearisation) -> bool:
    return part.n_units_in_batch == 1


def _signs(linearisation: Linearisation, seed: int, probe: int) -> Signs:
    return lambda columns, dtype: unit_signs(linearisation, columns, dtype, seed=seed, probe=probe)
