"""The callback in TRL's SFTTrainer, where only completions carry labels."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

import spectral_reach as sr
from spectral_reach.integrations.huggingface import SpectralCallback
from spectral_reach.tracking.row import seed_of

pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = ["<end>", "<unknown>", "one", "two", "three", "cat", "sat", "on", "the", "mat", "and", "slept"]


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unknown>"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<end>", pad_token="<end>", unk_token="<unknown>", model_max_length=32
    )


def train(out: Path, *callbacks: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
        )
    )
    numbers = ["one", "two", "three"]
    pairs = [
        {"prompt": f"{numbers[i % 3]} cat", "completion": " sat on the mat" + " and slept" * (i % 2)} for i in range(16)
    ]
    arguments = SFTConfig(
        str(out),
        max_steps=3,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        save_strategy="no",
        completion_only_loss=True,
    )
    trainer = SFTTrainer(
        model,
        arguments,
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer(),
        callbacks=list(callbacks),
    )
    trainer.train()
    return model


def test_only_completions_count_and_training_is_the_same_to_the_bit(tmp_path: Path) -> None:
    class Watch(SpectralCallback):
        """Takes the decomposition by hand too."""

        def __init__(self) -> None:
            super().__init__(schedule=1)
            self.by_hand: dict[int, sr.Decomposition] = {}
            self.labels: dict[int, int] = {}

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            batch = dict(self._batch)
            self.by_hand[state.global_step] = sr.decompose(kwargs["model"], batch, seed=seed_of(0, state.global_step))
            self.labels[state.global_step] = int(batch["labels"].ne(-100).sum())
            super().on_pre_optimizer_step(args, state, control, **kwargs)

    plain = train(tmp_path / "plain")
    watch = Watch()
    watched = train(tmp_path / "watched", watch)
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert a.equal(b)
    assert watch.tracker is not None
    rows = watch.tracker.history
    assert [row["step"] for row in rows] == [0, 1, 2]
    for row in rows:
        assert row["n_samples"] == watch.labels[row["step"]] < 4 * 10  # prompts, two words each, have no labels
        assert row["chi_pos"] == watch.by_hand[row["step"]].chi_pos
        assert row["chi_pos_unbiased"] == watch.by_hand[row["step"]].chi_pos_unbiased
