"""Training with a tracker is, bit for bit, training without one: also when a measurement raises half-way."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spectral_reach as sr

STEPS = 12
OPTIMISERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=3e-3, amsgrad=True),
}
Measure = Callable[[int, tuple[Tensor, Tensor]], None]


class Net(nn.Module):
    """Everything that a careless measurement would disturb: dropout, batch statistics, a buffer that counts calls."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm1d(4)
        self.dropout = nn.Dropout(0.3)
        self.middle = nn.Sequential(nn.Flatten(), nn.Linear(32, 16), nn.BatchNorm1d(16, momentum=None), nn.GELU())
        self.readout = nn.Linear(16, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.dropout(F.relu(self.norm(self.convolution(x))))
        return self.readout(self.dropout(self.middle(x)))


class Raise(torch.autograd.Function):
    """The identity, whose gradient raises."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise RuntimeError("boom in the backward pass")


def loss_that_raises(outputs: Tensor, targets: Tensor) -> Tensor:
    # It draws first: the generators must come back from wherever they were.
    torch.rand(3), np.random.rand(), random.random()
    raise RuntimeError("boom in the loss")


def loss_whose_gradient_raises(outputs: Tensor, targets: Tensor) -> Tensor:
    value: Tensor = F.cross_entropy(Raise.apply(outputs), targets)
    return value


def loss_that_draws(outputs: Tensor, targets: Tensor) -> Tensor:
    torch.rand(3), np.random.rand(), random.random()
    return F.cross_entropy(outputs, targets)


def train(optimiser_name: str, make_measure: Callable[[nn.Module], Measure]) -> dict[str, Any]:
    """All that training leaves behind, after a loop whose data, too, come from the global generators."""
    torch.manual_seed(1)
    np.random.seed(2)
    random.seed(3)
    model = Net()
    model.convolution.bias.requires_grad_(False)
    hook_calls = []
    model.readout.weight.register_hook(lambda gradient: hook_calls.append(float(gradient.sum())))
    optimiser = OPTIMISERS[optimiser_name](model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    measure = make_measure(model)
    losses = []
    for step in range(STEPS):
        noise = torch.from_numpy(np.random.randn(8, 1, 8)).float()
        batch = (noise + random.random(), torch.randint(0, 3, (8,)))
        model.train(step != 7)
        optimiser.zero_grad(set_to_none=step % 2 == 0)
        # Between forward and backward, where a graph of the caller is alive; the moment least forgiving.
        loss = F.cross_entropy(model(batch[0]), batch[1])
        measure(step, batch)
        loss.backward()
        measure(step + 1000, batch)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return {
        "losses": losses,
        "hook calls": hook_calls,
        "state": model.state_dict(),
        "gradients": {name: p.grad for name, p in model.named_parameters()},
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "training": {name: module.training for name, module in model.named_modules()},
        "hooks": {name: len(module._forward_hooks) for name, module in model.named_modules()},
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "torch generator": torch.get_rng_state(),
        "numpy generator": np.random.get_state(),
        "python generator": random.getstate(),
        "gradient mode": torch.is_grad_enabled(),
    }


def assert_same(one: Any, other: Any, where: str = "training") -> None:
    """Equal to the last bit, wherever it is nested."""
    assert type(one) is type(other), where
    if isinstance(one, Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8)), where
    elif isinstance(one, np.ndarray):
        assert (one == other).all(), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{i}]")
    else:
        assert one == other, where


def unmeasured(model: nn.Module) -> Measure:
    return lambda step, batch: None


@pytest.mark.parametrize("optimiser", list(OPTIMISERS))
@pytest.mark.parametrize(
    "options",
    [
        {"estimator": "exact"},
        {"estimator": "batch", "probes": 3},
        {"estimator": "batch", "units": 4, "parameters": ["readout", "convolution"]},
        {"loss": loss_that_draws},
    ],
    ids=["exact", "batch", "some units, some parameters", "a loss that draws"],
)
def test_training_with_a_tracker_is_training_without(tmp_path: Path, optimiser: str, options: dict[str, Any]) -> None:
    trackers = []

    def tracked(model: nn.Module) -> Measure:
        tracker = sr.Tracker(model, schedule=1, out=tmp_path / "run", **options)
        trackers.append(tracker)
        return lambda step, batch: tracker.measure(step, batch, against=batch if step % 5 == 0 else None)

    assert_same(train(optimiser, tracked), train(optimiser, unmeasured))
    (tracker,) = trackers
    tracker.close()
    # Nothing is easier to hide than a measurement that did not take place.
    assert [row["step"] for row in tracker.history] == [s for step in range(STEPS) for s in (step, step + 1000)]
    assert all(row["chi_net"] > 0 for row in tracker.history)


@pytest.mark.parametrize("optimiser", list(OPTIMISERS))
@pytest.mark.parametrize("loss", [loss_that_raises, loss_whose_gradient_raises], ids=["loss", "gradient of the loss"])
def test_training_goes_on_the_same_after_a_measurement_that_raises(
    optimiser: str, loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    raised = []

    def tracked(model: nn.Module) -> Measure:
        tracker = sr.Tracker(model, schedule=lambda step: step % 3 == 0, loss=loss)

        def measure(step: int, batch: tuple[Tensor, Tensor]) -> None:
            if tracker.due(step):
                with pytest.raises(RuntimeError, match="boom") as error:
                    tracker.measure(step, batch)
                raised.append(error)
            assert tracker.history == []

        return measure

    assert_same(train(optimiser, tracked), train(optimiser, unmeasured))
    assert len(raised) == sum(step % 3 == 0 for step in range(STEPS)) + sum(
        (step + 1000) % 3 == 0 for step in range(STEPS)
    )


def test_the_comparison_notices_a_single_draw() -> None:
    def careless(model: nn.Module) -> Measure:
        return lambda step, batch: None if step != 5 else (torch.rand(1), None)[1]

    with pytest.raises(AssertionError, match="training"):
        assert_same(train("sgd", careless), train("sgd", unmeasured))


def test_the_comparison_notices_one_forward_pass_under_isolated_generators() -> None:
    def careless(model: nn.Module) -> Measure:
        def measure(step: int, batch: tuple[Tensor, Tensor]) -> None:
            if step == STEPS - 1:
                with torch.random.fork_rng(devices=[]), torch.no_grad():
                    model(batch[0])

        return measure

    with pytest.raises(AssertionError, match=r"training\['state'\]"):
        assert_same(train("sgd", careless), train("sgd", unmeasured))
