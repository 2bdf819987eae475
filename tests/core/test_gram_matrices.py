"""Gram matrices by halves, and which of them are kept."""

import pytest
import small_models
import torch

from spectral_reach.jacobian import grams as grams_module
from spectral_reach.jacobian.forms import OuterProducts
from spectral_reach.jacobian.grams import Gram, Grams, key_of_saved
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.measured.isolation import leaving_no_trace
from spectral_reach.measured.linearisation import linearise
from spectral_reach.measured.losses import resolve_loss
from spectral_reach.measured.parameters import select_parameters

B = 3


def factors(T: int, L: int, R: int, *, apart: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """``apart``: the rows of a unit do not stand together in memory."""
    generator = torch.Generator().manual_seed(T + L + R)
    shapes = [(T, B, width) if apart else (B, T, width) for width in (L, R)]
    left, right = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return (left.transpose(0, 1), right.transpose(0, 1)) if apart else (left, right)


@pytest.mark.parametrize("T", [1, 2, 31, 32, 33, 64, 100])
@pytest.mark.parametrize(("L", "R"), [(5, 7), (200, 300), (150, 3)])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("keys", [(False, False), (True, False), (False, True)])
def test_norms_are_those_of_the_products(T: int, L: int, R: int, apart: bool, keys: tuple[bool, bool]) -> None:
    left, right = factors(T, L, R, apart=apart)
    expected = torch.einsum("btl,btr->blr", left, right).square().sum((1, 2))
    left_key, right_key = (key_of_saved(x) if wanted else None for x, wanted in zip((left, right), keys, strict=True))
    form = OuterProducts(left=left, right=right, left_key=left_key, right_key=right_key)
    grams = Grams()
    for each in (form, form.transposed, form):
        torch.testing.assert_close(each.squared_norms(grams), expected, rtol=1e-11, atol=0)
    torch.testing.assert_close(Gram.of(left).dot(Gram.of(right)), expected, rtol=1e-11, atol=0)


def test_what_is_kept() -> None:
    left, right = factors(32, 64, 64)
    grams = Grams()
    key = key_of_saved(left)
    assert not grams.has(key)
    assert not grams.has(None)
    first = grams.of(key, left)
    assert grams.has(key)
    assert grams.of(key, left) is first
    assert grams.of(None, right) is not grams.of(None, right)
    long = torch.randn(B, 100, 64)
    grams.of(key_of_saved(long), long)
    assert not grams.has(key_of_saved(long)), "larger than what it is made of"
    left[0, 0, 0] += 1
    assert not grams.has(key_of_saved(left)), "the values have changed"
    assert key_of_saved(left) != key_of_saved(left[:2])


@pytest.mark.parametrize("kind", ["llama", "bert", "causal-lm-tied", "attention-rms-norm"])
def test_two_passes_over_one_graph_agree(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same cotangent, and of another one, where the first pass has kept what inputs give."""
    monkeypatch.setattr(grams_module, "_HALVED", 2)
    monkeypatch.setattr("spectral_reach.jacobian.forms._OF_A_GRAM", 0.0)  # Gram matrices throughout
    subject = small_models.draw(kind, 1)
    with leaving_no_trace(subject.model):
        linearisation = linearise(
            subject.model,
            subject.draw_batch(4),
            resolve_loss(subject.loss.given),
            select_parameters(subject.model),
            seed=0,
        )
    backward = UnitBackward.of(linearisation)
    assert not backward.reason
    made = []
    of = Gram.of.__func__
    monkeypatch.setattr(Gram, "of", classmethod(lambda cls, rows: made.append(rows.shape) or of(cls, rows)))
    v, w = torch.randn_like(linearisation.f), torch.randn_like(linearisation.f)
    first = backward.squared_norms(v)
    in_first = len(made)
    both = [backward.squared_norms(x) for x in (v, w)]
    assert len(made) - in_first < 2 * in_first, "nothing was kept"
    torch.testing.assert_close(both[0], first, rtol=1e-12, atol=0)
    expected = backward.inner_products(w).diagonal()
    torch.testing.assert_close(both[1], expected, rtol=1e-10, atol=0)
