"""A kernel by products: column v of Theta is J (J^T v), over chunks of directions."""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_reach.jacobian.agreement import tolerance_of
from spectral_reach.jacobian.jacobian import Jacobian, PlainJacobian, signs
from spectral_reach.jacobian.readout_jacobian import ReadoutJacobian
from spectral_reach.jacobian.vjp import squared_norm, squared_norms, vjp
from spectral_reach.measured.linearisation import Linearisation
from spectral_reach.measured.output_space import OutputSpace
from spectral_reach.spectra.directions import directions
from spectral_reach.spectra.progress import OnProgress

_ROWS = 256
"""Of the kernel that are made symmetric at a time."""


def by_products(
    jacobian: Jacobian, linearisation: Linearisation, space: OutputSpace, budget: int, report: OnProgress
) -> Tensor:
    """Theta, (n k, n k) float64 on the CPU."""
    kernel = torch.empty(space.size, space.size, dtype=torch.float64)
    done = 0
    for cotangents in directions(space.of(linearisation.f), linearisation, budget):
        columns = jacobian.push_many(jacobian.pull_many(cotangents))
        stop = done + len(cotangents)
        kernel[done:stop] = columns.flatten(1).to("cpu", torch.float64)
        done = stop
        report(done, space.size)
    return _symmetric(kernel)


def jacobian_of(linearisation: Linearisation, space: OutputSpace, random: torch.Generator) -> Jacobian | None:
    """J, by the readout where there is one; None if the model cannot be differentiated twice."""
    try:
        through = ReadoutJacobian.of(linearisation, space)
        if through is not None and _is_jacobian(through, linearisation, space, random):
            return through
        return PlainJacobian(linearisation, space, random)
    except ValueError:
        # What is wrong with second derivatives is no matter here: first ones are enough for the other way.
        return None


def _is_jacobian(
    through: ReadoutJacobian, linearisation: Linearisation, space: OutputSpace, random: torch.Generator
) -> bool:
    """One random direction against an ordinary backward pass, and its way back."""
    v = signs(space.of(linearisation.f), random)
    pulled = through.pull_many(v.unsqueeze(0))
    expected = squared_norm(vjp(space.of(linearisation.f), v, linearisation))
    got = float(squared_norms(pulled)[0])
    back = float((through.push_many(pulled)[0].double() * v.double()).sum())
    tolerance = max(1e-5, tolerance_of(linearisation))
    return max(abs(got - expected), abs(back - expected)) <= tolerance * expected


def _symmetric(kernel: Tensor) -> Tensor:
    """(K + K^T) / 2 in place: the two differ by rounding."""
    for start in range(0, len(kernel), _ROWS):
        stop = start + _ROWS
        mean = (kernel[start:stop, start:] + kernel[start:, start:stop].mT) / 2
        kernel[start:stop, start:] = mean
        kernel[start:, start:stop] = mean.mT
    return kernel
