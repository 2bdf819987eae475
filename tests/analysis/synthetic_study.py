"""Study folders with plausible curves and known laws, for tests of the analyses and of the figures.

Not a test: ``tests/`` is on the path, so both folders import it as ``analysis.synthetic_study``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.analysis.study_data import Losses, Measurements, RunData
from spectral_reach.tracking.schedule import log_windows

TOKENS_PER_STEP = 2048


@dataclass(frozen=True, kw_only=True)
class SyntheticRun:
    """A run with loss floor + (start - floor) (1 + s / 12)^-decay, a position that rises to its peak at step 15 and
    goes on to ``late_position`` as a power of the step, and a chi_net that grows as another."""

    name: str
    parameters: int
    steps: int = 300
    done: int | None = None  # None: finished
    warmup_steps: int = 10
    start: float = 6.24
    entropy: float = 5.2
    floor: float = 2.0
    decay: float = 0.6
    loss_noise: float = 0.02
    heldout_every: int = 50  # steps between held-out losses
    peak: float = 2e-5  # of the population's position
    late_position: float = 1e-7  # the same, at the end
    seed_spread: float = 0.0  # standard deviation of log(late_position) from seed to seed
    chi_net_growth: float = 1.0  # from the first step to the last
    batch_noise: float = 1e-6  # what noise adds to the mini-batch's chi_pos
    position_noise: float = 1e-7
    units: int = 32
    late_units: int = 32
    seed: int = 0
    width: int = 64
    learning_rate: float = 0.004
    trained: str = "all"
    backbone: str | None = None
    heldout_units: int = 0  # 0: nothing is measured on held-out data
    heldout_ratio: float = 1.0  # of the position there to that on training data
    overrides: dict[str, Any] = field(default_factory=dict)

    def config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "family": "text",
            "model": {"name": "llama", "width": self.width},
            "training": {
                "steps": self.steps,
                "warmup_steps": self.warmup_steps,
                "learning_rate": self.learning_rate,
                "trained": self.trained,
                "seed": self.seed,
            },
            "measurement": {"heldout_units": self.heldout_units},
            "backbone": self.backbone,
            "facts": {
                "parameters": self.parameters,
                "parameters_without_embeddings": int(0.7 * self.parameters),
                "unigram_entropy": self.entropy,
                "data_hash": "0123abcd",
            },
            **self.overrides,
        }

    @property
    def last(self) -> int:
        return self.steps if self.done is None else self.done

    def flops(self, step: int) -> int:
        trained = self.parameters if self.trained == "all" else self.parameters // 10
        return (2 * self.parameters + 4 * trained) * TOKENS_PER_STEP * step

    def loss(self, step: float) -> float:
        return self.floor + (self.start - self.floor) * (1 + step / 12) ** -self.decay

    def position(self, step: float) -> float:
        shift = self.seed_spread * np.random.default_rng([self.seed, self.parameters, 2]).standard_normal()
        fall = (math.log(self.peak / self.late_position) - shift) / math.log(self.steps / 15)
        return self.peak * min(1.0, (step + 3) / 15) * max(1.0, step / 15) ** -fall

    def loss_rows(self) -> list[dict[str, Any]]:
        rng = np.random.default_rng([self.seed, self.parameters])
        rows = []
        for step in range(self.last + (self.done is None)):
            ended = step == self.steps
            train = None if ended else self.loss(step) * math.exp(self.loss_noise * rng.standard_normal())
            held_out = 1.02 * self.loss(step) if ended or step % self.heldout_every == 0 else None
            spent = {"step": step, "tokens": TOKENS_PER_STEP * step, "flops": self.flops(step)}
            rows.append({**spent, "train_loss": train, "heldout_loss": held_out})
        return rows

    def measurement_rows(self) -> list[dict[str, Any]]:
        rng = np.random.default_rng([self.seed, self.parameters, 1])
        late = math.ceil(0.9 * self.steps)
        return [
            self.measurement(step, rng, units=self.late_units if step >= late else self.units)
            for step in self._measured_steps()
        ]

    def heldout_rows(self) -> list[dict[str, Any]]:
        """The same laws on other units, the position times ``heldout_ratio``."""
        if not self.heldout_units:
            return []
        rng = np.random.default_rng([self.seed + 1000, self.parameters, 1])
        return [
            self.measurement(step, rng, units=self.heldout_units, ratio=self.heldout_ratio)
            for step in self._measured_steps()
        ]

    def _measured_steps(self) -> list[int]:
        late = math.ceil(0.9 * self.steps)
        steps = {*log_windows(self.steps, 8, 4), *range(late, self.steps, max(1, (self.steps - late) // 15))}
        return [step for step in sorted(steps) if step < self.last]

    def measurement(self, step: int, rng: np.random.Generator, *, units: int, ratio: float = 1.0) -> dict[str, Any]:
        grown = self.chi_net_growth ** (math.log(step + 1) / math.log(self.steps))
        chi_loss, chi_net = 0.8 + 0.05 * rng.standard_normal(), (900 + 20 * rng.standard_normal()) * grown
        scale = chi_loss * chi_net
        position = self.position(step)
        unbiased = ratio * (position + self.position_noise * rng.standard_normal())
        mini = ratio * max(position + self.batch_noise * 32 / units * (1 + 0.1 * rng.standard_normal()), 1e-12)
        return {
            "step": step,
            "tokens": TOKENS_PER_STEP * step,
            "flops": self.flops(step),
            "loss": self.loss(step),
            "chi_loss": chi_loss,
            "chi_net": chi_net,
            "chi_pos": mini,
            "delta_loss": mini * scale,
            "chi_net_stderr": 5.0,
            "chi_pos_stderr": 0.01 * mini,
            "delta_loss_unbiased": unbiased * scale,
            "delta_loss_unbiased_stderr": self.position_noise * scale,
            "chi_pos_unbiased": unbiased,
            "chi_pos_unbiased_stderr": self.position_noise,
            "gradient_noise_scale": 100.0,
            "n_samples": units * 64,
            "n_samples_against": None,
            "n_units": units,
            "n_outputs": 512,
            "probes": 1,
            "estimator": "batch",
            "undefined": {},
        }


def text_runs(**changes: Any) -> list[SyntheticRun]:
    """Five sizes whose population position falls with size."""
    sizes = [21_000, 56_300, 207_000, 412_000, 910_000]
    floors = [3.6, 3.1, 2.6, 2.3, 2.1]
    positions = [1.1e-6, 4.1e-7, 2.3e-7, 1.5e-7, 0.8e-7]
    return [
        replace(
            SyntheticRun(
                name=f"text-{i}", parameters=p, floor=f, late_position=q, position_noise=0.4 * q + 3e-8, seed=i
            ),
            **changes,
        )
        for i, (p, f, q) in enumerate(zip(sizes, floors, positions, strict=True))
    ]


def pixel_runs(**changes: Any) -> list[SyntheticRun]:
    """Four sizes whose population position hardly depends on size."""
    sizes = [6_200, 24_000, 142_000, 784_000]
    floors = [1.05, 0.95, 0.85, 0.8]
    return [
        replace(
            SyntheticRun(
                name=f"pixels-{i}",
                parameters=p,
                floor=f,
                start=2.83,
                entropy=2.1,
                late_position=1e-5,
                position_noise=2e-6,
                batch_noise=1e-5,
                seed=i,
            ),
            **changes,
        )
        for i, (p, f) in enumerate(zip(sizes, floors, strict=True))
    ]


def with_seeds(runs: Sequence[SyntheticRun], seeds: Sequence[int] = (0, 1, 2)) -> list[SyntheticRun]:
    """Every run once a seed, in order of size, then of seed, named as a study names them."""
    return [replace(run, name=f"{run.name}-seed{seed}", seed=seed) for run in runs for seed in seeds]


def write_study(
    folder: Path,
    families: dict[str, Sequence[SyntheticRun]],
    *,
    not_started: dict[str, list[str]] | None = None,
    study: str = "scaling",
) -> Path:
    """Write ``study.json`` and the run folders through the library's own records."""
    labels = {"text": "Text: Python standard library", "pixels": "Images: hand-written digits"}
    waiting = not_started or {}
    header = {
        "format": "spectral-reach study",
        "version": 1,
        "study": study,
        "preset": "synthetic",
        "settings": {"preset": "synthetic"},
        "families": {
            key: {"label": labels.get(key, key), "runs": [*(run.name for run in runs), *waiting.get(key, [])]}
            for key, runs in families.items()
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(header), encoding="utf-8")
    for runs in families.values():
        for run in runs:
            record = RunFolder.create(folder / "runs" / run.name, run.config())
            record.losses.append_many(run.loss_rows())
            record.measurements.append_many(run.measurement_rows())
            record.heldout_measurements.append_many(run.heldout_rows())
            if run.done is None:
                record.mark_finished({})
    return folder


def as_run_data(run: SyntheticRun) -> RunData:
    """The run as the analyses see it, without a folder."""
    facts = run.config()["facts"]
    return RunData(
        name=run.name,
        parameters=run.parameters,
        parameters_without_embeddings=facts["parameters_without_embeddings"],
        unigram_entropy=run.entropy,
        steps=run.steps,
        warmup_steps=run.warmup_steps,
        is_finished=run.done is None,
        seed=run.seed,
        width=run.width,
        learning_rate=run.learning_rate,
        trained=run.trained,
        backbone=run.backbone,
        facts=facts,
        usage=(),
        config=run.config(),
        measurements=_columns(Measurements, run.measurement_rows()),
        heldout=_columns(Measurements, run.heldout_rows()),
        losses=_columns(Losses, run.loss_rows()),
    )


def _columns(kind: Any, rows: list[dict[str, Any]]) -> Any:
    values = {f.name: [math.nan if row[f.name] is None else row[f.name] for row in rows] for f in fields(kind)}
    return kind(**{k: np.array(v, dtype=int if k in ("step", "n_units") else float) for k, v in values.items()})
