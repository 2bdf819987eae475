"""Column ``text`` for masked language models: random tokens are hidden and are the labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from spectral_reach.checkpoints.data.conditions import Conditions
from spectral_reach.checkpoints.data.tokenization import as_text, whole_sequence
from spectral_reach.checkpoints.data.unit import Unit
from spectral_reach.measured.rows import IGNORE_INDEX
from spectral_reach.records.needed import needed


class MaskedLanguageModelling:
    """Encodes a document, and hides some of its tokens."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def __call__(self, row: Mapping[str, Any], index: int) -> Unit:
        """The document with masks that depend on the seed and its place in the file alone."""
        tensors, is_cut = whole_sequence(as_text(row["text"], "text"), None, self._conditions)
        tensors["input_ids"], labels = masked(tensors["input_ids"], index, self._conditions)
        return Unit(tensors={**tensors, "labels": labels}, n_labels=int(labels.ne(IGNORE_INDEX).sum()), is_cut=is_cut)


def masked(ids: Tensor, index: int, conditions: Conditions) -> tuple[Tensor, Tensor]:
    """Inputs and labels (T,) of the document number ``index``, by transformers' own collator.

    Eight of ten chosen tokens become the mask token, one a random one, one stays. Special tokens are never chosen.

    Raises:
        ValueError: the tokenizer has no mask token.
    """
    with needed("hf"):
        from transformers import DataCollatorForLanguageModeling

    tokenizer, options = conditions.processor, conditions.options
    if getattr(tokenizer, "mask_token", None) is None:
        raise ValueError(
            f"the tokenizer ({type(tokenizer).__name__}) has no mask token; expected that of a masked language model"
        )
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=options.mask_probability)
    # Another generator for every document: its masks do not depend on which others are in the batch.
    seed = hashlib.sha256(f"masks {options.seed} {index}".encode()).digest()[:8]
    collator.generator = torch.Generator().manual_seed(int.from_bytes(seed) >> 1)
    inputs, labels = collator.torch_mask_tokens(ids.unsqueeze(0).clone())
    conditions.check_vocabulary(inputs[0].tolist())
    return inputs[0], labels[0]
