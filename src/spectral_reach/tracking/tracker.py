"""``sr.Tracker``: measures a model while it trains, without a trace in the training."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from spectral_reach.decomposition.decompose import decompose, decompose_in_step
from spectral_reach.decomposition.result import Decomposition
from spectral_reach.estimators import check_name
from spectral_reach.measured.isolation import unwrapped
from spectral_reach.measured.losses import Loss, resolve_loss
from spectral_reach.measured.naming import about
from spectral_reach.measured.not_finite import NotFiniteError
from spectral_reach.measured.parameters import Selection, select_parameters
from spectral_reach.measured.rows import NoLabelledRowsError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.records.table import Table
from spectral_reach.tracking.named_batches import NamedBatch, NamedBatches
from spectral_reach.tracking.recorder import Recorder
from spectral_reach.tracking.row import checked_columns, seed_of
from spectral_reach.tracking.schedule import Schedule, due_at, integer_from
from spectral_reach.tracking.sink import Sink
from spectral_reach.tracking.updates import FIELDS as FIELDS_OF_UPDATES
from spectral_reach.tracking.updates import Updates

Result = TypeVar("Result")

_FIELDS = frozenset({"step", *(field.name for field in fields(Decomposition))})


class Tracker:
    """Takes the decomposition of a model on a schedule, keeps the rows, and writes each to disk when it is taken.

    Training with a tracker gives bit for bit the parameters, buffers, optimiser state and random numbers of
    training without. The probes of a step depend on ``(seed, step)`` alone, so that a run that was interrupted
    measures what it would have measured. Steps that are on record are not measured again.

    Args:
        model: the model in training.
        schedule: measure every n steps (int), at these steps (``sr.log_windows``), or where ``schedule(step)``
            is true. Steps count the updates made so far: 0 is the untrained model.
        updates: take the effect of the optimiser's updates on the same kinds of schedule: how much the loss of the
            batch fell and that of the next batch, and which part of that is linear in the update (``UpdateEffect``, a
            row an update in ``updates.parquet``). ``measure`` is then to be called at every step, or where ``due``
            says, and weights are kept from a step to the next. None for none.
        batches: further batches by name, each with rows of its own: ``{"heldout": (inputs, targets)}``. A batch as in
            ``sr.decompose``, which is moved to the model's device, or a callable ``step -> batch``. The model is
            measured on them in the mode it is in.
        pairs: pairs of such names: what a step on the first does to the second, with rows of its own too.
            ``"training"`` is the batch given to ``measure``: ``[("training", "heldout")]``.
        out: a folder for the rows, ``measurements.parquet``; it is made, or gone on with if a tracker of the
            same settings has left it, and no other process may write it until ``close()``. Rows of named batches and
            pairs are in ``NAME/measurements.parquet`` and ``A-B/measurements.parquet`` there. A ``Table`` (of a
            ``RunFolder``) is written to under the caller's lock. None keeps the rows in memory only.
        sinks: where each row goes besides, for example ``[spectral_reach.sinks.TensorBoard("logs")]``.
        loss: as in ``sr.decompose``; so are ``estimator``, ``probes``, ``units``, ``parameters`` and
            ``memory_budget``.
        noise_units: as in ``sr.decompose``, or what ``noise_units(step)`` says. With None a measurement that shares the
            passes of a step of more than 16 units takes the noise-corrected values from all of them, but their
            standard errors from the products of 8, which the row says; the number of all asks for all products.
        seed: where the probe seeds of all steps come from; 0 to 2**63 - 1.

    Raises:
        ValueError, TypeError: a schedule or setting that is not possible.
        RunFolderBusyError, ForeignFolderError, RecordError: ``out`` is in use, belongs to something else, or
            cannot be written.

    Example:
        The three lines that a training loop needs are marked.

        >>> import torch, spectral_reach as sr
        >>> model = torch.nn.Linear(4, 3)
        >>> optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> tracker = sr.Tracker(model, schedule=sr.log_windows(100, per_decade=4, width=4))  # 1: out="run" keeps it
        >>> for step in range(100):
        ...     inputs, targets = torch.randn(8, 4), torch.randint(0, 3, (8,))
        ...     _ = tracker.measure(step, (inputs, targets))  # 2
        ...     optimiser.zero_grad()
        ...     torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        ...     optimiser.step()
        >>> tracker.close()  # 3
        >>> [0 <= row["chi_pos"] <= 1 for row in tracker.history if row["step"] in (0, 99)]
        [True, True]
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        schedule: Schedule,
        updates: Schedule | None = None,
        batches: Mapping[str, NamedBatch] | None = None,
        pairs: Iterable[tuple[str, str]] = (),
        out: str | Path | Table | None = None,
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
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
        # A wrong setting has to show now, not hours later at the first step that is due.
        check_name(estimator)
        resolve_loss(loss)
        seed = _checked_seed(seed)
        probes = integer_from(1, "probes", probes)
        units = None if units is None else integer_from(1, "units", units)
        if noise_units is not None and not callable(noise_units):
            noise_units = integer_from(2, "noise_units", noise_units)
        memory_budget = integer_from(1, "memory_budget", memory_budget)
        if out is not None and not isinstance(out, (str, os.PathLike, Table)):
            raise TypeError(f"out is {out!r}; expected the path of a folder, a Table, or None for no file")
        self._named_batches = NamedBatches(batches, pairs)
        if isinstance(out, Table) and self._named_batches.all:
            raise TypeError("out is a Table, and batches or pairs are given; expected the path of a folder for them")
        self._sinks = tuple(sinks)
        for sink in self._sinks:
            if isinstance(sink, type) or not isinstance(sink, Sink):
                raise TypeError(f"sinks holds {sink!r}; expected objects with write(kind, row) and close()")
        if isinstance(parameters, Iterator):
            parameters = tuple(parameters)  # Every measurement goes through it again.
        chosen = select_parameters(unwrapped(model), parameters)

        self._model = model
        self._due = due_at(schedule)
        updates_due = None if updates is None else due_at(updates)
        self._seed = seed
        self._options: dict[str, Any] = {
            "loss": loss,
            "estimator": estimator,
            "probes": probes,
            "units": units,
            "noise_units": noise_units,
            "parameters": parameters,
            "memory_budget": memory_budget,
        }
        self._closed = False
        self._has_warned = False
        named_tables: dict[str, Table] = {}
        tables: tuple[Table | None, Table | None] = (None, None)
        with ExitStack() as held:
            if isinstance(out, Table):
                tables = out, Table(out.path.with_name("updates.parquet"))
            elif out is not None:
                folder = RunFolder.create(out, {"tracker": self._identity(chosen)})
                held.enter_context(folder.lock())
                tables = folder.measurements, folder.updates
                named_tables = {each.name: folder.measurements_of(each.name) for each in self._named_batches.all}
            self._measurements = Recorder("measurement", tables[0], self._sinks)
            self._named = {
                each: Recorder("measurement", named_tables.get(each.name), self._sinks, each.name)
                for each in self._named_batches.all
            }
            self._updates: Updates | None = None
            if updates_due is not None:
                record = Recorder("update", tables[1], self._sinks)
                self._updates = Updates(model, updates_due, resolve_loss(loss), record)
            self._held = held.pop_all()
        self._reserved = _FIELDS if self._updates is None else _FIELDS | FIELDS_OF_UPDATES

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows on record, in the order taken: ``step``, the caller's columns, the fields of Decomposition."""
        return self._measurements.rows

    @property
    def histories(self) -> dict[str, list[dict[str, Any]]]:
        """The rows on record of each named batch and pair: ``tracker.histories["training-heldout"]``; ``batch`` is the
        name."""
        return {each.name: record.rows for each, record in self._named.items()}

    @property
    def updates(self) -> list[dict[str, Any]]:
        """The effects of updates on record, in the order taken: ``step``, the caller's columns, the fields of
        UpdateEffect, and sums over all rows on record with it (``cumulated_change``, ``cumulated_linear``,
        ``cumulated_correction``; ``updates`` says of how many)."""
        return [] if self._updates is None else self._updates.record.rows

    def due(self, step: int) -> bool:
        """Whether ``measure`` has something to do after ``step`` updates, or an update to finish."""
        step = integer_from(0, "step", step)
        return bool(self._due(step)) or (self._updates is not None and self._updates.waits(step))

    def measure(
        self,
        step: int,
        batch: Any,
        *,
        against: Any = None,
        outputs: Any = None,
        step_loss: Tensor | None = None,
        **columns: object,
    ) -> Decomposition | None:
        """Measure on ``batch``, and on the named batches and pairs, if ``step`` is due and not on record; record each
        row durably.

        Between the forward and the backward pass of a training step, on the step's own batch, ``outputs`` and
        ``step_loss`` let the measurement use these passes: the row is then completed, and recorded, within
        ``step_loss.backward()``. Call it under the same autocast as the forward pass. Where the step's passes do not
        do, for a model whose units cannot be told apart by layer rules, the measurement makes its own.

        Args:
            step: updates made so far.
            batch: as in ``sr.decompose``, for example the batch that the next update will use.
            against: a second batch, as in ``sr.decompose``.
            outputs: what the model returned for ``batch`` in this step.
            step_loss: the scalar whose ``backward()`` comes next, alone: the tracker's loss of these outputs, times any
                factor.
            **columns: further columns of the row, single numbers or strings: ``tokens=...``, ``lr=...``.

        Returns:
            The decomposition on ``batch``, or None where nothing was measured or the backward pass of the step
            completes it. A batch without any label gives NaN everywhere, with the reason; so does a model that has
            diverged, with a warning.

        Raises:
            ValueError, TypeError: a column that is no single value or has the name of a field; what
                ``sr.decompose`` raises. Training can go on as if nothing had been measured.
            RecordError: the row cannot be written.
        """
        if self._closed:
            raise ValueError("the tracker is closed; expected no measurement after close(): make a new Tracker")
        step = integer_from(0, "step", step)
        due = bool(self._due(step))
        wanted = due and not self._measurements.has(step)
        named = {each: record for each, record in self._named.items() if due and not record.has(step)}
        if not wanted and not named and (self._updates is None or not self._updates.waits(step)):
            return None
        more, seed = checked_columns(columns, self._reserved), seed_of(self._seed, step)
        if self._updates is not None:
            self._updates.at(step, batch, seed, more)
        if not wanted and not named:
            return None
        row: dict[str, Any] = {"step": step, **more}
        options = {**self._options, "seed": seed}
        if callable(options["noise_units"]):
            options["noise_units"] = options["noise_units"](step)
        if (outputs is None) != (step_loss is None) or (outputs is not None and against is not None):
            raise ValueError(
                f"outputs is {'not ' * (outputs is None)}given, step_loss is {'not ' * (step_loss is None)}given and "
                f"against is {'not ' * (against is None)}given; expected outputs and step_loss together and without "
                "against: they are one step's own"
            )
        if named:
            batch_called = self._named_batches.at(step, batch, _device_of(self._model))
            for each, record in named.items():
                other = None if each.second is None else batch_called(each.second)
                with about(f"{'batches' if each.second is None else 'pairs'}, {each.name!r}"):
                    found = self._or_undefined(
                        step, partial(decompose, self._model, batch_called(each.first), against=other, **options)
                    )
                record.add(row | found.as_dict())
        if not wanted:
            return None

        def measured() -> Decomposition | None:
            if outputs is not None and self._in_step(row, batch, outputs, step_loss, options):
                return None
            return decompose(self._model, batch, against=against, **options)

        result = self._or_undefined(step, measured)
        if result is not None:
            self._measurements.add(row | result.as_dict())
        return result

    def _or_undefined(self, step: int, measured: Callable[[], Result]) -> Result | Decomposition:
        """Undefined everywhere, with the reason, where that is no reason to end a training: one unlucky batch, or a
        model that has diverged."""
        try:
            return measured()
        except NoLabelledRowsError as error:
            reason = str(error)
        except NotFiniteError as error:
            reason = str(error)
            self._warn(step, reason)
        return Decomposition.undefined_everywhere(reason, self._options["estimator"])

    def _warn(self, step: int, reason: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"the measurement of step {step} is not defined, and recorded as NaN: {reason}. Training goes on; "
                "later ones of this kind are recorded without a warning",
                stacklevel=4,
            )

    def _in_step(
        self, row: dict[str, Any], batch: Any, outputs: Any, step_loss: Any, options: Mapping[str, Any]
    ) -> bool:
        def finished(result: Decomposition) -> None:
            # A tracker that was closed in between has given its folder away.
            if not self._closed:
                if "loss" in result.undefined:
                    self._warn(row["step"], result.undefined["loss"])
                self._measurements.add(row | result.as_dict())

        return decompose_in_step(self._model, batch, outputs, step_loss, finished, **options)

    def close(self) -> None:
        """Finish the last update, and let other processes write the folder again. All other rows are on disk already.

        Closing twice is fine.
        """
        try:
            if self._updates is not None and not self._closed:
                self._updates.close()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close without finishing the last update, for a loop that has failed."""
        if not self._closed:
            self._closed = True
            for sink in self._sinks:
                sink.close()
        self._held.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()  # An error of the loop is not to be replaced by one of the last update.

    def _identity(self, chosen: Mapping[str, nn.Parameter]) -> dict[str, Any]:
        """What a row depends on, besides the training: two trackers that differ here do not share a folder.

        The schedule is left out: a run may be extended, and the rows say which steps were measured. So is the
        memory budget, which changes no result.
        """
        loss, selection = self._options["loss"], self._options["parameters"]
        noise_units = self._options["noise_units"]
        return {
            "loss": loss if isinstance(loss, str) else _name_of(loss),
            "estimator": self._options["estimator"],
            "probes": self._options["probes"],
            "units": self._options["units"],
            "noise_units": noise_units if not callable(noise_units) else _name_of(noise_units),
            "parameters": None if selection is None else list(chosen),
            "parameter_count": sum(parameter.numel() for parameter in chosen.values()),
            "seed": self._seed,
        }


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


def _checked_seed(value: object) -> int:
    seed = integer_from(0, "seed", value)
    if seed >= 2**63:
        raise ValueError(f"seed is {seed}; expected an integer from 0 to 2**63 - 1")
    return seed
