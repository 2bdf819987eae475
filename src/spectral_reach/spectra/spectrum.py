"""``sr.spectrum``: the distribution behind chi_pos, for a model on a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from spectral_reach.measured.arguments import integer_from
from spectral_reach.measured.losses import Loss
from spectral_reach.measured.output_space import Choice
from spectral_reach.measured.parameters import Selection
from spectral_reach.spectra.by_lanczos import by_lanczos
from spectral_reach.spectra.explicit import explicit
from spectral_reach.spectra.options import LanczosOptions, check_method, fractions, tolerance_from
from spectral_reach.spectra.prepared import prepared
from spectral_reach.spectra.progress import OnProgress, shown
from spectral_reach.spectra.result import Method, Spectrum


def spectrum(
    model: nn.Module,
    batch: Any,
    *,
    loss: Loss = "cross_entropy",
    method: Method = "lanczos",
    parameters: Selection = None,
    samples: Choice = None,
    classes: Choice = None,
    eigenvectors: bool = False,
    steps: int = 64,
    tolerance: float = 0.1,
    quantiles: Sequence[float] = (0.1, 0.5, 0.9),
    density_vectors: int = 0,
    probes: int = 4,
    seed: int = 0,
    memory_budget: int = 2**32,
    progress: bool | OnProgress | None = None,
) -> Spectrum:
    """See the distribution behind chi_pos = sum_k gamma_k^2 p_k: which modes there are, and which of them are learnt.

    ``"explicit"`` forms the kernel of chosen outputs and decomposes it: every p_k and gamma_k^2. Its cost is a
    batched product or two for each output, its memory n^2; choose a part of the outputs (``samples``,
    ``classes``) where there are more than some thousands. ``"lanczos"`` forms no kernel: each step is one product
    with J^T and one with J, and the result is the distribution of the loss reduction over the *full* output
    space, with certain bounds on its quantiles.

    As in ``sr.decompose``, nothing is changed by looking.

    Args:
        model, batch, loss, parameters: as in ``sr.decompose``.
        method: ``"lanczos"`` or ``"explicit"``.
        samples: which labelled rows: None for all, a number of random ones, or a list of indices.
        classes: which outputs of each row, likewise. The loss gradient is cut to the chosen outputs.
        eigenvectors: keep them; of ``"explicit"`` only.
        steps: at most so many Lanczos steps.
        tolerance: stop earlier when every one of ``quantiles`` is certain within this relative width; 0 for all steps.
        quantiles: fractions of the loss reduction that the tolerance is about.
        density_vectors: random vectors for the density of all eigenvalues (``Spectrum.density``), each as many steps
            again; two or more give a standard error. Of ``"lanczos"`` only.
        probes: for the trace, which normalises a Lanczos spectrum.
        seed: of the choice of outputs, the probes, the random vectors and the dropout masks.
        memory_budget: bytes for the kernel with its eigendecomposition, batched products and kept vectors, beside the
            model, the graph of its forward pass and that of its first derivative; one direction at a time takes what
            it takes.
        progress: True or False for a bar or none, None for one on a terminal, or a function that is told (done, total).

    Returns:
        p, gamma2, chi_pos and what follows from them; see ``Spectrum``.

    Raises:
        ValueError, TypeError: what was got, what was expected and what to do: among others more than the memory
            budget, or an operation that cannot be differentiated twice.

    Example:
        >>> import torch, spectral_reach as sr
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
        >>> found = sr.spectrum(model, (torch.randn(8, 4), torch.randint(0, 3, (8,))), method="explicit")
        >>> len(found.p), 0 <= found.position_quantile(0.5) <= 1
        (24, True)
    """
    check_method(method)
    options = LanczosOptions(
        steps=integer_from(1, "steps", steps),
        tolerance=tolerance_from(tolerance),
        quantiles=fractions(quantiles),
        density_vectors=integer_from(0, "density_vectors", density_vectors),
        probes=integer_from(1, "probes", probes),
    )
    budget = integer_from(1, "memory_budget", memory_budget)
    if method == "lanczos" and eigenvectors:
        raise ValueError("eigenvectors=True needs every mode; expected method='explicit' with it")
    if method == "explicit" and density_vectors:
        raise ValueError("density_vectors is for method='lanczos'; an explicit spectrum has every eigenvalue")
    with (
        shown(progress, "Spectrum") as report,
        prepared(model, batch, loss, parameters, samples, classes, seed) as ready,
    ):
        if method == "lanczos":
            return by_lanczos(ready, options, budget, report)
        return explicit(ready, eigenvectors=eigenvectors, memory_budget=budget, report=report)
