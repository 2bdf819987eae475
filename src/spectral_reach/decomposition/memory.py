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

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from spectral_reach.estimators import EstimatorOptions
from spectral_reach.estimators.batch import Batch as ProbesOverBatch
from spectral_reach.estimators.exact import AUTO_DIRECTIONS, Exact, n_directions
from spectral_reach.jacobian.vjp import Gradient
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
_BUDGET = 2**28
"""Of batched products, as ``sr.decompose`` has it by itself."""
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
    elsewhere = options.offload and device.type != "cpu"
    shape = [(batch.extent.n_outputs, n_directions(batch.extent, options)) for batch in batches.values()]
    of_trace = max(
        _of_trace(first.model, parameters, *each, estimator, options.probes, elsewhere=elsewhere) for each in shape
    )
    of_batch = _of_batch(parameters, is_pair=len(batches) > 1, elsewhere=elsewhere) + of_trace
    # Several units that layer rules cannot tell apart: ``auto`` takes probes over all of them.
    of_several = options.probes * _bytes_of_sum(parameters) if estimator == "auto" and not elsewhere else 0
    own = is_own(first.loss)
    of_unit = max(batch.bytes_of_unit(outputs_a_unit(own_loss=own)) for batch in batches.values())
    in_use = memory_in_use(device)
    left = int((max_memory - in_use) / _MARGIN) - of_batch
    room = 0
    if len(batches) == 1 and not elsewhere:
        room = noise_units_of(first.extent.n_units, options) * _bytes_of_sum(parameters)
    least_room = room // _MOST_PASSES
    if left < of_unit + least_room:
        least = MemoryPlan(
            in_use=in_use, of_batch=of_batch, of_unit=of_unit, micro_batch=1, room=least_room, memory_budget=1
        )
        raise ValueError(
            f"max_memory is {told(max_memory)}, and one unit of {' and '.join(map(repr, batches))} takes {least}; "
            f"expected {told(least.peak)} or more: allow more, take shorter units, "
            + ("measure in half precision" if first.checkpointed else "checkpointing=True")
            + (", or offload=True" if not options.offload and device.type != "cpu" else "")
        )
    most = 1 if first.checkpointed else max(batch.extent.n_units for batch in batches.values())
    size = _most_units(most, of_unit, left - of_several)
    return MemoryPlan(
        in_use=in_use,
        of_batch=of_batch,
        of_unit=of_unit,
        micro_batch=size,
        room=None if elsewhere else min(room, left - of_unit),
        memory_budget=max(1, min(options.memory_budget, left + of_trace - _of_units(size, of_unit))),
    )


def foreseen(
    model: nn.Module,
    parameters: list[nn.Parameter],
    *,
    of_unit: int,
    n_units: int,
    n_outputs: int,
    n_samples: int,
    estimator: str,
    probes: int,
    micro_batch: int | None,
    max_memory: int | None,
    is_pair: bool,
    elsewhere: bool,
    in_use: int,
) -> MemoryPlan:
    """The same before the model is there: from its outline and a count of ``of_unit`` bytes on the meta device.

    Args:
        model: on any device.
        parameters: theta.
        of_unit: what a forward pass of one unit keeps, and ``outputs_a_unit`` tensors of the size of its outputs.
        n_units: of the largest batch.
        n_outputs, n_samples: K, and the largest N.
        estimator, probes, micro_batch, max_memory: as in ``sr.decompose``. Where one unit is too much for
            ``max_memory``, the ``peak`` is above it.
        is_pair: two batches are measured together.
        elsewhere: sums of gradients are off-loaded.
        in_use: bytes, weights included.
    """
    directions = n_samples * n_outputs
    of_trace = _of_trace(model, parameters, n_outputs, directions, estimator, probes, elsewhere=elsewhere)
    of_batch = _of_batch(parameters, is_pair=is_pair, elsewhere=elsewhere) + of_trace
    size = n_units if micro_batch is None else min(micro_batch, n_units)
    whole = _bytes_of_sum(parameters)
    room = 0 if is_pair or elsewhere else min(n_units * whole, max(_BUDGET, 2 * whole))
    if max_memory is not None:
        left = int((max_memory - in_use) / _MARGIN) - of_batch
        if micro_batch is None:
            size = _most_units(n_units, of_unit, left)
        room = max(0, min(room, left - of_unit))
    return MemoryPlan(
        in_use=in_use, of_batch=of_batch, of_unit=of_unit, micro_batch=size, room=room, memory_budget=_BUDGET
    )


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
    model: nn.Module,
    parameters: list[nn.Parameter],
    n_outputs: int,
    directions: int,
    estimator: str,
    probes: int,
    *,
    elsewhere: bool,
) -> int:
    """What chi_net takes at the least beside the passes."""
    of_sum = _bytes_of_sum(parameters)
    if estimator == ProbesOverBatch.name:
        return 0 if elsewhere else probes * of_sum
    if estimator == Exact.name or (estimator == "auto" and directions <= AUTO_DIRECTIONS):
        return _OF_DIRECTION * of_sum
    # Probes of a hidden state h take the eigenvectors of a K x D readout, and its weight in float32.
    found = [0]
    for weight in model.parameters():
        if weight.ndim == 2 and n_outputs in weight.shape:
            copied = 0 if weight.requires_grad else _bytes_of_sum([weight])  # else among those of the largest parameter
            found.append(copied + _OF_HIDDEN * 8 * min(weight.shape) ** 2)
    return max(found)


def _of_units(size: int, of_unit: int) -> int:
    """So many units at a time."""
    return of_unit if size == 1 else int(_BY_UNIT * of_unit * (size + _IN_TRIAL))


def _most_units(most: int, of_unit: int, left: int) -> int:
    """How many at a time there is memory for, one at the least."""
    return next((size for size in range(most, 1, -1) if _of_units(size, of_unit) <= left), 1)


def told(amount: int) -> str:
    """Bytes in a unit that suits them."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount / 2**10:.3g} KiB"


def _of_batch(parameters: list[nn.Parameter], *, is_pair: bool, elsewhere: bool) -> int:
    sums = 0 if elsewhere else (4 if is_pair else 1) * _bytes_of_sum(parameters)
    largest = max(_bytes_of_sum([p]) for p in parameters)
    return sums + _COPIES * largest + min(4 * largest, _IN_FLOAT64)


def _bytes_of_sum(parameters: list[nn.Parameter]) -> int:
    return sum(p.numel() * torch.promote_types(p.dtype, torch.float32).itemsize for p in parameters)
