"""Explicit spectra against a dense Jacobian of the oracle's, on random models, losses, masks and choices of outputs."""

import random
from typing import Any

import numpy as np
import oracle
import pytest
import small_models
import torch
from torch import Tensor, nn

import spectral_reach as sr
from spectral_reach.spectra import by_products, kernel_matrix, pieces

CASES = [(kind, 100 + place) for place, kind in enumerate(small_models.KINDS)]
RELATIVE = 1e-10
"""Of the largest eigenvalue."""


def chosen(choice: random.Random, shape: tuple[int, int]) -> dict[str, Any]:
    """All outputs, or listed samples and classes in any order."""
    if choice.random() < 0.4:
        return {}
    n, k = shape
    samples = choice.sample(range(n), choice.randint(1, n))
    return {"samples": samples, "classes": choice.sample(range(k), choice.randint(1, k)) if k > 1 else None}


def kernel_and_gradient(explicit: oracle.Explicit, outputs: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Theta and u of the chosen outputs, from the whole J."""
    samples, classes = (outputs.get(name) for name in ("samples", "classes"))
    rows = range(explicit.n) if samples is None else samples
    columns = range(explicit.J.shape[1]) if classes is None else classes
    J = explicit.J[np.ix_(rows, columns)].reshape(len(rows) * len(columns), -1)
    return J @ J.T, explicit.residual[np.ix_(rows, columns)].reshape(-1) / len(rows)


def check(found: sr.Spectrum, theta: np.ndarray, u: np.ndarray) -> None:
    """Eigenvalues, shares by level of the spectrum, and the components."""
    values, q = np.linalg.eigh(theta)
    scale, trace = values[-1], np.trace(theta)
    assert np.abs(found.p * trace - values[::-1]).max() <= RELATIVE * scale
    assert found.p.sum() == pytest.approx(1, abs=1e-12)
    assert found.gamma2.sum() == pytest.approx(1, abs=1e-12)
    # Where eigenvalues are close, eigenvectors are not determined: compare moments, which do not ask for them.
    gamma2 = (q.T @ u) ** 2 / (u @ u)
    for power in range(1, 5):
        expected = (gamma2 * (values / trace) ** power).sum()
        assert (found.gamma2 * found.p**power).sum() == pytest.approx(expected, abs=1e-10)
    assert found.chi_pos == pytest.approx(u @ theta @ u / (u @ u) / trace, rel=1e-9)
    assert found.chi_loss == pytest.approx(found.n_samples * (u @ u), rel=1e-9)
    assert found.chi_net == pytest.approx(trace / found.n_samples, rel=1e-9)
    assert found.delta_loss == pytest.approx(u @ theta @ u, rel=1e-8)


@pytest.mark.parametrize("way", ["at once", "small blocks", "whole graph", "products"])
@pytest.mark.parametrize(("kind", "number"), CASES, ids=lambda value: str(value))
def test_a_spectrum_is_that_of_the_dense_jacobian(
    kind: str, number: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = small_models.draw(kind, number)
    choice = random.Random(number)
    batch, seed = subject.draw_batch(3), choice.randrange(2**32)
    explicit = subject.explicit(batch, seed=seed)
    outputs = chosen(choice, explicit.J.shape[:2])
    taken: list[str] = []
    for name in ("by_blocks", "by_products"):
        monkeypatch.setattr(kernel_matrix, name, noted(taken, name, getattr(kernel_matrix, name)))
    monkeypatch.setattr(kernel_matrix, "_blocks_are_cheaper", lambda *_, **__: way != "products")
    if way == "products":
        monkeypatch.setattr(kernel_matrix, "_blocks", lambda *_: 2)
    if way == "whole graph":
        monkeypatch.setattr(kernel_matrix, "units_stand_alone", lambda *_: False)
    size = explicit.J[:, :, 0].size
    budget = 4 * 8 * size**2 + (4000 if way == "small blocks" else 2**26)
    found = sr.spectrum(
        subject.model, batch, loss=subject.loss.given, method="explicit", seed=seed, memory_budget=budget, **outputs
    )
    check(found, *kernel_and_gradient(explicit, outputs))
    assert taken == ["by_products" if way == "products" else "by_blocks"]
    if not outputs:
        whole = sr.decompose(subject.model, batch, loss=subject.loss.given, estimator="exact", seed=seed)
        for name in ("chi_pos", "chi_net", "chi_loss", "delta_loss", "loss"):
            assert getattr(found, name) == pytest.approx(getattr(whole, name), rel=1e-8)
        assert found.share_of_loss_gradient == pytest.approx(1)


def noted(taken: list[str], name: str, function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        taken.append(name)
        return function(*args, **kwargs)

    return call


def take_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they can be taken."""
    monkeypatch.setattr(kernel_matrix, "_blocks", lambda *_: 2)
    monkeypatch.setattr(kernel_matrix, "_blocks_are_cheaper", lambda *_, **__: False)


class Gated(nn.Module):
    """Units see each other through a gate that is shut at this point: equal outputs, another derivative."""

    def __init__(self, gate: float) -> None:
        super().__init__()
        self.body = nn.Linear(4, 3)
        self.gate = nn.Parameter(torch.tensor(gate))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.body(x))
        return h + self.gate * h.mean(0)


