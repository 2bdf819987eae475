"""Every number of ``decompose`` equals that of the oracle, on random models, losses, masks, selections and pairs."""

import random
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import oracle
import pytest
import small_models
import torch
from comparing import RELATIVE, disagreements
from torch import nn

import spectral_reach as sr

DRAWS_OF_A_KIND = 3
CASES = [
    (kind, place + len(small_models.KINDS) * draw)
    for draw in range(DRAWS_OF_A_KIND)
    for place, kind in enumerate(small_models.KINDS)
]
FLOATS = {field.name for field in fields(sr.Decomposition) if field.type == "float"}


def select(choice: random.Random, model: nn.Module) -> tuple[Any, Sequence[str]]:
    """What is given as ``parameters``, and the names of the parameters that it means. May freeze some."""
    named = dict(model.named_parameters())
    matrices = [name for name, p in named.items() if p.ndim > 1]
    chosen = choice.sample(matrices, choice.randint(1, len(matrices)))
    kind = choice.choice(["all", "all", "frozen", "names", "objects", "predicate", "module"])
    if kind == "frozen":
        for name in set(named) - set(chosen):
            named[name].requires_grad_(False)
        return None, [name for name in named if name in chosen]
    if kind == "names":
        return chosen, [name for name in named if name in chosen]
    if kind == "objects":
        return [named[name] for name in chosen], [name for name in named if name in chosen]
    if kind == "predicate":
        return lambda name, p: p.ndim > 1, matrices
    if kind == "module":
        owner = chosen[0].rpartition(".")[0]
        module = model.get_submodule(owner)
        within = {id(p) for p in module.parameters()}
        given = module if choice.random() < 0.5 or not owner else owner
        return given, [name for name, p in named.items() if id(p) in within]
    return None, list(named)


def check(result: sr.Decomposition, expected: dict[str, oracle.Number]) -> None:
    assert FLOATS - set(expected) == set(result.undefined)
    assert disagreements(result, expected) == {}


@pytest.mark.parametrize(("kind", "number"), CASES, ids=lambda value: str(value))
def test_every_number_is_the_oracles(kind: str, number: int) -> None:
    subject = small_models.draw(kind, number)
    choice = random.Random(number)
    given, names = select(choice, subject.model)
    a, b = (subject.draw_batch(size) for size in choice.sample([3, 4, 5, 6], 2))
    seed = choice.randrange(2**32)
    arguments: dict[str, Any] = {
        "loss": subject.loss.given,
        "estimator": "exact",
        "parameters": given,
        "seed": seed,
        "memory_budget": choice.choice([1, 2**16, 2**28]),
    }

    explicit_a, explicit_b = (subject.explicit(batch, names, seed) for batch in (a, b))
    single = sr.decompose(subject.model, a, **arguments)
    check(single, oracle.one_batch(explicit_a))
    pair = sr.decompose(subject.model, b, against=a, **arguments)
    check(pair, oracle.two_batches(explicit_b, explicit_a, seed))

    # Counts, and the components as they are without normalisation.
    assert (single.n_samples, single.n_outputs) == explicit_a.J.shape[:2]
    assert single.n_units == len(explicit_a.units)
    assert (pair.n_samples, pair.n_samples_against) == (explicit_b.n, explicit_a.n)
    raw = oracle.raw_components(explicit_a)
    for name, value in raw.items():
        assert getattr(single.raw, name) == pytest.approx(value, rel=RELATIVE)
    raw_b = oracle.raw_components(explicit_b)
    for name in ("chi_loss", "chi_net"):
        assert getattr(pair.raw, name) == pytest.approx(np.sqrt(raw[name] * raw_b[name]), rel=RELATIVE)


def test_the_cases_cover_what_they_should() -> None:
    """Whole units without a label, single masked rows, every kind of loss and units of unequal length all occur."""
    unlabelled = masked = unequal = 0
    losses = set()
    for kind, number in CASES:
        subject = small_models.draw(kind, number)
        losses.add(str(type(subject.loss.given)) if callable(subject.loss.given) else subject.loss.given)
        batch = subject.draw_batch(5)
        targets = batch["labels"] if isinstance(batch, dict) else batch[1]
        if not targets.is_floating_point():
            rows = targets.ne(oracle.IGNORED).flatten(1).sum(1) if targets.ndim > 1 else targets.ne(oracle.IGNORED)
            unlabelled += int((rows == 0).any())
            masked += int((targets == oracle.IGNORED).any())
            unequal += int(len(set(rows[rows > 0].tolist())) > 1)
    assert len(CASES) >= 40
    assert min(unlabelled, masked, unequal) >= 5
    assert len(losses) == 4


# --- the oracle itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["convolution-group-norm", "causal-lm-tied", "lstm", "llama"])
def test_the_oracles_jacobian_is_that_of_finite_differences(kind: str) -> None:
    subject = small_models.draw(kind, 2)
    subject.model.eval()
    batch = subject.draw_batch(3)
    explicit = subject.explicit(batch)
    named = list(subject.model.named_parameters())
    torch.manual_seed(0)
    direction = [torch.randn_like(p) for _, p in named]
    for module in subject.model.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            direction[[p is module.weight for _, p in named].index(True)][module.padding_idx] = 0
    rows = oracle.labelled_rows(
        batch["labels"] if isinstance(batch, dict) else batch[1], subject.layout, shift=subject.shift
    )

    @torch.no_grad()
    def outputs(step: float) -> np.ndarray:
        for (_, p), d in zip(named, direction, strict=True):
            p.add_(d, alpha=step)
        returned = subject.model(**batch) if isinstance(batch, dict) else subject.model(batch[0])
        for (_, p), d in zip(named, direction, strict=True):
            p.add_(d, alpha=-step)
        logits = returned if isinstance(returned, torch.Tensor) else returned.logits
        return np.stack([logits[row.output].reshape(-1).numpy() for row in rows])

    step = 1e-5  # central differences: the error is of order step^2
    differences = (outputs(step) - outputs(-step)) / (2 * step)
    products = explicit.J @ np.concatenate([d.flatten().numpy() for d in direction])
    assert products == pytest.approx(differences, rel=1e-6, abs=1e-6 * np.abs(differences).max())


@pytest.mark.parametrize(
    ("loss", "classes"),
    [
        (oracle.CROSS_ENTROPY, True),
        (oracle.smoothed_cross_entropy(0.2), True),
        (oracle.CROSS_ENTROPY.times(2.5), True),
        (oracle.SQUARED_ERROR, False),
        (oracle.LOG_COSH, False),
        (oracle.BINARY, False),
    ],
    ids=["cross-entropy", "smoothed", "scaled", "mse", "log-cosh", "binary"],
)
def test_the_oracles_losses_are_those_that_the_package_is_given(loss: oracle.RowLoss, classes: bool) -> None:
    random_numbers = np.random.default_rng(0)
    outputs = random_numbers.normal(size=(5, 3))
    targets = random_numbers.integers(0, 3, size=5) if classes else random_numbers.uniform(size=(5, 3))
    f = torch.tensor(outputs, requires_grad=True)
    value = oracle.as_callable(loss.given)(f, torch.tensor(targets))
    value.backward()
    by_hand = [loss.value(o, t) for o, t in zip(outputs, targets, strict=True)]
    gradients = [loss.gradient(o, t) / 5 for o, t in zip(outputs, targets, strict=True)]
    assert value.item() == pytest.approx(np.mean(by_hand), rel=1e-12)
    assert f.grad.numpy() == pytest.approx(np.stack(gradients), rel=1e-10, abs=1e-14)
