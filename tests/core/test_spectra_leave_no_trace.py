"""Looking at a spectrum changes nothing, also if something raises inside; progress is told; precision costs digits."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from comparing import rounding_of
from test_measuring_leaves_no_trace import (
    BoomError,
    assert_untouched,
    batch_without_seeding,
    network,
    raise_in_backward,
    raise_in_forward,
    raise_in_loss,
    raise_in_loss_gradient,
    seed_everything,
    state,
)
from test_precision_and_devices import DEVICES, subject, to
from torch import nn

import spectral_reach as sr
from spectral_reach.spectra import kernel_matrix

WAYS = ["blocks", "products", "lanczos"]


def arguments_of(way: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Explicit by either way of ``kernel_matrix``, or Lanczos with all that it can be asked for."""
    if way == "lanczos":
        return {"method": "lanczos", "steps": 4, "density_vectors": 1, "probes": 2, "tolerance": 0.0}
    if way == "products":
        monkeypatch.setattr(kernel_matrix, "_blocks", lambda *_: 2)
        monkeypatch.setattr(kernel_matrix, "_blocks_are_cheaper", lambda *_, **__: False)
        monkeypatch.setattr(kernel_matrix, "by_blocks", None)  # products it is, or an error
    else:
        monkeypatch.setattr(kernel_matrix, "by_products", None)
    return {"method": "explicit", "eigenvectors": True}


def everything(model: nn.Module) -> dict[str, Any]:
    """With what a spectrum sets while it works: the kernels of attention."""
    cuda = torch.backends.cuda
    attention = [cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()]
    return {**state(model), "attention": attention, "threads": torch.get_num_threads()}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("outputs", [{}, {"samples": 3, "classes": [2, 0]}], ids=["all", "some"])
