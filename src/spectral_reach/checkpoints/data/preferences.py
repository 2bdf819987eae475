"""Columns ``chosen`` and ``rejected``, with or without ``prompt``: pairs of completions for a preference loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spectral_reach.checkpoints.data.chat import as_messages, assistant_tokens
from spectral_reach.checkpoints.data.completions import completion_tokens
from spectral_reach.checkpoints.data.conditions import Conditions
from spectral_reach.checkpoints.data.sequences import causal_unit
from spectral_reach.checkpoints.data.tokenization import as_text, tokens_in
from spectral_reach.checkpoints.data.unit import Unit, collate

_SIDES = ("chosen", "rejected")
_Tokens = tuple[list[int], list[bool]]


class Preferences:
    """Encodes a pair as tensors (2, T): the chosen completion, then the rejected one."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def __call__(self, row: Mapping[str, Any], index: int) -> Unit:
        """The tokens of both completions behind their prompt; a pair without a label on each side has none."""
        sides = self._with_prompt(row) if row.get("prompt") is not None else self._without_prompt(row)
        units = [causal_unit(ids, said, self._conditions) for ids, said in sides]
        complete = all(unit.n_labels for unit in units)
        return Unit(
            tensors=collate(units, self._conditions.pad_id),
            n_labels=sum(unit.n_labels for unit in units) if complete else 0,
            is_cut=any(unit.is_cut for unit in units),
        )

    def _with_prompt(self, row: Mapping[str, Any]) -> list[_Tokens]:
        return [completion_tokens(row["prompt"], row[side], side, self._conditions) for side in _SIDES]

    def _without_prompt(self, row: Mapping[str, Any]) -> list[_Tokens]:
        """What both have in common at the beginning is the prompt: it cancels in the loss and in its gradient."""
        tokenizer = self._conditions.processor
        if not isinstance(row["chosen"], str):
            conversations = [as_messages(row[side], side) for side in _SIDES]
            shared = _shared(*conversations)
            return [assistant_tokens(conversation, tokenizer, first=shared) for conversation in conversations]
        texts = [as_text(row[side], side) for side in _SIDES]
        ids = [tokens_in(text, [], tokenizer, special_tokens=True)[0] for text in texts]
        shared = _shared(*ids)
        return [(side, [place >= shared for place in range(len(side))]) for side in ids]


def _shared(a: Sequence[object], b: Sequence[object]) -> int:
    """How many entries both begin with."""
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
