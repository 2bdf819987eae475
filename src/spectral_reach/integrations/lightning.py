"""``SpectralCallback`` for the Trainer of Lightning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer

from spectral_reach.integrations.measuring import NOTHING, Measuring
from spectral_reach.integrations.processes import check_measurable_alone
from spectral_reach.measured.isolation import unwrapped
from spectral_reach.records.needed import needed
from spectral_reach.sinks.metrics import STEP, metrics_of

with needed("lightning"):
    from lightning.pytorch import Callback, LightningModule, Trainer


class SpectralCallback(Measuring, Callback):
    """Measures the decomposition while a Lightning ``Trainer`` trains, and logs it with the Trainer's loggers.

    ``Trainer(..., callbacks=[SpectralCallback()])`` is all for a module that maps inputs to outputs and is trained on
    batches ``(inputs, targets)``, or on mappings with ``labels``, by cross entropy. Each measurement is of the batch
    that the next update is made for, the first of them where gradients are accumulated, with the weights before the
    update: training is bit for bit the same as without, with automatic and with manual optimisation. Rows are kept in
    ``spectral_reach/measurements.parquet`` in the Trainer's root folder; a training that is resumed goes on with them,
    and one that begins anew puts them aside. Metrics are called ``spectral_reach/...`` and stand at
    ``trainer.global_step``, the number of updates made. Of several processes the first measures, its own part of the
    batch.

    Args:
        model: the name of the submodule to measure (``"net"``), for a module whose own ``forward`` is not what the
            loss is of; None for the module itself.
        batch: makes ``(inputs, targets)``, or a mapping with ``labels``, of the batches that the module is trained on,
            and of named ones.
        **options: as in ``Measuring``; the ``loss`` has to be the one that ``training_step`` returns.

    Raises:
        ImportError: lightning is not installed.
    """

    def __init__(self, *, model: str | None = None, batch: Callable[[Any], Any] | None = None, **options: Any) -> None:
        if callable(batch) and isinstance(given := options.get("batches"), Mapping):
            options["batches"] = {name: partial(_made, each, batch) for name, each in given.items()}
        super().__init__(**options)
        if model is not None and not isinstance(model, str):
            raise TypeError(f"model is a {type(model).__name__}; expected the name of a submodule, or None")
        if batch is not None and not callable(batch):
            raise TypeError(f"batch is a {type(batch).__name__}; expected a callable batch -> (inputs, targets)")
        self._model_name = model
        self._step_of_batch = 0
        self._batch_of = batch

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the folder."""
        model = self._measured(pl_module)
        whole = trainer.strategy.model
        check_measurable_alone(model if whole is None else unwrapped(whole))
        if trainer.is_global_zero:
            self._open(model, trainer.default_root_dir, trainer.global_step, _Log(trainer))

    def _measured(self, module: LightningModule) -> nn.Module:
        if self._model_name is not None:
            try:
                part: nn.Module = module.get_submodule(self._model_name)
                return part
            except AttributeError as error:
                names = [name for name, _ in module.named_children()]
                raise ValueError(
                    f"model is {self._model_name!r}, which the {type(module).__name__} does not have; expected the "
                    f"name of a submodule, for example one of {names}"
                ) from error
        if type(module).forward is LightningModule.forward:
            names = [name for name, _ in module.named_children()]
            raise ValueError(
                f"{type(module).__name__} has no forward of its own; expected one that maps inputs to outputs, or the "
                f"name of the submodule that does: SpectralCallback(model=...), for example one of {names}"
            )
        whole: nn.Module = module
        return whole

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the first batch of an update."""
        if self._batch is NOTHING or trainer.global_step != self._step_of_batch:
            self._batch, self._step_of_batch = batch, trainer.global_step

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Measure, where that is due."""
        step = trainer.global_step
        if self._is_due(step):
            batch = self._batch if self._batch_of is None else self._batch_of(self._batch)
            with trainer.precision_plugin.forward_context():
                self._measure(step, batch, {"epoch": trainer.current_epoch})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish the last update, and give the folder free."""
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the folder free; the last update may be half made."""
        self._abandon()


def _made(batch: Any, make: Callable[[Any], Any], step: int) -> Any:
    """What ``make`` makes of a named batch."""
    return make(batch(step) if callable(batch) and not isinstance(batch, Mapping) else batch)


class _Log:
    """The loggers of the Trainer, at their own step."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def write(self, kind: str, row: Mapping[str, Any]) -> None:
        metrics = metrics_of(kind, row)
        for logger in self._trainer.loggers if metrics else ():
            logger.log_metrics(metrics, step=row[STEP])

    def close(self) -> None:
        pass
