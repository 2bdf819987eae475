"""What is measured: a Llama trained for a few steps on text, one batch of text, and a step of its training.

Trained weights are kept in ``benchmarks/out`` as safetensors, named by everything they depend on, because what the
estimators' spread is depends on what was learnt, and training takes longer than measuring.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spectral_reach.studies.data import load
from spectral_reach.studies.data.batches import measurement_batch, training_batch
from spectral_reach.studies.data.tokens import TokenData
from spectral_reach.studies.models.llama import LlamaConfig

OUT = Path(__file__).resolve().parent / "out"

WARMUP_STEPS = 20
TRAINING_STEP = "training_step"
"""What everything is compared with, as it is called in the results."""

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A model, how long it was trained, and the batch.

    Attributes:
        model: the shape of the Llama.
        units: B, sequences in the batch.
        steps: of training before anything is measured.
        text: train and measure on Python's standard library; else on random tokens.
        seed: of the weights, the order of the data and the batch.
        learning_rate: of the training, after its warm-up.
    """

    model: LlamaConfig
    units: int
    steps: int
    text: bool
    seed: int = 0
    learning_rate: float = 1e-3

    def of(self, *, units: int | None = None, **shape: int) -> Workload:
        """The same with random weights and tokens in other shapes: for time, which depends on nothing else."""
        return replace(self, model=replace(self.model, **shape), units=units or self.units, steps=0, text=False)

    def build(self) -> tuple[nn.Module, Batch]:
        """The trained model in training mode (a Llama draws no random numbers) and the batch to measure."""
        data = self._data()
        model = self.model.build(self.seed).train()
        if self.steps:
            file = OUT / f"weights-{self._key(data)}.safetensors"
            if not file.exists():
                _train(model, self, data)
                file.parent.mkdir(parents=True, exist_ok=True)
                part = file.with_suffix(".part")
                save_file(model.state_dict(), part)
                part.replace(file)
            model.load_state_dict(load_file(file))
        return model, measurement_batch(data, self.steps, seed=self.seed, units=self.units)

    def _data(self) -> TokenData:
        vocabulary, context = self.model.vocabulary, self.model.context
        if self.text:
            return load("stdlib", vocabulary=vocabulary, context=context)
        tokens = np.random.default_rng(self.seed).integers(vocabulary, size=(64, context + 1)).astype(np.uint16)
        return TokenData(
            name="random",
            label="random tokens",
            description="independent tokens",
            train=tokens,
            heldout=tokens[:1],
            vocabulary=vocabulary,
            content_hash="",
        )

    def _key(self, data: TokenData) -> str:
        """Everything the trained weights depend on."""
        known = {**asdict(self), "data": data.content_hash, "warmup": WARMUP_STEPS}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A workload and how much is made of it.

    Attributes:
        workload: what is measured.
        rounds: repeats of every time.
        draws: seeds behind the spread of one probe.
        units, tokens, vocabulary: shapes at which cost is taken, to see how it grows.
        units_at_tokens: sequences in the batch where the number of tokens grows.
        exact: the exact trace too, one backward pass for every output direction.
        process_each: peak memory of each way in a process of its own, not of all in one: exact, but it takes longer.
    """

    workload: Workload
    rounds: int
    draws: int
    units: tuple[int, ...]
    tokens: tuple[int, ...]
    units_at_tokens: int
    vocabulary: tuple[int, ...]
    exact: bool
    process_each: bool


PRESETS = {
    "reference": Preset(
        workload=Workload(
            model=LlamaConfig(vocabulary=4096, context=128, width=256, depth=6, heads=4, mlp_width=672),
            units=32,
            steps=200,
            text=True,
        ),
        rounds=7,
        draws=128,
        units=(8, 16, 32),
        tokens=(128, 256, 512, 1024),
        units_at_tokens=8,
        vocabulary=(4096, 32768),
        exact=False,
        process_each=True,
    ),
    "toy": Preset(
        workload=Workload(
            model=LlamaConfig(vocabulary=32, context=8, width=16, depth=1, heads=1, mlp_width=24),
            units=4,
            steps=5,
            text=False,
        ),
        rounds=3,
        draws=40,
        units=(2, 4),
        tokens=(8, 16),
        units_at_tokens=2,
        vocabulary=(32, 64),
        exact=True,
        process_each=False,
    ),
}


def optimiser_of(model: nn.Module) -> torch.optim.AdamW:
    """AdamW as in training."""
    return torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)


def training_step(model: nn.Module, batch: Batch, optimiser: torch.optim.Optimizer) -> float:
    """Forward, backward and update on a batch; the loss. The outputs are there until the end, as in most loops."""
    inputs, targets = batch
    optimiser.zero_grad()
    outputs = model(inputs)
    loss = nn.functional.cross_entropy(outputs.logits.flatten(0, 1), targets.flatten())
    loss.backward()
    optimiser.step()
    return loss.item()


def resting_optimiser(model: nn.Module, batch: Batch) -> torch.optim.AdamW:
    """AdamW whose steps take their time but leave the weights where they are; its averages exist already."""
    optimiser = optimiser_of(model)
    for group in optimiser.param_groups:
        group.update(lr=0.0, weight_decay=0.0)
    training_step(model, batch, optimiser)
    optimiser.zero_grad()
    return optimiser


def step_in_place(model: nn.Module, batch: Batch) -> Callable[[], float]:
    """A training step to time."""
    optimiser = resting_optimiser(model, batch)

    def step() -> float:
        loss = training_step(model, batch, optimiser)
        optimiser.zero_grad()
        return loss

    return step


def _train(model: nn.Module, workload: Workload, data: TokenData) -> None:
    optimiser = optimiser_of(model)
    start = time.perf_counter()
    for step in range(workload.steps):
        for group in optimiser.param_groups:
            group["lr"] = workload.learning_rate * min(1.0, (step + 1) / WARMUP_STEPS)
        batch = training_batch(data, step, seed=workload.seed, batch_size=workload.units)
        loss = training_step(model, batch, optimiser)
        if (step + 1) % 20 == 0:
            seconds = time.perf_counter() - start
            print(f"training: step {step + 1} of {workload.steps}, loss {loss:.2f}, {seconds:.0f} s")
