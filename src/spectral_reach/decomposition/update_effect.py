"""What a real update of an optimiser did to the loss: the part that is linear in it, and the rest.

For an update d = theta' - theta of any optimiser (with momentum, preconditioning, clipping, weight decay) and
g = dL/dtheta at theta,

    L(theta') - L(theta) = g . d + correction.

An infinitesimal gradient step d = -eta g has g . d = -eta delta_loss and no correction. The correction is the
curvature of the loss along d and everything of higher order. Source: arXiv 2605.31244, which takes each step of
training apart so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from spectral_reach.jacobian.unit_gradients import loss_gradient
from spectral_reach.jacobian.vjp import inner_product
from spectral_reach.measured.isolation import leaving_no_trace, unwrapped
from spectral_reach.measured.linearisation import linearise
from spectral_reach.measured.losses import LossFunction
from spectral_reach.measured.naming import about
from spectral_reach.measured.not_finite import NotFiniteError
from spectral_reach.measured.parameters import select_parameters

Weights = Mapping[str, Tensor]
"""Values of the trainable parameters by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateEffect:
    """``change = linear + correction``: what one update did to the loss of the batch that it was made for.

    Attributes:
        loss_before: mean loss per sample of the batch, at theta.
        loss_after: the same at theta'.
        change: ``loss_after - loss_before``.
        linear: g . d, negative where the update descends on this batch.
        correction: ``change - linear``.
        next_loss_before: mean loss of the next batch at theta; NaN without one.
        next_change: its loss at theta' less that; the batch had no part in the update.
        gradient_norm: ||g||.
        update_norm: ||d||.
        alignment: cosine of the angle between d and -g: 1 for a gradient step; NaN where either is 0.
        undefined: for each NaN field, the reason.
    """

    loss_before: float
    loss_after: float
    change: float
    linear: float
    correction: float
    next_loss_before: float
    next_change: float
    gradient_norm: float
    update_norm: float
    alignment: float
    undefined: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def undefined_everywhere(cls, reason: str) -> UpdateEffect:
        """The effect of an update that could not be taken: every value NaN for the same ``reason``."""
        names = [each.name for each in fields(cls) if each.name != "undefined"]
        return cls(**dict.fromkeys(names, math.nan), undefined=dict.fromkeys(names, reason))

    def as_dict(self) -> dict[str, Any]:
        """Every field by name, in order; ``undefined`` as a plain dict."""
        return asdict(self)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the trainable parameters: theta, to be kept until the update is made."""
    return {name: parameter.detach().clone() for name, parameter in select_parameters(unwrapped(model)).items()}


def have_moved(model: nn.Module, before: Weights) -> bool:
    """Whether any of these weights is another one now."""
    parameters = dict(unwrapped(model).named_parameters())
    return any(not parameters[name].equal(value) for name, value in before.items() if name in parameters)


def update_effect(
    model: nn.Module,
    batch: Any,
    before: Weights,
    *,
    loss: LossFunction,
    next_batch: Any = None,
    seed: int = 0,
) -> UpdateEffect:
    """The effect of the update from the weights ``before`` to those that the model has now.

    All losses are of one state: the model's buffers and mode of now, and one dropout mask for a batch, that of
    ``seed``. So they differ by the parameters alone. Costs a backward pass and two forward passes, with a next batch
    four.

    Args:
        model: at theta'; it is left as it is.
        batch: as in ``sr.decompose``: what the update was made for.
        before: theta, from ``weights_of``.
        loss: mean over samples.
        next_batch: another batch, on which the loss change is taken too.
        seed: of the dropout masks.

    Raises:
        ValueError, TypeError: what ``sr.decompose`` raises, or ``before`` is not of this model. Losses or weights that
            are not finite raise ``NotFiniteError``.
    """
    model = unwrapped(model)
    parameters = select_parameters(model)
    _check_same(before, parameters)
    with leaving_no_trace(model):

        def loss_of(data: Any) -> float:
            return linearise(model, data, loss, parameters, seed=seed).loss

        after, next_after = loss_of(batch), math.nan
        if next_batch is not None:
            with about("the next batch"):
                next_after = loss_of(next_batch)
        displacement = [
            parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32)) - before[name]
            for name, parameter in parameters.items()
        ]
        with _at(before, parameters):
            here = linearise(model, batch, loss, parameters, seed=seed)
            gradient = loss_gradient(here)
            with about("the next batch"):
                next_before = math.nan if next_batch is None else loss_of(next_batch)
    linear = inner_product(gradient, displacement)
    norms = math.sqrt(inner_product(gradient, gradient)), math.sqrt(inner_product(displacement, displacement))
    if not (math.isfinite(linear) and math.isfinite(norms[1])):
        raise NotFiniteError("the update of the weights is not finite although the losses are; expected finite weights")
    change = after - here.loss
    undefined: dict[str, str] = {}
    if next_batch is None:
        undefined |= dict.fromkeys(("next_loss_before", "next_change"), "there is no next batch with a finite loss")
    if not all(norms):
        undefined["alignment"] = "the gradient is zero" if norms[1] else "the update is zero"
    return UpdateEffect(
        loss_before=here.loss,
        loss_after=after,
        change=change,
        linear=linear,
        correction=change - linear,
        next_loss_before=next_before,
        next_change=next_after - next_before,
        gradient_norm=norms[0],
        update_norm=norms[1],
        alignment=-linear / (norms[0] * norms[1]) if all(norms) else math.nan,
        undefined=undefined,
    )


@contextmanager
def _at(weights: Weights, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """The model with other weights. Only the tensors behind the parameters change places: nothing is written to."""
    present = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.data = weights[name]
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data = present[name]


def _check_same(before: Weights, parameters: Mapping[str, nn.Parameter]) -> None:
    if before.keys() != parameters.keys():
        differing = sorted(before.keys() ^ parameters.keys())
        raise ValueError(
            f"the trainable parameters have changed since the weights were kept: {differing[0]!r} and "
            f"{len(differing) - 1} others; expected the same ones before and after an update"
        )
    for name, parameter in parameters.items():
        if before[name].shape != parameter.shape or before[name].device != parameter.device:
            raise ValueError(
                f"parameter {name!r} is now of shape {tuple(parameter.shape)} on {parameter.device}, and was of shape "
                f"{tuple(before[name].shape)} on {before[name].device}; expected the same before and after an update"
            )
