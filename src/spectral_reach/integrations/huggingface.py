"""``SpectralCallback`` for the Trainer of transformers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from spectral_reach.integrations.measuring import NOTHING, Measuring
from spectral_reach.integrations.processes import check_measurable_alone
from spectral_reach.integrations.trainer_losses import check_loss_is_known
from spectral_reach.measured.isolation import unwrapped
from spectral_reach.records.needed import needed
from spectral_reach.sinks.metrics import metrics_of

with needed("hf"):
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


_OF_THE_LOSS = frozenset({"num_items_in_batch", "fused_lm_head"})
"""Arguments by which trainers have a model compute its loss in another way: over several batches, or without logits."""


class SpectralCallback(Measuring, TrainerCallback):
    """Measures the decomposition while a ``Trainer`` trains, and logs it where the Trainer logs.

    ``Trainer(..., callbacks=[SpectralCallback()])`` is all. Each measurement is of the batch that the next update is
    made for, the first of them where gradients are accumulated, with the weights before the update: training is bit
    for bit the same as without. Rows are kept in ``spectral_reach/measurements.parquet`` in the Trainer's output
    folder; a training that is resumed goes on with them, and one that begins anew puts them aside. Metrics are called
    ``spectral_reach/...`` and stand at the number of updates made, as the Trainer's own (most reporters put ``train/``
    in front). Of several processes the first measures, its own part of the batch.

    Args:
        **options: as in ``Measuring``. The loss is of the labels that the Trainer gives its model, shifted for causal
            language models. A Trainer that computes a loss of its own is measured only if ``loss`` says which.

    Raises:
        ImportError: transformers is not installed.
    """

    _hook: RemovableHandle | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the folder, and watch what the model is given."""
        # What is wrong is told by all processes: others would wait for one that has ended.
        trainer = _trainer_of(self)
        check_loss_is_known(trainer, is_given=self._loss is not None)
        check_measurable_alone(unwrapped(trainer.model_wrapped))
        model = unwrapped(kwargs["model"])
        if not state.is_world_process_zero:
            return
        self._open(model, args.output_dir or ".", state.global_step, _Log(trainer))
        if self._hook is not None:
            self._hook.remove()
        # A compiler that traced the hook would compile the model anew whenever another batch is remembered.
        untraced: Any = torch.compiler.disable
        self._hook = model.register_forward_pre_hook(untraced(self._seen), with_kwargs=True)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A batch for a new update comes next."""
        self._batch = NOTHING

    def _seen(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        # Passes of a measurement come when there is a batch already.
        if self._batch is NOTHING and model.training and torch.is_grad_enabled():
            self._batch = {name: value for name, value in kwargs.items() if name not in _OF_THE_LOSS}

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure, where that is due: the weights are still those that the batch has met."""
        if self._hook is None or not self._is_due(state.global_step):
            return
        if self._batch is NOTHING:
            raise ValueError(
                "the model has not been called in this step; expected the Trainer to call its model with the batch as "
                "keyword arguments: measure a model of another structure with sr.Tracker in the loop"
            )
        columns: dict[str, Any] = {"epoch": float(state.epoch or 0.0)}
        if state.num_input_tokens_seen:
            columns["tokens"] = int(state.num_input_tokens_seen)
        self._measure(state.global_step, self._batch, columns)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Finish the last update, and give the folder free."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        self._end()


class _Log:
    """The Trainer's own log, and with it every reporter that it has."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def write(self, kind: str, row: Mapping[str, Any]) -> None:
        # Trainers that add metrics of their own when they log count them from one log to the next.
        if metrics := metrics_of(kind, row):
            Trainer.log(self._trainer, metrics)

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
