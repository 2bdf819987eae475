"""The Jacobian of chosen outputs as a linear map: J^T v and J w, one direction or many at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from spectral_reach.jacobian.agreement import tolerance_of
from spectral_reach.jacobian.twice import TwiceDifferentiated
from spectral_reach.jacobian.vjp import Gradient, batched_gradients, inner_product, vjp
from spectral_reach.measured.finite import NotFiniteError
from spectral_reach.measured.linearisation import Linearisation
from spectral_reach.measured.output_space import OutputSpace


class Jacobian(Protocol):
    """J of n x k outputs at P parameters, for many directions at a time. ``pull`` and ``push`` are adjoint."""

    def pull_many(self, cotangents_Vnk: Tensor) -> Gradient:
        """J^T V: tensors with a leading axis V."""
        ...

    def push_many(self, gradients: Gradient) -> Tensor:
        """J W for what ``pull_many`` returns, (V, n, k)."""
        ...


class PlainJacobian:
    """By backward passes from the outputs themselves.

    Raises:
        ValueError: an operation of the model cannot be differentiated twice, or says that it can and cannot, or a
            derivative is not finite.
    """

    def __init__(self, linearisation: Linearisation, space: OutputSpace, random: torch.Generator) -> None:
        self._linearisation = linearisation
        self._outputs = space.of(linearisation.f)
        self._parameters = list(linearisation.parameters.values())
        self._twice = TwiceDifferentiated(self._outputs, self._outputs, self._parameters)
        self._check_adjoint(random, max(1e-5, tolerance_of(linearisation)))

    @property
    def shape(self) -> tuple[int, int]:
        """(n k, P)."""
        return self._outputs.numel(), sum(p.numel() for p in self._parameters)

    @property
    def outputs(self) -> Tensor:
        """f in the chosen space, (n, k), with its graph."""
        return self._outputs

    @property
    def parameters(self) -> Sequence[Tensor]:
        """theta."""
        return self._parameters

    def pull(self, cotangent_nk: Tensor) -> Gradient:
        """J^T v for one direction, shaped like the parameters."""
        return vjp(self._outputs, cotangent_nk, self._linearisation)

    def push(self, w: Gradient) -> Tensor:
        """J w, (n, k)."""
        return self._twice.times([w[place] for place in self._twice.moving])

    def pull_many(self, cotangents_Vnk: Tensor) -> Gradient:
        """J^T V for V directions at once."""
        return pull_many(self._outputs, self._parameters, cotangents_Vnk.to(self._outputs.dtype))

    def push_many(self, gradients: Gradient) -> Tensor:
        """J W for W with a leading axis V."""
        if not self._twice.moving:
            return self._outputs.new_zeros((len(gradients[0]), *self._outputs.shape))
        return self._twice.times_many([gradients[place] for place in self._twice.moving])

    def _check_adjoint(self, random: torch.Generator, tolerance: float) -> None:
        """<J^T v, w> = <v, J w>: an operation whose backward pass hides a part of itself from autograd breaks that."""
        v = signs(self._outputs, random)
        pulled = self.pull(v)
        # In the direction of J^T v the product is ||J^T v||^2, which no cancellation makes small.
        expected = inner_product(pulled, pulled)
        self.size = math.sqrt(expected / v.numel())
        """||J^T v|| of a random unit vector v, about the root of the mean eigenvalue of the kernel."""
        got = float((v.double() * self.push(pulled).double()).sum())
        if not (math.isfinite(expected) and math.isfinite(got)):
            raise NotFiniteError(
                "the Jacobian of the outputs is not finite although outputs and loss are; expected finite derivatives: "
                "look for a division by zero, the root of a zero or an overflow in the backward pass, or measure in "
                "float32 or float64"
            )
        if not abs(got - expected) <= tolerance * abs(expected):
            raise ValueError(
                f"J is not the adjoint of J^T in this model: <v, J J^T v> is {got:g}, ||J^T v||^2 {expected:g}; "
                "expected them equal: an operation with a backward pass of its own hides a part of it from autograd. "
                "Take method='explicit', which needs first derivatives only"
            )


def pull_many(start: Tensor, parameters: Sequence[Tensor], cotangents: Tensor) -> Gradient:
    """J^T V, zeros where a parameter does not move the outputs."""
    return [
        parameter.new_zeros((len(cotangents), *parameter.shape)) if gradient is None else gradient
        for gradient, parameter in zip(batched_gradients(start, parameters, cotangents), parameters, strict=True)
    ]


def signs(like: Tensor, random: torch.Generator) -> Tensor:
    """Random signs of the shape, precision and device of ``like``."""
    drawn = torch.randint(0, 2, like.shape, generator=random, device=random.device)
    return drawn.to(like.device, like.dtype).mul_(2).sub_(1)
