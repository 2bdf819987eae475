"""Tokens of a large text on disk: a file for each part, written once as they come, memory-mapped afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spectral_reach.studies.data.dataset import Part
from spectral_reach.studies.data.tokens import Counts, Tokens, windows

_PARTS: tuple[Part, Part] = ("train", "heldout")
_FACTS = "facts.json"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenStream:
    """All tokens of a part in a row, (n), and how often each occurs, (vocabulary)."""

    tokens: Tokens
    counts: Counts

    def target_counts(self, context: int) -> Counts:
        """How often each token is a target of ``windows(tokens, context)``: the first and the tail are none."""
        last = (len(self.tokens) - 1) // context * context
        left_out = np.concatenate([self.tokens[:1], self.tokens[last + 1 :]])
        return self.counts - np.bincount(left_out, minlength=len(self.counts))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenStreams:
    """Both parts as ``write_streams`` left them."""

    train: TokenStream
    heldout: TokenStream
    facts: Mapping[str, Any]

    @property
    def vocabulary(self) -> int:
        """The number of different tokens."""
        return len(self.train.counts)

    def sequences(self, context: int) -> dict[str, Any]:
        """What ``TokenData`` takes of them: sequences as views of the files, their counts and the vocabulary.

        Raises:
            ValueError: a part is too short for one sequence.
        """
        return {
            "train": windows(self.train.tokens, context),
            "heldout": windows(self.heldout.tokens, context),
            "target_counts": {part: getattr(self, part).target_counts(context) for part in _PARTS},
            "vocabulary": self.vocabulary,
        }


def token_dtype(vocabulary: int) -> npt.DTypeLike:
    """The smaller of the two types of tokens that holds every number below ``vocabulary``."""
    return np.uint16 if vocabulary <= 2**16 else np.uint32


def write_streams(folder: Path, tokens: Iterable[tuple[Part, Counts]], vocabulary: int) -> None:
    """Append each array of token numbers, (n) int64, to the file of its part in ``folder``, and count them.

    Raises:
        ValueError: a token is not below the vocabulary.
    """
    counts = {part: np.zeros(vocabulary, dtype=np.int64) for part in _PARTS}
    with ExitStack() as files:
        handles = {part: files.enter_context((folder / f"{part}.tokens").open("wb")) for part in _PARTS}
        for part, numbers in tokens:
            if len(numbers) and (largest := int(numbers.max())) >= vocabulary:
                raise ValueError(
                    f"The tokenizer gives token {largest}; expected tokens below its vocabulary {vocabulary}. Use a "
                    "whole tokenizer."
                )
            handles[part].write(numbers.astype(token_dtype(vocabulary)).tobytes())
            counts[part] += np.bincount(numbers, minlength=vocabulary)
    for part in _PARTS:
        np.save(folder / f"{part}-counts.npy", counts[part], allow_pickle=False)


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Keep what is worth recording about how the tokens were made beside them."""
    (folder / _FACTS).write_text(json.dumps(dict(facts), indent=1), encoding="utf-8")


def open_streams(files: Mapping[str, Path]) -> TokenStreams:
    """The streams of a cache folder, memory-mapped: nothing but the counts is read."""
    streams = {}
    for part in _PARTS:
        counts: Counts = np.load(files[f"{part}-counts.npy"], allow_pickle=False)
        tokens = np.memmap(files[f"{part}.tokens"], dtype=token_dtype(len(counts)), mode="r")
        streams[part] = TokenStream(tokens=tokens, counts=counts)
    return TokenStreams(**streams, facts=json.loads(files[_FACTS].read_text("utf-8")))
