"""The callback in TRL's trainers: in SFTTrainer only completions carry labels; what has another loss is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

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


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
        )
    )


def train(out: Path, *callbacks: Any, **options: Any) -> tuple[LlamaForCausalLM, list[dict[str, float]]]:
    """The trained model, and what the trainer has logged of its own."""
    model = llama()
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
        logging_steps=3,
        **options,
    )
    trainer = SFTTrainer(
        model,
        arguments,
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer(),
        callbacks=list(callbacks),
    )
    trainer.train()
    own = [entry for entry in trainer.state.log_history if "loss" in entry]
    return model, own


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

    plain, logged = train(tmp_path / "plain")
    watch = Watch()
    watched, logged_with = train(tmp_path / "watched", watch)
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert a.equal(b)
    assert watch.tracker is not None
    rows = watch.tracker.history
    assert [row["step"] for row in rows] == [0, 1, 2]
    for row in rows:
        assert row["n_samples"] == watch.labels[row["step"]] < 4 * 10  # prompts, two words each, have no labels
        assert row["chi_pos"] == watch.by_hand[row["step"]].chi_pos
        assert row["chi_pos_unbiased"] == watch.by_hand[row["step"]].chi_pos_unbiased
    # The trainer's own metrics are means from one of its logs to the next, as without the callback.
    assert "mean_token_accuracy" in logged[0]
    assert logged_with == logged


def test_another_loss_of_sft_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the SFTTrainer has loss_type='dft', .*expected 'nll', cross entropy"):
        train(tmp_path, SpectralCallback(), loss_type="dft")


def test_preferences_are_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    pairs = [{"prompt": "one cat", "chosen": " sat on", "rejected": " slept on the mat"} for _ in range(4)]
    trainer = DPOTrainer(
        llama(),
        ref_model=llama(),
        args=DPOConfig(str(tmp_path), max_steps=1, report_to=[], use_cpu=True, bf16=False, disable_tqdm=True),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer(),
        callbacks=[SpectralCallback(loss="cross_entropy")],
    )
    told = r"DPOTrainer trains by a loss of preferences .*sr\.Tracker in a loop of your own.*, of DPO with --loss dpo"
    with pytest.raises(ValueError, match=told):
        trainer.train()
    assert not (tmp_path / "spectral_reach").exists()
