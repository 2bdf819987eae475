"""Updates of an optimiser, as a training loop makes them one after the other: what each did to the loss."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from spectral_reach.decomposition.update_effect import UpdateEffect, update_effect, weights_of
from spectral_reach.measured.losses import LossFunction
from spectral_reach.measured.rows import NoLabelledRowsError
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
            self._begun = _Begun(
                step=step, batch=_copy(batch), weights=weights_of(self._model), seed=seed, columns=dict(columns)
            )

    def close(self) -> None:
        """The loop is over: the last update has no next batch. One that was begun and not made is no update."""
        begun = self._begun
        if begun is not None and any(not value.equal(begun.weights[name]) for name, value in self._present(begun)):
            self._complete(begun.step + 1, None)
        self._begun = None

    def _present(self, begun: _Begun) -> list[tuple[str, Tensor]]:
        return [(name, value) for name, value in weights_of(self._model).items() if name in begun.weights]

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
        row = {"step": begun.step, **begun.columns, **effect.as_dict()}
        row |= self._cumulated(row)
        self.record.add(row)

    def _effect(self, begun: _Begun, next_batch: Any) -> UpdateEffect | None:
        """None for a batch without any label, which has no loss that could change; the next one may be such a batch."""
        for following in (next_batch, None):
            with suppress(NoLabelledRowsError):
                return update_effect(
                    self._model, begun.batch, begun.weights, loss=self._loss, next_batch=following, seed=begun.seed
                )
        return None

    def _cumulated(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Sums over the updates on record up to this one, and how many these are."""
        before = [each for each in self.record.rows if each["step"] < row["step"]]
        last = max(before, key=lambda each: each["step"], default=None)
        if last is None:
            return {**{f"cumulated_{name}": row[name] for name in _CUMULATED}, "updates": 1}
        sums = {f"cumulated_{name}": last[f"cumulated_{name}"] + row[name] for name in _CUMULATED}
        return {**sums, "updates": last["updates"] + 1}


def _copy(batch: Any) -> Any:
    """Of its tensors: a loop may fill the same ones with the next batch."""
    return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, batch)
