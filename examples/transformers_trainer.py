"""Spectral position of a small Llama while the Trainer of transformers trains it, in one more line.

The text is this machine's own Python source files, byte by byte. What is logged goes where the Trainer logs (here to
the terminal), and stays in OUT/spectral_reach/measurements.parquet.

    python examples/transformers_trainer.py [--steps 200] [--out trainer]
"""

from __future__ import annotations

import argparse
import sysconfig
from pathlib import Path

import torch
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import spectral_reach as sr
from spectral_reach.integrations.huggingface import SpectralCallback

LENGTH = 64


class Bytes(Dataset[dict[str, torch.Tensor]]):
    """Sequences of the bytes of the standard library's modules."""

    def __init__(self) -> None:
        files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:60]
        text = torch.frombuffer(bytearray(b"".join(file.read_bytes() for file in files)), dtype=torch.uint8).long()
        self._sequences = text[: len(text) // LENGTH * LENGTH].view(-1, LENGTH)

    def __len__(self) -> int:
        return len(self._sequences)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        sequence = self._sequences[index]
        return {"input_ids": sequence, "labels": sequence}


def train(steps: int, out: Path) -> SpectralCallback:
    """Train, and measure on the batch of an update whenever that is due."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2
    )
    arguments = TrainingArguments(
        str(out),
        max_steps=steps,
        per_device_train_batch_size=16,
        learning_rate=3e-3,
        logging_steps=50,
        save_strategy="no",
        dataloader_pin_memory=False,
        report_to=[],
        disable_tqdm=True,
    )
    callback = SpectralCallback(updates=20)  # every 20 updates also what the update did
    Trainer(LlamaForCausalLM(config), arguments, train_dataset=Bytes(), callbacks=[callback]).train()
    return callback


def main() -> None:
    """Train, then print how position went and what the updates did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="updates (200)")
    parser.add_argument("--out", type=Path, default=Path("trainer"), help="the Trainer's output folder")
    arguments = parser.parse_args()
    tracker = train(arguments.steps, arguments.out).tracker
    assert tracker is not None
    print(f"{'step':>6}{'loss':>9}{'chi_net':>11}{'chi_pos':>11}{'chi_pos_unbiased':>27}")
    for row in tracker.history:
        unbiased = f"{row['chi_pos_unbiased']:.2e} +- {row['chi_pos_unbiased_stderr']:.1e}"
        print(f"{row['step']:>6}{row['loss']:>9.3f}{row['chi_net']:>11.3g}{row['chi_pos']:>11.2e}{unbiased:>27}")
    print(f"\n{'update':>6}{'change':>11}{'linear':>11}{'correction':>12}{'next batch':>12}{'alignment':>11}")
    for row in tracker.updates:
        print(
            f"{row['step']:>6}{row['change']:>11.2e}{row['linear']:>11.2e}{row['correction']:>12.2e}"
            f"{row['next_change']:>12.2e}{row['alignment']:>11.2f}"
        )
    for warning in sr.early_warnings(tracker.history):
        print(f"\n{warning.kind}: {warning.text}")


if __name__ == "__main__":
    main()
