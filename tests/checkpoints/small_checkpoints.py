"""Tiny tokenizers and networks of transformers, of random weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

SPECIAL = ["<pad>", "<unk>", "<mask>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"]
_SENTENCE = "the a cat dog mat log sat on ran slept and one two three yes no good bad film what is it"
WORDS = [*SPECIAL, *_SENTENCE.split()]
ID = {word: number for number, word in enumerate(WORDS)}
VOCABULARY = len(WORDS)
TINY: Mapping[str, Any] = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}

PLAIN_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
MARKED_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|> "
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }} <|end|> {% endgeneration %}"
    "{% else %}{{ m['content'] }} <|end|> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)


def ids(text: str) -> list[int]:
    """Token ids of words, by this file's own table."""
    return [ID[word] for word in text.split()]


def tokenizer(
    *,
    template: str | None = None,
    pad: bool = True,
    begin: bool = False,
    ends: bool = False,
    longest: int | None = None,
) -> PreTrainedTokenizerFast:
    """One token a word. ``begin``: ``<s>`` before every text; ``ends``: ``<s> A </s>`` and ``<s> A </s> B </s>``."""
    words = Tokenizer(WordLevel(ID, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    words.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    special = [("<s>", ID["<s>"]), ("</s>", ID["</s>"])]
    if begin:
        words.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=special)
    if ends:
        words.post_processor = TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=special
        )
    names: dict[str, Any] = {"pad_token": "<pad>"} if pad else {}
    if ends:
        names["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    limit = {} if longest is None else {"model_max_length": longest}
    made = PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        mask_token="<mask>",
        bos_token="<s>",
        eos_token="</s>",
        **names,
        **limit,
    )
    made.chat_template = template
    return made


def jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """An object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def never() -> Any:
    """A processor that must not be asked for."""
    raise AssertionError("the processor was loaded without need")


def giving(processor: Any) -> Callable[[], Any]:
    """What loads ``processor``."""
    return lambda: processor


def _random(model: Any) -> Any:
    for parameter in model.parameters():
        # Away from the small initial weights, under which all logits are nearly equal.
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def llama(vocabulary: int = VOCABULARY, longest: int = 32, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return _random(LlamaForCausalLM(_llama_config(vocabulary, longest)))


def llama_classifier(**settings: Any) -> LlamaForSequenceClassification:
    torch.manual_seed(0)
    return _random(LlamaForSequenceClassification(_llama_config(VOCABULARY, 32, **settings)))


def _llama_config(vocabulary: int, longest: int, **settings: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        **TINY,
        max_position_embeddings=longest,
        bos_token_id=3,
        eos_token_id=4,
        **{"pad_token_id": 0, **settings},
    )


def pythia(longest: int = 32, seed: int = 0) -> GPTNeoXForCausalLM:
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        **TINY,
        max_position_embeddings=longest,
        bos_token_id=3,
        eos_token_id=4,
    )
    return _random(GPTNeoXForCausalLM(config))


def _bert_config(**settings: Any) -> BertConfig:
    return BertConfig(
        vocab_size=VOCABULARY,
        **TINY,
        max_position_embeddings=32,
        **settings,
    )


def bert() -> BertForMaskedLM:
    torch.manual_seed(0)
    return _random(BertForMaskedLM(_bert_config()))


def bert_classifier(**settings: Any) -> BertForSequenceClassification:
    torch.manual_seed(0)
    return _random(BertForSequenceClassification(_bert_config(**settings)))


def vit(**settings: Any) -> ViTForImageClassification:
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=8,
        patch_size=4,
        **TINY,
        **settings,
    )
    return _random(ViTForImageClassification(config))


def image_processor(size: int = 8) -> ViTImageProcessor:
    return ViTImageProcessor(size={"height": size, "width": size})
