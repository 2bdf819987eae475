"""The training loop: one run, from its configuration to its folder, resumable at any instant.

Everything a step does is a function of the configuration, the number of the step and the state that a checkpoint
holds (weights, AdamW's averages, torch's generator): batches are drawn from (seed, step), the learning rate is
computed from the step, and measuring changes nothing. So a run killed at any moment and resumed writes, bit for bit,
the files of an undisturbed one; the steps after the last checkpoint are made again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.data import TokenData
from spectral_reach.studies.data.batches import heldout_batches, training_batch
from spectral_reach.studies.threads import threads_of_torch
from spectral_reach.studies.training.evaluation import heldout_loss, logits_and_loss
from spectral_reach.studies.training.measuring import batch_to_measure
from spectral_reach.studies.training.optimiser import adamw
from spectral_reach.studies.training.progress import OnProgress, Progress, ignore
from spectral_reach.studies.training.run_config import RunConfig, check_data
from spectral_reach.studies.training.state import restore_state, save_state
from spectral_reach.tracking.tracker import Tracker

log = logging.getLogger(__name__)


def train(
    folder: RunFolder,
    config: RunConfig,
    data: TokenData,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: OnProgress = ignore,
) -> bool:
    """Train, measure and record until the run is finished (True) or was asked to stop (False).

    Seeds torch's global generator: a process trains one run at a time.

    ``losses.parquet`` gets a row a step: the loss of the batch that the step uses, before it does. The last row, at
    ``step == steps``, has the held-out loss of the finished model.

    Raises:
        ValueError: the data are not those of the configuration, or do not fit it.
        FloatingPointError: the training loss is no longer finite.
        RecordError: the folder cannot be written, or another process holds it.
    """
    check_data(config, data)
    settings, steps = config.training, config.training.steps
    began = time.monotonic()
    with folder.lock(), threads_of_torch(config.threads):
        if folder.is_finished:
            return True
        torch.manual_seed(settings.seed)
        model = config.model.build(settings.seed)
        optimiser = adamw(model, settings)
        heldout = heldout_batches(data, sequences=settings.heldout_sequences, batch_size=settings.batch_size)
        rows: list[dict[str, Any]] = []  # of losses.parquet, since the last checkpoint
        start = restore_state(folder.checkpoints, model, optimiser)
        folder.losses.truncate_from(start)
        log.info("run %s: from step %d of %d", config.name, start, steps)

        with Tracker(
            model,
            schedule=config.measurement.measured_steps(steps),
            out=folder,
            estimator=config.measurement.estimator,
            probes=config.measurement.probes,
            units=config.measurement.units_of_trace,
            noise_units=lambda step: config.measurement.units_of_noise(step, steps),
            seed=settings.seed,
        ) as tracker:

            def checkpoint(step: int) -> None:
                if step == start:
                    return
                # Rows first: a kill between the two leaves rows that the next start drops and makes again.
                folder.losses.append_many(rows)
                rows.clear()
                save_state(folder.checkpoints, step, model, optimiser)
                log.info("checkpoint at step %d", step)

            def keep_snapshot(step: int) -> None:
                if step in settings.snapshots:
                    folder.snapshots.save(step, lambda path: model.save_pretrained(path))

            for step in range(start, steps):
                if should_stop():
                    checkpoint(step)
                    log.info("stopped at step %d, as asked", step)
                    return False
                if step % settings.checkpoint_every == 0:
                    checkpoint(step)
                keep_snapshot(step)

                batch = training_batch(data, step, seed=settings.seed, batch_size=settings.batch_size)
                row: dict[str, Any] = {"step": step, **config.spent(step)}
                measured = batch_to_measure(config, data, step, batch) if tracker.due(step) else None
                spent: dict[str, Any] = config.spent(step)
                if measured is not None and measured is not batch:
                    tracker.measure(step, measured, **spent)
                if step % settings.heldout_every == 0:
                    row["heldout_loss"] = heldout_loss(model, heldout)

                for group in optimiser.param_groups:
                    group["lr"] = settings.rate(step)
                logits, loss = logits_and_loss(model, batch)
                if measured is batch:
                    tracker.measure(step, batch, outputs=logits, step_loss=loss, **spent)
                loss.backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
                torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
                optimiser.step()
                optimiser.zero_grad()

                row["train_loss"] = loss.item()
                if not math.isfinite(row["train_loss"]):
                    raise FloatingPointError(
                        f"The training loss of run {config.name!r} is {row['train_loss']} at step {step}; expected "
                        "a finite number. Lower the learning rate or clip_norm in a new folder."
                    )
                rows.append(row)
                on_progress(_progress(config, step + 1, row["train_loss"], tracker.history))

            checkpoint(steps)
            keep_snapshot(steps)
            final = heldout_loss(model, heldout)
            folder.losses.append({"step": steps, **config.spent(steps), "heldout_loss": final})
            folder.mark_finished({"steps": steps, "heldout_loss": final})
    log.info("finished: held-out loss %.4f; %.1f s since step %d", final, time.monotonic() - began, start)
    return True


def _progress(config: RunConfig, step: int, loss: float, measured: Sequence[Mapping[str, Any]]) -> Progress:
    latest = measured[-1] if measured else {}
    return Progress(
        run=config.name,
        step=step,
        steps=config.training.steps,
        phase="training",
        loss=loss,
        chi_pos=latest.get("chi_pos"),
        chi_pos_unbiased=latest.get("chi_pos_unbiased"),
    )
