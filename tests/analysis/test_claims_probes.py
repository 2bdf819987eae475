"""Claims on linear probes: worlds in which each holds, is contradicted, or cannot be told."""

from dataclasses import replace

import pytest

from analysis.claims_world import SIZES, family, findings
from analysis.synthetic_study import write_study
from spectral_reach.studies.analysis.claims import Verdict, evaluate
from spectral_reach.studies.analysis.claims.finding import POSITIONS

SUPPORTED, CONTRADICTED, INCONCLUSIVE = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.INCONCLUSIVE
CLAIMS = ("pretrained-ends-lower", "backbone-ratio-grows", "full-training-grows-chi-net")


def probes(folder, *, advantage=3.0, growth=1.0, full_net=8.0, random_net=1.0, suffix="", write=True, **changes):
    """Probes whose late position is ``advantage`` times as high on random backbones at the smallest size, and more by
    ``growth`` to the power of log10 of the ratio of sizes at others."""
    made = {}
    for role, net in (("full", full_net), ("pretrained", 1.0), ("random", random_net)):
        runs = family(f"{role}{suffix}", sizes=SIZES[:3], heldout_units=0, **changes)
        made[role + suffix] = [
            replace(run, chi_net_growth=net, trained="all" if role == "full" else "readout") for run in runs
        ]
    made[f"pretrained{suffix}"] = [
        replace(run, backbone=backbone.name)
        for run, backbone in zip(made[f"pretrained{suffix}"], made[f"full{suffix}"], strict=True)
    ]
    # Other noise than that of the run with the same seed and size.
    random = [
        replace(
            run,
            peak=run.peak * 1.0001,
            late_position=run.late_position * advantage * (run.parameters / SIZES[0]) ** growth,
        )
        for run in made[f"random{suffix}"]
    ]
    made[f"random{suffix}"] = random
    return write_study(folder, made, study="probes") if write else made


def verdicts(folder, claim):
    return {each.measure: each.verdict for each in findings(evaluate({"probes": folder}), claim)}


def test_claims_that_hold_are_supported(tmp_path):
    table = evaluate({"probes": probes(tmp_path / "probes", growth=1.5)})
    for claim in CLAIMS[:2]:
        for measure in POSITIONS:
            (found,) = findings(table, claim, measure)
            assert found.verdict == SUPPORTED, found
            assert (found.family, found.n, found.counted) == ("linear probes", 6, "pairs of runs")
    (ratio,) = findings(table, CLAIMS[0], "chi_pos_unbiased")
    truth = 3 * (SIZES[1] / SIZES[0]) ** 1.5  # at the middle size, and in the geometric mean
    assert ratio.low < truth < 1.05 * ratio.high  # the last tenth of a steeper fall lies farther above its end
    (slope,) = findings(table, CLAIMS[1], "chi_pos_unbiased")
    assert slope.low < 10**1.5 < slope.high
    (net,) = findings(table, CLAIMS[2])
    assert (net.verdict, net.measure, net.n) == (SUPPORTED, "chi_net", 12)
    assert "full training changes it by a factor of 5." in net.reason
    assert "probing by 1.0" in net.reason


def test_claims_that_are_false_are_contradicted(tmp_path):
    folder = probes(tmp_path / "probes", advantage=0.4, growth=-1.5, full_net=1.0, random_net=8.0)
    for claim in CLAIMS[:2]:
        assert verdicts(folder, claim) == dict.fromkeys(POSITIONS, CONTRADICTED)
    assert verdicts(folder, CLAIMS[2]) == {"chi_net": CONTRADICTED}


@pytest.mark.parametrize(
    ("full", "random", "verdict"), [(8.0, 5.0, CONTRADICTED), (0.3, 0.1, CONTRADICTED), (8.0, 2.0, SUPPORTED)]
)
def test_probing_that_grows_too_or_full_training_that_shrinks_contradicts(tmp_path, full, random, verdict):
    assert verdicts(probes(tmp_path / "probes", full_net=full, random_net=random), CLAIMS[2]) == {"chi_net": verdict}