@pytest.mark.parametrize("gate", [0.0, 0.3])
def test_units_that_see_each_other_are_not_taken_apart(gate: float) -> None:
    torch.manual_seed(0)
    model = Gated(gate).double()
    x, y = torch.randn(5, 4).double(), torch.randint(3, (5,))
    found = sr.spectrum(model, (x, y), method="explicit")
    f = model(x).flatten()
    rows = [torch.autograd.grad(each, list(model.parameters()), retain_graph=True) for each in f]
    J = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).numpy()
    values = np.linalg.eigvalsh(J @ J.T)[::-1]
    np.testing.assert_allclose(found.p, values / values.sum(), atol=1e-12)
    assert sr.decompose(model, (x, y), estimator="exact").chi_pos == pytest.approx(found.chi_pos, rel=1e-10)


def test_the_cheaper_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many units of one sample: blocks, unit by unit. One unit of many samples and classes: products."""
    taken: list[str] = []
    for name in ("by_blocks", "by_products"):
        monkeypatch.setattr(kernel_matrix, name, noted(taken, name, getattr(kernel_matrix, name)))
    monkeypatch.setattr(pieces, "whole", None)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(50, 100), nn.Tanh(), nn.Linear(100, 10))
    many = (torch.randn(64, 50), torch.randint(10, (64,)))
    sr.spectrum(model, many, method="explicit", memory_budget=4 * 8 * 640**2 + 2**22)
    one = (torch.randn(1, 64, 50), torch.randint(10, (1, 64)))
    sr.spectrum(model, one, method="explicit", memory_budget=4 * 8 * 640**2 + 2**20)
    assert taken == ["by_blocks", "by_products"]


class Tied(nn.Module):
    """W is the table of an embedding and the readout; b is the readout's own."""

    def __init__(self, *, tied: bool, bias: bool, frozen: str = "") -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.body = nn.Linear(4, 4)
        self.readout = nn.Linear(4, 7, bias=bias)
        if tied:
            self.readout.weight = self.table.weight
        for name, p in self.named_parameters():
            p.requires_grad_(not frozen or frozen not in name)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.readout(torch.tanh(self.body(self.table(tokens))))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("frozen", ["", "readout", "body", "table", "weight"])
