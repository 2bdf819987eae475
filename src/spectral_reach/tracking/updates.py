"""Updates of an optimiser, as a training loop makes them one after the other: what each did to the loss."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn

from spectral_reach.decomposition.update_effect import UpdateEffect, have_moved, update_effect, weights_of
from spectral_reach.measured.losses import LossFunction
from spectral_reach.measured.not_finite import NotFiniteError
from spectral_reach.measured.rows import NoLabelledRowsError
from spectral_reach.tracking.batch_tensors import with_tensors
from spectral_reach.tracking.recorder import Recorder

_CUMULATED = ("change", "linear", "correction")
FIELDS = frozenset(
    {*(each.name for each in fields(UpdateEffect)), *(f"cumulated_{name}" for name in _CUMULATED), "updates"}
)
"""Columns of a row besides the step and the caller's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Begun:
    """An update that the loop is about to make."""

    step: int
    batch: Any
    weights: dict[str, Tensor]
    seed: int
    columns: Mapping[str, Any]


class Updates:
    """Compares the weights at one step with those at the next, so that it does not matter how they came about.

    The update number ``step`` is the one from ``step`` to ``step + 1`` updates. Its row is complete, and on disk,
    when the loop has come to the next batch.

    Args:
        model: the model in training.
        due: whether to take an update.
        loss: mean over samples.
        record: where the rows go.
    """

    def __init__(self, model: nn.Module, due: Callable[[int], bool], loss: LossFunction, record: Recorder) -> None:
        self._model = model
        self._due = due
        self._loss = loss
        self.record = record
        defined = [row for row in record.rows if _is_defined(row)]
        self._sums = {name: sum(row[name] for row in defined) for name in _CUMULATED}
        self._summed = len(defined)
        self._has_warned = False
        self._begun: _Begun | None = None

    def waits(self, step: int) -> bool:
        """Whether ``at(step, ...)`` has something to do."""
        return self._begun is not None or self._wants(step)

    def at(self, step: int, batch: Any, seed: int, columns: Mapping[str, Any]) -> None:
        """The loop has made ``step`` updates, and ``batch`` is what the next one is made for."""
        if self._begun is not None and step == self._begun.step:
            return  # Another micro-batch of the same update.
        self._complete(step, batch)
        if self._wants(step):
            kept = with_tensors(batch, Tensor.clone)  # A loop may fill the same tensors with the next batch.
            self._begun = _Begun(
                step=step, batch=kept, weights=weights_of(self._model), seed=seed, columns=dict(columns)
            )

    def close(self) -> None:
        """The loop is over: the last update has no next batch. One that was begun and not made is no update."""
        if self._begun is not None and have_moved(self._model, self._begun.weights):
            self._complete(self._begun.step + 1, None)
        self._begun = None

    def _wants(self, step: int) -> bool:
        return not self.record.has(step) and bool(self._due(step))

    def _complete(self, step: int, next_batch: Any) -> None:
        begun, self._begun = self._begun, None
        if begun is None:
            return
        if step != begun.step + 1:
            warnings.warn(
                f"the update of step {begun.step} is left out: the tracker was next called at step {step}, so that the "
                f"effects of several updates are mixed; call tracker.measure at step {begun.step + 1} too, as "
                "tracker.due says",
                stacklevel=4,
            )
            return
        effect = self._effect(begun, next_batch)
        if effect is None:
            return
        values = effect.as_dict()
        is_defined = _is_defined(values)
        sums = {name: self._sums[name] + values[name] for name in _CUMULATED}
        cumulated = {f"cumulated_{name}": total for name, total in sums.items()}
        summed = self._summed + is_defined
        self.record.add({"step": begun.step, **begun.columns, **values, **cumulated, "updates": summed})
        if is_defined:
            self._sums, self._summed = sums, summed

    def _effect(self, begun: _Begun, next_batch: Any) -> UpdateEffect | None:
        """None for a batch without any label, which has no loss that could change; the next one may be such a batch, or
        one whose loss is not finite."""
        diverged = None
        for following in (next_batch, None):
            try:
                return update_effect(
                    self._model, begun.batch, begun.weights, loss=self._loss, next_batch=following, seed=begun.seed
                )
            except NoLabelledRowsError:
                continue
            except NotFiniteError as error:
                diverged = error
        if diverged is None:
            return None
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"the effect of the update of step {begun.step} is not defined, and recorded as NaN: {diverged}. "
                "Training goes on; later updates of this kind are recorded without a warning",
                stacklevel=5,
            )
        return UpdateEffect.undefined_everywhere(str(diverged))


def _is_defined(row: Mapping[str, Any]) -> bool:
    return math.isfinite(row["change"])
