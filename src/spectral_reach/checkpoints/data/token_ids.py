"""Column ``input_ids``, with or without ``labels`` and ``attention_mask``: tokens are taken as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spectral_reach.checkpoints.data.class_labels import ClassLabels
from spectral_reach.checkpoints.data.conditions import Conditions
from spectral_reach.checkpoints.data.masking import masked
from spectral_reach.checkpoints.data.unit import Unit
from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.measured.rows import IGNORE_INDEX


class TokenIds:
    """Encodes a sequence that is tokens already."""

    def __init__(self, conditions: Conditions, labels: ClassLabels | None) -> None:
        self._conditions = conditions
        self._labels = labels

    def __call__(self, row: Mapping[str, Any], index: int) -> Unit:
        """The tokens with the labels that are given.

        Without labels every token that is attended to is one, and for masked language models masks are drawn.
        """
        conditions = self._conditions
        ids = _integers(row["input_ids"], "input_ids")
        conditions.check_vocabulary(ids.tolist())
        attended = torch.ones_like(ids)
        if row.get("attention_mask") is not None:
            attended = _integers(row["attention_mask"], "attention_mask", like=ids)
        room = conditions.room_for(len(ids))
        is_cut = room < len(ids)
        ids, attended = ids[:room], attended[:room]
        if self._labels is not None:
            tensors = {"input_ids": ids, "attention_mask": attended, "labels": self._labels(row["labels"])}
            return Unit(tensors=tensors, n_labels=1, is_cut=is_cut)
        if row.get("labels") is not None:
            labels = _integers(row["labels"], "labels", like=_integers(row["input_ids"], "input_ids"))[:room]
            told = labels[labels.ne(IGNORE_INDEX)]
            conditions.check_vocabulary(told.tolist())
        elif conditions.kind is Kind.MASKED_LM:
            ids, labels = masked(ids, index, conditions)
            labels = labels.masked_fill(attended.eq(0), IGNORE_INDEX)
        else:
            labels = ids.masked_fill(attended.eq(0), IGNORE_INDEX)
        counted = labels[1:] if conditions.kind is Kind.CAUSAL_LM else labels
        return Unit(
            tensors={"input_ids": ids, "attention_mask": attended, "labels": labels},
            n_labels=int(counted.ne(IGNORE_INDEX).sum()),
            is_cut=is_cut,
        )


def _integers(value: object, role: str, like: Tensor | None = None) -> Tensor:
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(type(entry) is int for entry in value):
        raise ValueError(f"{role} is {str(value)[:40]!r}; expected a list of integers")
    if like is not None and len(value) != len(like):
        raise ValueError(f"{role} has {len(value)} entries and input_ids {len(like)}; expected as many")
    return torch.tensor(value, dtype=torch.int64)
