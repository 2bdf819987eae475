"""Losses: a mean over samples of a function of each sample's outputs, and its gradient u = dL/df.

Source of the definitions: arXiv 2605.31244. The residual r = N u is used in place of u throughout, because it does not
shrink with the batch and so survives low-precision backward passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from spectral_reach.measured.not_finite import NotFiniteError
from spectral_reach.measured.rows import IGNORE_INDEX, Rows

LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Loss: TypeAlias = str | LossFunction


def cross_entropy(outputs_NK: Tensor, targets_N: Tensor) -> Tensor:
    """Mean over samples of -log softmax(f)[target], in nats."""
    return F.cross_entropy(outputs_NK, targets_N.long())


def squared_error(outputs_NK: Tensor, targets_NK: Tensor) -> Tensor:
    """Mean over samples of 0.5 * ||f - y||^2, summed over the K outputs, so that r = f - y."""
    return 0.5 * (outputs_NK - targets_NK).square().sum() / outputs_NK.shape[0]


_BY_NAME: dict[str, LossFunction] = {"cross_entropy": cross_entropy, "mse": squared_error}


def resolve_loss(loss: Loss) -> LossFunction:
    """The loss function behind a name or a callable ``(outputs, targets) -> scalar``.

    Raises:
        ValueError: the name is unknown.
        TypeError: it is neither a name nor a callable, or a class where an instance is meant.
    """
    if isinstance(loss, str):
        if loss not in _BY_NAME:
            raise ValueError(f"loss={loss!r} is unknown; expected one of {sorted(_BY_NAME)} or a callable")
        return _BY_NAME[loss]
    if isinstance(loss, type):
        raise TypeError(f"loss is the class {loss.__name__}; expected an instance of it: loss={loss.__name__}()")
    if not callable(loss):
        raise TypeError(f"loss is a {type(loss).__name__}; expected a name or a callable (outputs, targets) -> scalar")
    return loss


def is_own(loss: LossFunction) -> bool:
    """Whether it has a name here, and a gradient that takes no pass of autograd."""
    return loss in _BY_NAME.values()


class LossGradient:
    """The loss of labelled outputs, and r = N dL/df when it is asked for.

    Args:
        loss: the loss function.
        rows: its arguments.

    Raises:
        ValueError: targets that do not fit the loss, a loss that is no scalar or no mean over samples.
        NotFiniteError: the outputs, the targets or the loss are not finite.
        TypeError: a loss that returns no tensor.
    """

    def __init__(self, loss: LossFunction, rows: Rows) -> None:
        self._loss = loss
        self._outputs = rows.outputs.detach()
        self._targets = rows.targets
        _check_finite_outputs(self._outputs, rows)
        if loss is cross_entropy:
            _check_class_indices(self._outputs, self._targets)
        elif loss is squared_error:
            _check_same_shape(self._outputs, self._targets)
        self._residual: Tensor | None = None
        with torch.no_grad():
            self.value = self._value(*self._arguments()).item()
        """L, the mean over samples."""
        if not is_own(loss):
            with torch.autocast(self._outputs.device.type, enabled=False):
                _check_mean(loss, self.value, *self._arguments(), _parts_of(rows))

    @property
    def first_sample(self) -> tuple[Tensor, Tensor]:
        """Outputs and target of one sample as the loss is given them, (1, ...) each, copied."""
        return self._arguments(torch.zeros(1, dtype=torch.int64, device=self._outputs.device))

    @property
    def residual(self) -> Tensor:
        """r of all samples, (N, ...), at least in float32 whatever the outputs' precision.

        Raises:
            ValueError: the loss is not differentiable.
            NotFiniteError: r is not finite.
        """
        if self._residual is None:
            self._residual = self._residual_of(*self._arguments())
        return self._residual

    def of(self, samples: Tensor) -> Tensor:
        """r of some samples, (m, ...), for ``samples`` (m,) int64."""
        if self._residual is not None:
            return self._residual[samples]
        return self._residual_of(*self._arguments(samples))

    def _arguments(self, samples: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the loss is given: outputs at least in float32."""
        outputs, targets = self._outputs, self._targets
        if samples is not None:
            outputs, targets = outputs[samples], targets[samples]
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        return outputs, targets.to(outputs.dtype) if self._loss is squared_error else targets

    def _value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(outputs.device.type, enabled=False):
            loss = _mean_cross_entropy if self._loss is cross_entropy and outputs.ndim == 2 else self._loss
            value = _scalar(_value_of(loss, outputs, targets))
        if not bool(value.isfinite()):
            raise NotFiniteError(
                f"the loss is {value.item():g}; expected a finite value: check the targets and the outputs"
            )
        return value

    def _residual_of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self._loss is cross_entropy:
            # Probabilities less what is true: in place, for these are the largest tensors of a measurement.
            residual = torch.log_softmax(outputs, 1).exp_()
            residual[torch.arange(len(outputs), device=outputs.device), targets.long()] -= 1
        elif self._loss is squared_error:
            residual = outputs - targets
        else:
            with torch.enable_grad():
                outputs = outputs.detach().requires_grad_()
                value = self._value(outputs, targets)
                if not value.requires_grad:
                    raise ValueError(
                        "the loss does not depend on the outputs through autograd; expected a differentiable loss"
                    )
                residual = torch.autograd.grad(value, outputs)[0].mul_(len(outputs))
        if not _all_finite(residual):
            raise NotFiniteError(
                "the gradient of the loss with respect to the outputs is not finite; expected finite values"
            )
        return residual