def test_a_readout_is_taken_out_rightly(tied: bool, bias: bool, frozen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Tied(tied=tied, bias=bias, frozen=frozen).double()
    if not any(p.requires_grad for p in model.parameters()):
        pytest.skip("nothing is left to measure")
    batch = (torch.randint(7, (2, 5)), torch.randint(7, (2, 5)))
    plain = sr.spectrum(model, batch, method="explicit", classes=[4, 1, 6], eigenvectors=True)
    take_products(monkeypatch)
    monkeypatch.setattr(by_products, "PlainJacobian", None)  # so that the readout's way is the one that is taken
    found = sr.spectrum(model, batch, method="explicit", classes=[4, 1, 6], eigenvectors=True)
    for a, b in ((plain, found),):
        one, other = (each.eigenvectors * each.p @ each.eigenvectors.T * each.chi_net for each in (a, b))
        np.testing.assert_allclose(one, other, atol=1e-12 * np.abs(one).max())


def test_eigenvectors_take_the_kernel_apart() -> None:
    subject = small_models.draw("mlp", 3)
    batch = subject.draw_batch(6)
    found = sr.spectrum(subject.model, batch, loss=subject.loss.given, method="explicit", eigenvectors=True)
    explicit = subject.explicit(batch)
    theta, u = kernel_and_gradient(explicit, {})
    q = found.eigenvectors
    np.testing.assert_allclose(q @ np.diag(found.p * np.trace(theta)) @ q.T, theta, atol=1e-10 * np.abs(theta).max())
    np.testing.assert_allclose((q.T @ u) ** 2 / (u @ u), found.gamma2, atol=1e-10)


def test_random_choices_are_of_the_size_asked_for_and_repeat() -> None:
    model = nn.Linear(5, 9).double()
    batch = (torch.randn(12, 5).double(), torch.randint(9, (12,)))
    a, b, other = (sr.spectrum(model, batch, method="explicit", samples=4, classes=3, seed=seed) for seed in (1, 1, 2))
    assert (a.n_samples, a.n_outputs, a.n_modes, len(a.p)) == (4, 3, 12, 12)
    assert np.array_equal(a.p, b.p)
    assert not np.array_equal(a.p, other.p)
    assert 0 < a.share_of_loss_gradient < 1


def test_the_budget_decides_and_is_told() -> None:
    model = nn.Linear(5, 9).double()
    batch = (torch.randn(40, 5).double(), torch.randint(9, (40,)))
    with pytest.raises(ValueError, match=r"kernel of 360 outputs needs .* memory_budget allows"):
        sr.spectrum(model, batch, method="explicit", memory_budget=10**6)


class HidesItself(torch.autograd.Function):
    """tanh with a backward pass that autograd cannot see into."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return (d.detach() * (1 - y**2)).detach()


class OnceOnly(HidesItself):
    """The same, which says so."""

    backward = staticmethod(torch.autograd.function.once_differentiable(HidesItself.backward))


class Odd(nn.Module):
    def __init__(self, function: type[HidesItself]) -> None:
        super().__init__()
        self.function = function
        self.a, self.b = nn.Linear(4, 6).double(), nn.Linear(6, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.function.apply(self.a(x)))


@pytest.mark.parametrize("function", [HidesItself, OnceOnly])
def test_what_cannot_be_differentiated_twice_goes_by_blocks_or_is_refused(
    function: type[HidesItself], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    odd = Odd(function)
    plain = nn.Sequential(odd.a, nn.Tanh(), odd.b)
    batch = (torch.randn(5, 4).double(), torch.randint(3, (5,)))
    expected = sr.spectrum(plain, batch, method="explicit")
    take_products(monkeypatch)
    np.testing.assert_allclose(sr.spectrum(odd, batch, method="explicit").p, expected.p, atol=1e-12)
    with pytest.raises(ValueError, match=r"(cannot be differentiated twice|not the adjoint).*method='explicit'"):
        sr.spectrum(odd, batch, method="lanczos")


class Casts(nn.Module):
    """Works in lower precision on the way, as the norms of many models do."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float().to(x.dtype)


def test_rounding_is_that_of_the_coarsest_precision_on_the_way() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)]
    batch = (torch.randn(5, 4).double(), torch.randint(3, (5,)))
    fine = sr.spectrum(nn.Sequential(*layers).double(), batch, method="explicit")
    coarse = sr.spectrum(nn.Sequential(layers[0], Casts(), *layers[1:]).double(), batch, method="explicit")
    assert fine.rounding < 1e-14
    assert 1e-8 < coarse.rounding < 1e-5
    assert sr.spectrum(nn.Sequential(layers[0], Casts(), *layers[1:]), batch).rounding > 1e-9
