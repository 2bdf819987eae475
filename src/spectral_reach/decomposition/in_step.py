"""One batch inside a training step: the forward and the backward pass are the step's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from spectral_reach.decomposition.one_batch import from_parts
from spectral_reach.decomposition.result import Decomposition
from spectral_reach.estimators import EstimatorOptions, estimate_trace
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.jacobian.unit_gradients import UnitGradientProducts
from spectral_reach.jacobian.watched import check_path, watch
from spectral_reach.measured.linearisation import Linearisation

Finished = Callable[[Decomposition], None]


def in_step(
    linearisation: Linearisation, step_loss: Any, estimator: str, options: EstimatorOptions, finished: Finished
) -> bool:
    """Measure now what needs the graph, and call ``finished`` at the end of the step's backward pass.

    Returns:
        Whether that is possible; False where units cannot be told apart by rules alone, and nothing has been done.

    Raises:
        ValueError, TypeError: the step's loss is not one of the outputs alone; what the estimator cannot cover.
    """
    backward = UnitBackward.of(linearisation)
    if backward.reason or backward.uses.unknown:
        return False

    def end(pairs: Tensor | None, reason: str) -> None:
        if pairs is None:
            finished(Decomposition.undefined_everywhere(reason, estimator))
            return
        products = UnitGradientProducts.of_pairs(pairs) if linearisation.n_units > 1 else None
        finished(from_parts(linearisation, products, float(pairs.sum()), trace))

    check_path(linearisation, step_loss)
    trace = estimate_trace(estimator, linearisation, options)
    # Last, for the passes of the measurement itself would set it off.
    watch(backward, end)
    return True
