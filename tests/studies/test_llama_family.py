"""The Llama family: counts, growth, and weights that depend on a seed alone."""

import pytest
import torch

import spectral_reach as sr
from spectral_reach.studies import models
from spectral_reach.studies.models.llama import LlamaConfig, llama
from spectral_reach.studies.models.registry import name_of
from spectral_reach.studies.models.simplestories_sizes import SHAPES, simplestories

WIDTHS = (16, 32, 48, 64, 96, 128, 160)


def family() -> list[LlamaConfig]:
    return [llama(width, vocabulary=512, context=64) for width in WIDTHS]


@pytest.mark.parametrize("config", family(), ids=lambda config: str(config.width))
def test_counts_are_those_of_the_model(config: LlamaConfig) -> None:
    model = config.build(0)
    actual = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    assert config.parameters == sum(actual.values())
    embeddings = [name for name in actual if "embed_tokens" in name or "lm_head" in name]
    assert len(embeddings) == 2
    assert config.parameters_without_embeddings == sum(n for name, n in actual.items() if name not in embeddings)


def test_every_dimension_grows_with_the_width_and_sizes_span_fifty_fold() -> None:
    for name in ("parameters", "parameters_without_embeddings", "depth", "heads", "mlp_width"):
        sizes = [getattr(config, name) for config in family()]
        assert sizes == sorted(sizes), name
        assert sizes[-1] > sizes[0], name
    assert len(family()) >= 6
    assert family()[0].parameters < 21_000
    assert family()[-1].parameters / family()[0].parameters > 50


def test_weights_depend_on_the_seed_and_leave_the_generator_alone() -> None:
    config = llama(16, vocabulary=18, context=8)
    torch.manual_seed(1)
    first = config.build(7).state_dict()
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second, other = config.build(7).state_dict(), config.build(8).state_dict()
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_the_model_predicts_each_token_from_those_before_it() -> None:
    model = llama(16, vocabulary=18, context=8).build(0)
    tokens = torch.randint(0, 18, (2, 8), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 18
    before, after = (model(each).logits for each in (tokens, changed))
    assert before.shape == (2, 8, 18)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5], after[:, 5])


def test_the_registry_reads_back_what_it_names() -> None:
    config = llama(32, vocabulary=18, context=8)
    assert name_of(config) == "llama"
    settings = {
        "vocabulary": 18,
        "context": 8,
        "width": 32,
        "depth": 1,
        "heads": 2,
        "mlp_width": 88,
    }
    assert models.model_config("llama", settings) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 30}, r"LlamaConfig.width is 30; expected a multiple of 2 x 2 heads"),
        ({"depth": 0}, r"LlamaConfig.depth is 0; expected at least 1"),
        ({"layers": 3}, r"'llama' has no setting 'layers'; its settings are vocabulary, context, width"),
    ],
)
def test_impossible_shapes_are_named(change: dict[str, int], message: str) -> None:
    settings = {"vocabulary": 18, "context": 8, "width": 32, "depth": 1, "heads": 2, "mlp_width": 88}
    with pytest.raises(ValueError, match=message):
        models.model_config("llama", {**settings, **change})


def test_what_is_missing_or_of_another_type_is_named() -> None:
    with pytest.raises(ValueError, match=r"'llama' lacks 'context', 'width', 'depth', 'heads', 'mlp_width'"):
        models.model_config("llama", {"vocabulary": 18})
    with pytest.raises(TypeError, match=r"LlamaConfig.depth is 1.0, a float; expected a int"):
        models.model_config(
            "llama",
            {"vocabulary": 18, "context": 8, "width": 32, "depth": 1.0, "heads": 2, "mlp_width": 88},
        )
    with pytest.raises(ValueError, match="Unknown model family 'gpt'; the known ones are llama"):
        models.model_config("gpt", {})
    with pytest.raises(ValueError, match="width is 24; expected a positive multiple of 16"):
        llama(24, vocabulary=18, context=8)


def test_a_shape_is_taken_as_it_is() -> None:
    dimensions = {"vocabulary": 18, "context": 8}
    shape = {"width": 24, "depth": 3, "heads": 2, "mlp_width": 40, "tied": True}
    assert LlamaConfig.of_shape(shape, dimensions) == LlamaConfig(**dimensions, **shape)
    assert LlamaConfig.of_width(32, dimensions, {"depth": 2, "tied": True}) == LlamaConfig(
        **dimensions, width=32, depth=2, heads=2, mlp_width=88, tied=True
    )
    with pytest.raises(ValueError, match="'llama' lacks 'mlp_width'"):
        LlamaConfig.of_shape({"width": 24, "depth": 3, "heads": 2}, dimensions)
    with pytest.raises(ValueError, match="'llama': context is decided by the data; leave it out of the shape"):
        LlamaConfig.of_width(32, dimensions, {"context": 4})
    with pytest.raises(ValueError, match="A Llama reads sequences of tokens: expected data with vocabulary, context"):
        LlamaConfig.of_shape(shape, {"classes": 10, "channels": 1, "image_size": 8})


@pytest.mark.parametrize("size", SHAPES)
def test_the_published_sizes(size: str) -> None:
    """Counts of the whole model to 2% of what the names say, but for 5M, which is larger than its name."""
    config = simplestories(size)
    assert config.parameters == pytest.approx({"5M": 5.37e6}.get(size, float(size[:-1]) * 1e6), rel=0.02)
    layers, width, heads = {
        "1.25M": (4, 128, 4),
        "5M": (6, 256, 4),
        "11M": (6, 384, 6),
        "30M": (10, 512, 8),
        "35M": (12, 512, 8),
    }[size]
    assert (config.depth, config.width, config.heads) == (layers, width, heads)
    assert (config.vocabulary, config.context, config.tied) == (4096, 512, True)


def test_the_smallest_published_size_is_counted_as_it_is_built() -> None:
    config = simplestories("1.25M")
    model = config.build(0)
    assert config.parameters == sum(p.numel() for p in model.parameters()) == 1_245_824
    assert config.readout(model).weight is model.get_input_embeddings().weight
    with pytest.raises(
        ValueError, match=r"Unknown SimpleStories size '2M'; the known ones are 1\.25M, 5M, 11M, 30M, 35M"
    ):
        simplestories("2M")


def test_shared_key_value_heads_are_measured_as_exactly() -> None:
    config = LlamaConfig(vocabulary=18, context=6, width=16, depth=1, heads=4, mlp_width=24, key_value_heads=2)
    model = config.build(0).double()
    assert config.parameters == sum(p.numel() for p in model.parameters())
    tokens = torch.randint(0, 18, (4, 7), generator=torch.Generator().manual_seed(0))
    batch = (tokens[:, :-1], tokens[:, 1:])
    exact = sr.decompose(model, batch, estimator="exact")
    estimated = sr.decompose(model, batch, estimator="per_unit", probes=100)
    assert abs(estimated.chi_net - exact.chi_net) < 4 * estimated.chi_net_stderr < 0.05 * exact.chi_net
    with pytest.raises(ValueError, match="key_value_heads is 3; expected a divisor of the 4 heads, or 0"):
        LlamaConfig(vocabulary=18, context=6, width=16, depth=1, heads=4, mlp_width=24, key_value_heads=3)
