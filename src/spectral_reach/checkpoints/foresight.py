"""How much memory measurements will take, told from the configuration of the network before its weights are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from spectral_reach.checkpoints.activation_checkpointing import checkpoint_activations
from spectral_reach.checkpoints.plan import Plan
from spectral_reach.checkpoints.preference import PreferenceModel, is_preference
from spectral_reach.decomposition.memory import MemoryPlan, Needs, outputs_a_unit
from spectral_reach.estimators import EstimatorOptions
from spectral_reach.measured.batch import output_tensor
from spectral_reach.measured.extent import Extent
from spectral_reach.measured.memory_use import memory_in_use
from spectral_reach.measured.parameters import select_parameters
from spectral_reach.measured.rows import IGNORE_INDEX
from spectral_reach.measured.saved_bytes import counted

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def expected_memory(plan: Plan, outline: PreTrainedModel) -> MemoryPlan | None:
    """Of the measurement that takes most, in bytes on the device; None if the network computes with no shapes alone.

    Args:
        plan: what there is to do.
        outline: the network of its first revision on the meta device, which gets activation checkpointing if that is
            asked for.

    Raises:
        ValueError: the network has no such parameters, or no activation checkpointing.
    """
    request = plan.request
    parameters = list(select_parameters(outline, plan.settings.parameters).values())
    if request.checkpointing:
        checkpoint_activations(outline, plan.revisions[0].label)
    checkpointed = request.checkpointing or request.estimator == "batch"
    batches = [named.batch for named in plan.batches.by_name.values()]
    try:
        own_loss = request.loss in ("model", "cross_entropy", "mse")
        of_units = [_of_unit(outline, batch, checkpointed=checkpointed, own_loss=own_loss) for batch in batches]
    except Exception:  # what models raise that look at values, of which there are none
        return None
    device = request.load.place
    weights = sum(t.numel() * t.itemsize for t in (*outline.parameters(), *outline.buffers()))
    n_outputs = max(K for _, K in of_units)
    samples = [_samples_of_units(batch) for batch in batches]
    largest = max(samples, key=lambda each: int(each.sum()))
    needs = Needs.of(
        outline,
        parameters,
        request.estimator,
        EstimatorOptions(
            probes=request.probes,
            units=None,
            seed=0,
            memory_budget=2**28,  # as sr.decompose has it by itself
            noise_units=request.noise_units,
        ),
        of_unit=max(bytes_ for bytes_, _ in of_units),
        extents=[Extent(samples_of_unit=largest, n_outputs=n_outputs)] * (2 if request.pairs else 1),
        checkpointed=checkpointed and (request.max_memory is not None or request.units_at_a_time is not None),
        elsewhere=request.offload and device.type != "cpu",
        in_use=weights + (memory_in_use(device) if device.type == "cpu" else 0),
    )
    if request.max_memory is None:
        return needs.without_limit(request.units_at_a_time)
    found = needs.within(request.max_memory)
    return found if request.micro_batch is None else replace(found, micro_batch=request.micro_batch)


def _of_unit(outline: PreTrainedModel, batch: Any, *, checkpointed: bool, own_loss: bool) -> tuple[int, int]:
    """Bytes that one unit takes, and K."""
    network: nn.Module = PreferenceModel(outline) if is_preference(batch) else outline
    dtype = next(outline.parameters()).dtype

    def one(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.ndim:
            return value
        return value[:1].to("meta", dtype if value.dtype.is_floating_point else None)

    with (
        torch.enable_grad(),
        _FusedAttention(),
        _with_cache(outline),
        counted(network, checkpointed=checkpointed) as found,
    ):
        if isinstance(batch, Mapping):
            # Models look into masks; a unit that fills its row keeps as much without one.
            kept = {name: pytree.tree_map(one, value) for name, value in batch.items() if name != "attention_mask"}
            if is_preference(batch):
                returned = network(kept)
            else:
                kept.pop("labels", None)
                returned = network(**kept)
        else:
            returned = network(pytree.tree_map(one, batch[0]))
        outputs = output_tensor(returned)
    size = torch.promote_types(outputs.dtype, torch.float32).itemsize
    return found.total + outputs_a_unit(own_loss=own_loss) * outputs.numel() * size, outputs.shape[-1]


def _samples_of_units(batch: Any) -> Tensor:
    """N_i of each labelled unit, those included that a causal shift drops, (n_units,) int64."""
    if is_preference(batch):
        return torch.ones(len(batch["input_ids"]), dtype=torch.int64)
    targets = batch["labels"] if isinstance(batch, Mapping) else batch[1]
    if targets.dtype.is_floating_point:
        return torch.ones(len(targets), dtype=torch.int64)
    samples: Tensor = targets.ne(IGNORE_INDEX).reshape(len(targets), -1).sum(1).cpu()
    labelled: Tensor = samples[samples > 0]
    return labelled


@contextmanager
def _with_cache(outline: Any) -> Iterator[None]:
    """Where no keys are cached, models look at positions for several sequences in one row.

    Layers under activation checkpointing leave the cache out, and warn of it.
    """
    from transformers.utils import logging

    verbosity, cached = logging.get_verbosity(), getattr(outline.config, "use_cache", None)
    errors_only: Any = logging.set_verbosity_error
    errors_only()
    if cached is not None:
        outline.config.use_cache = True
    try:
        yield
    finally:
        if cached is not None:
            outline.config.use_cache = cached
        logging.set_verbosity(verbosity)


class _FusedAttention(TorchFunctionMode):
    """On the meta device torch takes attention apart, and would keep the scores that no device keeps."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        called = _fused if function is F.scaled_dot_product_attention else function
        return called(*args, **(kwargs or {}))


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
    )[0]
