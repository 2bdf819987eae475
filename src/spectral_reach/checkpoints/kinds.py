"""What a checkpoint's network does: which data it reads and which outputs it has."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """The kinds of networks of transformers that are measured."""

    CAUSAL_LM = "causal-lm"
    MASKED_LM = "masked-lm"
    SEQUENCE_CLASSIFICATION = "sequence-classification"
    IMAGE_CLASSIFICATION = "image-classification"


# How the names of classes end, as in LlamaForCausalLM, GPT2LMHeadModel, BertForMaskedLM.
_ENDINGS = {
    "ForCausalLM": Kind.CAUSAL_LM,
    "LMHeadModel": Kind.CAUSAL_LM,
    "ForMaskedLM": Kind.MASKED_LM,
    "ForSequenceClassification": Kind.SEQUENCE_CLASSIFICATION,
    "ForImageClassification": Kind.IMAGE_CLASSIFICATION,
    # Distilled vision transformers have a class of their own with the same outputs.
    "ForImageClassificationWithTeacher": Kind.IMAGE_CLASSIFICATION,
}


def kind_of(config: Any) -> Kind:
    """The kind that a config's ``architectures`` name.

    Raises:
        ValueError: they name none, several that differ, or one of another kind.
    """
    architectures = list(getattr(config, "architectures", None) or [])
    kinds = {kind for name in architectures for ending, kind in _ENDINGS.items() if name.endswith(ending)}
    if len(kinds) != 1:
        known = ", ".join(f"...{ending}" for ending in _ENDINGS)
        raise ValueError(
            f"config.json names the architectures {architectures}; expected one that ends in {known}: say what the "
            f"network is with --kind {'|'.join(Kind)}"
        )
    return kinds.pop()
