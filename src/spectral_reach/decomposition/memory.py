"""How much memory a measurement will take, and how many units at a time fit into what is allowed.

Weights are there already. A measurement adds

- *for the batch*: the sum of its gradients, as large as theta, of a pair four of them; and in a pass the gradients of
  the largest parameter;
- *for chi_net*: gradients of an output direction, or sums of those of each probe, and what leads from the outputs'
  readout to probes of its hidden space;
- *for each unit of a micro-batch*: what its forward pass keeps for the backward passes, counted in a pass that keeps
  nothing, and a few tensors of the size of its outputs and of its largest activation;
- *for the errors of noise-corrected values*: gradients of a few units, of as many entries at a time as there is room.

What allocators keep for later is part of the margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from spectral_reach.estimators import EstimatorOptions
from spectral_reach.estimators.batch import Batch as ProbesOverBatch
from spectral_reach.estimators.exact import AUTO_DIRECTIONS, Exact, n_directions
from spectral_reach.jacobian.vjp import Gradient
from spectral_reach.measured.extent import Extent
from spectral_reach.measured.losses import is_own
from spectral_reach.measured.memory_use import memory_in_use
from spectral_reach.measured.micro_batches import MicroBatches

_OF_OUTPUTS = 5
"""Tensors of the size of a unit's outputs, at least in float32: residuals, their exponentials, gradients in flight."""
_OF_CALLERS_LOSS = 2
"""More of them where the loss is a function of the caller's, whose gradient is autograd's."""
_COPIES = 3
"""Of the gradient of the largest parameter: as it comes, in float32, and where it is multiplied."""
_MARGIN = 1.1
_MOST_PASSES = 16
"""Of each of the units that are multiplied with each other, before too little memory is an error."""
_NOISE_UNITS = 8
"""Units whose products tell the errors where the caller names no number: each costs a pass or more of its own."""
_BY_UNIT = 1.5
"""Several units at a time are told apart by layer rules, which keep products of activations beside these."""
_IN_TRIAL = 3
"""Units of a pass in which layer rules are tried out beside that of the micro-batch."""
_IN_FLOAT64 = 2**26
"""Bytes of stretches of two gradients that are multiplied in float64, where they are that long."""
_OF_DIRECTION = 2
"""Gradients of a direction as they come, and for their squares."""
_OF_HIDDEN = 6
"""Matrices in float64 that the eigenvectors of a readout take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan:
    """What a measurement takes, in bytes on the model's device.

    Attributes:
        in_use: before it begins, weights included.
        of_batch: sums of gradients, and those of the largest parameter in a pass; what chi_net takes at the least.
        of_unit: for a unit that is alone in its pass.
        micro_batch: units at a time.
        room: for the gradients of some units that are multiplied with each other; None where they are elsewhere.
        memory_budget: for batched products.
    """

    in_use: int
    of_batch: int
    of_unit: int
    micro_batch: int
    room: int | None
    memory_budget: int

    @property
    def peak(self) -> int:
        """At the most."""
        at_a_time = max(_of_units(self.micro_batch, self.of_unit), self.of_unit + (self.room or 0))
        return self.in_use + int(_MARGIN * (self.of_batch + at_a_time))

    def __str__(self) -> str:
        """One line."""
        return (
            f"{told(self.peak)}: {told(self.in_use)} in use, {told(self.of_batch)} for gradients, "
            f"{told(_of_units(self.micro_batch, self.of_unit))} for {self.micro_batch} "
            f"{'unit' if self.micro_batch == 1 else 'units'} at a time"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What a measurement needs, in bytes on the model's device, of which a limit makes a plan.

    Attributes:
        in_use, of_batch, of_unit: as in ``MemoryPlan``.
        of_trace: what of ``of_batch`` is for chi_net, so that its batched products may take it.
        of_several: beside several units at a time, for probes over all of them where layer rules do not hold.
        of_sum: a sum of gradients.
        of_products: gradients of all units that are multiplied with each other.
        most: units at a time that there are, one under activation checkpointing.
        memory_budget: of the caller, for batched products.
        elsewhere: sums of gradients are off-loaded.
    """

    in_use: int
    of_batch: int
    of_trace: int
    of_several: int
    of_unit: int
    of_sum: int
    of_products: int
    most: int
    memory_budget: int
    elsewhere: bool

    @classmethod
    def of(
        cls,
        model: nn.Module,
        parameters: Sequence[nn.Parameter],
        estimator: str,
        options: EstimatorOptions,
        *,
        of_unit: int,
        extents: Sequence[Extent],
        checkpointed: bool,
        elsewhere: bool,
        in_use: int,
    ) -> Needs:
        """Of one batch, or of the two of a pair.

        Args:
            model: on any device, the meta device too.
            parameters: theta.
            estimator, options: of the measurement.
            of_unit: what a forward pass of one unit keeps, and ``outputs_a_unit`` tensors of the size of its outputs.
            extents: of the batches.
            checkpointed: activation checkpointing is on.
            elsewhere: sums of gradients are off-loaded.
            in_use: bytes, weights included.
        """
        of_sum = _bytes_of_sum(parameters)
        of_probes = 0 if elsewhere else options.probes * of_sum
        of_trace = max(_of_trace(model, each, estimator, options, of_sum, of_probes) for each in extents)
        sums = 0 if elsewhere else (1 if len(extents) == 1 else 4) * of_sum
        largest = max(_bytes_of_sum([p]) for p in parameters)
        multiplied = noise_units_of(extents[0].n_units, options) if len(extents) == 1 and not elsewhere else 0
        return cls(
            in_use=in_use,
            of_batch=sums + _COPIES * largest + min(4 * largest, _IN_FLOAT64) + of_trace,
            of_trace=of_trace,
            of_several=of_probes if estimator == "auto" else 0,
            of_unit=of_unit,
            of_sum=of_sum,
            of_products=multiplied * of_sum,
            most=1 if checkpointed else max(each.n_units for each in extents),
            memory_budget=options.memory_budget,
            elsewhere=elsewhere,
        )

    @property
    def least(self) -> MemoryPlan:
        """With the least memory that is accepted."""
        return self._with(micro_batch=1, room=self.of_products // _MOST_PASSES, memory_budget=1)

    def within(self, max_memory: int) -> MemoryPlan:
        """As many units at a time as fit. Where nothing does, ``least``, whose peak is above the limit."""
        left = int((max_memory - self.in_use) / _MARGIN) - self.of_batch
        if left < self.of_unit + self.of_products // _MOST_PASSES:
            return self.least
        fits = (n for n in range(self.most, 1, -1) if _of_units(n, self.of_unit) + self.of_several <= left)
        size = next(fits, 1)
        return self._with(
            micro_batch=size,
            room=min(self.of_products, left - self.of_unit),
            memory_budget=max(1, min(self.memory_budget, left + self.of_trace - _of_units(size, self.of_unit))),
        )

    def without_limit(self, micro_batch: int | None) -> MemoryPlan:
        """So many units at a time, or the whole batch at once."""
        return self._with(
            micro_batch=self.most if micro_batch is None else min(micro_batch, self.most),
            room=0 if micro_batch is None else min(self.of_products, max(self.memory_budget, 2 * self.of_sum)),
            memory_budget=self.memory_budget,
        )

    def _with(self, *, micro_batch: int, room: int, memory_budget: int) -> MemoryPlan:
        return MemoryPlan(
            in_use=self.in_use,
            of_batch=self.of_batch,
            of_unit=self.of_unit,
            micro_batch=micro_batch,
            room=None if self.elsewhere else room,
            memory_budget=memory_budget,
        )


def plan(batches: Mapping[str, MicroBatches], max_memory: int, estimator: str, options: EstimatorOptions) -> MemoryPlan:
    """As many units at a time as fit.

    Args:
        batches: one, or the two of a pair, by a name for errors.
        max_memory: bytes, on the device of the model, weights included.
        estimator: of chi_net.
        options: of the measurement. Sums of gradients that are off-loaded from a GPU do not count.

    Raises:
        ValueError: one unit is too much.
    """
    first = next(iter(batches.values()))
    parameters = list(first.parameters.values())
    device = parameters[0].device
    tensors = outputs_a_unit(own_loss=is_own(first.loss))
    needs = Needs.of(
        first.model,
        parameters,
        estimator,
        options,
        of_unit=max(batch.bytes_of_unit(tensors) for batch in batches.values()),
        extents=[batch.extent for batch in batches.values()],
        checkpointed=first.checkpointed,
        elsewhere=options.offload and device.type != "cpu",
        in_use=memory_in_use(device),
    )
    found = needs.within(max_memory)
    if found.peak > max_memory:
        raise ValueError(
            f"max_memory is {told(max_memory)}, and one unit of {' and '.join(map(repr, batches))} takes {found}; "
            f"expected {told(found.peak)} or more: allow more, take shorter units, "
            + ("measure in half precision" if first.checkpointed else "checkpointing=True")
            + (", or offload=True" if not options.offload and device.type != "cpu" else "")
        )
    return found


def outputs_a_unit(*, own_loss: bool) -> int:
    """Tensors of the size of a unit's outputs that are there at a time; ``own_loss``: one that is known by name."""
    return _OF_OUTPUTS + (0 if own_loss else _OF_CALLERS_LOSS)


def noise_units_of(n_units: int, options: EstimatorOptions) -> int:
    """How many units are multiplied with each other."""
    return min(n_units, _NOISE_UNITS) if options.noise_units is None else options.noise_units


def default_room(gradient: Gradient, budget: int) -> int:
    """Bytes for their gradients where the caller sets no limit: in proportion to what is there anyway, and is free."""
    room = max(budget, 2 * sum(part.numel() * part.element_size() for part in gradient))
    device = gradient[0].device
    if device.type != "cuda":
        return room
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(budget, min(room, (free + unused) // 3))


def _of_trace(
    model: nn.Module, extent: Extent, estimator: str, options: EstimatorOptions, of_sum: int, of_probes: int
) -> int:
    """What chi_net takes at the least beside the passes."""
    if estimator == ProbesOverBatch.name:
        return of_probes
    if estimator == Exact.name or (estimator == "auto" and n_directions(extent, options) <= AUTO_DIRECTIONS):
        return _OF_DIRECTION * of_sum
    # Probes of a hidden state h take the eigenvectors of a K x D readout, and its weight in float32.
    found = [0]
    for weight in model.parameters():
        if weight.ndim == 2 and extent.n_outputs in weight.shape:
            copied = 0 if weight.requires_grad else _bytes_of_sum([weight])  # else among those of the largest parameter
            found.append(copied + _OF_HIDDEN * 8 * min(weight.shape) ** 2)
    return max(found)


def _of_units(size: int, of_unit: int) -> int:
    """So many units at a time."""
    return of_unit if size == 1 else int(_BY_UNIT * of_unit * (size + _IN_TRIAL))


def told(amount: int) -> str:
    """Bytes in a unit that suits them."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount / 2**10:.3g} KiB"


def _bytes_of_sum(parameters: Sequence[nn.Parameter]) -> int:
    return sum(p.numel() * torch.promote_types(p.dtype, torch.float32).itemsize for p in parameters)
