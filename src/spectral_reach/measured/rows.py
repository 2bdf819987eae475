"""Which entries of a model's outputs are f: the labelled rows, each with its target and its unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

IGNORE_INDEX = -100


class NoLabelledRowsError(ValueError):
    """The batch holds no row with a label, so that f is empty and nothing can be measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """The N labelled rows of a batch.

    Attributes:
        outputs: f before flattening, (N, *shape of one sample's outputs), attached to the autograd graph.
        targets: (N, ...), one entry a row.
        unit_of_row: (N,) int64, index of the row's unit among the units that hold a row, 0 .. n_units - 1.
        unit_in_batch: (n_units,) int64, where each of these units stands in the user's batch.
        place: (N,) int64, which row of ``model outputs.flatten(0, -2)`` each row is; None where the outputs of a row
            do not stand together as the last axis.
    """

    outputs: Tensor
    targets: Tensor
    unit_of_row: Tensor
    unit_in_batch: Tensor
    place: Tensor | None


def labelled_rows(outputs: Tensor, targets: Tensor, *, causal_shift: bool = False) -> Rows:
    """Align outputs with targets and keep the rows that carry a label.

    - class indices, classes last: outputs (B, ..., K), targets (B, ...) of integers, -100 = no label;
    - class indices, classes second (PyTorch's layout for images): outputs (B, K, ...), targets (B, ...);
      where both fit, sequences (B, T, K) have the classes last, and images are refused;
    - regression: outputs and targets of one shape (B, ..., K), every row a sample; (B,) has K = 1;
    - anything else that shares the leading axis: one sample a unit.

    ``causal_shift``: the output at position t is compared with the target at t + 1.

    Raises:
        NoLabelledRowsError: every target is -100.
        ValueError: shapes that cannot be aligned.
    """
    n_units, whole = targets.shape[0], outputs
    if outputs.shape[0] != n_units:
        raise ValueError(
            f"outputs have shape {tuple(outputs.shape)} and targets {tuple(targets.shape)}; expected the same leading "
            "axis, one entry a unit"
        )
    if causal_shift:
        outputs, targets = outputs[:, :-1], targets[:, 1:]
    unit = torch.arange(n_units, device=outputs.device)
    place = None
    if not targets.dtype.is_floating_point and (by_class := _classes_last(outputs, targets)) is not None:
        rows, labels = by_class.flatten(0, -2), targets.flatten()
        unit = unit.repeat_interleave(labels.numel() // n_units)
        if by_class is outputs:
            place = _places(whole, causal_shift)
        labelled = labels.ne(IGNORE_INDEX)
        if not bool(labelled.all()):
            keep = labelled.nonzero().squeeze(1)
            rows, labels, unit = rows[keep], labels[keep], unit[keep]
            place = None if place is None else place[keep]
    elif outputs.shape == targets.shape:
        rows = outputs.unsqueeze(-1) if outputs.ndim == 1 else outputs.flatten(0, -2)
        labels = targets.unsqueeze(-1) if targets.ndim == 1 else targets.flatten(0, -2)
        unit = unit.repeat_interleave(rows.shape[0] // n_units)
        place = None if outputs.ndim == 1 else _places(whole, causal_shift)
    else:
        rows, labels = outputs, targets
        if rows.ndim == 1:
            rows = rows.unsqueeze(-1)
        elif rows.ndim == 2:
            place = _places(whole, causal_shift)
    if rows.shape[0] == 0:
        raise NoLabelledRowsError(
            f"no row of the batch carries a label (targets of shape {tuple(targets.shape)}, all {IGNORE_INDEX}"
            f"{' after the causal shift' if causal_shift else ''}); expected at least one label"
        )
    unit_in_batch, unit_of_row = torch.unique(unit, return_inverse=True)
    return Rows(
        outputs=rows,
        targets=labels,
        unit_of_row=unit_of_row,
        unit_in_batch=unit_in_batch,
        place=place,
    )


def samples_of_units(shape: Sequence[int], targets: Tensor, *, causal_shift: bool) -> Tensor:
    """How many rows ``labelled_rows`` finds in each unit, (B,) int64 on the CPU, from the outputs' ``shape`` alone."""
    shape = tuple(shape)
    if causal_shift:
        shape, targets = (shape[0], shape[1] - 1, *shape[2:]), targets[:, 1:]
    n_units = targets.shape[0]
    if not targets.dtype.is_floating_point and _class_axis(shape, targets) is not None:
        return targets.ne(IGNORE_INDEX).reshape(n_units, -1).sum(1).cpu()
    rows = math.prod(shape[1:-1]) if shape == tuple(targets.shape) else 1
    return torch.full((n_units,), rows, dtype=torch.int64)


def _places(outputs: Tensor, causal_shift: bool) -> Tensor:
    places = torch.arange(outputs[..., 0].numel(), device=outputs.device).view(outputs.shape[:-1])
    return (places[:, :-1] if causal_shift else places).flatten()


def _classes_last(outputs: Tensor, targets: Tensor) -> Tensor | None:
    axis = _class_axis(tuple(outputs.shape), targets)
    if axis is None:
        return None
    return outputs if axis == -1 else outputs.movedim(axis, -1)


def _class_axis(shape: tuple[int, ...], targets: Tensor) -> int | None:
    """Which axis of outputs has the classes, the last (-1) or the second (1); None if neither."""
    last = shape[:-1] == tuple(targets.shape)
    second = len(shape) == targets.ndim + 1 and (shape[0], *shape[2:]) == tuple(targets.shape)
    if last and second and len(shape) > 3:
        raise ValueError(
            f"outputs of shape {shape} with targets of shape {tuple(targets.shape)} can be read with the classes "
            "second or last; expected shapes that fit one reading: flatten the axes between units and classes, for "
            "example outputs.flatten(2) and targets.flatten(1)"
        )
    if last:
        return -1
    return 1 if second else None
