"""Column ``text`` for causal language models: every token is a label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spectral_reach.checkpoints.data.conditions import Conditions
from spectral_reach.checkpoints.data.sequences import causal_unit
from spectral_reach.checkpoints.data.tokenization import as_text
from spectral_reach.checkpoints.data.unit import Unit


class LanguageModelling:
    """Encodes a document."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def __call__(self, row: Mapping[str, Any], index: int) -> Unit:
        """The document's tokens, all of them labels."""
        ids = self._conditions.processor(as_text(row["text"], "text"), verbose=False)["input_ids"]
        return causal_unit(ids, [True] * len(ids), self._conditions)
