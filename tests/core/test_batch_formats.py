"""The shapes in which models and batches come: each gives the numbers that its plain form gives."""

import warnings
from collections.abc import Callable

import pytest
import torch
from comparing import assert_equal
from torch import Tensor, nn

import spectral_reach as sr


def language_model(name: str = "LlamaForCausalLM", *, shifts: bool = True, std: float = 0.02) -> nn.Module:
    """A Llama under the given class name; without ``shifts`` its own loss compares position t with label t."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    config.initializer_range = std
    model = type(name, (LlamaForCausalLM,), {})(config)
    if not shifts:
        model.loss_function = lambda logits, labels, **_: nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten()
        )
    return model


@pytest.mark.parametrize("shifts", [True, False])
@pytest.mark.parametrize("name", ["LlamaForCausalLM", "TinyModel"])
@pytest.mark.parametrize("seed", range(4))
def test_the_alignment_of_labels_is_that_of_the_models_own_loss_at_any_name(name: str, shifts: bool, seed: int) -> None:
    """At initialisation the losses of both alignments differ by less than a thousandth: the closer one decides."""
    model = language_model(name, shifts=shifts)
    torch.manual_seed(seed)
    tokens = torch.randint(0, 64, (16, 32))
    result = sr.decompose(model, {"input_ids": tokens, "labels": tokens}, estimator="batch")
    assert result.n_samples == 16 * (31 if shifts else 32)
    assert result.loss == pytest.approx(model(input_ids=tokens, labels=tokens).loss.item(), rel=1e-5)


class Hiding(nn.Module):
    """A wrapper that hands on the logits of what it hides, and takes no labels."""

    def __init__(self, hidden: nn.Module) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.hidden(input_ids=input_ids).logits


@pytest.mark.parametrize(("name", "shifted"), [("LlamaForCausalLM", True), ("TinyModel", False)])
def test_a_language_model_inside_a_wrapper_is_shifted(name: str, shifted: bool) -> None:
    model = language_model(name)
    torch.manual_seed(0)
    tokens = torch.randint(0, 64, (4, 8))
    given = {"input_ids": tokens, "labels": tokens}
    result = sr.decompose(Hiding(model), given, estimator="batch")
    assert result.n_samples == 4 * (7 if shifted else 8)
    if shifted:
        assert result.loss == pytest.approx(model(**given).loss.item(), rel=1e-5)


def classifier(k: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, k)).double()


def labelled(n: int = 6, k: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, 4).double(), torch.randint(0, k, (n,))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_class_indices_may_have_any_integer_type(dtype: torch.dtype) -> None:
    x, y = labelled()
    assert_equal(sr.decompose(classifier(), (x, y.to(dtype))), sr.decompose(classifier(), (x, y)))


@pytest.mark.parametrize("size", [(2, 3), (3, 5), (3, 2), (5, 5)])
def test_segmentation_has_its_classes_second(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(2, 3, 1).double()
    x, y = torch.randn(4, 2, *size).double(), torch.randint(0, 3, (4, *size))
    result = sr.decompose(model, (x, y))
    assert result.n_samples == y.numel()
    assert result.loss == pytest.approx(nn.functional.cross_entropy(model(x), y).item(), rel=1e-12)


def test_an_image_that_can_be_read_two_ways_is_refused_rather_than_guessed() -> None:
    model = nn.Conv2d(2, 3, 1).double()
    x, y = torch.randn(4, 2, 3, 3).double(), torch.randint(0, 3, (4, 3, 3))
    with pytest.raises(ValueError, match=r"outputs of shape \(4, 3, 3, 3\).*classes second or last.*outputs.flatten"):
        sr.decompose(model, (x, y))
    # The remedy of the message.
    flat = nn.Sequential(model, nn.Flatten(2))
    loss = nn.functional.cross_entropy(model(x), y).item()
    assert sr.decompose(flat, (x, y.flatten(1))).loss == pytest.approx(loss, rel=1e-12)


def test_a_sequence_that_can_be_read_two_ways_has_its_classes_last() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 3).double()
    x, y = torch.randn(4, 3, 2).double(), torch.randint(0, 3, (4, 3))
    loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten()).item()
    assert sr.decompose(model, (x, y)).loss == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("layer", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("estimator", ["exact", "batch"])
def test_sparse_gradients_count_like_dense_ones(layer: type[nn.Module], estimator: str) -> None:
    def result(sparse: bool) -> sr.Decomposition:
        torch.manual_seed(0)
        model = nn.Sequential(layer(7, 3, sparse=sparse), nn.Tanh(), nn.Linear(3, 4)).double()
        torch.manual_seed(1)
        tokens = torch.randint(0, 7, (5, 2))
        labels = torch.randint(0, 4, (5, 2) if layer is nn.Embedding else (5,))
        return sr.decompose(model, (tokens, labels), estimator=estimator, probes=2)

    assert_equal(result(sparse=True), result(sparse=False), relative=1e-12)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrappers_are_looked_through(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = classifier()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.compile's own imports
        wrapped = wrap(model)
    # DataParallel moves the model to a CUDA device where there is one.
    inputs, targets = (each.to(model[2].weight.device) for each in labelled())
    for parameters in (None, "2", model[2], wrapped):
        alone = sr.decompose(model, (inputs, targets), parameters=model if parameters is wrapped else parameters)
        assert_equal(sr.decompose(wrapped, (inputs, targets), parameters=parameters), alone)
