"""Maximal update parametrisation: which numbers change with width and which do not, and that nothing loses them."""

import copy
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import spectral_reach as sr
from spectral_reach.jacobian.readout import find_readout
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.measured.linearisation import linearise
from spectral_reach.measured.losses import resolve_loss
from spectral_reach.measured.parameters import select_parameters
from spectral_reach.studies import models
from spectral_reach.studies.models.llama import LlamaConfig
from spectral_reach.studies.models.parametrisation import restore_multipliers
from spectral_reach.studies.models.vit import ViTConfig
from spectral_reach.studies.tasks.coordinate_sizes import KINDS, activations
from spectral_reach.studies.tasks.short_training import mean_loss
from spectral_reach.studies.tasks.toy_problems import toy_problem
from spectral_reach.studies.training.config import TrainingConfig
from spectral_reach.studies.training.optimiser import optimiser_of, set_rate

TOKENS = {"vocabulary": 18, "context": 8}
IMAGES = {"classes": 5, "channels": 1, "image_size": 8}
MUP = {"parametrisation": "mup", "base_width": 16}
TRAINING = TrainingConfig(
    steps=3,
    batch_size=16,
    learning_rate=1.0,
    warmup_steps=0,
    weight_decay=0.0,
    momentum=0.0,
    heldout_every=3,
    heldout_units=1,
    checkpoint_every=3,
)

Config = LlamaConfig | ViTConfig


def config_of(family: str, width: int, **options: Any) -> Config:
    if family == "vit":
        return ViTConfig.of_width(width, IMAGES, {"depth": 1, "patch": 4, **options})
    return LlamaConfig.of_width(width, TOKENS, {"depth": 1, "tied": family == "tied llama", **options})


