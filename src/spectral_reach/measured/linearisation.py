"""A model at its parameters theta, on a batch, under a loss: all that the Jacobian rooms need to know."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from spectral_reach.measured.batch import Batch, output_tensor
from spectral_reach.measured.batch_norm import RecordStatistics, ReplayStatistics
from spectral_reach.measured.causal_shift import labels_are_shifted
from spectral_reach.measured.checkpointing import activations_kept
from spectral_reach.measured.extent import Extent
from spectral_reach.measured.isolation import from_present_state, generator_states, seed_generators
from spectral_reach.measured.losses import LossFunction, LossGradient
from spectral_reach.measured.rows import labelled_rows


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class Linearisation:
    """f(theta), its autograd graph, and the loss gradient on it.

    Attributes:
        f: labelled outputs (N, K), attached to the graph of one forward pass over the whole batch.
        unit_of_row: (N,) int64 in 0 .. n_units - 1; every unit here holds at least one row.
        outputs: what the model returned, (B, ...), of which ``f`` is the labelled part.
        place: (N,) which row of ``outputs.flatten(0, -2)`` each row of f is; None where f is no such rows.
        unit_in_batch: (n_units,) where each unit stands in the batch, unlabelled ones among it.
        unit_ids: (n_units,) int64 on the CPU, where each unit stands in the batch that a user gave, of which this is
            all or a part.
        parameters: the selected trainable parameters theta by name.
        drew_random_numbers: the forward pass was stochastic (dropout): no second pass can repeat a part of it.
    """

    f: Tensor
    unit_of_row: Tensor
    outputs: Tensor
    place: Tensor | None
    unit_in_batch: Tensor
    unit_ids: Tensor
    parameters: Mapping[str, nn.Parameter]
    drew_random_numbers: bool
    _model: nn.Module = field(repr=False)
    _batch: Batch = field(repr=False)
    _causal_shift: bool = field(repr=False)
    _batch_norm: RecordStatistics = field(repr=False)
    _loss: LossGradient = field(repr=False)
    _checkpointed: bool = field(repr=False)
    _samples: Tensor | None = field(repr=False, default=None)

    @property
    def loss(self) -> float:
        """L, the mean over the samples of the whole batch."""
        return self._loss.value

    @property
    def residual(self) -> Tensor:
        """r = N u = N dL/df, (N, K), detached, float32 or float64, N that of the whole batch."""
        whole = self._loss.residual.flatten(1)
        return whole if self._samples is None else whole[self._samples]

    def residual_of(self, samples: Tensor) -> Tensor:
        """``residual`` of some samples, (m, K), without that of the others; ``samples`` (m,) int64."""
        return self._loss.of(samples if self._samples is None else self._samples[samples]).flatten(1)

    @property
    def first_sample(self) -> tuple[Tensor, Tensor]:
        """Outputs and target of a sample as the loss is given them, (1, ...) each, detached."""
        return self._loss.first_sample

    def labelled(self, like_outputs: Tensor) -> Tensor:
        """What stands where f stands in ``outputs``, from a tensor of their shape, (N, K)."""
        rows = labelled_rows(like_outputs, self._batch.targets, causal_shift=self._causal_shift)
        return rows.outputs.flatten(1)

    @property
    def checkpointed(self) -> bool:
        """Whether the model's activation checkpointing is on."""
        return self._checkpointed

    @property
    def model(self) -> nn.Module:
        """Whose outputs these are."""
        return self._model

    @property
    def n_samples(self) -> int:
        """N."""
        return self.f.shape[0]

    @property
    def n_outputs(self) -> int:
        """K."""
        return self.f.shape[1]

    @property
    def n_units(self) -> int:
        """Units that hold at least one labelled row."""
        return self.unit_in_batch.numel()

    @property
    def samples_of_unit(self) -> Tensor:
        """N_i, (n_units,) int64."""
        return torch.bincount(self.unit_of_row, minlength=self.n_units)

    @property
    def extent(self) -> Extent:
        """N_i, and with them n_units and N, and K."""
        return Extent(samples_of_unit=self.samples_of_unit.cpu(), n_outputs=self.n_outputs)

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether some batch normalisation took its statistics from this batch."""
        return bool(self._batch_norm.statistics)

    def has_units_of(self, other: Linearisation) -> bool:
        """Whether both are of the same inputs and targets. Equal outputs do not tell: a readout may start at zero."""
        return self._batch.has_units_of(other._batch)

    @property
    def n_units_in_batch(self) -> int:
        """B: units of the batch, labelled or not."""
        return self._batch.n_units

    def of_units(self, units: Tensor) -> Linearisation:
        """The same for some of the units alone, any of them several times, from a forward pass of their own.

        Batch normalisation keeps the statistics of the whole batch. The outputs are the units' rows of ``f`` exactly if
        the model treats units independently and draws no random numbers; the caller verifies that.

        Args:
            units: (m,) int64, in 0 .. n_units - 1.

        Raises:
            NotReplayableError: the pass meets other batch-normalisation calls than that of the whole batch.
        """
        part = self._batch.take(self.unit_in_batch[units])
        # Watching every operation for batch normalisation costs time, and there is none where the whole batch met none.
        replay = ReplayStatistics(self._batch_norm.statistics) if self.uses_batch_statistics else nullcontext()
        with from_present_state(self._model), replay, activations_kept(not self._checkpointed):
            outputs = output_tensor(part.outputs_of(self._model))
        rows = labelled_rows(outputs, part.targets, causal_shift=self._causal_shift)
        samples = torch.cat([(self.unit_of_row == unit).nonzero().squeeze(1) for unit in units])
        return replace(
            self,
            f=rows.outputs.flatten(1),
            unit_of_row=rows.unit_of_row,
            outputs=outputs,
            place=rows.place,
            unit_in_batch=rows.unit_in_batch,
            unit_ids=self.unit_ids[units.cpu()][rows.unit_in_batch.cpu()],
            _batch=part,
            _samples=samples if self._samples is None else self._samples[samples],
        )


def linearise(
    model: nn.Module,
    batch: Any,
    loss: LossFunction,
    parameters: Mapping[str, nn.Parameter],
    *,
    seed: int,
    returned: Any = None,
    checkpointed: bool = False,
    causal_shift: bool | None = None,
    unit_ids: Tensor | None = None,
) -> Linearisation:
    """One forward pass. To be called inside ``isolation.leaving_no_trace``.

    Args:
        model, batch, loss, parameters: as in ``sr.decompose``, checked; or a ``Batch``.
        seed: starts the generators, so that equal batches meet equal dropout masks.
        returned: what the model has returned for the batch already, with its graph, instead of a pass.
        checkpointed: leave the model's activation checkpointing on, for less memory.
        causal_shift: whether labels are shifted, where that is known; None to find it out.
        unit_ids: where the units stand in the batch that this is a part of, (B,) int64 on the CPU; None for no part.
    """
    parsed = batch if isinstance(batch, Batch) else Batch.parse(batch, model)
    batch_norm, drew = RecordStatistics(), False
    if returned is None:
        seed_generators(seed)
        with from_present_state(model), batch_norm, activations_kept(not checkpointed):
            before = generator_states(model)
            returned = parsed.outputs_of(model)
            drew = before != generator_states(model)
    outputs = output_tensor(returned)
    if not outputs.requires_grad:
        raise ValueError(
            "the model's outputs do not depend on any trainable parameter through autograd; expected outputs with a "
            "graph: do not detach them, and do not measure inside the model's own no_grad"
        )
    shift = causal_shift
    if shift is None:
        shift = parsed.is_mapping and labels_are_shifted(model, returned, outputs, parsed.targets)
    rows = labelled_rows(outputs, parsed.targets, causal_shift=shift)
    loss_gradient = LossGradient(loss, rows)
    return Linearisation(
        f=rows.outputs.flatten(1),
        unit_of_row=rows.unit_of_row,
        outputs=outputs,
        place=rows.place,
        unit_in_batch=rows.unit_in_batch,
        unit_ids=rows.unit_in_batch.cpu() if unit_ids is None else unit_ids[rows.unit_in_batch.cpu()],
        parameters=parameters,
        drew_random_numbers=drew,
        _model=model,
        _batch=parsed,
        _causal_shift=shift,
        _batch_norm=batch_norm,
        _loss=loss_gradient,
        _checkpointed=checkpointed,
    )
