"""Claims on random features and on Hutchinson's estimator: supported, contradicted and undecided draws."""

import pytest

from analysis.claims_world import findings, write_convergence, write_random_features
from spectral_reach.studies.analysis.claims import Verdict, evaluate


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({"excess": 0.01, "spread": 0.02}, Verdict.SUPPORTED, "The bounds hold at all 2 exponents"),
        ({"excess": 0.1, "spread": 0.02}, Verdict.CONTRADICTED, "Values lie off the theory at exponent 1, 2"),
        ({"excess": 0.0, "spread": 0.02, "unity": 1.05}, Verdict.CONTRADICTED, "Values lie off the theory"),
        ({"excess": 0.0, "spread": 0.5}, Verdict.INCONCLUSIVE, "intervals are wider than ±10%"),
        ({"excess": 0.06, "spread": 0.09}, Verdict.INCONCLUSIVE, "The bounds are missed at exponent 1, 2, within"),
        ({"excess": 0.0, "spread": 0.02, "draws": 2}, Verdict.INCONCLUSIVE, "Too few draws at exponent 1, 2"),
    ],
)
def test_random_features(tmp_path, changes, verdict, reason):
    table = evaluate({"random-features": write_random_features(tmp_path / "study", **changes)})
    (found,) = findings(table, "random-features-on-theory")
    assert found.verdict == verdict, found
    assert reason in found.reason
    assert found.measure == "chi_pos"
    assert (found.n, found.counted) == (2 * changes.get("draws", 20), "draws")
    assert found.low <= changes["excess"] + 1e-9
    assert found.high >= changes["excess"] - 1e-9


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({"exponent": -0.5}, Verdict.SUPPORTED, "The exponent is −1/2 within 0.1: up to 64 probes, 64 repetitions"),
        ({"exponent": 0.0}, Verdict.CONTRADICTED, "The exponent differs from −1/2 by more than 0.1"),
        ({"exponent": -0.5, "draws": 64 * 7, "longest": 64}, Verdict.INCONCLUSIVE, "reaches beyond 0.1 from −1/2"),
        ({"exponent": -0.5, "draws": 64 * 3}, Verdict.INCONCLUSIVE, "Not decided: 3 repetitions of 64 draws"),
    ],
)
def test_hutchinson_spread(tmp_path, changes, verdict, reason):
    (found,) = findings(
        evaluate({"convergence": write_convergence(tmp_path / "study", **changes)}), "hutchinson-spread"
    )
    assert found.verdict == verdict, found
    assert reason in found.reason
    assert (found.measure, found.n) == ("chi_net", changes.get("draws", 4096))
