"""Spectral position of a small convolutional network while Lightning's Trainer trains it, in one more line.

The images are scikit-learn's hand-written digits. What is logged goes to the Trainer's loggers (here a CSV file), and
stays in OUT/spectral_reach/measurements.parquet.

    python examples/lightning_trainer.py [--steps 300] [--out lightning]
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from spectral_reach.integrations.lightning import SpectralCallback


class Digits(LightningModule):
    """Maps images to ten logits; that is all the callback asks of a module."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 16, 3, stride=2), nn.GELU(), nn.Flatten()
        )
        self.readout = nn.Linear(16 * 3 * 3, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 8, 8) -> (B, 10)."""
        logits: Tensor = self.readout(self.body(images))
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross entropy, the callback's loss unless it is told of another."""
        images, labels = batch
        return F.cross_entropy(self(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def train(steps: int, out: Path) -> SpectralCallback:
    """Train, and measure on the batch of an update whenever that is due."""
    # Of workers for loading data and of unused hardware, which a small example does without.
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    seed_everything(0, verbose=False)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    data = DataLoader(TensorDataset(images, torch.tensor(digits.target)), batch_size=64, shuffle=True)
    callback = SpectralCallback()
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        default_root_dir=out,
        logger=CSVLogger(out),
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Digits(), data)
    return callback


def main() -> None:
    """Train, then print how position went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="updates (300)")
    parser.add_argument("--out", type=Path, default=Path("lightning"), help="the Trainer's root folder")
    arguments = parser.parse_args()
    tracker = train(arguments.steps, arguments.out).tracker
    assert tracker is not None
    print(f"{'step':>6}{'loss':>9}{'chi_net':>11}{'chi_pos':>11}{'chi_pos_unbiased':>27}")
    for row in tracker.history:
        unbiased = f"{row['chi_pos_unbiased']:.2e} +- {row['chi_pos_unbiased_stderr']:.1e}"
        print(f"{row['step']:>6}{row['loss']:>9.3f}{row['chi_net']:>11.3g}{row['chi_pos']:>11.2e}{unbiased:>27}")


if __name__ == "__main__":
    main()
