"""A coordinate check (Yang et al. 2022, Appendix D.1): how large activations are, before and after some steps.

The size of a tensor is the root mean square of its entries. Where a parametrisation is right for every width, the sizes
of activations, and of what some steps change in them, do not depend on the width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from spectral_reach.studies.config import check, check_types
from spectral_reach.studies.tasks.registry import OnShare, register
from spectral_reach.studies.tasks.short_training import ShortTraining, check_toy, toy_training

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KINDS = ("queries", "attention", "mlp", "stream", "logits")
"""Whose sizes are taken: q of every layer, what attention and MLP add to the stream, the stream after every layer."""

_MODULES = {
    "queries": re.compile(r".*\.q_proj"),
    "attention": re.compile(r".*\.o_proj"),
    "mlp": re.compile(r".*\.mlp"),
    "stream": re.compile(r".*\.layers\.\d+"),
}
# One core of a 2-core cloud machine.
SECONDS_TO_START = 1.0
SECONDS_A_STEP = 0.01
FLOPS_PER_SECOND = 3e10


@register("coordinate_sizes")
@dataclass(frozen=True, kw_only=True, slots=True)
class CoordinateSizes:
    """One model, at several seeds.

    Attributes:
        family: a model family that has a toy problem.
        parametrisation: standard or mup.
        width: of the model.
        base_width: in muP that of the base.
        depth: layers.
        rate: AdamW's.
        steps: of training, each with a fresh batch.
        batch_size: units a step, and of the batch on which sizes are taken, the same after every step.
        first_seed: of the seeds, which follow one another.
        seeds: how many.
    """

    family: str
    parametrisation: str
    width: int
    base_width: int
    depth: int
    rate: float
    steps: int
    batch_size: int
    first_seed: int
    seeds: int

    def __post_init__(self) -> None:
        check_types(self)
        check_toy(self)
        check(self, "seeds", self.seeds >= 1, "at least 1")
        check(self, "rate", self.rate > 0, "a positive number")
        check(self, "first_seed", self.first_seed >= 0, "at least 0")

    @property
    def seconds(self) -> float:
        """A pass more for each step than training alone."""
        a_step = SECONDS_A_STEP + 4 / 3 * self._training(0).flops / self.steps / FLOPS_PER_SECOND
        return SECONDS_TO_START + self.seeds * (self.steps + 1) * a_step

    def execute(self, study: Path, on_share: OnShare) -> Mapping[str, Any]:
        """Sizes at every seed.

        Returns:
            ``size`` and ``change`` (seeds, steps + 1, kinds): of the activations after 0, 1, ... steps, and of their
            difference to those before the first, root mean squares over layers; ``kinds``, their names.
        """
        size = np.empty((self.seeds, self.steps + 1, len(KINDS)))
        change = np.empty_like(size)
        for row in range(self.seeds):
            on_share(row / self.seeds)
            for step, (values, changes) in enumerate(self._sizes(self.first_seed + row)):
                size[row, step], change[row, step] = values, changes
        return {"size": size, "change": change, "kinds": list(KINDS)}

    def _training(self, seed: int) -> ShortTraining:
        return toy_training(self, rate=self.rate, warmup=0, seed=seed)

    def _sizes(self, seed: int) -> Iterator[tuple[list[float], list[float]]]:
        """Size and change of each kind after 0, 1, ... steps."""
        training = self._training(seed)
        model = training.config.build(seed)
        inputs, _ = training.problem.batch(seed, self.steps, self.batch_size)
        before = activations(model, inputs)
        yield _size(before), [0.0] * len(KINDS)
        losses = training.losses(model)
        next(losses)
        for _ in range(self.steps):
            # Coming back for the loss of a step makes the step before.
            next(losses, None)
            now = activations(model, inputs)
            yield _size(now), _size({k: [a - b for a, b in zip(now[k], before[k], strict=True)] for k in KINDS})


def activations(model: PreTrainedModel, inputs: Tensor) -> dict[str, list[Tensor]]:
    """The outputs of every kind, layer by layer, without gradients."""
    found: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    with _collecting(model, found), torch.no_grad():
        found["logits"].append(model(inputs).logits)
    return found


@contextmanager
def _collecting(model: nn.Module, found: Mapping[str, list[Tensor]]) -> Iterator[None]:
    def collect(kind: str) -> Any:
        return lambda module, arguments, output: found[kind].append(output)

    handles = [
        module.register_forward_hook(collect(kind))
        for name, module in model.named_modules()
        for kind, pattern in _MODULES.items()
        if pattern.fullmatch(name)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _size(tensors: Mapping[str, list[Tensor]]) -> list[float]:
    return [float(torch.cat([each.flatten() for each in tensors[kind]]).square().mean().sqrt()) for kind in KINDS]
