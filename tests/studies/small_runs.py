"""A run of a few seconds at most: the smallest Llama on the digits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies import data
from spectral_reach.studies.data import TokenData
from spectral_reach.studies.models.llama import LlamaConfig
from spectral_reach.studies.training.config import MeasurementConfig, TrainingConfig
from spectral_reach.studies.training.run_config import DataConfig, RunConfig, facts_of

TRAINING = TrainingConfig(
    steps=12,
    batch_size=4,
    learning_rate=0.01,
    warmup_steps=2,
    heldout_every=5,
    heldout_units=8,
    checkpoint_every=5,
    device="cpu",  # bit for bit the same on every machine
)
MEASUREMENT = MeasurementConfig(per_decade=1, width=1, units=4, late_measurements=1, late_units=6)


def digits() -> TokenData:
    return data.load("digits")


def small_run(name: str = "pixels-small", *, threads: int = 1, **training: Any) -> RunConfig:
    loaded = digits()
    model = LlamaConfig(vocabulary=18, context=64, width=8, depth=1, heads=1, mlp_width=8)
    return RunConfig(
        name=name,
        family="pixels",
        data=DataConfig(name="digits"),
        model=model,
        training=replace(TRAINING, **training),
        measurement=MEASUREMENT,
        threads=threads,
        facts=facts_of(loaded, model),
    )


def folder_of(config: RunConfig, path: Path) -> RunFolder:
    return RunFolder.create(path, config.as_dict())


def contents(path: Path) -> dict[str, bytes]:
    """Every file that a run must leave bit for bit the same, whatever happened on the way."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name not in (".lock", "log.txt", "usage.json")
    }
