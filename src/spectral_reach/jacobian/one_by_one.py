"""A backward pass that hands out the gradient of each parameter and keeps none, so that they never stand together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.utils.hooks import RemovableHandle

TakeGradient = Callable[[str, Tensor], None]
"""Called with the name of a parameter and its gradient, dense, in the precision of the pass; it must keep no view."""


def each_gradient(
    start: Tensor | GradientEdge, cotangent: Tensor, parameters: Mapping[str, nn.Parameter], take: TakeGradient
) -> None:
    """J^T v by parameter, in whatever order they come; none for a parameter that ``start`` does not depend on."""
    with handed_out(parameters, take):
        starts: Any = [start]  # of one kind or the other
        torch.autograd.grad(starts, list(parameters.values()), [cotangent], retain_graph=True, allow_unused=True)


@contextmanager
def handed_out(parameters: Mapping[str, nn.Parameter], take: TakeGradient) -> Iterator[None]:
    """Within it, passes of ``torch.autograd.grad`` at these parameters give their gradients to ``take`` alone."""
    handles: list[RemovableHandle] = []
    without_hooks = [parameter for parameter in parameters.values() if parameter._backward_hooks is None]
    try:
        for name, parameter in parameters.items():
            register: Any = parameter.register_hook  # torch leaves it without types
            handles.append(register(_hook(name, take)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for parameter in without_hooks:
            parameter._backward_hooks = None  # not a table without entries, which every later pass would look into


def _hook(name: str, take: TakeGradient) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def hook(gradient: Tensor) -> Tensor:
        if torch._C._functorch.is_legacy_batchedtensor(gradient):
            return gradient  # A layer rule has come to the parameter by unit, in a pass of its own within this one.
        take(name, gradient.to_dense() if gradient.is_sparse else gradient)
        # What autograd collects in its place, a zero of the same shape, takes no memory.
        return gradient.new_zeros(()).expand(gradient.shape)

    return hook
