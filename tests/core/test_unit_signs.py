"""Random signs of units: fair, and unrelated between units, rows, columns, probes and seeds.

Each statistic is a sum of n independent products of signs under the hypothesis, so that it is normal with variance n.
The draws are fixed by their seeds: the test passes always or never.
"""

import math
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from spectral_reach.jacobian.unit_signs import unit_signs

UNITS, ROWS, COLUMNS = 24, 6, 192
SEEDS = (0, 1, 2, 2**32, 2**32 + 1, 2**63 - 1)
PROBES = (0, 1, 2)
FAR = 4.5
"""Standard deviations; some thousand statistics are looked at, of which the largest is expected at 3.5."""


def rows_of(units: Tensor, rows: int) -> Any:
    """What signs are drawn for."""
    n = len(units)
    return SimpleNamespace(
        unit_ids=units,
        f=torch.zeros(1),
        unit_of_row=torch.arange(n).repeat_interleave(rows),
        samples_of_unit=torch.full((n,), rows),
        n_samples=n * rows,
    )


@pytest.fixture(scope="module")
def signs() -> dict[tuple[int, int], Tensor]:
    """(UNITS, ROWS, COLUMNS) by seed and probe."""
    rows = rows_of(torch.arange(UNITS), ROWS)
    return {
        (seed, probe): unit_signs(rows, COLUMNS, torch.float64, seed=seed, probe=probe).view(UNITS, ROWS, COLUMNS)
        for seed in SEEDS
        for probe in PROBES
    }


def check(products: list[Tensor]) -> None:
    scores = torch.tensor([float(each.sum()) / math.sqrt(each.numel()) for each in products])
    assert scores.abs().max() < FAR
    # Neither too even: a sequence that repeats itself with other signs would sum up to nothing.
    n = len(scores)
    assert abs(float(scores.square().sum()) - n) < FAR * math.sqrt(2 * n)


def test_means(signs: dict[tuple[int, int], Tensor]) -> None:
    check([each for drawn in signs.values() for each in (drawn, *drawn, *drawn.movedim(1, 0))])


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["units", "rows", "columns"])
def test_neighbours_near_and_far(signs: dict[tuple[int, int], Tensor], axis: int) -> None:
    size = (UNITS, ROWS, COLUMNS)[axis]
    for apart in {1, 2, 3, size // 2, 8, 32, 63, 64, 65, 128} & set(range(1, size)):
        check(
            [drawn.narrow(axis, 0, size - apart) * drawn.narrow(axis, apart, size - apart) for drawn in signs.values()]
        )


def test_every_pair_of_rows_and_of_columns(signs: dict[tuple[int, int], Tensor]) -> None:
    for drawn in (signs[0, 0], signs[1, 0], signs[2**63 - 1, 2]):
        table = drawn.flatten(0, 1)
        for each in (table, table.T):
            products = each @ each.T / math.sqrt(each.shape[1])
            scores = products[*torch.triu_indices(len(each), len(each), 1)]
            assert scores.abs().max() < 5.5  # of up to 18 thousand
            assert float(scores.square().mean()) == pytest.approx(1, abs=0.05)


def test_diagonals(signs: dict[tuple[int, int], Tensor]) -> None:
    """Counters that were added up would give a unit's second row to the next unit's first."""
    check([drawn[1:, :-1] * drawn[:-1, 1:] for drawn in signs.values()])
    check([drawn[1:, :, :-64] * drawn[:-1, :, 64:] for drawn in signs.values()])
    check([drawn[:, 1:, :-64] * drawn[:, :-1, 64:] for drawn in signs.values()])


def test_probes_and_seeds(signs: dict[tuple[int, int], Tensor]) -> None:
    check([signs[a] * signs[b] for a, b in combinations(signs, 2)])
    # The first unit of one and the second of the other, as where two seeds begin one sequence at two places.
    check([signs[a][1:] * signs[b][:-1] for a in signs for b in signs if a != b])


def test_a_unit_has_its_signs_beside_any_others_and_for_any_number_of_columns() -> None:
    whole = unit_signs(rows_of(torch.arange(7), 3), 150, torch.float32, seed=5, probe=1).view(7, 3, 150)
    units = torch.tensor([5, 1])
    part = unit_signs(rows_of(units, 3), 70, torch.float64, seed=5, probe=1).view(2, 3, 70)
    assert part.equal(whole[units, :, :70].double())
    assert set(whole.unique().tolist()) == {-1.0, 1.0}
