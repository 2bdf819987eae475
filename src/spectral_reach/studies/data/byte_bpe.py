"""A tokenizer of one's own: byte-level BPE, which has an encoding for any text and gives it back exactly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SMALLEST_VOCABULARY = 257
"""Every byte, and the token after each document."""


def learn_byte_bpe(texts: Iterable[str], vocabulary: int, end: str) -> Tokenizer:
    """Byte-level BPE of ``vocabulary`` tokens learned on ``texts``, among them ``end``, which no text is encoded as.

    Raises:
        ValueError: the texts do not yield as many tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Texts may spell ``end`` out; only the end of a document is that token.
    tokenizer.encode_special_tokens = True
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if (learned := tokenizer.get_vocab_size()) != vocabulary:
        raise ValueError(
            f"vocabulary is {vocabulary}, but the training text yields only {learned} tokens; choose at most {learned}."
        )
    return tokenizer
