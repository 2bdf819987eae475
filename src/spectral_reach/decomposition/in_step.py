"""One batch inside a training step: the forward and the backward pass are the step's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from spectral_reach.decomposition.one_batch import ChiLosses, from_parts, units_of_noise
from spectral_reach.decomposition.result import Decomposition
from spectral_reach.estimators import EstimatorOptions, estimate_trace
from spectral_reach.jacobian.pair_products import PairProducts
from spectral_reach.jacobian.some_units import SomeUnits
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.jacobian.watched import Seen, check_path, watch
from spectral_reach.measured.linearisation import Linearisation

Finished = Callable[[Decomposition], None]

_ROWS = 8
"""Units whose gradients are multiplied with all others to tell the error of a value from all units, where these are
more than twice as many: of fewer all products cost little more."""


def in_step(
    linearisation: Linearisation,
    step_loss: Any,
    estimator: str,
    options: EstimatorOptions,
    finished: Finished,
    *,
    sums: bool,
) -> bool:
    """Measure now what needs the graph, and call ``finished`` at the end of the step's backward pass.

    Args:
        linearisation, step_loss, estimator, options, finished: as in ``decompose_in_step``, prepared.
        sums: whether the gradients that the step sums up are those of its loss.

    Returns:
        Whether that is possible; False where units cannot be told apart by rules alone, and nothing has been done.

    Raises:
        ValueError, TypeError: the step's loss is not one of the outputs alone; what the estimator cannot cover.
    """
    backward = UnitBackward.of(linearisation)
    if backward.reason or backward.uses.unknown:
        return False
    products = _products(backward, options, sums)
    if products is None:
        return False

    def end(seen: Seen | None, reason: str) -> None:
        if seen is None:
            finished(Decomposition.undefined_everywhere(reason, estimator))
        else:
            extent = linearisation.extent
            losses = ChiLosses.of_rows(extent, linearisation.unit_of_row, seen.chi_loss_of_row)
            finished(from_parts(extent, linearisation.loss, losses, seen.products, seen.squared_norm, trace))

    check_path(linearisation, step_loss)
    trace = estimate_trace(estimator, linearisation, options)
    # Last, for the passes of the measurement itself would set it off.
    watch(backward, products, end)
    return True


def _products(backward: UnitBackward, options: EstimatorOptions, sums: bool) -> PairProducts | SomeUnits | None:
    """What is gathered of the units' gradients; None where that cannot be told from the step.

    By default squared norms of all units, which correct the noise, and for the error the products of some: those of
    all would take as long again as the norms and the probe together.
    """
    linearisation = backward.linearisation
    # In half precision the sum is rounded, or overflows, where the gradients of units are added up in float32.
    exact = all(torch.finfo(parameter.dtype).bits >= 32 for parameter in linearisation.parameters.values())
    if options.noise_units is None and sums and exact and linearisation.n_units > 2 * _ROWS:
        of_error = units_of_noise(linearisation.extent, replace(options, noise_units=_ROWS))
        assert of_error is not None
        return SomeUnits(linearisation, of_error, backward.grams)
    some = units_of_noise(linearisation.extent, options)
    if some is None:
        return PairProducts(linearisation)
    return SomeUnits(linearisation, some) if sums else None
