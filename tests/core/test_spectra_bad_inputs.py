"""Whatever is wrong with what ``sr.spectrum`` and its kin are given: one error with what was got and what to do."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import aslinearoperator
from test_bad_inputs import Returns, batch, classifier
from torch import Tensor, nn

import spectral_reach as sr

METHODS = ("explicit", "lanczos")


def refuses(
    error: type[Exception],
    *parts: str,
    ask: Callable[..., Any] = sr.spectrum,
    model: Any = None,
    given: Any = None,
    **arguments: Any,
) -> None:
    """``ask`` raises ``error``, with all ``parts`` in its message, in this order."""
    pattern = ".*".join(re.escape(part) for part in parts)
    with pytest.raises(error, match=f"(?s){pattern}"):
        ask(classifier() if model is None else model, batch() if given is None else given, **arguments)


# --- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["magic", "Lanczos", None, 1, ["lanczos"]])
def test_unknown_methods(method: Any) -> None:
    refuses(ValueError, f"method={method!r} is unknown; expected 'explicit' or 'lanczos'", method=method)


@pytest.mark.parametrize("name", ["steps", "probes", "memory_budget", "density_vectors"])
@pytest.mark.parametrize("method", METHODS)
def test_counts(name: str, method: str) -> None:
    least = 0 if name == "density_vectors" else 1
    refuses(ValueError, f"{name} is {least - 1}; expected {least} or more", method=method, **{name: least - 1})
    for value in (True, 2.0, "2", None, torch.tensor(2)):
        refuses(TypeError, f"{name} is {value!r}; expected an integer", method=method, **{name: value})


@pytest.mark.parametrize("method", METHODS)
def test_seeds(method: str) -> None:
    for value in (-1, 2**63):
        refuses(ValueError, f"seed is {value}; expected an integer from 0 to 2**63 - 1", method=method, seed=value)
    for value in (True, 1.5, None):
        refuses(TypeError, f"seed is {value!r}; expected an integer", method=method, seed=value)


def test_integers_and_numbers_of_numpy_are_such() -> None:
    plain = sr.spectrum(classifier(), batch(), steps=3, tolerance=0.25, probes=2, samples=4, seed=3)
    given = {"steps": np.int32(3), "tolerance": np.float64(0.25), "probes": np.uint8(2), "samples": np.int64(4)}
    assert str(sr.spectrum(classifier(), batch(), seed=np.int64(3), **given)) == str(plain)


@pytest.mark.parametrize("value", [-1, -1e-9, math.nan, math.inf])
def test_tolerances_out_of_range(value: float) -> None:
    refuses(ValueError, f"tolerance is {value:g}; expected 0 or a positive number", tolerance=value)


@pytest.mark.parametrize("value", ["0.1", None, True, [0.1], 1j])
def test_tolerances_that_are_no_number(value: Any) -> None:
    refuses(TypeError, f"tolerance is {value!r}; expected a number", tolerance=value)


@pytest.mark.parametrize("value", [(0,), (0.5, 1.0), (-0.1,), (math.nan,), [2]])
def test_quantiles_out_of_range(value: Any) -> None:
    refuses(ValueError, f"quantiles is {value!r}; expected fractions between 0 and 1", quantiles=value)


@pytest.mark.parametrize("value", [(), 0.5, "0.5", None, ("a",), (None,), (True,), {0.5}])
def test_quantiles_that_are_no_fractions(value: Any) -> None:
    refuses(TypeError, f"quantiles is {value!r}; expected one fraction or more", quantiles=value)


CHOICES: list[tuple[Any, type[Exception], str]] = [
    (0, ValueError, "{name}=0; expected 1 to {n}, what the batch has, or a list of them"),
    (-1, ValueError, "{name}=-1; expected 1 to {n}"),
    (99, ValueError, "{name}=99; expected 1 to {n}"),
    ([], ValueError, "{name} is empty; expected one index or more, or None for all"),
    ([0, 0], ValueError, "{name} names an index twice; expected different ones"),
    ([0, 99], ValueError, "{name} has indices from 0 to 99; expected 0 to {last}"),
    (torch.tensor([-1]), ValueError, "{name} has indices from -1 to -1; expected 0 to {last}"),
    (2.0, TypeError, "{name} is 2.0; expected an integer"),
    (True, TypeError, "{name} is True; expected an integer"),
    ({0, 1}, TypeError, "{name} is {{0, 1}}; expected an integer"),
    ([0.5], TypeError, "an entry of {name} is 0.5; expected an integer"),
    ([True], TypeError, "an entry of {name} is True; expected an integer"),
    ("01", TypeError, "an entry of {name} is '0'; expected an integer"),
    (np.array([0.5]), TypeError, "an entry of {name} is 0.5; expected an integer"),
    (np.array([[0]]), TypeError, "an entry of {name} is [0]; expected an integer"),
    (torch.tensor([0.0]), TypeError, "{name} is a tensor of shape (1,) and torch.float32; expected a list of indices"),
    (torch.tensor(1), TypeError, "{name} is a tensor of shape () and torch.int64; expected a list of indices"),
    (torch.tensor([True]), TypeError, "{name} is a tensor of shape (1,) and torch.bool; expected a list of indices"),
]


@pytest.mark.parametrize("name", ["samples", "classes"])
@pytest.mark.parametrize(("value", "error", "said"), CHOICES, ids=lambda value: str(value))
def test_choices_that_the_batch_does_not_have(name: str, value: Any, error: type[Exception], said: str) -> None:
    n = 6 if name == "samples" else 3
    message = said.format(name=name, n=n, last=n - 1)
    for ask in (sr.spectrum, sr.ntk_operator):
        refuses(error, message, ask=ask, **{name: value})


@pytest.mark.parametrize("several", [[4, 1], (4, 1), np.array([4, 1]), torch.tensor([4, 1])])
def test_choices_in_every_form(several: Any) -> None:
    found = sr.spectrum(classifier(), batch(), method="explicit", samples=several, eigenvectors=True)
    expected = sr.spectrum(classifier(), batch(), method="explicit", samples=[4, 1], eigenvectors=True)
    assert np.array_equal(found.eigenvectors, expected.eigenvectors)
    assert found.n_samples == 2


def test_arguments_of_the_other_method() -> None:
    refuses(ValueError, "eigenvectors=True needs every mode; expected method='explicit'", eigenvectors=True)
    said = "density_vectors is for method='lanczos'; an explicit spectrum has every eigenvalue"
    refuses(ValueError, said, method="explicit", density_vectors=2)


@pytest.mark.parametrize("value", [1, "yes", [print]])
@pytest.mark.parametrize("method", METHODS)
def test_progress_that_nobody_can_watch(value: Any, method: str) -> None:
    said = f"progress is {value!r}; expected True, False, None or a function (done, total) -> None"
    refuses(TypeError, said, method=method, progress=value)


def test_what_does_not_fit_the_budget() -> None:
    said = "64 Lanczos steps keep", "GiB of vectors, and memory_budget allows", "at most 55 steps, or a larger budget"
    y = torch.randint(0, 3, (50,))
    model = nn.Linear(4, 3)  # 15 parameters, fewer than steps: so many vectors there are at most
    sr.spectrum(model, (torch.randn(50, 4), y), memory_budget=15 * 15 * 4)
    model = nn.Linear(200, 3)
    refuses(ValueError, *said, model=model, given=(torch.randn(50, 200), y), memory_budget=55 * 150 * 4)
    found = sr.spectrum(model, (torch.randn(50, 200), y), memory_budget=55 * 150 * 4, steps=55, tolerance=0)
    assert found.steps <= 55
    refuses(
        *(ValueError, "the kernel of 18 outputs needs", "GiB with its eigendecomposition, and memory_budget allows"),
        *("expected fewer outputs (samples=, classes=), a larger budget, or method='lanczos'",),
        method="explicit",
        memory_budget=4 * 8 * 18**2 - 1,
    )
    assert len(sr.spectrum(classifier(), batch(), method="explicit", memory_budget=4 * 8 * 18**2).p) == 18


def test_the_numbers_of_a_small_budget_are_not_zero() -> None:
    with pytest.raises(ValueError, match="memory_budget allows") as told:
        sr.spectrum(classifier(), batch(), memory_budget=1000)
    assert not re.search(r"\b0(\.0)? GiB", str(told.value))


@pytest.mark.parametrize("space", ["inputs", None, 3])
def test_unknown_spaces_of_the_operator(space: Any) -> None:
    said = f"space={space!r} is unknown; expected 'outputs', 'parameters' or 'smaller'"
    refuses(ValueError, said, ask=sr.ntk_operator, space=space)


# --- models, batches, losses: as for decompose ------------------------------------------------------------------------


def masked() -> tuple[Tensor, Tensor]:
    x, y = batch()
    return x, torch.full_like(y, -100)


def root_of_zero(f: Tensor) -> Tensor:
    return f + (f - f.detach()).sqrt()


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "model"},
        {"model": nn.Flatten()},
        {"model": nn.Sequential(nn.LazyLinear(3))},
        {"model": Returns(lambda f: (f, f))},
        {"model": Returns(lambda f: f.detach())},
        {"model": Returns(lambda f: f * math.inf)},
        {"given": torch.randn(6, 4)},
        {"given": {"input_ids": torch.zeros(2, 3)}},
        {"given": (torch.randn(0, 4), torch.zeros(0, dtype=torch.long))},
        {"given": (torch.randn(6, 4), torch.full((6,), 7))},
        {"given": (torch.randn(6, 4), torch.zeros(5, dtype=torch.long))},
        {"given": masked()},
        {"loss": "nll"},
        {"loss": 3},
        {"loss": nn.MSELoss},
        {"loss": nn.CrossEntropyLoss(reduction="sum")},
        {"parameters": "0.wieght"},
        {"parameters": []},
        {"seed": -1},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_it_is_refused_as_decompose_refuses_it(wrong: dict[str, Any]) -> None:
    asked = {"model": classifier(), "given": batch(), **wrong}
    model, given = asked.pop("model"), asked.pop("given")
    with pytest.raises((TypeError, ValueError)) as expected:
        sr.decompose(model, given, **asked)
    for ask, method in ((sr.spectrum, {"method": "explicit"}), (sr.spectrum, {}), (sr.ntk_operator, {})):
        with pytest.raises(expected.type, match=re.escape(str(expected.value))):
            ask(model, given, **asked, **method)


@pytest.mark.parametrize("method", METHODS)
def test_a_jacobian_that_is_not_finite(method: str) -> None:
    refuses(ValueError, "not finite although outputs and loss are", model=Returns(root_of_zero), method=method)


# --- kernels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trace", "error"), [(0, ValueError), (-1.0, ValueError), (math.nan, ValueError)])
@pytest.mark.parametrize("kernel", [np.eye(4), aslinearoperator(np.eye(4))])
def test_traces_that_no_kernel_has(trace: Any, error: type[Exception], kernel: Any) -> None:
    with pytest.raises(error, match=f"trace is {trace}; expected the positive sum of the kernel's diagonal"):
        sr.kernel_decompose(kernel, np.ones(4), trace=trace)


@pytest.mark.parametrize("trace", ["4", True, [4]])
def test_traces_that_are_no_number(trace: Any) -> None:
    with pytest.raises(TypeError, match="expected a number, or None to have it estimated"):
        sr.kernel_decompose(np.eye(4), np.ones(4), trace=trace)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"method": "magic"}, ValueError, "method='magic' is unknown"),
        ({"steps": 0}, ValueError, "steps is 0"),
        ({"tolerance": -1}, ValueError, "tolerance is -1"),
        ({"quantiles": [2]}, ValueError, r"quantiles is \[2\]"),
        ({"density_vectors": -1}, ValueError, "density_vectors is -1"),
        ({"density_vectors": 1}, ValueError, "density_vectors is for method='lanczos'"),
        ({"probes": 0}, ValueError, "probes is 0"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"seed": 0.5}, TypeError, "seed is 0.5"),
    ],
)
def test_what_a_decomposition_is_asked_for(asked: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        sr.kernel_decompose(np.eye(4), np.ones(4), **asked)
