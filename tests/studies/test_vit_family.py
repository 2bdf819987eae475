"""The ViT family: counts, growth, weights that depend on a seed alone, and measurement unit by unit."""

import pytest
import torch

import spectral_reach as sr
from spectral_reach.studies import models
from spectral_reach.studies.models.registry import name_of
from spectral_reach.studies.models.vit import ViTConfig, vit

DIGITS = {"classes": 10, "channels": 1, "image_size": 8}
PHOTOGRAPHS = {"classes": 10, "channels": 3, "image_size": 32}
WIDTHS = (16, 32, 64, 96)
SHAPE = {"patch": 4, "width": 12, "depth": 2, "heads": 3, "mlp_width": 20}


def family() -> list[ViTConfig]:
    return [vit(width, **PHOTOGRAPHS) for width in WIDTHS]


@pytest.mark.parametrize(
    "config",
    [*family(), vit(32, **DIGITS), ViTConfig.of_shape(SHAPE, {"classes": 7, "channels": 2, "image_size": 12})],
    ids=lambda config: f"{config.width} on {config.image_size}",
)
def test_counts_are_those_of_the_model(config: ViTConfig) -> None:
    model = config.build(0)
    actual = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    readout = config.readout(model)
    assert config.parameters == sum(actual.values())
    assert config.readout_parameters == sum(p.numel() for p in readout.parameters())
    assert (readout.in_features, readout.out_features) == (config.width, config.classes)
    embeddings = [name for name in actual if "embeddings" in name or "classifier" in name]
    assert len(embeddings) == 6  # class token, positions, weight and bias of the patches and of the classifier
    assert config.parameters_without_embeddings == sum(n for name, n in actual.items() if name not in embeddings)
    assert config.tokens_per_unit == config.patches + 1 == model.vit.embeddings.position_embeddings.shape[1]
    assert not any("pooler" in name for name in actual)


def test_every_dimension_grows_with_the_width() -> None:
    for name in ("parameters", "parameters_without_embeddings", "depth", "heads", "mlp_width"):
        sizes = [getattr(config, name) for config in family()]
        assert sizes == sorted(sizes), name
        assert sizes[-1] > sizes[0], name
    assert family()[-1].parameters / family()[0].parameters > 50


@pytest.mark.parametrize(("image_size", "patch"), [(4, 1), (8, 1), (16, 2), (28, 2), (32, 4), (224, 28)])
def test_patches_leave_at_least_eight_a_side(image_size: int, patch: int) -> None:
    assert vit(16, classes=10, channels=3, image_size=image_size).patch == patch


def test_weights_depend_on_the_seed_and_leave_the_generator_alone() -> None:
    config = vit(16, **DIGITS)
    torch.manual_seed(1)
    first = config.build(7).state_dict()
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second, other = config.build(7).state_dict(), config.build(8).state_dict()
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_training_mode_changes_nothing() -> None:
    """No dropout: what is measured in evaluation mode is what is trained."""
    model = vit(16, **DIGITS).build(0)
    pixels = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = model.train()(pixels).logits
    assert logits.shape == (3, 10)
    assert torch.equal(logits, model.eval()(pixels).logits)


def test_it_is_measured_unit_by_unit_as_exactly() -> None:
    config = ViTConfig.of_shape(SHAPE, {"classes": 5, "channels": 1, "image_size": 8})
    model = config.build(0).double()
    random = torch.Generator().manual_seed(0)
    batch = (torch.randn(6, 1, 8, 8, generator=random).double(), torch.arange(6) % 5)
    exact = sr.decompose(model, batch, estimator="exact")
    estimated = sr.decompose(model, batch, estimator="per_unit", probes=100)
    assert (exact.n_units, exact.n_samples, exact.n_outputs) == (6, 6, 5)
    assert abs(estimated.chi_net - exact.chi_net) < 4 * estimated.chi_net_stderr < 0.05 * exact.chi_net


def test_the_registry_reads_back_what_it_names() -> None:
    config = ViTConfig.of_shape(SHAPE, DIGITS)
    assert name_of(config) == "vit"
    assert models.model_config("vit", {**SHAPE, **DIGITS}) == config
    assert config.dimensions == DIGITS
    assert ViTConfig.of_width(16, DIGITS, {"patch": 2}) == models.model_config(
        "vit", {**DIGITS, "patch": 2, "width": 16, "depth": 1, "heads": 1, "mlp_width": 64}
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch": 3}, r"ViTConfig.patch is 3; expected a divisor of the image's 8 pixels"),
        ({"width": 16}, r"ViTConfig.width is 16; expected a multiple of the 3 heads"),
        ({"depth": 0}, r"ViTConfig.depth is 0; expected at least 1"),
        ({"layers": 3}, r"'vit' has no setting 'layers'; its settings are classes, channels, image_size, patch"),
        ({"classes": 3}, r"'vit': classes is decided by the data; leave it out of the shape"),
    ],
)
def test_impossible_shapes_are_named(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViTConfig.of_shape({**SHAPE, **change}, DIGITS)


def test_data_of_another_kind_are_refused() -> None:
    tokens = {"vocabulary": 18, "context": 64}
    message = r"A ViT reads square images: expected data with classes, channels, image_size, got data with vocabulary"
    with pytest.raises(ValueError, match=message):
        ViTConfig.of_shape(SHAPE, tokens)
    with pytest.raises(ValueError, match=message):
        ViTConfig.of_width(16, tokens, {})
    with pytest.raises(ValueError, match="width is 24; expected a positive multiple of 16"):
        vit(24, **DIGITS)
