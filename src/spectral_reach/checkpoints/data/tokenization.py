"""Text into token ids, as the model's own tokenizer does it by default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from spectral_reach.checkpoints.data.conditions import Conditions


def as_text(value: object, role: str) -> str:
    """``value``, which must be text.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str):
        raise ValueError(f"{role} is a {type(value).__name__}; expected text")
    return value


@contextmanager
def settings_kept(tokenizer: Any) -> Iterator[None]:
    """Whether a fast tokenizer cuts and fills up is afterwards as it was before: each call of it decides that anew."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        yield
        return
    truncation, padding = backend.truncation, backend.padding
    try:
        yield
    finally:
        backend.no_truncation() if truncation is None else backend.enable_truncation(**truncation)
        backend.no_padding() if padding is None else backend.enable_padding(**padding)


def whole_sequence(text: str, pair: str | None, conditions: Conditions) -> tuple[dict[str, Tensor], bool]:
    """Token ids, and segments where the model has several, of a text or two for a model that reads it as a whole.

    Special tokens are those of the tokenizer. What is longer than ``max_length`` is cut by the tokenizer, which keeps
    its special token at the end.

    Returns:
        Tensors (T,) by name, and whether something was cut.

    Raises:
        ValueError: tokens that the model does not know, or more of them than it reads.
    """
    tokenizer = conditions.processor
    encoded = tokenizer(text, pair, verbose=False)
    length = len(encoded["input_ids"])
    room = conditions.room_for(length)
    if room < length:
        encoded = tokenizer(text, pair, truncation=True, max_length=room, verbose=False)
    conditions.check_vocabulary(encoded["input_ids"])
    names = ["input_ids", "attention_mask"]
    if getattr(conditions.text_config, "type_vocab_size", 0) > 1 and "token_type_ids" in encoded:
        names.append("token_type_ids")
    encoded.setdefault("attention_mask", [1] * len(encoded["input_ids"]))
    return {name: torch.tensor(encoded[name], dtype=torch.int64) for name in names}, room < length


def tokens_in(
    text: str, spans: Sequence[tuple[int, int]], tokenizer: Any, *, special_tokens: bool
) -> tuple[list[int], list[bool]]:
    """The token ids of a text, and for each whether it holds anything of one of the ``spans`` of characters.

    A token over a border (a space before a word) is inside: nobody can tell it without knowing the span. Tokens that
    the tokenizer adds without any text count with what stands before them: a token for the beginning is in no span,
    one for the end is in the last span where that ends the text.

    Raises:
        ValueError: the tokenizer cannot tell where in the text a token stands.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"the tokenizer is a {type(tokenizer).__name__}, which does not tell where in the text a token stands; "
            "expected a fast one (with a tokenizer.json)"
        )
    encoded = tokenizer(text, add_special_tokens=special_tokens, return_offsets_mapping=True, verbose=False)
    inside, is_inside = [], False
    for begin, end in encoded["offset_mapping"]:
        if end > begin:
            is_inside = any(begin < last and end > first for first, last in spans)
        inside.append(is_inside)
    return list(encoded["input_ids"]), inside
