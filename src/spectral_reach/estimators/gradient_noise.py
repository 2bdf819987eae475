r"""The squared norm of the population gradient, free of mini-batch noise, with a standard error.

A batch gradient g = sum_i g_i (units i with weights w_i = N_i / N) carries noise:
E||g||^2 = ||G||^2 + tr(Sigma) sum w_i^2.
Dropping the products of a unit with itself removes it:

    U = (||g||^2 - sum_i ||g_i||^2) / (1 - sum_i w_i^2) = sum_{i != j} <g_i, g_j> / sum_{i != j} w_i w_j,

a U-statistic: unbiased, and negative at times where the noise dominates. Its variance has a part of first order in 1/n
(zeta_1: how much a unit's product with G varies) and one of second order (zeta_2: the noise of the pairs), and late in
training the second is nearly all of it. The jackknife over units counts the second part about twice (Efron and Stein
1981), so zeta_2 is estimated from the mean square of the pair products and the excess taken out. See docs/theory.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_reach.jacobian.some_units import SomeUnitProducts
from spectral_reach.jacobian.unit_gradients import UnitGradientProducts


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseFreeNorm:
    """An unbiased estimate of ||G||^2, or of <G_A, G_B> for two batches.

    Attributes:
        value: U.
        stderr: over draws of the batch.
        position: the same for U divided by chi_loss (and by chi_net as far as it is known by unit), in the batch's
            normalisation: (value, stderr).
        noise_scale: tr(Sigma) / ||G||^2 in units; NaN for two batches or where U is not positive.
        units: whose gradients were multiplied with those of all others; of two batches, the smaller number.
        stderr_undefined: why ``stderr`` is NaN; empty otherwise.
        position_stderr_undefined: why the position's standard error is NaN although the position is not.
    """

    value: float
    stderr: float
    position: tuple[float, float]
    noise_scale: float
    units: int
    stderr_undefined: str = ""
    position_stderr_undefined: str = ""


def noise_free_norm(
    products: UnitGradientProducts, weights: Tensor, chi_loss_of_unit: Tensor, chi_net_of_unit: Tensor | None
) -> NoiseFreeNorm:
    """U of one batch of n >= 2 units.

    Args:
        products: of the units of this batch.
        weights: w_i = N_i / N, (n,).
        chi_loss_of_unit: mean squared residual of each unit's samples, (n,): chi_loss = sum_i w_i chi_loss_i.
        chi_net_of_unit: mean kernel diagonal of each unit's samples, (n,), or None where only the total is known.
    """
    a, b = products.squared_norms, products.with_batch
    n = weights.numel()
    squared_weights = float(weights.square().sum())
    off_diagonal = 1 - squared_weights
    norm, own = float(b.sum()), float(a.sum())
    value = (norm - own) / off_diagonal

    # Leaving out unit i: sums of the others, reweighted by N / (N - N_i).
    rest = 1 - weights
    left_value = products.left_out / (rest.square() - (squared_weights - weights.square()))
    left_loss = _left_out_mean(chi_loss_of_unit, weights)
    left_net = (
        torch.ones(n, dtype=torch.float64) if chi_net_of_unit is None else _left_out_mean(chi_net_of_unit, weights)
    )
    loss = float((weights * chi_loss_of_unit).sum())
    net = 1.0 if chi_net_of_unit is None else float((weights * chi_net_of_unit).sum())

    position = value / (loss * net) if loss * net > 0 else math.nan
    stderr, position_stderr = math.nan, math.nan
    stderr_undefined = "needs three units or more: one is left out, and two make a pair" if n < 3 else ""
    position_undefined = stderr_undefined or _not_left_out(left_loss * left_net)
    pair_noise = _pair_noise(products, weights)
    if not stderr_undefined:
        stderr = _one_batch_stderr(left_value, pair_noise, n)
    if not position_undefined:
        position_stderr = _one_batch_stderr(left_value / (left_loss * left_net), pair_noise / (loss * net) ** 2, n)
    return NoiseFreeNorm(
        value=value,
        stderr=stderr,
        position=(position, position_stderr),
        noise_scale=(norm - value) / squared_weights / value if value > 0 else math.nan,
        units=n,
        stderr_undefined=stderr_undefined,
        position_stderr_undefined=position_undefined,
    )


def noise_free_norm_of_some(
    products: SomeUnitProducts, weights: Tensor, chi_loss_of_unit: Tensor, chi_net_of_unit: Tensor | None
) -> NoiseFreeNorm:
    """U of one batch from the rows of m >= 2 of its n >= 3 units in the table of pair products.

    Every unit of the m meets all n - 1 others: U = sum_i <g_i, g - g_i> / sum_i w_i (1 - w_i), unbiased too. With
    h_ij = theta + a_i + a_j + e_ij, its variance over draws of the batch is, exactly for equal weights,

        zeta_1 [(1 + (m-1)/(n-1))^2 / m + (n-m) / (n-1)^2] + zeta_2 (m+n-2) / (m (n-1)^2),

    which for m = n is that of ``noise_free_norm``. Where the squared norms of all units are known, U is taken from
    them as there, with that variance, and the m units only tell zeta_1 and zeta_2. Arguments as there.
    """
    chosen = products.units
    w, n, m = weights[chosen], weights.numel(), len(chosen)
    squared_weights = float(weights.square().sum())
    rows = products.with_batch - products.squared_norms
    expected_share = w * (1 - w)
    kernels = rows / expected_share  # of each of the m, the mean of h over the others
    zeta_1, zeta_2 = _parts_of_variance(kernels, products.pair_squares, w, n)
    if products.squared_norms_of_all is None:
        value, behind = float(rows.sum() / expected_share.sum()), m
    else:
        value, behind = (products.squared_norm - float(products.squared_norms_of_all.sum())) / (1 - squared_weights), n
    variance = _variance(zeta_1, zeta_2, behind, n)

    by_unit = [chi_loss_of_unit] if chi_net_of_unit is None else [chi_loss_of_unit, chi_net_of_unit]
    means = [float((weights * each).sum()) for each in by_unit]
    scale = math.prod(means)
    position, position_stderr = math.nan, math.nan
    if scale > 0:
        position = value / scale
        # To first order the ratio is the mean of h_ij / scale - position (s_i + s_j) / 2 over pairs, where s_i is what
        # a unit adds to the logarithm of the denominator. Gradients are large where losses are: much of it cancels.
        s = sum((each / mean - 1 for each, mean in zip(by_unit, means, strict=True)), torch.zeros_like(weights))
        of_rows = kernels / scale - position / 2 * (s + (s.sum() - s) / (n - 1))[chosen]
        first = max(0.0, _spread(of_rows, n) - zeta_2 / scale**2) / (n - 2)
        chance_of_choice = (variance - _variance(zeta_1, zeta_2, n, n)) / scale**2
        position_stderr = math.sqrt(_variance(first, zeta_2 / scale**2, n, n) + chance_of_choice)
    return NoiseFreeNorm(
        value=value,
        stderr=math.sqrt(variance),
        position=(position, position_stderr),
        noise_scale=(products.squared_norm - value) / squared_weights / value if value > 0 else math.nan,
        units=m,
    )


def _variance(zeta_1: float, zeta_2: float, m: int, n: int) -> float:
    """Of U from the rows of m of n units."""
    first = (1 + (m - 1) / (n - 1)) ** 2 / m + (n - m) / (n - 1) ** 2
    return zeta_1 * first + zeta_2 * (m + n - 2) / (m * (n - 1) ** 2)


def _spread(rows: Tensor, n: int) -> float:
    """(n-2) zeta_1 + zeta_2 from the mean kernels of some units with the n - 1 others."""
    return float(rows.var()) * (n - 1) ** 2 / (n - 2)


def _parts_of_variance(rows: Tensor, pair_squares: float, weights: Tensor, n: int) -> tuple[float, float]:
    """zeta_1 and zeta_2, neither below 0, from the mean kernel of m of n units with the others, (m,), and sum_{j<i}
    <g_i, g_j>^2 over pairs of the m.

    The sample variance of ``rows`` is (n-2)/(n-1)^2 ((n-2) zeta_1 + zeta_2) in expectation, and the mean square of h
    over pairs theta^2 + 2 zeta_1 + zeta_2. Where the two cannot both be met, the variance of the rows decides.
    """
    m = len(rows)
    spread = _spread(rows, n)
    outer = float(weights.sum()) ** 2 - float(weights.square().sum())
    mean_square = 2 * pair_squares * (m * (m - 1)) / outer**2  # of h, as if all weights were equal
    total = max(0.0, mean_square - float(rows.mean()) ** 2)  # 2 zeta_1 + zeta_2
    zeta_2 = spread if n <= 4 else (total * (n - 2) - 2 * spread) / (n - 4)
    zeta_2 = min(max(zeta_2, 0.0), spread)
    return (spread - zeta_2) / (n - 2), zeta_2


@dataclass(frozen=True, kw_only=True, slots=True)
class PairTable:
    """What is known of the table <g_Ai, g_Bj> of the unit gradients of two batches, float64 on the CPU.

    Attributes:
        rows: its sums over j, (n_A,).
        columns: its sums over i, (n_B,).
        signed_rows: sum_j s_j <g_Ai, g_Bj> with random signs s, (n_A,): the squares of these estimate the squares of
            the entries without bias.
    """

    rows: Tensor
    columns: Tensor
    signed_rows: Tensor


def noise_free_product(
    products: PairTable,
    weights_a: Tensor,
    weights_b: Tensor,
    chi_losses: tuple[Tensor, Tensor],
) -> NoiseFreeNorm:
    """<g_A, g_B> of two independent batches is unbiased as it is; this adds its standard error.

    Both batches have two units or more. The rows and columns of the table give the two parts of first order; their
    common interaction part, counted by both, is taken out once.
    """
    x_a, x_b = products.rows, products.columns
    value = float(x_a.sum())
    n_a, n_b = weights_a.numel(), weights_b.numel()
    loss_a, loss_b = (float((w * c).sum()) for w, c in zip((weights_a, weights_b), chi_losses, strict=True))
    scale = math.sqrt(loss_a * loss_b)

    left_a, left_b = (value - x_a) / (1 - weights_a), (value - x_b) / (1 - weights_b)
    # The sum of squares over the table, minus what rows, columns and the mean explain (two-way analysis of variance).
    explained = x_a.square().sum() / n_b + x_b.square().sum() / n_a - value**2 / (n_a * n_b)
    squares = float(products.signed_rows.square().sum())
    interaction = max(0.0, squares - float(explained)) * n_a * n_b / ((n_a - 1) * (n_b - 1))

    def stderr(left_a: Tensor, left_b: Tensor, interaction: float) -> float:
        return math.sqrt(max(_jackknife(left_a) + _jackknife(left_b) - interaction, interaction))

    left_loss_a, left_loss_b = (_left_out_mean(c, w) for c, w in zip(chi_losses, (weights_a, weights_b), strict=True))
    position_undefined = _not_left_out(left_loss_a) or _not_left_out(left_loss_b)
    position_stderr = math.nan
    if not position_undefined:
        ratio_a, ratio_b = left_a / (left_loss_a * loss_b).sqrt(), left_b / (left_loss_b * loss_a).sqrt()
        position_stderr = stderr(ratio_a, ratio_b, interaction / scale**2)
    return NoiseFreeNorm(
        value=value,
        stderr=stderr(left_a, left_b, interaction),
        position=(value / scale if scale > 0 else math.nan, position_stderr),
        noise_scale=math.nan,
        units=min(n_a, n_b),
        position_stderr_undefined=position_undefined,
    )


def _pair_noise(products: UnitGradientProducts, weights: Tensor) -> float:
    """zeta_2: the variance of a pair's kernel h_ij = c <g_i, g_j> that neither unit explains alone; 0 for n < 4.

    With m2 the mean square of h over pairs, m its mean, and s^2 the sample variance of the row means,
    E[m2 - m^2] = 2 (1 - 2/n) zeta_1 + (1 - 2/(n(n-1))) zeta_2 and E[s^2] = (n-2)/(n-1)^2 ((n-2) zeta_1 + zeta_2).
    """
    n = weights.numel()
    if n < 4:
        return 0.0
    pairs = n * (n - 1)
    scale = pairs / (1 - float(weights.square().sum()))
    m2 = 2 * products.pair_squares * scale**2 / pairs
    row_means = (products.with_batch - products.squared_norms) * scale / (n - 1)
    m, s2 = float(row_means.mean()), float(row_means.var())
    return max(0.0, (m2 - m**2 - 2 / n * s2 * (n - 1) ** 2 / (n - 2)) * (n - 1) / (n - 3))


def _one_batch_stderr(left_out: Tensor, pair_noise: float, n: int) -> float:
    variance = _jackknife(left_out) - 2 * pair_noise / max(1, (n - 1) * (n - 2))
    return math.sqrt(max(variance, 2 * pair_noise / (n * (n - 1))))


def _jackknife(left_out: Tensor) -> float:
    """Variance of a statistic from its values with one unit left out."""
    n = left_out.numel()
    return (n - 1) / n * float((left_out - left_out.mean()).square().sum())


def _left_out_mean(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean without each unit in turn, by sums of what comes before and after it.

    Not as a total minus the unit: one unit may hold all of it, and the rest must not come out as a rounding error.
    """
    terms = weights * values
    none = terms.new_zeros(1)
    before = torch.cat([none, terms[:-1].cumsum(0)])
    after = torch.cat([terms[1:].flip(0).cumsum(0).flip(0), none])
    return (before + after) / (1 - weights)


def _not_left_out(left_out: Tensor) -> str:
    """Why a ratio over ``left_out`` has no value with some unit left out; empty where it has."""
    return "" if bool((left_out > 0).all()) else "without one of its units the batch has no loss gradient or no chi_net"
