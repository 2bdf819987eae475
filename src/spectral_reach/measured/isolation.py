"""Looking changes nothing: generators, buffers, attributes and gradient hooks are put back, also after an exception."""

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
from torch.nn.modules import module as all_modules
from torch.utils import _pytree as pytree

_PLAIN = frozenset({bool, int, float, str, type(None), dict, OrderedDict, list, tuple, set})
"""Types of most attributes of modules, which are passed over quickly."""

_HOOKS_OF_ALL_MODULES = ("_global_backward_hooks", "_global_backward_pre_hooks")


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
    - What a forward pass sets as an attribute of a module (a counter, a running mean, a part built on first use) is
      put back.
    - Gradient hooks on parameters and modules, and those of all modules, are suspended: they belong to the caller's
      optimisation, not to the Jacobian.
    - ``.grad``, ``requires_grad`` and training flags are never touched.

    Not undone is what a forward pass does to lists, dictionaries and objects of other kinds that a module holds, in
    place. Forward hooks of the caller's are a part of the model: they run with every pass, and what they do outside
    of the model stays done.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        generators_kept(),
        from_present_state(model),
        _hooks_kept(model),
    ):
        yield


@contextmanager
def generators_kept() -> Iterator[None]:
    """Run the body; afterwards the torch (CPU, CUDA), NumPy and Python generators are in the state that they were."""
    with _kept(_global_generators()):
        yield


@contextmanager
def from_present_state(model: nn.Module) -> Iterator[None]:
    """Run a forward pass on copies of the buffers, then put the attributes and the model's own generators back.

    Each pass of a measurement starts here, so that all of them see the model in one state, and none writes to a buffer
    that the graph of another has saved.
    """
    with _kept(_own_generators(model)), _attributes_kept(model):
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
    attributes = (value for module in model.modules() for value in vars(module).values())
    for held in {id(value): value for value in attributes if type(value) not in _PLAIN}.values():
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
def _attributes_kept(model: nn.Module) -> Iterator[None]:
    """Every attribute, buffer, parameter and submodule is afterwards the object that it was."""
    stateful: list[dict[str, Any]] = [held for m in model.modules() for held in (vars(m), m._buffers)]
    fixed: list[dict[str, Any]] = [held for m in model.modules() for held in (m._parameters, m._modules)]
    before = [(held, dict(held)) for held in stateful + fixed]
    copies: dict[int, Tensor] = {}
    try:
        for held in stateful:
            # Tensors that are plain attributes are written to in place as buffers are.
            for name, value in held.items():
                if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                    # One copy for a tensor that several modules share.
                    if id(value) not in copies:
                        copies[id(value)] = value.clone()
                    held[name] = copies[id(value)]
        yield
    finally:
        for held, kept in before:
            _put_back(held, kept)


def _put_back(held: dict[str, Any], kept: dict[str, Any]) -> None:
    if held.keys() != kept.keys() or any(held[name] is not value for name, value in kept.items()):
        held.clear()
        held.update(kept)


@contextmanager
def _hooks_kept(model: nn.Module) -> Iterator[None]:
    hooked = [(p, p._backward_hooks) for p in model.parameters() if p._backward_hooks]
    modules = [(m, m._backward_hooks, m._backward_pre_hooks) for m in model.modules()]
    of_all_modules = {name: getattr(all_modules, name) for name in _HOOKS_OF_ALL_MODULES}
    try:
        for parameter, _ in hooked:
            parameter._backward_hooks = None
        for module, *_ in modules:
            module._backward_hooks = OrderedDict()
            module._backward_pre_hooks = OrderedDict()
        for name in of_all_modules:
            setattr(all_modules, name, OrderedDict())
        yield
    finally:
        for parameter, parameter_hooks in hooked:
            parameter._backward_hooks = parameter_hooks
        for module, hooks, pre_hooks in modules:
            module._backward_hooks, module._backward_pre_hooks = hooks, pre_hooks
        for name, hooks_of_all in of_all_modules.items():
            setattr(all_modules, name, hooks_of_all)


def _cuda_in_use() -> bool:
    in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return in_use
