"""A batch in parts of a few units, each with a forward pass of its own, so that memory holds one part at a time.

What is additive over units does not depend on how they are parted. That takes units that do not see each other and a
forward pass that another one repeats, which is found out first, on two units without a graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spectral_reach.measured.batch import Batch, output_tensor
from spectral_reach.measured.batch_norm import RecordStatistics
from spectral_reach.measured.causal_shift import labels_are_shifted
from spectral_reach.measured.checkpointing import activations_kept
from spectral_reach.measured.extent import Extent
from spectral_reach.measured.isolation import from_present_state, generator_states, seed_generators
from spectral_reach.measured.linearisation import Linearisation, linearise
from spectral_reach.measured.losses import LossFunction, check_mean_of_two
from spectral_reach.measured.rows import IGNORE_INDEX, NoLabelledRowsError, labelled_rows, samples_of_units
from spectral_reach.measured.saved_bytes import counted


class MicroBatches:
    """The labelled units of a batch, ``size`` at a time. To be used inside ``isolation.leaving_no_trace``.

    Args:
        model, batch, loss, parameters: as in ``sr.decompose``, checked.
        size: units a pass.
        seed: of the generators.
        checkpointed: leave the model's activation checkpointing on.

    Raises:
        NoLabelledRowsError: no unit has a label.
        ValueError: units see each other or share what looks like a row for each, the forward pass draws random
            numbers, or what ``linearise`` raises.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Any,
        loss: LossFunction,
        parameters: Mapping[str, nn.Parameter],
        *,
        size: int,
        seed: int,
        checkpointed: bool,
    ) -> None:
        self._model, self._loss, self._parameters = model, loss, parameters
        self._size, self._seed = size, seed
        self.checkpointed = checkpointed
        """Whether the model's activation checkpointing is on."""
        self._batch = Batch.parse(batch, model)
        pair = _two_units(self._batch)
        together = self._together(pair)  # first, for it finds that units see each other
        returned, outputs = self._without_graph(self._batch.take(pair[:1]))
        self._shift = self._batch.is_mapping and labels_are_shifted(
            model, returned, outputs, self._batch.targets[pair[:1].to(self._batch.targets.device)]
        )
        shape = (self._batch.n_units, *outputs.shape[1:])
        samples = samples_of_units(shape, self._batch.targets, causal_shift=self._shift)
        self._check_alone(pair, outputs, together)
        del together
        rows = labelled_rows(outputs, self._batch.take(pair[:1]).targets, causal_shift=self._shift)
        self._passed = self._batch_without_labels(pair[:1], outputs)
        self.units = samples.nonzero().squeeze(1)
        """Where the labelled units stand in the batch, (n_units,) int64 on the CPU."""
        self.extent = Extent(samples_of_unit=samples[self.units], n_outputs=rows.outputs[0].numel())

    @property
    def model(self) -> nn.Module:
        """Whose batch it is."""
        return self._model

    @property
    def loss(self) -> LossFunction:
        """Of which."""
        return self._loss

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """theta."""
        return self._parameters

    def each(self, do: Callable[[Linearisation], None]) -> None:
        """Call ``do`` with every part in turn, of which nothing is kept here."""
        before: tuple[Tensor, Tensor] | None = None
        for units in torch.split(torch.arange(self.extent.n_units), self._size):
            part = self.part(units)
            first = part.first_sample
            if before is not None:
                check_mean_of_two(self._loss, before, first)
            before = first
            do(part)
            del part  # before the next one comes

    def part(self, units: Tensor) -> Linearisation:
        """Some of the labelled units, (m,) int64, from a forward pass of their own."""
        places = self.units[units]
        return linearise(
            self._model,
            self._passed.take(places),
            self._loss,
            self._parameters,
            seed=self._seed,
            checkpointed=self.checkpointed,
            causal_shift=self._shift,
            unit_ids=places,
        )

    def in_parts_of(self, size: int) -> MicroBatches:
        """The same batch, so many units at a time."""
        other = copy(self)
        other._size = size
        return other

    def bytes_of_unit(self, tensors_of_outputs: int) -> int:
        """Memory that a unit takes in a pass: what is kept of it, and so many tensors of the size of its outputs."""
        longest = self.units[[int(self.extent.samples_of_unit.argmax())]]
        seed_generators(self._seed)
        with (
            torch.enable_grad(),
            from_present_state(self._model),
            counted(self._model, checkpointed=self.checkpointed) as found,
        ):
            outputs = output_tensor(self._passed.take(longest).outputs_of(self._model))
        size = torch.promote_types(outputs.dtype, torch.float32).itemsize
        return found.total + tensors_of_outputs * outputs.numel() * size

    def has_units_of(self, other: MicroBatches) -> bool:
        """Whether both are of the same inputs and targets."""
        return self._batch.has_units_of(other._batch)

    @torch.no_grad()
    def _without_graph(self, batch: Batch) -> tuple[Any, Tensor]:
        seed_generators(self._seed)
        batch_norm = RecordStatistics()
        with from_present_state(self._model), batch_norm, activations_kept(True):
            before = generator_states(self._model)
            returned = batch.outputs_of(self._model)
            drew = before != generator_states(self._model)
        if drew:
            raise ValueError(
                "the forward pass draws random numbers (dropout), other ones in every micro-batch; expected a pass "
                "that can be repeated: call model.eval(), or leave micro_batch out"
            )
        if batch_norm.statistics:
            raise ValueError(
                "the model has batch normalisation in training mode, so that units see each other; expected units "
                "that do not, to measure them in micro-batches: call model.eval(), or leave micro_batch out"
            )
        return returned, output_tensor(returned)

    def _together(self, pair: Tensor) -> Tensor:
        """Outputs of two units, or of the only one."""
        part = self._batch.take(pair)
        try:
            return self._without_graph(part)[1]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            names = ", ".join(self._batch.names_by_unit())
            raise ValueError(
                f"the model raised {error!r} on two units of the batch; expected inputs whose leading axis is over "
                f"units where it is as long as the batch ({names}): give what units share another leading axis, for "
                "example one of length 1, or leave micro_batch out"
            ) from error

    def _check_alone(self, pair: Tensor, first_alone: Tensor, together: Tensor) -> None:
        """A unit has the outputs beside another that it has alone. One after the other, for outputs may be large."""
        if len(pair) == 1:
            return
        found = [_deviation(together[:1], first_alone)]
        if bool(_is_labelled(self._batch)[pair[1]]):  # else padding, of which outputs may not be finite
            found.append(_deviation(together[1:], self._without_graph(self._batch.take(pair[1:]))[1]))
        difference, size = (math.hypot(*each) for each in zip(*found, strict=True))
        tolerance = min(8e3 * torch.finfo(together.dtype).eps, 0.05)
        if not difference <= tolerance * size:
            raise ValueError(
                f"a unit has other outputs beside another one than alone (they differ by {difference / size:.2g} "
                "of their size); expected units that do not see each other, to measure them in micro-batches: "
                "leave micro_batch out"
            )

    def _batch_without_labels(self, unit: Tensor, outputs: Tensor) -> Batch:
        """What is passed to the model: without labels where these change no output, for a loss of the model's own that
        nobody asked for takes as much memory as the outputs."""
        kwargs = dict(self._batch.kwargs)
        if "labels" not in kwargs:
            return self._batch
        # Other labels too: decoders are given shifted labels, or shifted inputs, which may be the same in this unit.
        other = replace(self._batch, kwargs=kwargs | {"labels": _other_labels(kwargs.pop("labels"))})
        bare = replace(self._batch, kwargs=kwargs)
        try:
            found = [self._without_graph(each.take(unit))[1] for each in (bare, other)]
        except Exception:  # whatever a model raises that makes its inputs of the labels
            return self._batch
        return bare if all(torch.equal(each, outputs) for each in found) else self._batch