def batch_of(family: str, units: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    if family == "vit":
        return torch.randn(units, 1, 8, 8, generator=random), torch.arange(units) % 5
    tokens = torch.randint(0, 18, (units, 9), generator=random)
    return tokens[:, :-1], tokens[:, 1:]


families = pytest.mark.parametrize("family", ["llama", "tied llama", "vit"])


@families
def test_at_the_base_it_is_the_standard_parametrisation(family: str) -> None:
    standard, mup = config_of(family, 32), config_of(family, 32, parametrisation="mup", base_width=32)
    expected, model = standard.build(3), mup.build(3)
    assert all(torch.equal(p, q) for p, q in zip(expected.parameters(), model.parameters(), strict=True))
    inputs, _ = batch_of(family)
    assert torch.equal(expected(inputs).logits, model(inputs).logits)
    assert not mup.readout(model)._forward_pre_hooks
    for optimiser in ("adamw", "sgd"):
        assert mup.rate_factors(model, optimiser) == standard.rate_factors(expected, optimiser) == {}


@families
def test_weights_and_logits_of_a_wider_model(family: str) -> None:
    """The same draws: at 4 times the width hidden matrices are halved, and the input of the readout is quartered."""
    standard, mup = config_of(family, 64), config_of(family, 64, **MUP)
    expected, model = standard.build(3), mup.build(3)
    readout = mup.readout(model)
    hidden = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    hidden -= {"lm_head.weight", "classifier.weight"}
    assert len(hidden) == (6 if family == "vit" else 7)
    for (name, p), q in zip(model.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q / 2 if name in hidden else q, rtol=0, atol=0)
    seen: dict[str, torch.Tensor] = {}
    backbone = model.vit if family == "vit" else model.model
    backbone.register_forward_hook(lambda module, inputs, output: seen.update(hidden=output.last_hidden_state))
    logits = model(batch_of(family)[0]).logits
    h = seen["hidden"][:, 0] if family == "vit" else seen["hidden"]
    torch.testing.assert_close(logits, torch.nn.functional.linear(h / 4, readout.weight, readout.bias))


def test_rates_of_a_vit() -> None:
    config = config_of("vit", 64, **MUP)
    model = config.build(0)
    layer = "vit.layers.0"
    hidden = {
        *(f"{layer}.attention.{name}_proj.weight" for name in "qkvo"),
        *(f"{layer}.mlp.{name}.weight" for name in ("fc1", "fc2")),
    }
    assert config.rate_factors(model, "adamw") == dict.fromkeys(hidden, 0.25)
    names = {name for name, _ in model.named_parameters()}
    assert config.rate_factors(model, "sgd") == dict.fromkeys(names - hidden - {"classifier.bias"}, 4.0)


@pytest.mark.parametrize("tied", [False, True])
def test_rates_of_a_llama(tied: bool) -> None:
    config = config_of("tied llama" if tied else "llama", 64, **MUP)
    model = config.build(0)
    names = {name for name, _ in model.named_parameters()}
    hidden = {name for name in names if "_proj" in name}
    assert len(hidden) == 7
    assert config.rate_factors(model, "adamw") == dict.fromkeys(hidden, 0.25)
    assert config.rate_factors(model, "sgd") == dict.fromkeys(names - hidden, 4.0)
    assert ("lm_head.weight" in config.rate_factors(model, "sgd")) != tied
    with pytest.raises(ValueError, match="optimiser is 'muon'; expected 'adamw' or 'sgd', whose rates muP knows"):
        config.rate_factors(model, "muon")


@pytest.mark.parametrize("family", ["llama", "vit"])
def test_heads_that_grow_scale_their_logits_by_their_width(family: str) -> None:
    def scaling(config: Config) -> float:
        layers = [m.scaling for m in config.build(0).modules() if hasattr(m, "scaling")]
        assert len(layers) == config.depth
        return float(layers[0])

    as_wide = config_of(family, 64, **MUP)
    assert (as_wide.heads, as_wide.base_head_width) == (4, 0)
    assert scaling(as_wide) == 16**-0.5
    as_many = config_of(family, 64, heads=2, **MUP)
    assert as_many.base_head_width == 8
    assert scaling(as_many) == pytest.approx(math.sqrt(8) / 32)
    assert scaling(config_of(family, 16, heads=2, **MUP)) == pytest.approx(8**-0.5)
    assert scaling(config_of(family, 64, heads=2)) == pytest.approx(32**-0.5)


@pytest.mark.parametrize("family", ["llama", "vit"])
def test_width_is_all_that_grows(family: str) -> None:
    kind, dimensions = (ViTConfig, IMAGES) if family == "vit" else (LlamaConfig, TOKENS)
    options = {"parametrisation": "mup", "base_width": 64}
    assert [kind.of_width(width, dimensions, options).depth for width in (16, 64, 256)] == [2, 2, 2]
    assert [kind.of_width(width, dimensions, {}).depth for width in (16, 64, 256)] == [1, 2, 8]
    assert kind.of_width(256, dimensions, {**options, "depth": 3}).depth == 3


@families
def test_the_readout_is_still_a_plain_linear_map(family: str) -> None:
    """It is recognised, and the estimate by unit agrees with the exact trace; multipliers and all."""
    config = config_of(family, 32, **MUP)
    model = config.build(0).double()
    inputs, targets = batch_of(family)
    batch = (inputs.double() if inputs.is_floating_point() else inputs, targets)
    lin = linearise(model, batch, resolve_loss("cross_entropy"), select_parameters(model, None), seed=0)
    backward = UnitBackward.of(lin)
    assert backward.reason == ""
    readout = find_readout(backward)
    assert readout is not None
    torch.testing.assert_close(readout.weight, config.readout(model).weight)
    assert bool(readout.tied) == (family == "tied llama")
    exact = sr.decompose(model, batch, estimator="exact")
    estimated = sr.decompose(model, batch, estimator="per_unit", probes=100)
    assert abs(estimated.chi_net - exact.chi_net) < 4 * estimated.chi_net_stderr < 0.05 * exact.chi_net


@pytest.mark.slow
@families
def test_copies_pickles_and_compiled_models_keep_the_multipliers(family: str) -> None:
    config = config_of(family, 32, heads=2, **MUP)
    model = config.build(0)
    inputs, _ = batch_of(family)
    expected = model(inputs).logits
    assert torch.equal(copy.deepcopy(model)(inputs).logits, expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(inputs).logits, expected)
    rebuilt = config.build(1)
    rebuilt.load_state_dict(model.state_dict())
    assert torch.equal(rebuilt(inputs).logits, expected)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(inputs).logits, expected)