def test_full_training_known_badly_contradicts_nothing(tmp_path):
    """Half its growth, 1 on average, lies below that of probing, but may well lie above it: seeds differ by far."""
    made = probes(tmp_path, random_net=1.5, write=False)
    made["full"] = [replace(run, chi_net_growth=1.35 if run.seed else 0.75) for run in made["full"]]
    (net,) = findings(evaluate({"probes": write_study(tmp_path / "probes", made, study="probes")}), CLAIMS[2])
    assert net.verdict == INCONCLUSIVE, net
    assert "probing by 1.39" in net.reason


def test_what_cannot_be_told_is_inconclusive(tmp_path):
    same = probes(tmp_path / "same", advantage=1.0, growth=0.0, seed_spread=0.5, full_net=1.0)
    table = evaluate({"probes": same})
    for claim in CLAIMS[:2]:
        for found in findings(table, claim):
            assert found.verdict == INCONCLUSIVE
            assert found.low < 1 < found.high
            assert "The interval holds 1" in found.reason
    (net,) = findings(table, CLAIMS[2])
    assert net.verdict == INCONCLUSIVE
    noisy = evaluate({"probes": probes(tmp_path / "noisy", position_noise=2e-5)})
    for claim in CLAIMS[:2]:
        assert "is not significantly positive" in findings(noisy, claim, "chi_pos_unbiased")[0].reason


def test_two_sizes_show_no_trend_and_partners_must_be_finished(tmp_path):
    made = probes(tmp_path, write=False)
    largest = SIZES[2]
    made["pretrained"] = [replace(r, done=30) if r.parameters == largest else r for r in made["pretrained"]]
    table = evaluate({"probes": write_study(tmp_path / "probes", made, study="probes")})
    (lower,) = findings(table, CLAIMS[0], "chi_pos")
    assert (lower.verdict, lower.n) == (SUPPORTED, 4)
    assert lower.reason.endswith("2 of 12 runs are not finished.")
    (grows,) = findings(table, CLAIMS[1], "chi_pos")
    assert grows.reason.startswith("Not decided: 2 sizes show no trend, 3 are needed.")


def test_two_data_sets_are_judged_apart(tmp_path):
    made = probes(tmp_path, write=False) | probes(tmp_path, advantage=0.3, growth=0.0, suffix="-pixels", write=False)
    table = evaluate({"probes": write_study(tmp_path / "probes", made, study="probes")})
    found = findings(table, CLAIMS[0], "chi_pos_unbiased")
    assert [(each.family, each.verdict) for each in found] == [
        ("linear probes", SUPPORTED),
        ("linear probes, pixels", CONTRADICTED),
    ]


def test_what_runs_train_says_what_they_are_not_their_family_s_key(tmp_path):
    made = probes(tmp_path, write=False)
    renamed = {key: made[role] for key, role in (("a", "random"), ("b", "pretrained"), ("c", "full"))}
    assert verdicts(write_study(tmp_path / "probes", renamed, study="probes"), CLAIMS[0]) == dict.fromkeys(
        POSITIONS, SUPPORTED
    )


def test_a_study_without_the_families_or_finished_runs_is_not_run(tmp_path):
    made = probes(tmp_path, write=False)
    part = {"full": made["full"][:1], "random": [replace(run, done=5) for run in made["random"][:1]]}
    table = evaluate({"probes": write_study(tmp_path / "probes", part, study="probes")})
    rows = {each.claim: each for each in table.findings if each.claim in CLAIMS}
    assert {row.verdict for row in rows.values()} == {Verdict.NOT_RUN}
    assert rows[CLAIMS[0]].reason == "It takes the study probes with the families pretrained and random."
    assert rows[CLAIMS[2]].reason == "No run is finished of full or of random."
