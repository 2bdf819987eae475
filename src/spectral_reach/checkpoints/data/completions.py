"""Columns ``prompt`` and ``completion``: only the completion's tokens are labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spectral_reach.checkpoints.data.chat import as_messages, assistant_tokens
from spectral_reach.checkpoints.data.conditions import Conditions
from spectral_reach.checkpoints.data.sequences import causal_unit
from spectral_reach.checkpoints.data.tokenization import as_text, tokens_in
from spectral_reach.checkpoints.data.unit import Unit


class Completions:
    """Encodes a prompt with its completion."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def __call__(self, row: Mapping[str, Any], index: int) -> Unit:
        """The tokens of both; those of the completion are labels."""
        ids, said = completion_tokens(row["prompt"], row["completion"], "completion", self._conditions)
        return causal_unit(ids, said, self._conditions)


def completion_tokens(
    prompt: object, completion: object, role: str, conditions: Conditions
) -> tuple[list[int], list[bool]]:
    """The token ids of a prompt with its completion, and for each whether it is the completion's.

    Both are text, or both are lists of messages, of which what the assistant says in the completion counts. Text is
    tokenized in one piece; a token that holds anything of the completion is the completion's.

    Raises:
        ValueError: one is text and the other messages, or the chat template does not go with them.
    """
    if isinstance(prompt, str) and isinstance(completion, str) and not conditions.options.chat_template:
        whole = prompt + completion
        return tokens_in(whole, [(len(prompt), len(whole))], conditions.processor, special_tokens=True)
    if isinstance(prompt, str) != isinstance(completion, str):
        raise ValueError(
            f"prompt is a {type(prompt).__name__} and {role} a {type(completion).__name__}; expected two texts, or two "
            "lists of messages"
        )
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": as_text(prompt, "prompt")}]
        completion = [{"role": "assistant", "content": as_text(completion, role)}]
    before, after = as_messages(prompt, "prompt"), as_messages(completion, role)
    return assistant_tokens([*before, *after], conditions.processor, first=len(before))