@families
def test_a_saved_model_says_what_it_is(family: str, tmp_path: Path) -> None:
    config = config_of(family, 32, heads=2, **MUP)
    model = config.build(0)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.config.mup_output_multiplier == 0.5
    assert loaded.config.mup_attention_scaling == pytest.approx(math.sqrt(8) / 16)
    inputs, _ = batch_of(family)
    assert not torch.allclose(loaded(inputs).logits, model(inputs).logits)
    restore_multipliers(loaded, config.readout(loaded))
    assert torch.equal(loaded(inputs).logits, model(inputs).logits)


def test_other_models_are_left_alone() -> None:
    config = config_of("llama", 32)
    model = config.build(0)
    restore_multipliers(model, config.readout(model))
    assert not config.readout(model)._forward_pre_hooks
    assert "mup" not in str(model.config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parametrisation": "ntk"}, "parametrisation is 'ntk'; expected standard or mup"),
        ({"parametrisation": "mup"}, "base_width is 0; expected at least 1 in muP: the width whose rates"),
        ({"base_width": 16}, "base_width is 16; expected 0 in standard parametrisation, which has no base"),
        ({**MUP, "base_head_width": -1}, "base_head_width is -1; expected at least 0"),
        ({"parametrisation": "mup", "base_width": 16.0}, "base_width is 16.0, a float; expected a int"),
        ({**MUP, "heads": 0}, "heads is 0; expected at least 1"),
    ],
)
@pytest.mark.parametrize("family", ["llama", "vit"])
def test_impossible_parametrisations_are_named(family: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_of(family, 32, **options)


@pytest.mark.parametrize("family", ["llama", "vit"])
@pytest.mark.parametrize(("optimiser", "rate"), [("adamw", 2.0**-7), ("sgd", 0.5)])
def test_steps_change_as_much_at_every_width(family: str, optimiser: str, rate: float) -> None:
    """Also with SGD, and with heads that grow: a factor of 8 in width changes sizes by less than 60%."""
    problem = toy_problem(family)
    logs = []
    for width in (16, 128):
        for seed in range(2):
            dimensions, options = problem.dimensions, {**problem.options, **MUP, "depth": 1, "heads": 2}
            config = models.family(family).of_width(width, dimensions, options)
            model = config.build(seed)
            inputs, _ = problem.batch(seed, 9, 16)
            before = activations(model, inputs)
            settings = replace(TRAINING, optimiser=optimiser, learning_rate=rate)
            stepper = optimiser_of(model, settings, config.rate_factors(model, optimiser))
            for step in range(3):
                pixels_or_tokens, targets = problem.batch(seed, step, 16)
                set_rate(stepper, rate)
                stepper.zero_grad()
                mean_loss(model(pixels_or_tokens).logits, targets).backward()
                stepper.step()
            after = activations(model, inputs)
            changes = [torch.cat([(a - b).flatten() for a, b in zip(after[k], before[k], strict=True)]) for k in KINDS]
            logs.append(torch.stack([change.square().mean().sqrt().log() for change in changes]))
    narrow, wide = torch.stack(logs[:2]).mean(0), torch.stack(logs[2:]).mean(0)
    growth = dict(zip(KINDS, (wide - narrow).tolist(), strict=True))
    assert max(abs(each) for each in growth.values()) < math.log(1.6), growth
