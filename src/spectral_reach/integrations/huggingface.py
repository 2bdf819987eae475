"""``SpectralCallback`` for the Trainer of transformers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from spectral_reach.integrations.schedules import default_schedule
from spectral_reach.measured.isolation import unwrapped
from spectral_reach.measured.losses import Loss
from spectral_reach.measured.parameters import Selection
from spectral_reach.sinks.metrics import metrics_of
from spectral_reach.sinks.needed import needed
from spectral_reach.tracking.schedule import Schedule
from spectral_reach.tracking.sink import Sink
from spectral_reach.tracking.tracker import Tracker

with needed("hf"):
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class SpectralCallback(TrainerCallback):
    """Measures the decomposition while a ``Trainer`` trains, and logs it where the Trainer logs.

    ``Trainer(..., callbacks=[SpectralCallback()])`` is all. Each measurement is of the batch that the next update is
    made for, the first of them where gradients are accumulated, with the weights before the update: training is bit
    for bit the same as without. Rows are kept in ``spectral_reach/measurements.parquet`` in the Trainer's output
    folder; a training that is resumed goes on with them. Metrics are called ``spectral_reach/...`` and stand at the
    number of updates made, as the Trainer's own (most reporters put ``train/`` in front).

    Args:
        schedule: as in ``sr.Tracker``, of the number of updates made; by default every 100 and more often at first.
        updates: as in ``sr.Tracker``: when to take the effect of an update on the loss.
        out: the folder for the rows; None for ``spectral_reach`` in the output folder.
        sinks: as in ``sr.Tracker``, besides the Trainer's own reporters.
        loss, estimator, probes, units, noise_units, parameters, seed, memory_budget: as in ``sr.Tracker``. The loss is
            compared with labels as the Trainer's model does: cross entropy shifted for causal language models.

    Raises:
        ImportError: transformers is not installed.
    """

    def __init__(
        self,
        *,
        schedule: Schedule = default_schedule,
        updates: Schedule | None = None,
        out: str | Path | None = None,
        sinks: Iterable[Sink] = (),
        loss: Loss = "cross_entropy",
        estimator: str = "auto",
        probes: int = 1,
        units: int | None = None,
        noise_units: int | Callable[[int], int | None] | None = None,
        parameters: Selection = None,
        seed: int = 0,
        memory_budget: int = 2**28,
    ) -> None:
        self._out = out
        self._sinks = tuple(sinks)
        self._options: dict[str, Any] = {
            "schedule": schedule,
            "updates": updates,
            "loss": loss,
            "estimator": estimator,
            "probes": probes,
            "units": units,
            "noise_units": noise_units,
            "parameters": parameters,
            "seed": seed,
            "memory_budget": memory_budget,
        }
        self._tracker: Tracker | None = None
        self._hook: RemovableHandle | None = None
        self._batch: dict[str, Any] | None = None
        self._measuring = False

    @property
    def tracker(self) -> Tracker | None:
        """The tracker of the present training, or of the last one."""
        return self._tracker

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the folder, and watch what the model is given."""
        if not state.is_world_process_zero:
            return
        trainer = _trainer_of(self)
        _check_labels_reach_the_model(trainer)
        model = unwrapped(kwargs["model"])
        out = Path(args.output_dir) / "spectral_reach" if self._out is None else self._out
        sinks = (_Log(trainer), *self._sinks)
        self._tracker = Tracker(model, out=out, sinks=sinks, **self._options)
        self._hook = model.register_forward_pre_hook(self._seen, with_kwargs=True)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A batch for a new update comes next."""
        self._batch = None

    def _seen(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self._batch is None and model.training and not self._measuring:
            self._batch = {name: value for name, value in kwargs.items() if name != "num_items_in_batch"}

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure, where that is due: the weights are still those that the batch has met."""
        tracker = self._tracker
        if tracker is None or self._hook is None or not tracker.due(state.global_step):
            return
        if self._batch is None:
            raise ValueError(
                "the model has not been called in this step; expected the Trainer to call its model with the batch as "
                "keyword arguments: measure a model of another structure with sr.Tracker in the loop"
            )
        columns = {"epoch": float(state.epoch or 0.0)}
        if tokens := getattr(state, "num_input_tokens_seen", 0):
            columns["tokens"] = int(tokens)
        self._measuring = True
        try:
            tracker.measure(state.global_step, self._batch, **columns)
        finally:
            self._measuring = False

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Finish the last update, and give the folder free."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        self._batch = None
        if self._tracker is not None:
            self._tracker.close()


class _Log:
    """The Trainer's own log, and with it every reporter that it has."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def write(self, kind: str, row: Mapping[str, Any]) -> None:
        self._trainer.log(metrics_of(kind, row))

    def close(self) -> None:
        pass


def _trainer_of(callback: TrainerCallback) -> Trainer:
    """The Trainer whose callback this is. Callbacks are not told, but it is the Trainer's loop that calls them."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        held = frame.f_locals.get("self")
        if isinstance(held, Trainer) and callback in held.callback_handler.callbacks:
            return held
        frame = frame.f_back
    raise RuntimeError(
        "on_train_begin was not called by a transformers.Trainer that has this callback; expected "
        "Trainer(callbacks=[SpectralCallback(...)]): use sr.Tracker in other loops"
    )


def _check_labels_reach_the_model(trainer: Trainer) -> None:
    for name, given in (
        ("label_smoothing_factor", trainer.label_smoother is not None),
        ("compute_loss_func", trainer.compute_loss_func is not None),
    ):
        if given:
            raise ValueError(
                f"the Trainer has {name} and keeps the labels from the model; expected the model to get them: leave "
                f"{name} out, or measure with sr.Tracker in a loop of your own"
            )
