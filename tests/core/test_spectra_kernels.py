"""``sr.kernel_decompose`` and ``sr.ntk_operator``: any kernel, in any form, and what is refused."""

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator, eigsh
from torch import nn

import spectral_reach as sr


def kernel(n: int = 30, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    J = rng.normal(size=(n, 2 * n)) * np.arange(1, 2 * n + 1) ** -0.7
    return J @ J.T


def gradient(n: int = 30) -> np.ndarray:
    return np.random.default_rng(1).normal(size=n)


FORMS = {
    "array": np.asarray,
    "tensor": torch.from_numpy,
    "sparse": scipy.sparse.csr_array,
    "sparse matrix": scipy.sparse.csr_matrix,
    "sparse tensor": lambda k: torch.from_numpy(k).to_sparse(),
    "operator": aslinearoperator,
    "nested lists": lambda k: k.tolist(),
}


@pytest.mark.parametrize("method", ["explicit", "lanczos"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_numbers(form: str, method: str) -> None:
    theta, u = kernel(), gradient()
    found = sr.kernel_decompose(FORMS[form](theta), u, method=method, trace=np.trace(theta), steps=30, tolerance=0)
    chi_pos = u @ theta @ u / (u @ u) / np.trace(theta)
    assert found.chi_pos == pytest.approx(chi_pos, rel=1e-10)
    assert found.chi_net == pytest.approx(np.trace(theta) / 30)
    assert found.chi_loss == pytest.approx(30 * u @ u)
    assert found.delta_loss == pytest.approx(u @ theta @ u)
    values, q = np.linalg.eigh(theta)
    reduction = np.cumsum((q.T @ u) ** 2 * values)
    truth = values[np.searchsorted(reduction, 0.5 * reduction[-1])] / np.trace(theta)
    assert found.position_quantile(0.5) == pytest.approx(truth, rel=1e-6)


def test_the_method_follows_the_form() -> None:
    theta, u = kernel(), gradient()
    assert sr.kernel_decompose(theta, u).method == "explicit"
    assert sr.kernel_decompose(scipy.sparse.csr_array(theta), u).method == "lanczos"
    assert sr.kernel_decompose(aslinearoperator(theta), torch.from_numpy(u)).method == "lanczos"


def test_the_trace_of_an_operator_is_estimated_with_an_error() -> None:
    theta, u = kernel(), gradient()
    deviations = []
    for seed in range(50):
        found = sr.kernel_decompose(aslinearoperator(theta), u, steps=2, seed=seed)  # steps have no part in the trace
        deviations.append((found.chi_net - np.trace(theta) / 30) / found.chi_net_stderr)
    assert abs(np.mean(deviations)) < 0.6
    assert 0.7 < np.std(deviations) < 1.4


@pytest.mark.parametrize("method", ["explicit", "lanczos"])
def test_float32_kernels_are_taken_as_precise_as_they_are(method: str) -> None:
    theta, u = kernel().astype(np.float32), gradient().astype(np.float32)
    found = sr.kernel_decompose(theta, u, method=method)
    assert found.chi_pos == pytest.approx(u @ theta @ u / (u @ u) / np.trace(theta), rel=1e-5)


def test_a_rank_deficient_kernel_is_no_indefinite_one() -> None:
    x = np.linspace(0, 1, 60)
    smooth = np.exp(-((x[:, None] - x) ** 2) / 2)  # eigenvalues fall below rounding
    for method in ("explicit", "lanczos"):
        found = sr.kernel_decompose(smooth, np.cos(9 * x), method=method)
        assert 0 < found.chi_pos < 1


@pytest.mark.parametrize(
    ("theta", "u", "error", "message"),
    [
        (np.ones((3, 4)), np.ones(3), ValueError, r"shape \(3, 4\); expected n x n"),
        (np.ones(3), np.ones(3), ValueError, r"shape \(3,\); expected n x n"),
        (np.zeros((0, 0)), np.ones(0), ValueError, "n of 1 or more"),
        (np.triu(np.ones((3, 3))), np.ones(3), ValueError, "not symmetric"),
        (np.diag([1.0, -0.1, 1.0]), np.ones(3), ValueError, "not positive semi-definite"),
        (np.diag([1.0, np.nan, 1.0]), np.ones(3), ValueError, "not finite"),
        (np.eye(3) * 1j, np.ones(3), TypeError, "complex"),
        (np.array([["a"]]), np.ones(1), TypeError, "expected real numbers"),
        (np.eye(3), np.ones(4), ValueError, "4 entries and the kernel 3 rows"),
        (np.eye(3), [1, np.inf, 0], ValueError, "loss gradient has entries that are not finite"),
        (np.eye(3), np.ones(3) * 1j, TypeError, "loss gradient is complex"),
        (scipy.sparse.csr_array(np.triu(np.ones((3, 3)))), np.ones(3), ValueError, "not symmetric"),
        (scipy.sparse.csr_array(np.diag([1.0, -0.1, 1.0])), np.ones(3), ValueError, "not positive semi-definite"),
        (aslinearoperator(np.triu(np.ones((3, 3)))), np.ones(3), ValueError, "not symmetric"),
        (aslinearoperator(np.diag([1.0, np.nan, 1.0])), np.ones(3), ValueError, "not finite"),
    ],
)
def test_what_is_no_kernel_is_refused(theta: object, u: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sr.kernel_decompose(theta, u)


def test_eigenvectors_need_every_mode() -> None:
    found = sr.kernel_decompose(kernel(), gradient(), eigenvectors=True)
    q = found.eigenvectors
    np.testing.assert_allclose(q @ np.diag(found.p) @ q.T * np.trace(kernel()), kernel(), atol=1e-12)
    with pytest.raises(ValueError, match="method='explicit'"):
        sr.kernel_decompose(kernel(), gradient(), method="lanczos", eigenvectors=True)


# --- the kernel of a model as an operator ---------------------------------------------------------------------------


def model_and_batch(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 5)).to(dtype)
    return model, (torch.randn(10, 6).to(dtype), torch.randint(5, (10,)))


def dense(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    f = model(x).flatten()
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(e, list(model.parameters()), retain_graph=True)]) for e in f
    ]
    return torch.stack(rows).numpy()


def test_the_operator_is_the_kernel_in_either_space() -> None:
    model, batch = model_and_batch()
    J = dense(model, batch[0])
    outputs = sr.ntk_operator(model, batch, space="outputs")
    parameters = sr.ntk_operator(model, batch, space="parameters")
    np.testing.assert_allclose(outputs @ np.eye(50), J @ J.T, atol=1e-12)
    np.testing.assert_allclose(parameters @ np.eye(J.shape[1]), J.T @ J, atol=1e-12)
    assert sr.ntk_operator(model, batch).shape == (50, 50)
    few = sr.ntk_operator(model, batch, samples=[2, 5], classes=[4])
    np.testing.assert_allclose(few @ np.eye(2), (J @ J.T)[np.ix_([14, 29], [14, 29])], atol=1e-12)


def test_scipy_finds_its_eigenvalues() -> None:
    model, batch = model_and_batch(torch.float32)
    operator = sr.ntk_operator(model, batch)
    assert isinstance(operator, LinearOperator)
    assert operator.dtype == np.float32
    J = dense(model, batch[0])
    expected = np.linalg.eigvalsh(J @ J.T)[-3:]
    np.testing.assert_allclose(np.sort(eigsh(operator, k=3, return_eigenvectors=False)), expected, rtol=1e-4)


def test_the_operator_and_the_spectrum_agree() -> None:
    model, batch = model_and_batch()
    operator = sr.ntk_operator(model, batch, space="outputs")
    residual = torch.softmax(model(batch[0]).detach(), 1)
    residual[torch.arange(10), batch[1]] -= 1
    a = sr.kernel_decompose(operator, residual / 10, steps=20, tolerance=0, trace=1.0)
    b = sr.spectrum(model, batch, steps=20, tolerance=0)
    np.testing.assert_allclose(a.p[:8], b.p[:8] * b.chi_net * 10, rtol=1e-8)
    assert a.delta_loss == pytest.approx(b.delta_loss, rel=1e-9)


def test_the_operator_notices_changed_parameters() -> None:
    model, batch = model_and_batch()
    operator = sr.ntk_operator(model, batch)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(ValueError, match="parameters have been changed"):
        operator @ np.ones(50)


def test_hooks_of_the_callers_take_no_part() -> None:
    model, batch = model_and_batch()
    J = dense(model, batch[0])
    for parameter in model.parameters():
        parameter.register_hook(lambda g: g * 100)
    operator = sr.ntk_operator(model, batch)
    np.testing.assert_allclose(operator @ np.eye(50), J @ J.T, atol=1e-12)


def test_an_unknown_space_is_refused() -> None:
    model, batch = model_and_batch()
    with pytest.raises(ValueError, match="space='other'"):
        sr.ntk_operator(model, batch, space="other")


# --- what a review found ---------------------------------------------------------------------------------------------


def test_a_float32_operator_with_an_outlier_is_not_taken_to_be_exhausted() -> None:
    """A bulk far below the largest eigenvalue is where the loss reduction is, not rounding."""
    rng = np.random.default_rng(0)
    values = np.concatenate([[1.0], np.geomspace(1e-5, 3e-4, 400)])
    q, _ = np.linalg.qr(rng.normal(size=(401, 401)))
    theta = ((q * values) @ q.T).astype(np.float32)
    theta = (theta + theta.T) / 2
    u = q @ np.concatenate([[1e-3], rng.normal(size=400)])
    truth = sr.kernel_decompose(theta.astype(np.float64), u).position_quantile(0.5)
    found = sr.kernel_decompose(aslinearoperator(theta), u, trace=float(values.sum()), steps=40, tolerance=0)
    assert not found.krylov.exhausted
    bounds = found.position_bounds(0.5)
    assert bounds.low * 0.99 <= truth <= bounds.high * 1.01
    assert bounds.low < bounds.high


@pytest.mark.parametrize("theta", [[[0.0, 1.0], [1.0, 0.0]], -np.eye(3), np.diag([1.0, -1.0])])
@pytest.mark.parametrize("method", ["explicit", "lanczos"])
def test_indefinite_kernels_without_a_trace_are_refused_too(theta: object, method: str) -> None:
    size = len(np.asarray(theta))
    with pytest.raises(ValueError, match="not positive semi-definite"):
        sr.kernel_decompose(theta, np.arange(1.0, size + 1), method=method)


def test_a_zero_kernel_is_undefined() -> None:
    found = sr.kernel_decompose(np.zeros((3, 3)), np.ones(3))
    assert np.isnan(found.chi_pos)
    assert found.undefined["p"] == "the kernel is zero"


@pytest.mark.parametrize("form", ["lil_array", "dok_array", "dia_array", "coo_array", "csc_array", "bsr_array"])
def test_every_sparse_format_is_read(form: str) -> None:
    theta, u = kernel(), gradient()
    found = sr.kernel_decompose(getattr(scipy.sparse, form)(theta), u, steps=30, tolerance=0)
    assert found.chi_pos == pytest.approx(u @ theta @ u / (u @ u) / np.trace(theta), rel=1e-9)


@pytest.mark.parametrize("half", [lambda k: torch.from_numpy(k).bfloat16(), lambda k: k.astype(np.float16)])
def test_half_precision_kernels_are_taken_as_precise_as_they_are(half: object) -> None:
    X = np.random.default_rng(3).normal(size=(30, 5))
    theta, u = X @ X.T, gradient()
    found = sr.kernel_decompose(half(theta), u)
    assert found.chi_pos == pytest.approx(u @ theta @ u / (u @ u) / np.trace(theta), rel=0.1)


def test_a_gradient_in_the_null_space_has_no_reduction() -> None:
    """Balanced labels, and only a bias is trained: J^T u is 0 up to rounding."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    model.weight.requires_grad_(False)
    batch = (torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 1]))
    for method in ("explicit", "lanczos"):
        found = sr.spectrum(model, batch, method=method)
        with pytest.raises(ValueError, match="loss reduction is zero"):
            found.position_quantile(0.5)
    centred = np.eye(20) - np.ones((20, 20)) / 20
    for method in ("explicit", "lanczos"):
        with pytest.raises(ValueError, match="loss reduction is zero"):
            sr.kernel_decompose(centred, np.ones(20), method=method).position_quantile(0.5)


def test_all_samples_in_another_order_have_the_same_trace() -> None:
    model, batch = model_and_batch()
    order = [3, 1, 2, 0, 9, 8, 7, 6, 5, 4]
    whole, shuffled = sr.spectrum(model, batch, tolerance=0), sr.spectrum(model, batch, tolerance=0, samples=order)
    assert shuffled.chi_net == whole.chi_net
    assert shuffled.chi_pos == pytest.approx(whole.chi_pos, rel=1e-9)