def _deviation(together: Tensor, alone: Tensor) -> tuple[float, float]:
    """Norms of the difference and of the second."""
    return float((together - alone).norm()), float(alone.norm())


def _other_labels(labels: Tensor) -> Tensor:
    """Class 1 where the class is 0, else class 0; of numbers x, 1 - x."""
    if labels.dtype.is_floating_point:
        return 1 - labels
    return torch.where(labels.eq(IGNORE_INDEX), labels, labels.eq(0).to(labels.dtype))


def _is_labelled(batch: Batch) -> Tensor:
    """(B,) bool on the CPU. Labels that a causal shift would drop do not count, if others have some."""
    targets = batch.targets
    if targets.dtype.is_floating_point:
        return torch.ones(batch.n_units, dtype=torch.bool)
    is_label = targets.ne(IGNORE_INDEX).reshape(batch.n_units, -1)
    late = is_label[:, 1:].any(1)
    return (late if bool(late.any()) else is_label.any(1)).cpu()


def _two_units(batch: Batch) -> Tensor:
    """The first and the last labelled unit; beside the only one another, if there is one. (2,) or (1,) int64.

    Raises:
        NoLabelledRowsError: there is none.
    """
    targets, labelled = batch.targets, _is_labelled(batch)
    found = labelled.nonzero().squeeze(1)
    if not len(found):
        raise NoLabelledRowsError(
            f"no row of the batch carries a label (targets of shape {tuple(targets.shape)}, all {IGNORE_INDEX}); "
            "expected at least one label"
        )
    return found[[0, -1]] if len(found) > 1 else torch.cat([found, (~labelled).nonzero().squeeze(1)[:1]])