def test_a_spectrum_leaves_no_trace(
    way: str, training: bool, outputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = arguments_of(way, monkeypatch)
    model = network(training)
    F.cross_entropy(model(batch_without_seeding()[0]), batch_without_seeding()[1]).backward()
    before = everything(model)
    assert any(gradient is not None for *_, gradient in before["gradients"])
    sr.spectrum(model, batch_without_seeding(), **arguments, **outputs)
    assert_untouched(before, everything(model))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("space", ["outputs", "parameters"])
def test_the_operator_and_each_product_leave_no_trace(training: bool, space: str) -> None:
    model = network(training)
    before = everything(model)
    operator = sr.ntk_operator(model, batch_without_seeding(), space=space)
    assert_untouched(before, everything(model))
    vector = np.linspace(-1, 1, operator.shape[0])
    first = operator @ vector
    assert_untouched(before, everything(model))
    operator @ np.stack([vector, 2 * vector], axis=1)
    operator.rmatvec(vector)
    assert_untouched(before, everything(model))
    np.testing.assert_array_equal(operator @ vector, first)


def test_hooks_of_the_callers_neither_run_nor_count_in_a_product() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x, y = batch_without_seeding()
    operator = sr.ntk_operator(model, (x.double(), y), space="outputs")
    expected = operator @ np.ones(operator.shape[0])
    runs: list[int] = []
    model[0].weight.register_hook(lambda g: [runs.append(1), 10 * g][1])
    model[2].weight.register_post_accumulate_grad_hook(lambda p: runs.append(1))
    np.testing.assert_array_equal(operator @ np.ones(operator.shape[0]), expected)
    for method in ("explicit", "lanczos"):
        sr.spectrum(model, (x.double(), y), method=method)
    assert runs == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("where", [raise_in_forward, raise_in_loss, raise_in_loss_gradient, raise_in_backward])
def test_an_exception_leaves_no_trace(
    where: Callable[[nn.Module], Any], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = arguments_of(way, monkeypatch)
    model = network()
    loss = where(model)
    before = everything(model)
    with pytest.raises(BoomError):
        sr.spectrum(model, batch_without_seeding(), loss=loss, **arguments)
    assert_untouched(before, everything(model))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [BoomError, KeyboardInterrupt])
def test_an_exception_of_who_watches_leaves_no_trace(
    way: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = arguments_of(way, monkeypatch)
    model = network()
    before = everything(model)

    def stop(done: int, total: int) -> None:
        raise error

    with pytest.raises(error):
        sr.spectrum(model, batch_without_seeding(), progress=stop, **arguments)
    assert_untouched(before, everything(model))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_the_callers_gradient_mode_does_not_matter(
    way: str, context: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = arguments_of(way, monkeypatch)
    model = network()
    expected = sr.spectrum(model, batch_without_seeding(), **arguments)
    with context():
        inside = sr.spectrum(model, batch_without_seeding(), **arguments)
    np.testing.assert_array_equal(inside.p, expected.p)
    np.testing.assert_array_equal(inside.gamma2, expected.gamma2)


def test_looking_inside_training_gives_the_same_parameters() -> None:
    def trained(look: bool) -> nn.Module:
        model = network()
        seed_everything()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            x, y = torch.randn(5, 4), torch.randint(0, 3, (5,))
            optimiser.zero_grad()
            loss = F.cross_entropy(model(x), y)
            if look:
                for method in ("explicit", "lanczos"):
                    sr.spectrum(model, (x, y), method=method)
            loss.backward()
            if look:
                sr.ntk_operator(model, (x, y)) @ np.ones(15)
            optimiser.step()
        return model

    a, b = trained(True), trained(False)
    for (name, p), q in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(p, q), name


# --- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [*WAYS, "small blocks", "early end", "no gradient"])
def test_progress_rises_to_its_total(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 5)).double()
    x, y = torch.randn(10, 6).double(), torch.randint(5, (10,))
    if way == "small blocks":
        arguments: dict[str, Any] = {"method": "explicit", "memory_budget": 4 * 8 * 50**2 + 4000}
        monkeypatch.setattr(kernel_matrix, "jacobian_of", lambda *_: None)
    elif way == "early end":
        arguments = {"method": "lanczos", "steps": 40, "tolerance": 0.9}
    elif way == "no gradient":
        arguments = {"method": "lanczos", "steps": 6, "density_vectors": 2, "loss": "mse"}
        y = model(x).detach()
    else:
        arguments = arguments_of(way, monkeypatch)
    told: list[tuple[int, int]] = []
    sr.spectrum(model, (x, y), progress=lambda done, total: told.append((done, total)), **arguments)
    done, totals = zip(*told, strict=True)
    assert len(set(totals)) == 1
    assert list(done) == sorted(done)
    assert done[-1] == totals[-1]
    assert all(1 <= each <= totals[0] for each in done)
    assert len(told) > 1 or way in ("blocks", "products")


def test_a_bar_is_drawn_when_asked_for_and_nothing_otherwise(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = network(training=False), batch_without_seeding()
    sr.spectrum(model, batch, steps=3)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take it for a terminal
    sr.spectrum(model, batch, steps=3, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Spectrum" in err


# --- precision and devices --------------------------------------------------------------------------------------------


def moments(found: sr.Spectrum) -> np.ndarray:
    return np.array([(found.gamma2 * found.p**power).sum() for power in range(1, 4)])


def close(low: sr.Spectrum, high: sr.Spectrum, relative: float) -> None:
    for name in ("loss", "chi_loss", "chi_net", "delta_loss", "chi_pos"):
        assert getattr(low, name) == pytest.approx(getattr(high, name), rel=relative), name
    np.testing.assert_allclose(moments(low), moments(high), rtol=4 * relative)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("training", [True, False])
def test_autocast_agrees_within_the_rounding_of_its_type(
    device: str, way: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = arguments_of(way, monkeypatch)
    model, batch = subject(device)
    model.train(training)
    with torch.autocast(device, torch.bfloat16):
        found = sr.spectrum(model, batch, **arguments)
    expected = sr.spectrum(copy.deepcopy(model).double(), to(batch, torch.float64), **arguments)
    close(found, expected, 2 * rounding_of(torch.bfloat16))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_model_in_lower_precision_agrees_within_its_rounding(
    device: str, way: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = arguments_of(way, monkeypatch)
    model, batch = subject(device)
    model, batch = model.to(dtype), to(batch, dtype)
    found = sr.spectrum(model, batch, **arguments)
    expected = sr.spectrum(copy.deepcopy(model).double(), to(batch, torch.float64), **arguments)
    close(found, expected, 2 * rounding_of(dtype) if dtype != torch.float32 else 1e-4)
    assert found.p.dtype == found.gamma2.dtype == np.float64


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("way", ["blocks", "products"])
def test_every_device_gives_the_same_numbers(device: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = arguments_of(way, monkeypatch)

    def on(place: str) -> sr.Spectrum:
        model, batch = subject(place)
        return sr.spectrum(model.double(), to(batch, torch.float64), **arguments)

    np.testing.assert_allclose(on(device).p, on("cpu").p, atol=1e-12)
