"""A user's batch: what is passed to the model, what its outputs are compared with, and how it splits into units."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from spectral_reach.measured.rows import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Inputs and targets of B units (independent examples), the leading axis of every batched tensor.

    Attributes:
        args: positional arguments of the model.
        kwargs: keyword arguments of the model.
        targets: what the loss compares with; (B, ...).
        is_mapping: the batch came as a mapping with ``labels`` (Hugging Face), so a causal shift may apply.
        taken_from: the batch that this is a part of, and where its units stand there; None for no part.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    targets: Tensor
    is_mapping: bool
    taken_from: tuple[Batch, Tensor] | None = None

    @classmethod
    def parse(cls, batch: Any, model: nn.Module) -> Batch:
        """Read ``(inputs, targets)`` or a mapping with ``labels``.

        Raises:
            TypeError: neither of the two, or targets that are no tensor.
            ValueError: a mapping without labels, or an empty batch.
        """
        # Autograd cannot save tensors that were made in inference mode, but it can save copies of them.
        batch = pytree.tree_map(_out_of_inference_mode, dict(batch) if isinstance(batch, Mapping) else batch)
        if isinstance(batch, Mapping):
            if "labels" not in batch:
                raise ValueError(
                    f"the batch is a mapping with keys {sorted(map(str, batch))}; expected a key 'labels': add it "
                    "(for a causal language model, labels = input_ids with -100 where there is no label)"
                )
            targets = batch["labels"]
            kwargs = dict(batch)
            if not _accepts_labels(model):
                del kwargs["labels"]
            parsed = cls(args=(), kwargs=kwargs, targets=_checked_targets(targets), is_mapping=True)
        elif isinstance(batch, (tuple, list)) and len(batch) == 2:
            inputs, targets = batch
            parsed = cls(args=(inputs,), kwargs={}, targets=_checked_targets(targets), is_mapping=False)
        else:
            got = f"{type(batch).__name__}" + (f" of length {len(batch)}" if isinstance(batch, (tuple, list)) else "")
            raise TypeError(f"the batch is a {got}; expected (inputs, targets) or a mapping with 'labels'")
        if parsed.n_units == 0:
            raise ValueError(
                f"the batch is empty (its targets have shape {tuple(targets.shape)}); expected a unit or more"
            )
        return parsed

    @property
    def n_units(self) -> int:
        """B, labelled or not."""
        return self.targets.shape[0]

    def take(self, units: Tensor) -> Batch:
        """The batch of these units alone, in this order, any of them several times; ``units`` (m,) int64.

        Tensors without the batch axis (shared position ids) go along whole.
        """
        if self.taken_from is not None:
            # Of the whole: a tensor that all units share may happen to be as long as a part.
            whole, places = self.taken_from
            return whole.take(places[units.to(places.device)])

        def take(value: Any) -> Any:
            return value.index_select(0, units.to(value.device)) if self._is_by_unit(value) else value

        return Batch(
            args=pytree.tree_map(take, self.args),
            kwargs=pytree.tree_map(take, dict(self.kwargs)),
            targets=take(self.targets),
            is_mapping=self.is_mapping,
            taken_from=(self, units),
        )

    def has_units_of(self, other: Batch) -> bool:
        """The same units, in whatever order, value by value. Inputs that are no tensors must be equal or identical."""
        if self.n_units != other.n_units:
            return False
        mine, layout = pytree.tree_flatten((self.args, dict(self.kwargs), self.targets))
        others, other_layout = pytree.tree_flatten((other.args, dict(other.kwargs), other.targets))
        if layout != other_layout:
            return False
        units, other_units = (self._tensors_by_unit(leaves) for leaves in (mine, others))
        rest, other_rest = (self._shared(leaves) for leaves in (mine, others))
        alike = len(rest) == len(other_rest) and all(map(_same, rest, other_rest))
        return alike and Counter(units) == Counter(other_units)

    def names_by_unit(self) -> list[str]:
        """Which inputs are taken to have a row for each unit."""
        named = {"inputs": self.args[0]} if self.args else dict(self.kwargs)
        leaves = [(name, *each) for name, value in named.items() for each in pytree.tree_flatten_with_path(value)[0]]
        return [name + pytree.keystr(path) for name, path, leaf in leaves if self._is_by_unit(leaf)]

    def _is_by_unit(self, leaf: Any) -> bool:
        return isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == self.n_units

    def _shared(self, leaves: list[Any]) -> list[Any]:
        return [leaf for leaf in leaves if not self._is_by_unit(leaf)]

    def _tensors_by_unit(self, leaves: list[Any]) -> list[bytes]:
        """The values of each unit, as something to count."""
        by_unit = [leaf.detach().cpu().contiguous() for leaf in leaves if self._is_by_unit(leaf)]
        return [
            b"".join(str(t.dtype).encode() + t[unit].flatten().view(torch.uint8).numpy().tobytes() for t in by_unit)
            for unit in range(self.n_units)
        ]

    def outputs_of(self, model: nn.Module) -> Any:
        """Whatever the model returns for this batch.

        Raises:
            ValueError: the model computes its own loss from the labels and finds one out of range.
        """
        try:
            return model(*self.args, **self.kwargs)
        except IndexError as error:
            if "labels" not in self.kwargs or self.targets.dtype.is_floating_point:
                raise
            labels = self.targets[self.targets.ne(IGNORE_INDEX)]
            span = f"{int(labels.min())} to {int(labels.max())}" if labels.numel() else "nothing but -100"
            raise ValueError(
                f"the model raised {error!r} on labels that range from {span}; expected class indices (or "
                f"{IGNORE_INDEX} for no label) below the number of outputs, and token ids below the vocabulary size"
            ) from error


def output_tensor(returned: Any) -> Tensor:
    """The output tensor in what a model returned: itself, its ``.logits`` or its ``["logits"]``.

    Raises:
        TypeError: there is no floating-point tensor in any of these places.
    """
    if isinstance(returned, Tensor):
        outputs: Any = returned
    elif isinstance(returned, Mapping) and "logits" in returned:
        outputs = returned["logits"]
    else:
        outputs = getattr(returned, "logits", None)
    if not isinstance(outputs, Tensor):
        raise TypeError(
            f"the model returned a {type(returned).__name__}; expected a tensor or an object with a tensor .logits: "
            "wrap the model in a module that returns one of these"
        )
    if not outputs.dtype.is_floating_point:
        raise TypeError(f"the model's outputs have dtype {outputs.dtype}; expected floating point")
    if outputs.ndim == 0:
        raise ValueError("the model's output is a scalar; expected outputs of shape (units, ...), not a loss")
    return outputs


def _out_of_inference_mode(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def _same(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b.to(a.device))
    return a is b or (isinstance(a, (bool, int, float, str)) and type(a) is type(b) and a == b)


def _checked_targets(targets: Any) -> Tensor:
    if not isinstance(targets, Tensor):
        raise TypeError(f"the targets of the batch are a {type(targets).__name__}; expected a torch.Tensor")
    if targets.ndim == 0:
        raise ValueError("the targets of the batch are a scalar; expected a leading axis over units, shape (B, ...)")
    if targets.dtype == torch.bool or targets.dtype.is_complex:
        raise TypeError(f"the targets of the batch have dtype {targets.dtype}; expected class indices or real numbers")
    return targets


def _accepts_labels(model: nn.Module) -> bool:
    parameters = inspect.signature(model.forward).parameters.values()
    return any(p.name == "labels" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
