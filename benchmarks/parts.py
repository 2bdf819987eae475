"""What a measurement from scratch is made of, piece by piece, to see what limits it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from timing import Times
from torch import nn
from ways import linearised
from workload import Batch

from spectral_reach.jacobian.unit_backward import UnitBackward


def works(model: nn.Module, batch: Batch) -> dict[str, Callable[[int], object]]:
    """Pieces of work to time; each is called with the number of the round."""
    linearisation = linearised(model, batch)
    backward = UnitBackward.of(linearisation)
    return {
        "forward": lambda _: model(batch[0]).logits.shape,
        "linearise": lambda _: linearised(model, batch).loss,
        "linearise_and_check": lambda _: UnitBackward.of(linearised(model, batch)).reason,
        "unit_gradient_products": lambda _: backward.inner_products(linearisation.residual).shape,
    }


def named(times: Mapping[str, Times]) -> dict[str, float]:
    """The pieces by themselves, from the median times of ``works``."""
    return {
        "forward pass": times["forward"].median,
        "isolation and loss gradient at the outputs": times["linearise"].median - times["forward"].median,
        "check of the layer rules on two units": times["linearise_and_check"].median - times["linearise"].median,
        "products of the units' loss gradients": times["unit_gradient_products"].median,
    }
