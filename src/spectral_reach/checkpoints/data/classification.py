"""Columns ``text`` and ``label``, with or without ``text_pair``: one label a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spectral_reach.checkpoints.data.class_labels import ClassLabels
from spectral_reach.checkpoints.data.conditions import Conditions
from spectral_reach.checkpoints.data.tokenization import as_text, whole_sequence
from spectral_reach.checkpoints.data.unit import Unit


class TextClassification:
    """Encodes a text, or two that belong together, with its label."""

    def __init__(self, conditions: Conditions, labels: ClassLabels) -> None:
        self._conditions = conditions
        self._labels = labels

    def __call__(self, row: Mapping[str, Any], index: int) -> Unit:
        """The tokens of the text, and its label."""
        pair = row.get("text_pair")
        tensors, is_cut = whole_sequence(
            as_text(row["text"], "text"), None if pair is None else as_text(pair, "text_pair"), self._conditions
        )
        return Unit(tensors={**tensors, "labels": self._labels(row["label"])}, n_labels=1, is_cut=is_cut)
