"""How much longer a training takes for ``SpectralCallback`` at its default schedule, of 6.8 million parameters.

    python benchmarks/callback_cost.py                                 # an estimate, about two minutes a framework
    python benchmarks/callback_cost.py --steps 1000 --framework hf     # the training itself, twice

The estimate makes as many measurements as 1,000 steps have by default, in every other step of one training, and
compares each measured step with the two beside it: what disturbs the machine disturbs them alike. What they took
longer, in all, over the time of 1,000 steps without is the share; that of 10,000 steps goes on from the mean of the
later half, for the first measurements of a model take longer. With ``--steps`` stretches of the training with and
without the callback's schedule follow each other, and nothing is extrapolated. On a machine that others use,
``--clock cpu`` with ``--threads 1`` counts this process alone.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from workload import OUT, PRESETS, Workload

from spectral_reach.integrations.schedules import default_schedule

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
Schedule = Callable[[int], bool]
STRETCH = 25
"""Steps of a stretch with --steps."""


@dataclass(frozen=True)
class Share:
    """What the callback adds to ``steps`` steps, as a fraction of their time without it, and its standard error."""

    steps: int
    measurements: int
    added: float
    error: float


def hf(
    workload: Workload, steps: int, schedule: Schedule, options: dict[str, Any], now: Callable[[], float]
) -> list[float]:
    """Seconds of each step of a training in the Trainer of transformers."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from spectral_reach.integrations.huggingface import SpectralCallback

    clock: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *arguments: Any, **more: Any) -> None:
            clock.append(now())

    model, (inputs, targets) = workload.build()
    labels = torch.cat([inputs[:, :1], targets[:, :-1]], 1)  # shifted by the model itself
    data = [{"input_ids": row, "labels": its} for row, its in zip(inputs, labels, strict=True)]
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out,
            max_steps=steps + 1,
            per_device_train_batch_size=workload.units,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
        )
        callback = SpectralCallback(schedule=schedule, **options)
        Trainer(model, arguments, train_dataset=data, callbacks=[callback, Clock()]).train()
    return [after - before for before, after in pairwise(clock)]


def lightning(
    workload: Workload, steps: int, schedule: Schedule, options: dict[str, Any], now: Callable[[], float]
) -> list[float]:
    """The same in that of Lightning."""
    from lightning.pytorch import Callback, LightningModule, Trainer
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader, TensorDataset

    from spectral_reach.integrations.lightning import SpectralCallback

    clock: list[float] = []

    class Clock(Callback):
        def on_train_batch_start(self, *arguments: Any, **more: Any) -> None:
            clock.append(now())

    class Module(LightningModule):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor) -> Any:
            return self.model(tokens).logits

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return cross_entropy(self(batch[0]).flatten(0, 1), batch[1].flatten())

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    model, batch = workload.build()
    loader = DataLoader(TensorDataset(*batch), batch_size=workload.units)
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(
            max_steps=steps + 1,
            accelerator="cpu",
            default_root_dir=out,
            callbacks=[SpectralCallback(schedule=schedule, **options), Clock()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Module(model), loader)
    return [after - before for before, after in pairwise(clock)]


FRAMEWORKS = {"hf": hf, "lightning": lightning}
_WARM = 3
"""Steps before the first measured one, which are not counted."""


def measurements_in(steps: int) -> int:
    """Of the default schedule."""
    return sum(map(default_schedule, range(steps)))


def estimates(seconds: list[float], horizons: tuple[int, ...]) -> list[Share]:
    """From a training whose steps ``_WARM``, ``_WARM + 2``, ... were measured."""
    measured = range(_WARM, len(seconds) - 1, 2)
    longer = [seconds[i] - (seconds[i - 1] + seconds[i + 1]) / 2 for i in measured]
    plain = statistics.mean(seconds[i + 1] for i in measured)
    late = longer[len(longer) // 2 :]
    shares = []
    for steps in horizons:
        n = measurements_in(steps)
        rest = max(0, n - len(longer))
        added = sum(longer[:n]) + rest * statistics.mean(late)
        scatter = statistics.stdev(late)
        error = scatter * math.sqrt(n - rest + rest**2 / len(late))
        shares.append(Share(steps=steps, measurements=n, added=added / plain / steps, error=error / plain / steps))
    return shares


def in_stretches(seconds: list[float], steps: int) -> Share:
    """From a training of ``2 * steps`` steps: stretches with the schedule of the first ``steps``, and without."""
    with_it = [sum(seconds[2 * at : 2 * at + STRETCH]) for at in range(0, steps, STRETCH)]
    without = [sum(seconds[2 * at + STRETCH : 2 * at + 2 * STRETCH]) for at in range(0, steps, STRETCH)]
    total = sum(without)
    differences = [a - b for a, b in zip(with_it, without, strict=True)]
    error = statistics.stdev(differences) * math.sqrt(len(differences))
    return Share(steps=steps, measurements=measurements_in(steps), added=sum(differences) / total, error=error / total)


def every_other(step: int) -> bool:
    """Steps whose neighbours are not measured."""
    return step >= _WARM and (step - _WARM) % 2 == 0


def stretched(step: int) -> bool:
    """The default schedule in every other stretch, as if the others were not there."""
    number, place = divmod(step, STRETCH)
    return number % 2 == 0 and default_schedule(number // 2 * STRETCH + place)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="reference", choices=PRESETS)
    parser.add_argument("--framework", default="both", choices=(*FRAMEWORKS, "both"))
    parser.add_argument("--steps", type=int, help=f"train this often with and without; a multiple of {STRETCH}")
    parser.add_argument("--measurements", type=int, default=measurements_in(1000), help="of an estimate")
    parser.add_argument("--clock", default="wall", choices=CLOCKS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--options", type=json.loads, default={}, help="of the callback, as JSON")
    parser.add_argument("--out", type=Path, default=OUT / "callback_cost.json")
    arguments = parser.parse_args()
    if arguments.steps is not None and (arguments.steps <= 0 or arguments.steps % STRETCH):
        parser.error(f"--steps is {arguments.steps}; expected a multiple of {STRETCH}")
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    now = CLOCKS[arguments.clock]
    workload = PRESETS[arguments.preset].workload.of()  # random weights and tokens: time depends on nothing else
    results = {}
    for name in FRAMEWORKS if arguments.framework == "both" else (arguments.framework,):
        if arguments.steps is None:
            steps = _WARM + 2 * arguments.measurements
            seconds = FRAMEWORKS[name](workload, steps, every_other, arguments.options, now)
            shares = estimates(seconds, (1_000, 10_000))
        else:
            seconds = FRAMEWORKS[name](workload, 2 * arguments.steps, stretched, arguments.options, now)
            shares = [in_stretches(seconds, arguments.steps)]
        for share in shares:
            print(
                f"{name}: {share.added:+.2%} ± {share.error:.2%} in {share.steps:,} steps with {share.measurements} "
                "measurements",
                flush=True,
            )
        results[name] = {"seconds": seconds, "shares": [vars(share) for share in shares]}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"options": arguments.options, **results}, indent=1))


if __name__ == "__main__":
    main()
