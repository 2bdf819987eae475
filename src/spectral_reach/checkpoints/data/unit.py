"""One independent example as tensors, and several of them as a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_reach.measured.rows import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """An example.

    Attributes:
        tensors: what the model takes by keyword, and ``labels``, without the axis over units.
        n_labels: labelled samples; 0 for an example from which nothing can be learnt.
        is_cut: tokens were left out because there were more than ``max_length``.
    """

    tensors: Mapping[str, Tensor]
    n_labels: int
    is_cut: bool = False


def collate(units: Sequence[Unit], pad_id: int) -> dict[str, Tensor]:
    """Units as one mapping; sequences (..., T_i) of different lengths are filled up on the right to (B, ..., T).

    What fills up is never attended to and carries no label, so that its values change nothing.

    Args:
        units: one or more, with the same names.
        pad_id: the token that fills up ``input_ids``.
    """
    fill = {"input_ids": pad_id, "labels": IGNORE_INDEX}
    batch = {}
    for name in units[0].tensors:
        values = [unit.tensors[name] for unit in units]
        longest = max(value.shape[-1] if value.ndim else 0 for value in values)
        batch[name] = torch.stack([fill_up(value, longest, fill.get(name, 0)) for value in values])
    return batch


def fill_up(values: Tensor, length: int, value: int) -> Tensor:
    """(..., T) on the right up to (..., length)."""
    missing = length - values.shape[-1] if values.ndim else 0
    return torch.nn.functional.pad(values, (0, missing), value=value) if missing else values
