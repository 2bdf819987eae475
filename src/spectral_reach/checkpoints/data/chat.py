"""Messages by the tokenizer's chat template, with labels on what the assistant said."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from spectral_reach.checkpoints.data.conditions import Conditions
from spectral_reach.checkpoints.data.sequences import causal_unit
from spectral_reach.checkpoints.data.tokenization import tokens_in
from spectral_reach.checkpoints.data.unit import Unit
from spectral_reach.records.needed import needed

Messages = Sequence[Mapping[str, Any]]

_GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Chat:
    """Encodes a conversation, column ``messages``."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def __call__(self, row: Mapping[str, Any], index: int) -> Unit:
        """The conversation's tokens; those that the assistant said are labels."""
        messages = as_messages(row["messages"], "messages")
        ids, said = assistant_tokens(messages, self._conditions.processor)
        return causal_unit(ids, said, self._conditions)


def as_messages(value: object, role: str) -> Messages:
    """``value``, which must be a list of messages.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{role} is a {type(value).__name__}; expected a list of messages")
    for message in value:
        if not isinstance(message, Mapping) or "role" not in message:
            raise ValueError(f"{role} has an entry {message!r}; expected an object with 'role' and 'content'")
    if not value:
        raise ValueError(f"{role} is an empty list; expected a message or more")
    return value


def assistant_tokens(messages: Messages, tokenizer: Any, first: int = 0) -> tuple[list[int], list[bool]]:
    """The token ids of a conversation, and for each whether the assistant said it, from message ``first`` on.

    Where the template marks that itself (``{% generation %}``), the marks count. Elsewhere it is what the template
    writes for a message of the assistant behind the prompt for generation, the token that ends it among it.

    Raises:
        ValueError: there is no template, it refuses the messages, or neither way leads to what the assistant said.
    """
    whole = _rendered(messages, tokenizer)
    if _GENERATION_TAG.search(_template(tokenizer)):
        begin = len(_beginning(whole, messages, first, tokenizer)) if first else 0
        spans = [(a, b) for a, b in _marked(whole, messages, tokenizer) if a >= begin]
    else:
        spans = [
            (
                len(_beginning(whole, messages, place, tokenizer, asks=True)),
                len(_beginning(whole, messages, place + 1, tokenizer)),
            )
            for place, message in enumerate(messages)
            if message["role"] == "assistant" and place >= first
        ]
    return tokens_in(whole, spans, tokenizer, special_tokens=False)


def _marked(whole: str, messages: Messages, tokenizer: Any) -> list[tuple[int, int]]:
    """Where in the rendered conversation the template's marks are.

    Not by ``return_assistant_tokens_mask``: that takes everything up to the end of a conversation for the assistant's
    where a mark closes behind a space that is no part of a token.
    """
    with needed("hf"):
        from transformers.utils.chat_template_utils import render_jinja_template

    # As in apply_chat_template, which leaves out what is None.
    given = [{key: value for key, value in message.items() if value is not None} for message in messages]
    rendered: Any = render_jinja_template(
        conversations=[given],
        chat_template=_template(tokenizer),
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    texts, marks = rendered
    if texts[0] != whole:
        raise ValueError("the chat template writes another text each time; expected one that does not")
    return [(begin, end) for begin, end in marks[0]]


def _beginning(whole: str, messages: Messages, count: int, tokenizer: Any, *, asks: bool = False) -> str:
    """What the template writes for the first ``count`` messages, which must begin the ``whole`` that it writes."""
    if count == 0:
        raise ValueError(
            "the conversation begins with the assistant and the chat template does not mark what it said "
            "({% generation %}); expected a message of the user first"
        )
    part = _rendered(messages[:count], tokenizer, asks=asks)
    if not whole.startswith(part):
        raise ValueError(
            f"the chat template writes the first {count} of {len(messages)} messages in another way when there are "
            "more, and does not mark what the assistant said; expected a template with {% generation %} marks, or "
            "conversations of which only the last message is the assistant's"
        )
    return part


def _rendered(messages: Messages, tokenizer: Any, *, asks: bool = False) -> str:
    _template(tokenizer)
    try:
        text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=asks)
    except Exception as error:  # jinja's own errors, and whatever a template raises
        raise ValueError(f"the chat template refuses the messages: {error}") from error
    return text


def _template(tokenizer: Any) -> str:
    try:
        template: str = tokenizer.get_chat_template()
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"the tokenizer ({type(tokenizer).__name__}) has no chat template; expected that of a chat model, or give "
            "the conversations as columns prompt and completion"
        ) from error
    return template
