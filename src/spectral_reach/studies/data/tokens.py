"""Data as sequences of tokens to train on, and sequences held out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spectral_reach.studies.data.dataset import Batch, Part, Rows

Tokens = npt.NDArray[np.uint16 | np.uint32]
"""Token sequences, (n_sequences, T + 1): T inputs ``[:, :-1]`` and their T targets ``[:, 1:]``."""
Counts = npt.NDArray[np.int64]
"""(vocabulary): how often each token is a target."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenData:
    """Sequences of T + 1 tokens, of which a model reads the first T and predicts the last T.

    Attributes:
        name: the data set's name in the registry.
        label: what a figure calls it.
        description: one sentence on what the data are and how they were split.
        train: (n_train, T + 1) token numbers below ``vocabulary``; an array, or a view of a memory map.
        heldout: (n_heldout, T + 1), from sources that ``train`` never saw.
        vocabulary: number of different tokens.
        content_hash: sha256 of the source content, so that a run can tell whether the data are the same.
        facts: anything worth recording about how the data were made (file counts, skipped files).
        target_counts: of each part, where they are known already; without them all tokens are read and counted.
        unigram_entropy: nats per token of the held-out targets under the training targets' frequencies;
            what a model that ignores its input can reach. Computed on construction.
    """

    name: str
    label: str
    description: str
    train: Tokens
    heldout: Tokens
    vocabulary: int
    content_hash: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    target_counts: Mapping[Part, Counts] | None = field(default=None, repr=False)
    unigram_entropy: float = field(init=False)

    def __post_init__(self) -> None:
        for name, tokens in (("train", self.train), ("heldout", self.heldout)):
            if (
                tokens.ndim != 2
                or tokens.shape[0] < 1
                or tokens.shape[1] < 2
                or tokens.dtype not in (np.uint16, np.uint32)
            ):
                raise ValueError(
                    f"Data set {self.name!r}: {name} tokens are {tokens.dtype} of shape {tokens.shape}; "
                    "expected uint16 or uint32 of shape (sequences, T + 1) with at least one sequence and T >= 1."
                )
            # Counts are of tokens below the vocabulary; a first token is no target, so it is looked at.
            largest = int((tokens if self.target_counts is None else tokens[:1, 0]).max())
            if largest >= self.vocabulary:
                raise ValueError(
                    f"Data set {self.name!r}: {name} holds token {largest}; expected tokens below the "
                    f"vocabulary {self.vocabulary}."
                )
        if self.train.shape[1] != self.heldout.shape[1]:
            raise ValueError(
                f"Data set {self.name!r}: train sequences have {self.train.shape[1]} tokens and held-out "
                f"ones {self.heldout.shape[1]}; expected equal lengths."
            )
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))
        if self.target_counts is None:
            entropy = unigram_entropy(self.train[:, 1:], self.heldout[:, 1:], self.vocabulary)
        else:
            self._check_counts(self.target_counts)
            entropy = entropy_of_counts(self.target_counts["train"], self.target_counts["heldout"])
        object.__setattr__(self, "unigram_entropy", entropy)

    @property
    def context(self) -> int:
        """T, the tokens that a model reads, and predicts, in one sequence."""
        return int(self.train.shape[1]) - 1

    @property
    def dimensions(self) -> Mapping[str, int]:
        """Vocabulary and context, which a model has to share."""
        return {"vocabulary": self.vocabulary, "context": self.context}

    def units(self, part: Part) -> int:
        """How many sequences a part has."""
        return len(self._part(part))

    def batch(self, part: Part, rows: Rows) -> Batch:
        """Inputs (B, T) and targets (B, T), int64: every one of the B T targets is predicted."""
        tokens = torch.from_numpy(self._part(part)[rows].astype(np.int64))
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def _part(self, part: Part) -> Tokens:
        return self.train if part == "train" else self.heldout

    def _check_counts(self, target_counts: Mapping[Part, Counts]) -> None:
        parts: tuple[Part, Part] = ("train", "heldout")
        for part in parts:
            counts, targets = target_counts[part], self.units(part) * self.context
            if counts.shape != (self.vocabulary,) or counts.min() < 0 or counts.sum() != targets:
                raise ValueError(
                    f"Data set {self.name!r}: the counts of {part} targets have shape {counts.shape} and sum "
                    f"{counts.sum()}; expected ({self.vocabulary},) and {targets}. Count the tokens again."
                )


def unigram_entropy(train: Tokens, heldout: Tokens, vocabulary: int) -> float:
    """``-mean log q(token)`` over ``heldout`` in nats, ``q = (count in train + 1) / (all + vocabulary)``."""
    counts = np.bincount(train.reshape(-1), minlength=vocabulary).astype(np.float64) + 1.0
    log_q = np.log(counts) - np.log(counts.sum())
    return float(-log_q[heldout.reshape(-1)].mean())


def entropy_of_counts(train: Counts, heldout: Counts) -> float:
    """The same from the counts of targets of either part, (vocabulary)."""
    log_q = np.log(train + 1.0) - np.log(train.sum() + len(train))
    return float(-(log_q @ heldout) / heldout.sum())


def windows(tokens: Tokens, context: int) -> Tokens:
    """Cut a stream into rows of ``context + 1`` tokens; each row's last token is the next row's first.

    The overlap of one makes every token but the first a target exactly once. A tail too short for a
    row is dropped. Rows of a memory map are a view of it: nothing is read.

    Raises:
        ValueError: the stream is too short for one row.
    """
    rows = (len(tokens) - 1) // context
    if rows < 1:
        raise ValueError(
            f"A stream of {len(tokens)} tokens is too short for one sequence of {context} + 1; choose a "
            "smaller context."
        )
    view: Tokens = np.lib.stride_tricks.sliding_window_view(tokens, context + 1)[::context][:rows]
    return view if isinstance(tokens, np.memmap) else np.ascontiguousarray(view)


def digest(*parts: bytes) -> str:
    """sha256 of the parts, each preceded by its length: bytes moved from one part to the next change it."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()