def check_mean_of_two(loss: LossFunction, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> None:
    """The loss is a mean over samples that come from different passes too: class weights show between classes alone.

    Args:
        loss: the loss function.
        first, second: outputs and target of a sample each.

    Raises:
        ValueError: it is none.
    """
    if is_own(loss):
        return
    outputs, targets = (torch.cat(both) for both in zip(first, second, strict=True))
    with torch.no_grad(), torch.autocast(outputs.device.type, enabled=False):
        value = float(_scalar(loss(outputs, targets)))
        _check_mean(loss, value, outputs, targets, torch.arange(2, device=outputs.device))


def _value_of(loss: LossFunction, outputs: Tensor, targets: Tensor) -> object:
    """What the loss returns; where it trips over class indices that are out of range, an error that says so."""
    try:
        return loss(outputs, targets)
    except (IndexError, RuntimeError):
        if outputs.ndim == 2 and targets.ndim == 1 and not targets.dtype.is_floating_point:
            _check_range(outputs, targets)
        raise


_PART = 2**20
"""Outputs that are gone through at a time."""


@torch.no_grad()
def _mean_cross_entropy(outputs_NK: Tensor, targets_N: Tensor) -> Tensor:
    """``cross_entropy`` in parts that stay in a processor's cache: three times faster, and without a tensor of N K."""
    rows = max(1, _PART // outputs_NK.shape[1])
    parts = zip(torch.split(outputs_NK, rows), torch.split(targets_N.long(), rows), strict=True)
    # Summed up in float64: the loss after an update differs from that before in its last digits.
    sums = [F.cross_entropy(o, t, reduction="none").sum(dtype=torch.float64) for o, t in parts]
    return torch.stack(sums).sum() / len(outputs_NK)


def _scalar(value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"the loss returned a {type(value).__name__}; expected a scalar tensor")
    if value.ndim != 0:
        raise ValueError(
            f"the loss returned a tensor of shape {tuple(value.shape)}; expected a scalar, the mean over samples "
            "(reduction='mean')"
        )
    return value


def _all_finite(values: Tensor) -> bool:
    """One pass without a mask as large as the values."""
    low, high = torch.aminmax(values)
    return bool(low.isfinite() & high.isfinite())


def _check_finite_outputs(outputs: Tensor, rows: Rows) -> None:
    if not _all_finite(outputs.detach()):
        bad = ~outputs.detach().isfinite().flatten(1).all(1)
        first = int(rows.unit_in_batch[rows.unit_of_row[bad.nonzero()[0, 0]]])
        raise NotFiniteError(
            f"the model's outputs are not finite in {int(bad.sum())} of {bad.numel()} labelled rows (first in unit "
            f"{first}); expected finite outputs: the model has diverged or the inputs are not finite"
        )


def _check_class_indices(outputs: Tensor, targets: Tensor) -> None:
    if targets.dtype.is_floating_point:
        raise TypeError(
            f"loss='cross_entropy' got targets of dtype {targets.dtype}; expected class indices (int64): use 'mse' "
            "for regression or a callable for class probabilities"
        )
    if outputs.ndim != 2 or targets.ndim != 1:
        raise ValueError(
            f"loss='cross_entropy' got outputs of shape {tuple(outputs.shape)} and targets of shape "
            f"{tuple(targets.shape)}; expected outputs (B, ..., K) with targets (B, ...), or (B, K, ...) with (B, ...)"
        )
    _check_range(outputs, targets)


def _check_range(outputs: Tensor, targets: Tensor) -> None:
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= outputs.shape[1]:
        raise ValueError(
            f"targets range from {low} to {high}; expected class indices in 0 .. {outputs.shape[1] - 1} (the model has "
            f"{outputs.shape[1]} outputs), or {IGNORE_INDEX} for no label"
        )


def _check_same_shape(outputs: Tensor, targets: Tensor) -> None:
    if outputs.shape != targets.shape:
        raise ValueError(
            f"loss='mse' got outputs of shape {tuple(outputs.shape)} and targets of shape {tuple(targets.shape)}; "
            "expected the same shape: reshape the targets, for example targets.unsqueeze(-1)"
        )
    if not bool(targets.isfinite().all()):
        raise NotFiniteError("loss='mse' got targets that are not finite; expected finite values")


def _parts_of(rows: Rows) -> Tensor:
    """By unit, or every other row of a single one, (N,)."""
    if rows.unit_in_batch.numel() > 1:
        return rows.unit_of_row
    return torch.arange(rows.outputs.shape[0], device=rows.outputs.device) % 2


@torch.no_grad()
def _check_mean(loss: LossFunction, value: float, outputs: Tensor, targets: Tensor, part_of_row: Tensor) -> None:
    """A mean over samples equals the weighted mean of its values on parts; a sum or a coupled loss does not."""
    n = outputs.shape[0]
    if n == 1:
        return
    total, scale = 0.0, 0.0
    for part in range(int(part_of_row.max()) + 1):
        index = part_of_row.eq(part).nonzero().squeeze(1)
        part_value = float(_scalar(loss(outputs[index], targets[index])))
        total += index.numel() / n * part_value
        scale += index.numel() / n * abs(part_value)
    tolerance = (1e-9 if outputs.dtype == torch.float64 else 1e-4) * max(scale, abs(value))
    if not abs(total - value) <= tolerance:
        raise ValueError(
            f"the loss is not a mean over samples: {value:g} on the batch, but {total:g} as the weighted mean over its "
            "units; expected reduction='mean' without class weights and without coupling between units"
        )
