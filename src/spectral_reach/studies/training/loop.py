"""The training loop: one run, from its configuration to its folder, resumable at any instant.

Everything a step does is a function of the configuration, the number of the step and the state that a checkpoint
holds (weights, the optimiser's averages, torch's generators): batches are drawn from (seed, step), the learning rate
is computed from the step, and measuring changes nothing. So a run killed at any moment and resumed writes, bit for
bit, the files of an undisturbed one; the steps after the last checkpoint are made again. On a CUDA device, where sums
are not always taken in the same order, that holds up to rounding, which training amplifies.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.data import Dataset
from spectral_reach.studies.data.batches import heldout_batches, training_batch
from spectral_reach.studies.threads import threads_of_torch
from spectral_reach.studies.training.backbone import freeze_backbone, load_backbone
from spectral_reach.studies.training.device import device_of, moved, precision_of
from spectral_reach.studies.training.evaluation import heldout_loss
from spectral_reach.studies.training.measuring import batch_to_measure, heldout_batch
from spectral_reach.studies.training.optimiser import optimiser_of
from spectral_reach.studies.training.progress import OnProgress, Progress, ignore
from spectral_reach.studies.training.rate_choice import chosen_rate
from spectral_reach.studies.training.run_config import RunConfig, check_data
from spectral_reach.studies.training.state import restore_state, save_state, save_weights
from spectral_reach.studies.training.step import update
from spectral_reach.studies.training.trackers import trackers
from spectral_reach.studies.training.usage import Usage

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)


def train(
    folder: RunFolder,
    config: RunConfig,
    data: Dataset,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: OnProgress = ignore,
) -> bool:
    """Train, measure and record until the run is finished (True) or was asked to stop (False).

    Seeds torch's global generator: a process trains one run at a time.

    ``losses.parquet`` gets a row a step: the loss of the batch that the step uses, before it does. The last row, at
    ``step == steps``, has the held-out loss of the finished model.

    Raises:
        ValueError: the data are not those of the configuration, or do not fit it; a device that is not there.
        FloatingPointError: the training loss is no longer finite; a run that ``may_diverge`` ends there instead.
        RecordError: the folder cannot be written, another process holds it, or a run that this one needs is not
            finished.
    """
    check_data(config, data)
    with folder.lock(), threads_of_torch(config.threads):
        if folder.is_finished:
            return True
        if config.rate_from:
            rate = chosen_rate(folder, config.rate_from)
            config = replace(config, training=replace(config.training, learning_rate=rate))
        settings, steps = config.training, config.training.steps
        device = device_of(settings)
        torch.manual_seed(settings.seed)
        model = _model(folder, config).to(device)  # type: ignore[arg-type] # transformers mistypes it
        optimiser = optimiser_of(model, settings, config.model.rate_factors(model, settings.optimiser))
        heldout = [
            moved(batch, device)
            for batch in heldout_batches(
                data, units=settings.heldout_units, batch_size=settings.batch_size // settings.accumulation
            )
        ]
        rows: list[dict[str, Any]] = []  # of losses.parquet, since the last checkpoint
        start = restore_state(folder.checkpoints, model, optimiser)
        folder.losses.truncate_from(start)
        usage = Usage(folder.path, device, config.threads, start)
        log.info("run %s on %s: from step %d of %d", config.name, device, start, steps)

        with trackers(model, folder, config) as (tracker, heldout_tracker):

            def checkpoint(step: int) -> None:
                if step == start:
                    return
                # Rows first: a kill between the two leaves rows that the next start drops and makes again.
                folder.losses.append_many(rows)
                rows.clear()
                save_state(folder.checkpoints, step, model, optimiser)
                usage.write(step)
                log.info("checkpoint at step %d", step)

            def keep_snapshot(step: int) -> None:
                if step in settings.snapshots:
                    folder.snapshots.save(step, lambda path: save_weights(model, path))

            for step in range(start, steps):
                if should_stop():
                    checkpoint(step)
                    log.info("stopped at step %d, as asked", step)
                    return False
                if step % settings.checkpoint_every == 0:
                    checkpoint(step)
                keep_snapshot(step)

                batch = training_batch(
                    data,
                    step,
                    seed=settings.seed,
                    batch_size=settings.batch_size,
                    probing=settings.trained == "readout",
                )
                spent: dict[str, Any] = config.spent(step)
                row: dict[str, Any] = {"step": step, **spent}
                measured = batch_to_measure(config, data, step, batch) if tracker.due(step) else None
                on_device = moved(batch, device)
                with precision_of(settings, device):
                    if measured is not None and measured is not batch:
                        tracker.measure(step, moved(measured, device), **spent)
                    if heldout_tracker is not None and heldout_tracker.due(step):
                        held = heldout_batch(config, data, step)
                        assert held is not None
                        heldout_tracker.measure(step, moved(held, device), **spent)
                    if step % settings.heldout_every == 0:
                        row["heldout_loss"] = heldout_loss(model, heldout)

                in_step = None
                if measured is batch:

                    def in_step(
                        logits: torch.Tensor,
                        loss: torch.Tensor,
                        step: int = step,
                        batch: Any = on_device,
                        spent: Any = spent,
                    ) -> None:
                        tracker.measure(step, batch, outputs=logits, step_loss=loss, **spent)

                row["train_loss"] = update(model, optimiser, on_device, step, settings, in_step)
                if not math.isfinite(row["train_loss"]):
                    if not settings.may_diverge:
                        raise _diverged(config, "training", row["train_loss"], step)
                    folder.losses.append_many([*rows, {**row, "train_loss": None}])
                    return _end(folder, usage, step, None)
                rows.append(row)
                on_progress(_progress(config, step + 1, row["train_loss"], tracker.history))

            checkpoint(steps)
            keep_snapshot(steps)
            with precision_of(settings, device):
                loss = heldout_loss(model, heldout)
            if not math.isfinite(loss) and not settings.may_diverge:
                raise _diverged(config, "held-out", loss, steps)
            final = loss if math.isfinite(loss) else None
            # A run that was killed between this row and its end has it already.
            folder.losses.truncate_from(steps)
            folder.losses.append({"step": steps, **config.spent(steps), "heldout_loss": final})
            return _end(folder, usage, steps, final)


def _end(folder: RunFolder, usage: Usage, step: int, heldout: float | None) -> bool:
    usage.write(step)
    folder.mark_finished({"steps": step, "heldout_loss": heldout})
    log.info("finished at step %d: held-out loss %s", step, "diverged" if heldout is None else f"{heldout:.4f}")
    return True


def _diverged(config: RunConfig, which: str, loss: float, step: int) -> FloatingPointError:
    return FloatingPointError(
        f"The {which} loss of run {config.name!r} is {loss} at step {step}; expected a finite number. Lower the "
        "learning rate or clip_norm in a new folder."
    )


def _model(folder: RunFolder, config: RunConfig) -> PreTrainedModel:
    """The model before its first update, on the CPU."""
    model = config.model.build(config.training.seed)
    if config.training.trained == "readout":
        readout = config.model.readout(model)
        if config.backbone is not None:
            load_backbone(folder.path.parent / config.backbone, model, readout)
        freeze_backbone(model, readout)
    return model


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
