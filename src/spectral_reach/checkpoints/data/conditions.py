"""What a model asks of its data: kind, vocabulary, longest sequence, tokenizer or image processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from spectral_reach.checkpoints.data.options import DataOptions
from spectral_reach.checkpoints.kinds import Kind

# A tokenizer without a limit of its own says a number like 10**30.
_NO_LIMIT = 10**9
# Their positions begin behind that of the padding token, which takes as many off the longest sequence.
_POSITIONS_BEHIND_PADDING = frozenset(
    {
        "camembert",
        "data2vec-text",
        "esm",
        "ibert",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)


class Conditions:
    """A model's kind, config and processor, and the options of the user.

    Args:
        kind: of the model.
        config: its transformers configuration.
        processor: loads the tokenizer or the image processor; called once, when it is first needed.
        options: of the user.
    """

    def __init__(self, kind: Kind, config: Any, processor: Callable[[], Any], options: DataOptions) -> None:
        self.kind = kind
        self.config = config
        self.options = options
        self._processor = processor

    @cached_property
    def processor(self) -> Any:
        """The tokenizer or the image processor."""
        return self._processor()

    @cached_property
    def text_config(self) -> Any:
        """The part of the config that is about text."""
        return self.config.get_text_config()

    @property
    def pad_id(self) -> int:
        """A token that the model has a row for, to fill up with: its own padding token where there is one.

        Classifiers that are made of causal models find the end of a sequence by the padding token of the config.
        """
        own = getattr(self.text_config, "pad_token_id", None)
        if own is None and self._has_processor:
            own = getattr(self.processor, "pad_token_id", None)
        if own is None:
            own = getattr(self.text_config, "eos_token_id", None)
        if isinstance(own, list):
            own = own[0]
        return own if own is not None and 0 <= own < self.text_config.vocab_size else 0

    @property
    def _has_processor(self) -> bool:
        return "processor" in self.__dict__

    @cached_property
    def longest(self) -> int | None:
        """Tokens that the model has positions for; None where its config does not say so."""
        positions = getattr(self.text_config, "max_position_embeddings", None)
        if not isinstance(positions, int) or positions <= 0:
            return None
        return positions - (self.pad_id + 1 if self.config.model_type in _POSITIONS_BEHIND_PADDING else 0)

    def room_for(self, length: int) -> int:
        """How many tokens of a sequence of ``length`` are taken.

        A ``max_length`` may be more than the tokenizer takes the model to read, but not more than it has positions for.

        Raises:
            ValueError: it is longer than the model reads, or ``max_length`` is.
        """
        asked = self.options.max_length
        if self.longest is not None and asked is not None and asked > self.longest:
            raise ValueError(
                f"max_length is {asked}; the model reads at most {self.longest} tokens: ask for these or less"
            )
        if asked is not None:
            return min(length, asked)
        limits = [] if self.longest is None else [self.longest]
        if self._has_processor and getattr(self.processor, "model_max_length", _NO_LIMIT) < _NO_LIMIT:
            limits.append(int(self.processor.model_max_length))
        if limits and length > min(limits):
            raise ValueError(
                f"the sequence has {length} tokens and the model reads at most {min(limits)}; give "
                f"--max-length {min(limits)} or less to cut what is longer"
            )
        return length

    def check_vocabulary(self, ids: Sequence[int]) -> None:
        """Refuse tokens that the model has no row for.

        Raises:
            ValueError: the data were made for another model, or the tokenizer was.
        """
        vocabulary = self.text_config.vocab_size
        low, high = min(ids, default=0), max(ids, default=0)
        if low < 0 or high >= vocabulary:
            whose = f" (the tokenizer has {len(self.processor)} tokens)" if self._has_processor else ""
            raise ValueError(
                f"the tokens go from {low} to {high}{whose}, and the model has embeddings of {vocabulary}, for 0 to "
                f"{vocabulary - 1}; expected the tokenizer that the model was trained with"
            )
