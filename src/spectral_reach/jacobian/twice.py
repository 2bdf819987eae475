r"""Jacobian-vector products J w from two backward passes, without forward-mode differentiation.

J^T v is linear in v, so its own gradient gives J back: for any w,

    J w = d <J^T v, w> / dv.

The graph of J^T v is recorded once, with v = 0; every product is then one backward pass through that graph. It does
per layer what forward mode does, without the forward pass itself, and needs no rules of forward mode, which fused
attention and many custom operations lack. What it needs is that every operation can be differentiated twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from spectral_reach.jacobian.vjp import Gradient, batched_gradients


class TwiceDifferentiated:
    """J of one start of backward passes at some parameters.

    Args:
        start: the outputs, or the place in the graph where they are.
        like: a tensor of the outputs' shape, precision and device.
        parameters: where J^T v is taken, P entries in all.

    Raises:
        ValueError: an operation cannot be differentiated twice; the message names it.
    """

    def __init__(self, start: Tensor | GradientEdge, like: Tensor, parameters: Sequence[Tensor]) -> None:
        self._direction = torch.zeros_like(like, requires_grad=True)
        with _differentiable_twice():
            found = torch.autograd.grad(
                [start],  # type: ignore[arg-type] # a tensor or an edge
                parameters,
                [self._direction],
                create_graph=True,
                allow_unused=True,
            )
        self.moving = [i for i, each in enumerate(found) if each is not None and each.requires_grad]
        """Which of the parameters move the outputs, by their places; products take vectors of these alone."""
        self._gradients = [each for each in found if each is not None and each.requires_grad]

    def times(self, w: Gradient) -> Tensor:
        """J w, of the outputs' shape, for w shaped like the parameters that move them."""
        if not self.moving:
            return torch.zeros_like(self._direction)
        with _differentiable_twice():
            (product,) = torch.autograd.grad(
                self._gradients, [self._direction], self._cotangents(w), retain_graph=True, materialize_grads=True
            )
        return product

    def times_many(self, w: Gradient) -> Tensor:
        """J W, (V, *shape of the outputs), for W with a leading axis V; some parameter must move them."""
        assert self.moving
        with _differentiable_twice():
            (product,) = batched_gradients(self._gradients, [self._direction], self._cotangents(w))
        return self._direction.new_zeros((len(w[0]), *self._direction.shape)) if product is None else product

    def _cotangents(self, w: Gradient) -> list[Tensor]:
        return [part.to(gradient.dtype) for part, gradient in zip(w, self._gradients, strict=True)]


@contextmanager
def _differentiable_twice() -> Iterator[None]:
    """Turns what PyTorch says of an operation without a second derivative into an error with a remedy."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in _NOT_TWICE):
            raise
        raise ValueError(
            f"an operation of the model cannot be differentiated twice ({str(error).splitlines()[0]}); expected one "
            "that can, for products with the kernel: replace it (for attention, attn_implementation='eager'), or take "
            "method='explicit', which needs first derivatives only"
        ) from error


_NOT_TWICE = ("is not implemented", "once_differentiable", "not differentiable", "differentiate twice")
