"""The paper's way to chi_net: Opacus' ghost norms of every unit, one random vector v (T, K) shared by all units.

``GradSampleModuleFastGradientClipping`` hooks onto a model and, in an ordinary backward pass of sum_i <f_i, v>, leaves
||J_i^T v|| of every unit i behind; the squares are summed. Opacus has norm samplers for Linear and Embedding, but for
no RMSNorm of transformers, whose gradients it would then form with ``torch.func``, several times slower. So that the
comparison is fair to it, a norm sampler for ``LlamaRMSNorm`` is registered here.

Opacus comes with the ``bench`` extra and is imported when it is used; ``not_installed`` says whether that will work.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

HOW_TO_INSTALL = "not installed: pip install -c constraints.txt opacus"


def not_installed() -> str:
    """Why this way cannot be measured; empty if it can."""
    return "" if importlib.util.find_spec("opacus") else HOW_TO_INSTALL


def unit_norms_by_opacus(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """``norms(inputs, v)``: ||J_i^T v||^2 of every unit, (B,), from a fresh forward and backward pass.

    ``v`` (T, K). The model gets Opacus' hooks and keeps them: give it a copy.
    """
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    _register_norm_of_llama_rms_norm()
    # A Llama has buffers (its rotary frequencies), which ``strict`` forbids although nothing writes to them.
    hooked = GradSampleModuleFastGradientClipping(model, loss_reduction="sum", strict=False)

    def norms(inputs: Tensor, v: Tensor) -> Tensor:
        with warnings.catch_warnings():
            # Opacus' hook on the embedding: its input is token numbers, which have no gradient.
            warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
            (hooked(inputs).logits * v).sum().backward()
        squares: Tensor = hooked.get_norm_sample().square()
        hooked.zero_grad(set_to_none=True)
        return squares

    return norms


def _register_norm_of_llama_rms_norm() -> None:
    """y = w x_hat, so dw = sum_t d_t x_hat_t for each unit; as Opacus does it for ``torch.nn.RMSNorm``."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    def norm_sample(layer: nn.Module, activations: list[Tensor], backprops: Tensor) -> dict[nn.Parameter, Tensor]:
        x = activations[0]
        x_hat = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + layer.variance_epsilon)
        return {layer.weight: (x_hat * backprops).flatten(1, -2).sum(1).norm(dim=1)}

    GradSampleModuleFastGradientClipping.NORM_SAMPLERS[LlamaRMSNorm] = norm_sample
