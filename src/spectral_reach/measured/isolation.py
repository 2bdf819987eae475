"""Looking changes nothing: generators, buffers and gradient hooks are put back, also after an exception."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``torch.compile`` and data-parallel wrappers, whose forward passes leave their own traces."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


@contextmanager
def leaving_no_trace(model: nn.Module) -> Iterator[None]:
    """Run the body with gradients enabled; afterwards the model and every generator are as they were.

    - The states of the torch (CPU, CUDA), NumPy and Python generators, and of those that the model holds, are restored.
    - Forward passes write to copies of the buffers. The buffers themselves are not even written back to, so that a
      graph of the caller's that saved one stays valid.
    - Gradient hooks on parameters and modules are suspended: they belong to the caller's optimisation, not to the
      Jacobian.
    - ``.grad``, ``requires_grad`` and training flags are never touched.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        _kept(_global_generators()),
        from_present_state(model),
        _hooks_kept(model),
    ):
        yield


@contextmanager
def from_present_state(model: nn.Module) -> Iterator[None]:
    """Run a forward pass on copies of the buffers and put the model's own generators back.

    Each pass of a measurement starts here, so that all of them see the model in one state, and none writes to a buffer
    that the graph of another has saved.
    """
    with _kept(_own_generators(model)), _buffers_kept(model):
        yield


def seed_generators(seed: int) -> None:
    """Start every generator that a forward pass may draw from at ``seed``: equal batches get equal dropout masks."""
    # torch.manual_seed would also queue a seed for a CUDA that is not initialised yet: a trace.
    torch.default_generator.manual_seed(seed)
    if _cuda_in_use():
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def generator_states(model: nn.Module) -> list[object]:
    """The states of all generators as comparable values, to tell whether a forward pass drew random numbers."""
    states = [generator.state() for generator in (*_global_generators(), *_own_generators(model))]
    return [_comparable(leaf) for leaf in pytree.tree_leaves(states)]


def _comparable(leaf: object) -> object:
    if isinstance(leaf, Tensor):
        leaf = leaf.numpy()
    return leaf.tobytes() if isinstance(leaf, np.ndarray) else leaf


@dataclass(frozen=True, slots=True)
class _Generator:
    """A source of random numbers: how to read its state and how to set it."""

    state: Callable[[], Any]
    set_state: Callable[[Any], object]


def _global_generators() -> list[_Generator]:
    found = [
        _Generator(torch.get_rng_state, torch.set_rng_state),
        _Generator(random.getstate, random.setstate),
        _Generator(np.random.get_state, np.random.set_state),
    ]
    if _cuda_in_use():
        found.append(_Generator(torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all))
    return found


def _own_generators(model: nn.Module) -> list[_Generator]:
    """Those that modules hold as attributes, for noise that the rest of the process shall not disturb."""
    found = []
    for held in {id(v): v for module in model.modules() for v in vars(module).values()}.values():
        if isinstance(held, torch.Generator):
            found.append(_Generator(held.get_state, held.set_state))
        elif isinstance(held, random.Random):
            found.append(_Generator(held.getstate, held.setstate))
        elif isinstance(held, np.random.RandomState):
            found.append(_Generator(held.get_state, held.set_state))
        elif isinstance(held, np.random.Generator):
            bits = held.bit_generator
            found.append(_Generator(partial(getattr, bits, "state"), partial(setattr, bits, "state")))
    return found


@contextmanager
def _kept(generators: list[_Generator]) -> Iterator[None]:
    states = [generator.state() for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    originals = [(module, dict(module._buffers)) for module in model.modules()]
    copies: dict[int, Tensor] = {}
    try:
        for module, buffers in originals:
            for name, buffer in buffers.items():
                if buffer is not None:
                    # One copy for a buffer that several modules share.
                    module._buffers[name] = copies.setdefault(id(buffer), buffer.clone())
        yield
    finally:
        for module, buffers in originals:
            module._buffers.clear()
            module._buffers.update(buffers)


@contextmanager
def _hooks_kept(model: nn.Module) -> Iterator[None]:
    hooked = [(p, p._backward_hooks) for p in model.parameters() if p._backward_hooks]
    modules = [(m, m._backward_hooks, m._backward_pre_hooks) for m in model.modules()]
    try:
        for parameter, _ in hooked:
            parameter._backward_hooks = None
        for module, *_ in modules:
            module._backward_hooks = OrderedDict()
            module._backward_pre_hooks = OrderedDict()
        yield
    finally:
        for parameter, parameter_hooks in hooked:
            parameter._backward_hooks = parameter_hooks
        for module, hooks, pre_hooks in modules:
            module._backward_hooks, module._backward_pre_hooks = hooks, pre_hooks


def _cuda_in_use() -> bool:
    in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return in_use
