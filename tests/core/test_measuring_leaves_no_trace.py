"""Nothing is changed by looking: not by a measurement, and not by one that raises half-way."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spectral_reach as sr


class Net(nn.Module):
    """Dropout, batch statistics, a shared buffer, one that counts calls, generators of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 6))
        self.norm = nn.BatchNorm1d(6, momentum=None)
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
        self.readout = nn.Linear(6, 3)
        self.frozen = nn.Parameter(torch.ones(6), requires_grad=False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scale", torch.ones(6), persistent=False)
        self.body.register_buffer("shared", self.scale)
        self.register_buffer("absent", None)
        self.generator = torch.Generator().manual_seed(3)
        self.numpy_generator = np.random.default_rng(3)
        self.python_generator = random.Random(3)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.training:
            self.scale.mul_(1.01)
            self.register_buffer("made_on_the_way", x.detach().mean())
        # One after the other from every generator that a forward pass may know.
        noise = random.random() + np.random.rand() + self.numpy_generator.random() + self.python_generator.random()
        x = self.norm(self.body(x)) * self.body.shared * self.frozen
        x = x + 0.01 * noise * torch.randn(6, generator=self.generator)
        return self.readout(F.dropout(self.spectral(x), 0.2, self.training))


def network(training: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return Net().train(training)


def batch(n: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, 4), torch.randint(0, 3, (n,))


def seed_everything() -> None:
    torch.manual_seed(2)
    random.seed(2)
    np.random.seed(2)


def state(model: nn.Module) -> dict[str, Any]:
    """Everything about a model and the process that a measurement could touch, in comparable form."""
    numpy_state = np.random.get_state(legacy=False)["state"]
    own = [
        (name, key, _generator_state(value))
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if _generator_state(value) is not None
    ]
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": (numpy_state["key"].tolist(), numpy_state["pos"]),
        "python": random.getstate(),
        "own generators": own,
        "parameters": [(n, id(p), p._version, p.tolist(), p.requires_grad) for n, p in model.named_parameters()],
        "gradients": [
            (n, id(p.grad), None if p.grad is None else p.grad.tolist()) for n, p in model.named_parameters()
        ],
        "buffers": [
            (name, key, id(b), None if b is None else (b._version, b.tolist()))
            for name, module in model.named_modules()
            for key, b in module._buffers.items()
        ],
        "modes": [(n, m.training) for n, m in model.named_modules()],
        "hooks": [(n, list(p._backward_hooks or ())) for n, p in model.named_parameters()],
        "module hooks": [
            (n, k, id(v), list(v)) for n, m in model.named_modules() for k, v in vars(m).items() if k.endswith("_hooks")
        ],
        "state_dict": list(model.state_dict()),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


def _generator_state(value: object) -> object:
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    if isinstance(value, random.Random):
        return value.getstate()
    return None


def assert_untouched(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert [what for what in before if before[what] != after[what]] == []


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("arguments", [{"estimator": "exact"}, {"estimator": "batch", "probes": 2, "units": 3}])
@pytest.mark.parametrize("pair", [True, False])
def test_a_measurement_leaves_no_trace(training: bool, arguments: dict[str, Any], pair: bool) -> None:
    model = network(training)
    before = state(model)
    sr.decompose(model, batch_without_seeding(), against=batch_without_seeding(3) if pair else None, **arguments)
    assert_untouched(before, state(model))


def batch_without_seeding(n: int = 5) -> tuple[Tensor, Tensor]:
    return torch.linspace(-1, 2, 4 * n).reshape(n, 4), torch.arange(n) % 3


def test_gradients_that_are_there_stay() -> None:
    model = network()
    F.cross_entropy(model(batch()[0]), batch()[1]).backward()
    before = state(model)
    sr.decompose(model, batch_without_seeding())
    assert_untouched(before, state(model))


class BoomError(Exception):
    pass


class RaiseInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise BoomError("backward")


def raise_in_forward(model: nn.Module) -> Callable[..., Tensor]:
    model.readout.register_forward_hook(lambda *_: (_ for _ in ()).throw(BoomError("forward")))
    return F.cross_entropy


def raise_in_loss(model: nn.Module) -> Callable[..., Tensor]:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        torch.rand(1), np.random.rand(), random.random()
        raise BoomError("loss")

    return loss


def raise_in_loss_gradient(model: nn.Module) -> Callable[..., Tensor]:
    return lambda outputs, targets: F.cross_entropy(RaiseInBackward.apply(outputs), targets)


def raise_in_backward(model: nn.Module) -> Callable[..., Tensor]:
    model.readout.register_forward_hook(lambda module, args, outputs: RaiseInBackward.apply(outputs))
    return F.cross_entropy


@pytest.mark.parametrize("where", [raise_in_forward, raise_in_loss, raise_in_loss_gradient, raise_in_backward])
@pytest.mark.parametrize("estimator", ["exact", "batch"])
def test_an_exception_leaves_no_trace(where: Callable[[nn.Module], Any], estimator: str) -> None:
    model = network()
    loss = where(model)
    before = state(model)
    with pytest.raises(BoomError):
        sr.decompose(model, batch_without_seeding(), loss=loss, estimator=estimator)
    assert_untouched(before, state(model))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_the_callers_gradient_mode_does_not_matter(context: Callable[[], Any]) -> None:
    model = network()
    expected = sr.decompose(model, batch_without_seeding())
    before = state(model)
    with context():
        inside = sr.decompose(model, batch_without_seeding())  # the batch itself is made in this mode
        here = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    assert inside == expected
    assert here == (False, context is torch.inference_mode)
    assert_untouched(before, state(model))


@pytest.mark.parametrize("training", [True, False])
def test_a_backward_pass_under_way_survives_a_measurement(training: bool) -> None:
    """The graph of the caller's forward pass saved parameters and buffers; neither may have changed in place."""

    def gradients(measure: bool) -> list[Tensor]:
        model = network(training)
        seed_everything()
        outputs = model(batch()[0])
        if measure:
            sr.decompose(model, batch_without_seeding())
        F.cross_entropy(outputs, batch()[1]).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    for with_measurement, without in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(with_measurement, without)


def test_gradient_hooks_neither_run_nor_count() -> None:
    """They belong to the caller's optimisation: clipping in a hook is no part of the Jacobian."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    expected = sr.decompose(model, batch_without_seeding(), estimator="exact")
    runs = []

    def note(*_: Any) -> None:
        runs.append(1)

    model[0].weight.register_hook(lambda g: [note(), 10 * g][1])
    model[2].register_full_backward_hook(lambda module, into, out: [note(), tuple(10 * g for g in into)][1])
    model[2].register_full_backward_pre_hook(lambda module, out: [note(), tuple(10 * g for g in out)][1])
    model[2].weight.register_post_accumulate_grad_hook(note)
    with_hooks = sr.decompose(model, batch_without_seeding(), estimator="exact")
    assert runs == []
    assert with_hooks == expected
    x, y = batch_without_seeding()
    F.cross_entropy(model(x), y).backward()
    assert len(runs) == 4


def test_gradient_hooks_on_all_modules_neither_run_nor_count() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    expected = sr.decompose(model, batch_without_seeding(), estimator="exact")
    runs = []

    def scale(module: nn.Module, into: Any, out: Any) -> tuple[Tensor | None, ...]:
        runs.append(module)
        return tuple(None if g is None else 0 * g for g in into)

    def note(module: nn.Module, out: Any) -> None:
        runs.append(module)

    handles = [
        nn.modules.module.register_module_full_backward_hook(scale),
        nn.modules.module.register_module_full_backward_pre_hook(note),
    ]
    try:
        with_hooks = sr.decompose(model, batch_without_seeding(), estimator="exact")
        with pytest.raises(BoomError):
            sr.decompose(model, batch_without_seeding(), loss=raise_in_loss(model))
        assert runs == []
        x, y = batch_without_seeding()
        F.cross_entropy(model(x.requires_grad_()), y).backward()
        assert len(runs) == 2 * 4  # both hooks, on every module
    finally:
        for handle in handles:
            handle.remove()
    assert with_hooks == expected
    runs.clear()
    F.cross_entropy(model(x), y).backward()
    assert runs == []  # the handles still remove them


class Remembering(nn.Module):
    """Keeps state in every way other than a buffer or a generator, and lets the outputs depend on it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.calls = 0
        self.mean = torch.zeros(4)
        self.total = torch.zeros(4)
        self.layer.total = self.total
        self.forgotten = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        self.total += x.detach().sum(0)
        assert self.layer.total is self.total
        if not hasattr(self, "late"):
            self.late = nn.Linear(3, 3)
            self.shift = nn.Parameter(torch.ones(3))
            self.shape = x.shape
            del self.forgotten
        return self.late(self.layer(x - self.mean)) * self.calls + self.shift + self.total[:3]


@pytest.mark.parametrize("raises", [False, True])
def test_attributes_that_a_forward_pass_sets_are_put_back(raises: bool) -> None:
    torch.manual_seed(0)
    model = Remembering()

    def attributes() -> list[Any]:
        held = [(n, k, id(v), v) for n, m in model.named_modules() for k, v in vars(m).items() if k != "training"]
        plain = [(n, k, i, v.tolist() if isinstance(v, Tensor) else repr(v)) for n, k, i, v in held]
        return [plain, list(model._modules), list(model._parameters), model.total._version]

    before = attributes()
    if raises:
        with pytest.raises(BoomError):
            sr.decompose(model, batch_without_seeding(), loss=raise_in_loss(model))
    else:
        alone = sr.decompose(model, batch_without_seeding(), estimator="exact")
        pair = sr.decompose(model, batch_without_seeding(), against=batch_without_seeding(), estimator="exact")
        assert (pair.loss, pair.chi_net) == (alone.loss, alone.chi_net)
    assert attributes() == before


def test_every_forward_pass_starts_from_the_state_that_the_model_is_in() -> None:
    """Power iteration moves a buffer at each pass: the second batch must not see what the first one left."""
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5))
    model = nn.Sequential(layer, nn.Tanh(), nn.Linear(5, 3)).double()
    x, y = batch_without_seeding()
    x = x.double()
    alone = sr.decompose(model, (x, y), estimator="exact")
    pair = sr.decompose(model, (x, y), against=(x, y), estimator="exact")
    assert (pair.loss, pair.chi_loss, pair.chi_net) == (alone.loss, alone.chi_loss, alone.chi_net)


def test_a_generator_of_the_models_own_gives_every_batch_the_same_noise() -> None:
    model = network(training=False)
    alone = sr.decompose(model, batch_without_seeding(), estimator="exact")
    assert sr.decompose(model, batch_without_seeding(), estimator="exact") == alone
    pair = sr.decompose(model, batch_without_seeding(), against=batch_without_seeding(), estimator="exact")
    assert pair.loss == alone.loss


def test_measuring_inside_training_gives_the_same_parameters() -> None:
    def trained(measure: bool) -> nn.Module:
        model = network()
        seed_everything()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(4):
            x, y = torch.randn(5, 4), torch.randint(0, 3, (5,))
            optimiser.zero_grad()
            loss = F.cross_entropy(model(x), y)
            if measure:
                sr.decompose(model, (x, y), against=batch_without_seeding())
            loss.backward()
            if measure:
                sr.decompose(model, (x, y), estimator="batch", probes=2)
            optimiser.step()
        return model

    a, b = trained(True), trained(False)
    for (name, p), q in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(p, q), name
