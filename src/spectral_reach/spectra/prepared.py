"""A model on a batch, ready for products with its kernel in a space of chosen outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from spectral_reach.estimators.subset import generator
from spectral_reach.jacobian.forms import row_squares
from spectral_reach.jacobian.vjp import coarsest_precision
from spectral_reach.measured.arguments import checked_model, seed_from
from spectral_reach.measured.isolation import leaving_no_trace
from spectral_reach.measured.linearisation import Linearisation, linearise
from spectral_reach.measured.losses import Loss, resolve_loss
from spectral_reach.measured.output_space import Choice, OutputSpace
from spectral_reach.measured.parameters import Selection, select_parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """One linearisation and the outputs that are looked at.

    Attributes:
        linearisation: of the whole batch.
        space: the chosen outputs, n x k.
        residual: r = N u there, (n, k), at least float32.
        chi_loss: n ||u||^2 there: the mean over the chosen samples of the squared residual at the chosen classes.
        share: of the squared loss gradient of the whole batch that is there; NaN where that is zero.
        random: for checks of the products.
        seed: of everything that is drawn.
    """

    linearisation: Linearisation
    space: OutputSpace
    residual: Tensor
    chi_loss: float
    share: float
    random: torch.Generator
    seed: int

    @property
    def eps(self) -> float:
        """One unit in the last place of 1, in the coarsest precision that the model works in."""
        f = self.linearisation.f
        eps = torch.finfo(coarsest_precision(f)).eps
        # Matrices of float32 may be multiplied with ten bits of mantissa on a GPU (TF32).
        reduced = f.device.type == "cuda" and torch.get_float32_matmul_precision() != "highest"
        return max(eps, 2.0**-10) if reduced and f.dtype != torch.float64 else eps

    @property
    def parameters(self) -> int:
        """P."""
        return sum(p.numel() for p in self.linearisation.parameters.values())


@contextmanager
def prepared(
    model: nn.Module, batch: Any, loss: Loss, parameters: Selection, samples: Choice, classes: Choice, seed: int
) -> Iterator[Prepared]:
    """One forward pass, with attention by its plain kernels: fused ones cannot be differentiated twice.

    Within it the model is as a measurement may use it, after it as it was before.

    Raises:
        ValueError, TypeError: as in ``sr.decompose``, or a choice that the outputs do not have.
    """
    model = checked_model(model)
    number = seed_from(seed)
    function, chosen = resolve_loss(loss), select_parameters(model, parameters)
    with leaving_no_trace(model), sdpa_kernel(SDPBackend.MATH):
        linearisation = linearise(model, batch, function, chosen, seed=number)
        f = linearisation.f
        space = OutputSpace.choose(
            (linearisation.n_samples, linearisation.n_outputs),
            samples,
            classes,
            generator(number, "outputs", f.device),
        )
        whole = linearisation.residual
        here = space.of(whole)
        total, squares = float(row_squares(whole).sum()), float(row_squares(here).sum())
        yield Prepared(
            linearisation=linearisation,
            space=space,
            residual=here,
            chi_loss=squares / space.shape[0],
            share=squares / total if total > 0 else float("nan"),
            random=generator(number, "checks", f.device),
            seed=number,
        )
