"""Activation checkpointing of a network of transformers in evaluation mode."""

from __future__ import annotations

from typing import Any


def checkpoint_activations(network: Any, label: str) -> None:
    """Make the layers of ``network`` keep their inputs only, and run again in the backward pass.

    Layers do so in training mode alone. They are put into it one by one, without what is in them: dropout and
    normalisation stay in evaluation mode.

    Raises:
        ValueError: the network, ``label``, has no layers that can do it.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers or not getattr(network, "supports_gradient_checkpointing", False):
        raise ValueError(
            f"{label} has no activation checkpointing ({type(network).__name__}); leave out --checkpointing (in Python "
            "checkpointing=)"
        )
    network.config.use_cache = False
    # Later releases of transformers call it by another name, and warn of the first.
    name = "activation" if hasattr(network, "activation_checkpointing_enable") else "gradient"
    enable = getattr(network, f"{name}_checkpointing_enable")
    enable(**{f"{name}_checkpointing_kwargs": {"use_reentrant": False}})
    for layer in layers:
        layer.training = True
