"""What an update did to the loss: against gradients and losses that plain torch takes at both ends."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spectral_reach as sr
from spectral_reach.decomposition.update_effect import UpdateEffect, update_effect, weights_of
from spectral_reach.measured.losses import resolve_loss

OPTIMISERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=0.03),
    "adagrad": lambda model: torch.optim.Adagrad(model.parameters(), lr=0.1),
}


class Tied(nn.Module):
    """A language model in small, whose readout is its embedding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, width)
        self.mixer = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.LayerNorm(width))
        self.readout = nn.Linear(width, 7, bias=False)
        self.readout.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.readout(self.mixer(self.embedding(tokens)))
        return out


def some_model(seed: int) -> tuple[nn.Module, Callable[[], tuple[Tensor, Tensor]]]:
    """A random architecture in float64, and its batches of random sizes with some labels left out."""
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    width = int(torch.randint(2, 6, (), generator=random))
    kind = seed % 3
    if kind == 0:
        model: nn.Module = nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Linear(width, 3))
    elif kind == 1:
        model = nn.Sequential(nn.Conv1d(1, width, 2), nn.Tanh(), nn.Flatten(), nn.Linear(3 * width, 3))
    else:
        model = Tied(width)

    def batch() -> tuple[Tensor, Tensor]:
        n = int(torch.randint(2, 6, (), generator=random))
        if kind == 2:
            labels = torch.randint(0, 7, (n, 5), generator=random)
            labels[torch.rand(n, 5, generator=random) < 0.3] = -100
            labels[0, 0] = 1
            return torch.randint(0, 7, (n, 5), generator=random), labels
        x = torch.randn(n, 4, generator=random, dtype=torch.float64)
        return x if kind == 0 else x[:, None], torch.randint(0, 3, (n,), generator=random)

    return model.double(), batch


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    outputs = model(batch[0])
    return F.cross_entropy(outputs.flatten(0, -2), batch[1].flatten())


def update(model: nn.Module, optimiser: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> None:
    optimiser.zero_grad()
    loss_of(model, batch).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimiser.step()


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("seed", range(9))
def test_every_part_is_that_of_plain_torch(seed: int, optimiser: str) -> None:
    model, batch = some_model(seed)
    steps = OPTIMISERS[optimiser](model)
    for _ in range(3):  # so that there is momentum
        update(model, steps, batch())
    this, following = batch(), batch()
    losses = [loss_of(model, each).item() for each in (this, following)]
    gradient = torch.autograd.grad(loss_of(model, this), list(model.parameters()))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    kept = weights_of(model)
    update(model, steps, this)
    moved = [now.detach() - then for now, then in zip(model.parameters(), before, strict=True)]
    linear = sum(float((g * d).sum()) for g, d in zip(gradient, moved, strict=True))
    norms = [math.sqrt(sum(float(each.square().sum()) for each in parts)) for parts in (gradient, moved)]
    after = [loss_of(model, each).item() for each in (this, following)]

    found = update_effect(model, this, kept, loss=resolve_loss("cross_entropy"), next_batch=following)

    expected = UpdateEffect(
        loss_before=losses[0],
        loss_after=after[0],
        change=after[0] - losses[0],
        linear=linear,
        correction=after[0] - losses[0] - linear,
        next_loss_before=losses[1],
        next_change=after[1] - losses[1],
        gradient_norm=norms[0],
        update_norm=norms[1],
        alignment=-linear / norms[0] / norms[1],
    )
    assert found.undefined == {}
    for name, value in expected.as_dict().items():
        if name != "undefined":
            assert getattr(found, name) == pytest.approx(value, rel=1e-9, abs=1e-13), name


def test_a_gradient_step_is_linear_in_delta_loss_and_curved_in_the_square_of_its_size() -> None:
    model, batch = some_model(0)
    data = batch()
    delta_loss = sr.decompose(model, data, estimator="exact").delta_loss
    corrections = []
    for rate in (1e-2, 1e-3):
        kept = weights_of(model)
        gradient = torch.autograd.grad(loss_of(model, data), list(model.parameters()))
        with torch.no_grad():
            for parameter, part in zip(model.parameters(), gradient, strict=True):
                parameter -= rate * part
        found = update_effect(model, data, kept, loss=resolve_loss("cross_entropy"))
        assert found.linear == pytest.approx(-rate * delta_loss, rel=1e-9)
        assert found.alignment == pytest.approx(1, rel=1e-12)
        corrections.append(found.correction)
        model.load_state_dict(kept)
    assert corrections[0] / corrections[1] == pytest.approx(100, rel=0.05)


class Noisy(nn.Module):
    """Dropout, batch statistics, and a buffer that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.body(x)
        return out


def test_both_losses_have_one_dropout_mask_and_nothing_is_left_behind() -> None:
    torch.manual_seed(0)
    model = Noisy()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    data = torch.randn(8, 4), torch.randint(0, 3, (8,))
    model(data[0])
    kept = weights_of(model)
    loss_of(model, data).backward()
    optimiser.step()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    storage = [parameter.data_ptr() for parameter in model.parameters()]
    gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    generator = torch.get_rng_state()
    found = update_effect(model, data, kept, loss=resolve_loss("cross_entropy"), next_batch=data)
    assert (found.change, found.next_change, found.linear, found.correction, found.update_norm) == (0, 0, 0, 0, 0)
    assert math.isnan(found.alignment)
    assert all(value.equal(state[name]) for name, value in model.state_dict().items())
    assert [parameter.data_ptr() for parameter in model.parameters()] == storage
    assert all(p.grad is not None and p.grad.equal(g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.get_rng_state().equal(generator)


def test_the_weights_come_back_after_an_error() -> None:
    model, batch = some_model(0)
    kept = weights_of(model)
    data = batch()
    update(model, OPTIMISERS["sgd"](model), data)
    now = {name: value.clone() for name, value in model.state_dict().items()}

    def fails_in_the_end(outputs: Tensor, targets: Tensor) -> Tensor:
        if model[0].weight.equal(kept["0.weight"]):
            raise RuntimeError("boom")
        return F.cross_entropy(outputs, targets)

    with pytest.raises(RuntimeError, match="boom"):
        update_effect(model, data, kept, loss=fails_in_the_end)
    assert all(value.equal(now[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda model: model[0].requires_grad_(False),
            r"have changed since the weights were kept: '0.bias' and 1 others",
        ),
        (
            lambda model: setattr(model[0], "weight", nn.Parameter(torch.zeros(2, 2))),
            r"'0.weight' is now of shape \(2, 2\)",
        ),
    ],
)
def test_weights_of_another_model_are_named(change: Callable[[Any], None], message: str) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    kept = weights_of(model)
    change(model)
    with pytest.raises(ValueError, match=message):
        update_effect(model, (torch.randn(2, 4), torch.tensor([0, 1])), kept, loss=resolve_loss("cross_entropy"))
