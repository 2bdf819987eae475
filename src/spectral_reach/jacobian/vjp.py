"""Vector-Jacobian products J^T V over the autograd graph of one forward pass, and their norms in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.utils.checkpoint import CheckpointError

from spectral_reach.jacobian.forms import row_squares
from spectral_reach.measured.linearisation import Linearisation

Gradient: TypeAlias = Sequence[Tensor]
"""One tensor a parameter, in the order of ``Linearisation.parameters``."""


def vjp(outputs: Tensor, cotangent: Tensor, linearisation: Linearisation) -> Gradient:
    """J^T v for one output direction: ``outputs`` and ``cotangent`` (N, K) -> gradients shaped like the parameters.

    Raises:
        ValueError: activation checkpointing runs batch normalisation in training mode again.
    """
    parameters = list(linearisation.parameters.values())
    try:
        gradients = torch.autograd.grad(
            outputs,
            parameters,
            cotangent.to(outputs.dtype),
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
    except CheckpointError as error:
        if not linearisation.uses_batch_statistics:
            raise
        # A backward pass runs the checkpointed part again, out of reach of what holds the statistics constant.
        raise ValueError(
            "the model has batch normalisation in training mode inside activation checkpointing; expected one or the "
            "other: measure without checkpointing, or with the model in evaluation mode"
        ) from error
    # An embedding with sparse=True has sparse gradients.
    return [gradient.to_dense() if gradient.is_sparse else gradient for gradient in gradients]


def batched_vjp(linearisation: Linearisation, cotangents_VNK: Tensor) -> Gradient:
    """J^T V for V output directions at once: gradients with a leading axis V."""
    parameters = list(linearisation.parameters.values())
    gradients = batched_gradients(linearisation.f, parameters, cotangents_VNK.to(linearisation.f.dtype))
    return [
        gradient if gradient is not None else parameter.new_zeros((len(cotangents_VNK), *parameter.shape))
        for gradient, parameter in zip(gradients, parameters, strict=True)
    ]


def batched_gradients(
    start: Tensor | GradientEdge | Sequence[Tensor], inputs: Sequence[Tensor], cotangents: Tensor | Sequence[Tensor]
) -> list[Tensor | None]:
    """Gradients of one or several tensors at ``inputs``, for cotangents with a leading axis V; None where independent.

    The backward pass is vectorised (vmap). Operations that have no batching rule, such as activation checkpointing,
    get one ordinary backward pass a direction instead: the same numbers, only slower.
    """
    starts: Any = [start] if isinstance(start, Tensor | GradientEdge) else list(start)  # of one kind or the other
    rows = [cotangents] if isinstance(cotangents, Tensor) else list(cotangents)

    def gradients(of: list[Tensor], *, vectorised: bool) -> list[Tensor | None]:
        found = torch.autograd.grad(
            starts,
            inputs,
            of,
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=vectorised,
        )
        # An embedding with sparse=True has sparse gradients.
        return [each.to_dense() if each is not None and each.is_sparse else each for each in found]

    try:
        return gradients(rows, vectorised=True)
    except RuntimeError:
        # An error that is not about vectorising comes again here.
        columns = zip(*(gradients(list(each), vectorised=False) for each in zip(*rows, strict=True)), strict=True)
        return [None if column[0] is None else torch.stack(column) for column in columns]


def squared_norms(gradients: Gradient) -> Tensor:
    """||J^T v||^2 for each direction of a batched gradient, (V,) float64 on the CPU."""
    norms = [row_squares(part.reshape(len(part), -1)).cpu() for part in gradients]
    return torch.stack(norms).sum(0)


def squared_norm(gradient: Gradient) -> float:
    """||J^T v||^2 of one gradient, accumulated in float64."""
    # On one device before they meet: a model may be spread over several.
    meet = gradient[0].device
    norms = [row_squares(part.reshape(1, -1)).to(meet) for part in gradient]
    return float(torch.stack(norms).sum())


def inner_product(a: Gradient, b: Gradient) -> float:
    """<a, b> over all parameters, accumulated in float64; in stretches, for a whole embedding takes much as float64."""
    return sum(
        float(torch.dot(x.to(torch.float64), y.to(torch.float64)))
        for whole_x, whole_y in zip(a, b, strict=True)
        for x, y in zip(torch.split(whole_x.flatten(), _STRETCH), torch.split(whole_y.flatten(), _STRETCH), strict=True)
    )


_STRETCH = 2**22


def not_finite(name: str) -> str:
    """The error of a loss gradient that is not finite in the parameter ``name``."""
    return (
        f"the loss gradient of parameter {name!r} is not finite although outputs and loss are; expected finite "
        "gradients: look for a division by zero, a square root at zero or an overflow in the backward pass"
    )


def directions_per_chunk(linearisation: Linearisation, memory_budget: int) -> int:
    """How many output directions one batched product may take within ``memory_budget`` bytes.

    A direction needs its cotangent, its gradients and the gradients in flight between operations. These have the
    shapes that the graph's nodes declare for their incoming gradients; a few of the largest live at the same time.
    """
    element = linearisation.f.element_size()
    in_flight = 8 * max(_incoming_bytes(linearisation.f), default=0)
    gradients = sum(p.numel() * p.element_size() for p in linearisation.parameters.values())
    direction = 2 * linearisation.f.numel() * element + 2 * gradients + in_flight
    return max(1, int(memory_budget // direction))


def coarsest_precision(root: Tensor) -> torch.dtype:
    """Of all gradients in the graph below ``root``: models cast on the way, in their norms or under autocast."""
    dtypes = {root.dtype, *(metadata.dtype for metadata in _incoming(root) if metadata.dtype.is_floating_point)}
    coarsest: torch.dtype = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    return coarsest


def _incoming_bytes(root: Tensor) -> Iterator[int]:
    """Size of the gradient that flows into each node of the graph below ``root``."""
    for metadata in _incoming(root):
        yield int(torch.Size(metadata.shape).numel()) * metadata.dtype.itemsize


def _incoming(root: Tensor) -> Iterator[Any]:
    """What each node of the graph below ``root`` declares of the gradients that flow into it."""
    seen = set()
    todo = [root.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield from node._input_metadata
        todo.extend(next_node for next_node, _ in node.next_functions)
