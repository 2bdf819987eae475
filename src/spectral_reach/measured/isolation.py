"""Looking changes nothing: generators, buffers and gradient hooks are put back, also after an exception."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``torch.compile`` and data-parallel wrappers, whose forward passes leave their own traces."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(inner := model._modules.get("_orig_mod"), nn.Module):
            model = inner
        else:
            return model


@contextmanager
def leaving_no_trace(model: nn.Module) -> Iterator[None]:
    """Run the body with gradients enabled; afterwards the model and every generator are as they were.

    - The states of the torch (CPU, CUDA), NumPy and Python generators are restored.
    - Forward passes write to copies of the buffers. The buffers themselves are not even written back to, so that a
      graph of the caller's that saved one stays valid.
    - Gradient hooks on parameters are suspended: they belong to the caller's optimisation, not to the Jacobian.
    - ``.grad``, ``requires_grad`` and training flags are never touched.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        _generators_kept(),
        _buffers_kept(model),
        _hooks_kept(model),
    ):
        yield


def seed_generators(seed: int) -> None:
    """Start every generator that a forward pass may draw from at ``seed``: equal batches get equal dropout masks."""
    # torch.manual_seed would also queue a seed for a CUDA that is not initialised yet: a trace.
    torch.default_generator.manual_seed(seed)
    if _cuda_in_use():
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def generator_states() -> list[object]:
    """The states of all generators as comparable values, to tell whether a forward pass drew random numbers."""
    torch_states = [torch.get_rng_state()]
    if _cuda_in_use():
        torch_states += torch.cuda.get_rng_state_all()
    numpy_state = np.random.get_state(legacy=False)["state"]
    return [
        *(state.numpy().tobytes() for state in torch_states),
        random.getstate(),
        (numpy_state["key"].tobytes(), numpy_state["pos"]),
    ]


@contextmanager
def _generators_kept() -> Iterator[None]:
    cpu = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if _cuda_in_use() else None
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        random.setstate(python)
        np.random.set_state(numpy)


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
    try:
        for parameter, _ in hooked:
            parameter._backward_hooks = None
        yield
    finally:
        for parameter, hooks in hooked:
            parameter._backward_hooks = hooks


def _cuda_in_use() -> bool:
    in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return in_use
