"""What ``max_memory`` counts, and what a measurement does with what is left."""

import subprocess
import sys
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
    # Less by a sum and seven copies of its gradient, of which the first layer's are left, more by itself.
    assert after - before == 4 * (-8 * 2000 * 1024 + 7 * 256 * 1024 + 2000 * 1024)


def test_auto_leaves_room_for_probes_over_several_units() -> None:
    model = mlp(K=2000)
    for allowed, expected in ((130 * MIB, {"auto": 1, "per_unit": 6}), (170 * MIB, {"auto": 6, "per_unit": 6})):
        assert {name: planned(model, allowed, name, probes=3).micro_batch for name in expected} == expected


_TIGHT = """
import sys
import torch
import torch.nn.functional as F
from torch import nn
import spectral_reach as sr
from spectral_reach.decomposition import decompose, memory

case = sys.argv[1]
torch.manual_seed(0)
if case in ("outputs", "callers-loss"):
    model = nn.Sequential(nn.Embedding(100, 16), nn.Linear(16, 20000)).eval()
    batch = torch.randint(100, (3, 512)), torch.randint(20000, (3, 512))
    options = {"loss": F.cross_entropy if case == "callers-loss" else "cross_entropy"}
else:
    model = nn.Sequential(nn.Linear(512, 1024), nn.Tanh(), nn.Linear(1024, 1024), nn.Tanh(), nn.Linear(1024, 32)).eval()
    batch = torch.randn(4, 512), torch.randint(32, (4,))
    options = {"estimator": case, "probes": 20}

least = []
def planned(*args):
    try:
        return memory.plan(args[0], 2**20, *args[2:])
    except ValueError as error:
        least.append(error)
    # What is told to be enough, with 4 MiB for what the process itself takes meanwhile.
    told = float(str(least[0]).split("expected ")[1].split(" MiB")[0])
    least.append((told + 4) * 2**20)
    return memory.plan(args[0], int(least[1]), *args[2:])

warm = nn.Linear(300, 200), (torch.randn(4, 300), torch.randint(200, (4,)))  # libraries are loaded
for size in (1, 2):
    sr.decompose(*warm, micro_batch=size, estimator="per_unit")
decompose.plan = planned
sr.decompose(model, batch, max_memory=1, **options)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 2**10
print(peak / 2**20, least[1] / 2**20)
assert peak <= least[1]
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
@pytest.mark.parametrize("case", ["outputs", "callers-loss", "exact", "batch", "per_unit"])
def test_what_is_told_to_be_enough_is_enough(case: str) -> None:
    done = subprocess.run([sys.executable, "-c", _TIGHT, case], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
