"""What every measurement asks of a caller's arguments: a model that can be measured, whole numbers in their range."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import nn

from spectral_reach.measured.isolation import unwrapped


def checked_model(model: object) -> nn.Module:
    """The module inside the wrappers.

    Raises:
        TypeError: no module, or one that holds TorchScript.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise TypeError("model is or holds a TorchScript module; expected the Python modules that it was made from")
    return unwrapped(model)


def integer(name: str, value: object) -> int:
    """``value`` as an int; True and False are none.

    Raises:
        TypeError: it is no integer.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {value!r}; expected an integer")
    return int(value)


def integer_from(lowest: int, name: str, value: object) -> int:
    """``value`` as an int of at least ``lowest``.

    Raises:
        TypeError, ValueError: it is no integer, or a smaller one.
    """
    number = integer(name, value)
    if number < lowest:
        raise ValueError(f"{name} is {number}; expected {lowest} or more")
    return number


def seed_from(value: object) -> int:
    """``value`` as the seed of a generator.

    Raises:
        TypeError, ValueError: it is none.
    """
    number = integer("seed", value)
    if not 0 <= number < 2**63:
        raise ValueError(f"seed is {number}; expected an integer from 0 to 2**63 - 1")
    return number
