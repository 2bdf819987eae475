"""Steps as they are in practice, measured in passing: lower precision, accumulated, scaled, compiled."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_in_step import Net, cross_entropy, draw_batch, undefined_told
from test_invisible_training import assert_same
from torch import Tensor, nn
from torch._dynamo.utils import counters

import spectral_reach as sr
from spectral_reach.tracking.row import seed_of

UPDATES = 3


@dataclass(frozen=True)
class Kind:
    """How a step is made.

    ``relative``: how closely its row agrees with passes of the measurement's own, in the same precision.
    """

    relative: float
    autocast: torch.dtype | None = None
    micro_batches: int = 1
    scale: float | None = None  # the first one of a GradScaler
    factor: float = 1.0
    backend: str | None = None
    shared: bool = True


# The gradient of the loss is rounded to the type of autocast, with and without a factor that is no power of two.
BF16, FP16 = (4 * torch.finfo(dtype).eps for dtype in (torch.bfloat16, torch.float16))
KINDS = {
    "bf16": Kind(BF16, torch.bfloat16),
    "accumulated": Kind(1e-5, micro_batches=3),
    "accumulated in bf16": Kind(BF16, torch.bfloat16, micro_batches=3),
    "scaled": Kind(1e-5, scale=2.0**16),
    "scaled in fp16": Kind(FP16, torch.float16, scale=2.0**12),
    "scaled until it overflows": Kind(1e-5, scale=2.0**127, factor=4.0),
    # The graph that dynamo hands to this backend runs operation by operation, and autograd sees each: it is shared.
    "compiled, eager": Kind(1e-5, backend="eager"),
    # The compiled region is one operation of autograd's, of which nothing is known: the measurement makes passes of its
    # own on the original module.
    "compiled, aot_eager, in bf16": Kind(BF16, torch.bfloat16, 2, backend="aot_eager", shared=False),
}


def assert_close(row: dict[str, Any], expected: sr.Decomposition, relative: float) -> None:
    for name in ("loss", "chi_loss", "chi_net", "delta_loss", "chi_pos"):
        assert row[name] == pytest.approx(getattr(expected, name), rel=relative), name
    # Differences of larger numbers: rounding is relative to those.
    size = expected.delta_loss + abs(expected.delta_loss_unbiased)
    for name in ("delta_loss_unbiased", "delta_loss_unbiased_stderr"):
        assert row[name] == pytest.approx(getattr(expected, name), abs=4 * relative * size), name
    for name in ("estimator", "n_samples", "n_units", "noise_units", "probes"):
        assert row[name] == getattr(expected, name), name


def train(kind: Kind, measured: bool, dropout: float, **options: Any) -> dict[str, Any]:
    """All that training leaves behind. Without dropout the rows are compared with measurements of their own."""
    torch.manual_seed(1)
    module = Net(dropout=dropout)
    if kind.backend is not None:
        torch._dynamo.reset()
        counters.clear()
    model = module if kind.backend is None else torch.compile(module, backend=kind.backend)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=kind.scale or 1.0, growth_interval=2, backoff_factor=2.0**-100, enabled=kind.scale is not None
    )
    tracker = sr.Tracker(model, schedule=1, estimator="per_unit", **options)
    kept: dict[str, Any] = {"losses": [], "gradients": [], "scales": []}
    for update in range(UPDATES):
        optimiser.zero_grad()
        for micro in range(kind.micro_batches):
            step, batch = kind.micro_batches * update + micro, draw_batch()
            with torch.autocast("cpu", kind.autocast, enabled=kind.autocast is not None):
                outputs = model(batch[0])
                loss = kind.factor / kind.micro_batches * cross_entropy(outputs, batch[1])
                scaled = scaler.scale(loss)
                if measured:
                    result = tracker.measure(step, batch, outputs=outputs, step_loss=scaled)
                    assert (result is None) == kind.shared
                if measured and not dropout:
                    own = {"estimator": "per_unit", **options, "seed": seed_of(0, step)}
                    expected = sr.decompose(module, batch, **own)
            # What overflows here is told, and the scaler passes over the update.
            overflown = kind.scale is not None and kind.scale > 2.0**100 and update == 0
            with undefined_told() if measured and overflown else nullcontext():
                scaled.backward()
            kept["losses"].append(loss.item())
            if measured:
                assert [row["step"] for row in tracker.history] == list(range(step + 1))
                row = tracker.history[-1]
                assert ("delta_loss" in row["undefined"]) == overflown
                if not overflown and not dropout:
                    assert_close(row, expected, kind.relative)
        kept["gradients"].append([p.grad.clone() for p in model.parameters()])
        scaler.step(optimiser)
        scaler.update()
        kept["scales"].append(scaler.get_scale())
    assert (len(set(kept["scales"])) > 1) == (kind.scale is not None)
    assert kept["scales"][0] < 2.0**100
    kept |= {
        "state": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "generator": torch.get_rng_state(),
        "graphs": counters["stats"]["unique_graphs"] if kind.backend is not None else 0,
        "hooks": [len(m._forward_hooks) + len(m._backward_hooks) for m in module.modules()],
    }
    return kept


CASES = [(kind, m) for kind in KINDS for m in (None, 3) if m is None or KINDS[kind].backend is None]


@pytest.mark.parametrize(("kind", "noise_units"), CASES)
def test_training_is_the_same_to_the_bit(kind: str, noise_units: int | None) -> None:
    assert_same(train(KINDS[kind], True, 0.3, noise_units=noise_units), train(KINDS[kind], False, 0.3))


@pytest.mark.parametrize(("kind", "noise_units"), [case for case in CASES if KINDS[case[0]].backend is None])
def test_the_row_is_that_of_a_measurement_of_its_own(kind: str, noise_units: int | None) -> None:
    train(KINDS[kind], True, 0.0, noise_units=noise_units)


# --- accumulation in other orders -------------------------------------------------------------------------------------


def accumulated(order: str, measured: bool) -> tuple[list[Tensor], list[dict[str, Any]], list[sr.Decomposition]]:
    """Gradients of three micro-batches, the rows and what they should be."""
    torch.manual_seed(0)
    model = Net().double()
    tracker = sr.Tracker(model, schedule=1, estimator="per_unit")
    losses, expected = [], []
    for micro in range(3):
        batch = draw_batch()
        outputs = model(batch[0])
        losses.append(cross_entropy(outputs, batch[1]) / 3)
        if measured:
            assert tracker.measure(micro, batch, outputs=outputs, step_loss=losses[-1]) is None
            expected.append(sr.decompose(model, batch, estimator="per_unit", seed=seed_of(0, micro)))
    assert tracker.history == []
    if order == "together":
        torch.stack(losses).sum().backward()
    else:
        for loss in losses if order == "in order" else reversed(losses):
            loss.backward()
    rows = sorted(tracker.history, key=lambda row: row["step"])
    return [p.grad for p in model.parameters()], rows, expected


@pytest.mark.parametrize("order", ["in order", "reversed", "together"])
def test_micro_batches_whose_backward_passes_come_later(order: str) -> None:
    gradients, rows, expected = accumulated(order, True)
    assert_same(gradients, accumulated(order, False)[0])
    for row, own in zip(rows, expected, strict=True):
        assert_close(row, own, 1e-9)


# --- compiled models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_is_measured_as_the_module_inside(backend: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    module = Net().double()
    compiled = torch.compile(module, backend=backend)
    batch, options = draw_batch(), {"estimator": "per_unit", "seed": seed_of(0, 0)}
    own = sr.decompose(module, batch, **options)
    assert_close(sr.decompose(compiled, batch, **options).as_dict(), own, 1e-12)
    tracker = sr.Tracker(compiled, schedule=1, estimator="per_unit")
    outputs = compiled(batch[0])
    counters.clear()
    loss = cross_entropy(outputs, batch[1])
    tracker.measure(0, batch, outputs=outputs, step_loss=loss)
    loss.backward()
    assert counters["stats"]["unique_graphs"] == 0  # no compiled code is run by a measurement, none anew
    (row,) = tracker.history
    assert_close(row, own, 1e-9)


# --- what bfloat16 costs ----------------------------------------------------------------------------------------------


def mlp() -> tuple[nn.Module, Any]:
    model = nn.Sequential(nn.Linear(10, 32), nn.GELU(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))
    return model, (torch.randn(16, 10), torch.randint(0, 10, (16,)))


def convolution() -> tuple[nn.Module, Any]:
    body = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.ReLU()]
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(72, 10))
    return model, (torch.randn(16, 3, 8, 8), torch.randint(0, 10, (16,)))


def llama(**settings: Any) -> tuple[nn.Module, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=24,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16,
        initializer_range=0.1,
        **settings,
    )
    tokens = torch.randint(0, 24, (8, 12))
    return LlamaForCausalLM(config), {"input_ids": tokens, "labels": tokens}


def squared_gradient(model: nn.Module, batch: Any) -> float:
    """||g||^2 as a training step has it."""
    model.zero_grad()
    loss = model(**batch).loss if isinstance(batch, dict) else F.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    return sum(float(p.grad.double().square().sum()) for p in model.parameters())


@pytest.mark.parametrize("draw", [mlp, convolution, llama])
def test_bf16_autocast_agrees_with_float32(draw: Callable[[], tuple[nn.Module, Any]]) -> None:
    """A bfloat16 number is rounded by up to 2^-8 = 0.4% of itself; sums over many numbers by less.

    The largest differences over twenty networks of each kind are 0.02% for chi_loss and 0.42% for chi_net. delta_loss
    is a square, and one of a sum over units most of which cancels: 0.2% for ``mlp``, 0.25% for ``llama``, 1.0% for
    ``convolution``. So differs, too, the gradient of a training step, from which it differs by 0.2%. The weights are
    rounded beforehand: else W of the readout has other eigenvectors in bfloat16, and one draw of chi_net differs from
    that in float32 by up to its own standard error.
    """
    rounding = 2.0**-8
    for seed in range(6):
        torch.manual_seed(seed)
        model, batch = draw()
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(p.bfloat16())
        high = sr.decompose(model, batch, estimator="per_unit", seed=seed)
        with torch.autocast("cpu", torch.bfloat16):
            low = sr.decompose(model, batch, estimator="per_unit", seed=seed)
            in_training = squared_gradient(model, batch)
        assert low.estimator == "per_unit"
        assert low.chi_loss == pytest.approx(high.chi_loss, rel=rounding / 8)
        assert low.chi_net == pytest.approx(high.chi_net, rel=2 * rounding)
        assert low.delta_loss == pytest.approx(high.delta_loss, rel=5 * rounding)
        assert low.delta_loss == pytest.approx(in_training, rel=rounding)


def test_a_tied_readout_under_autocast() -> None:
    torch.manual_seed(0)
    model, batch = llama(tie_word_embeddings=True)
    expected = sr.decompose(model, batch, estimator="per_unit", probes=20)
    with torch.autocast("cpu", torch.bfloat16):
        found = sr.decompose(model, batch, estimator="per_unit", probes=20)
    # The probes do not depend on the precision of the passes: what differs is rounding.
    assert found.chi_net == pytest.approx(expected.chi_net, rel=0.03)


def test_a_mode_of_batch_normalisation_is_not_taken_for_the_other() -> None:
    """Statistics of the batch couple its units in the step's graph; those of evaluation mode, known before, do not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, affine=False), nn.Tanh(), nn.Linear(8, 3)).double()
    batch = torch.randn(9, 4).double(), torch.randint(0, 3, (9,))
    model.eval()
    for _ in range(2):
        sr.decompose(model, batch, estimator="per_unit")
    model.train()
    tracker = sr.Tracker(model, schedule=1, estimator="per_unit")
    outputs = model(batch[0])
    result = tracker.measure(0, batch, outputs=outputs, step_loss=F.cross_entropy(outputs, batch[1]))
    assert result is not None  # in passes of its own
    assert result.passed_over == ""


def test_a_model_without_any_rule() -> None:
    torch.manual_seed(0)
    model = nn.PReLU(4).double()
    batch = torch.randn(5, 4).double(), torch.randn(5, 4).double()
    exact = sr.decompose(model, batch, loss="mse", estimator="exact")
    probed = sr.decompose(model, batch, loss="mse", estimator="per_unit")
    assert probed.chi_net == pytest.approx(exact.chi_net, rel=1e-9)  # its kernel is diagonal
    assert probed.delta_loss == pytest.approx(exact.delta_loss, rel=1e-9)
