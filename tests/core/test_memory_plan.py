"""What ``max_memory`` counts, and what a measurement does with what is left."""

from typing import Any

import pytest
import torch
from torch import nn

from spectral_reach.decomposition import memory
from spectral_reach.decomposition.memory import MemoryPlan, plan
from spectral_reach.estimators import EstimatorOptions
from spectral_reach.measured.isolation import leaving_no_trace
from spectral_reach.measured.losses import resolve_loss
from spectral_reach.measured.micro_batches import MicroBatches

MIB = 2**20


def planned(model: nn.Module, max_memory: int, estimator: str = "auto", n: int = 6, **options: Any) -> MemoryPlan:
    """With nothing in use."""
    width, K = model[0].in_features, model[-1].out_features
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    dtype = next(model.parameters()).dtype
    batch = torch.zeros(n, width, dtype=dtype), torch.arange(n) % K
    options = {"probes": 1, "units": None, "seed": 0, "memory_budget": 2**28, **options}
    with leaving_no_trace(model):
        found = MicroBatches(
            model, batch, resolve_loss("cross_entropy"), parameters, size=1, seed=0, checkpointed=False
        )
        return plan({"batch": found}, max_memory, estimator, EstimatorOptions(**options))


@pytest.fixture(autouse=True)
def _nothing_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_in_use", lambda device: 0)


def mlp(K: int = 8) -> nn.Sequential:
    """1 MiB of weights and a little."""
    return nn.Sequential(nn.Linear(256, 1024), nn.Tanh(), nn.Linear(1024, K))


def of_theta(model: nn.Module) -> int:
    return sum(4 * p.numel() for p in model.parameters() if p.requires_grad)


def test_sums_of_each_probe_over_the_batch() -> None:
    model = mlp()
    one, thirty = (planned(model, 2**30, "batch", probes=probes) for probes in (1, 30))
    assert thirty.of_batch - one.of_batch == 29 * of_theta(model)
    with pytest.raises(ValueError, match=r"max_memory is 20 MiB, and one unit of 'batch' takes"):
        planned(model, 20 * MIB, "batch", probes=30)
    planned(model, 20 * MIB, "batch", probes=1)


@pytest.mark.parametrize("estimator", ["exact", "auto"])
def test_directions_take_what_is_left_at_the_most(estimator: str) -> None:
    model = mlp()
    for max_memory in (12 * MIB, 40 * MIB, 400 * MIB):
        found = planned(model, max_memory, estimator)
        units = memory._of_units(found.micro_batch, found.of_unit)
        assert found.of_batch - 2 * of_theta(model) + units + found.memory_budget <= max_memory
        assert found.memory_budget >= 2 * of_theta(model)
    assert found.memory_budget == 2**28  # no more than was asked for


def test_a_readout_that_is_frozen() -> None:
    """In half precision it is probed in float32; an orthogonal basis of its hidden space comes beside it."""
    model = mlp(K=2000).bfloat16()
    assert planned(model, 2**30).of_batch >= 48 * 1024**2
    before = planned(model, 2**30).of_batch
    model[2].weight.requires_grad_(False)
    after = planned(model, 2**30).of_batch
    # Less by a sum and three copies of its gradient, of which the first layer's are left, more by itself.
    assert after - before == 4 * (-4 * 2000 * 1024 + 3 * 256 * 1024 + 2000 * 1024)


def test_auto_leaves_room_for_probes_over_several_units() -> None:
    model = mlp(K=2000)
    sizes = {
        estimator: planned(model, 130 * MIB, estimator, probes=3).micro_batch for estimator in ("auto", "per_unit")
    }
    assert sizes["per_unit"] == 6
    few = planned(model, 95 * MIB, "auto", probes=3), planned(model, 95 * MIB, "per_unit", probes=3)
    assert few[0].micro_batch == 1 < few[1].micro_batch
