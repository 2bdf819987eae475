"""The words follow the numbers: supported, contradicted, inconclusive, and each for its reason."""

import math
from dataclasses import replace

import pytest

from analysis.synthetic_study import SyntheticRun, as_run_data, text_runs, with_seeds
from spectral_reach.studies.analysis.claims.larger_models_end_lower import judge_order
from spectral_reach.studies.analysis.frontier import frontier
from spectral_reach.studies.analysis.rank import RankCorrelation
from spectral_reach.studies.analysis.size_order import verdict_of_rank
from spectral_reach.studies.analysis.study_data import FamilyData, StudyData
from spectral_reach.studies.analysis.summary import FamilySummary, summarise
from spectral_reach.studies.analysis.verdict import Verdict
from spectral_reach.studies.analysis.words import describe, describe_family


def study_of(runs, tmp_path, not_started=()):
    family = FamilyData(
        key="text",
        label="Text: verse",
        is_sweep=False,
        runs=tuple(as_run_data(run) for run in runs),
        not_started=tuple(not_started),
    )
    return StudyData(path=tmp_path, study="scaling", preset="synthetic", settings={}, families=(family,))


def summary_of(runs, tmp_path, not_started=()) -> FamilySummary:
    return summarise(study_of(runs, tmp_path, not_started)).families[0]


def with_positions(positions, noise=0.05):
    return [
        replace(run, late_position=position, position_noise=noise * position)
        for run, position in zip(text_runs(), positions, strict=True)
    ]


FALLING = (1e-6, 5e-7, 3e-7, 2e-7, 1e-7)
FLAT = (3e-7, 1e-7, 5e-7, 2e-7, 4e-7)


def rank(**changes) -> RankCorrelation:
    values = {"rho": -1.0, "p_falling": 0.01, "p_rising": 1.0, "p_two_sided": 0.02, "low": -1.0, "high": -0.8}
    return RankCorrelation(exact=True, n=5, sizes=5, **{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Verdict.SUPPORTED),
        ({"p_falling": 0.05}, Verdict.SUPPORTED),
        ({"p_falling": 0.051}, Verdict.INCONCLUSIVE),
        ({"high": 0.0}, Verdict.INCONCLUSIVE),
        ({"p_falling": 1.0, "p_rising": 0.01, "low": 0.8, "high": 1.0}, Verdict.CONTRADICTED),
        ({"p_falling": 1.0, "p_rising": 0.01, "low": 0.0, "high": 1.0}, Verdict.INCONCLUSIVE),
        ({"p_falling": 1.0, "p_rising": 0.06, "low": 0.8, "high": 1.0}, Verdict.INCONCLUSIVE),
        ({"p_falling": math.nan, "p_rising": math.nan, "reason": "no"}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_thresholds_of_the_verdict(changes, expected):
    assert verdict_of_rank(rank(**changes)) is expected


def test_the_words_flip_when_the_data_flip(tmp_path):
    words = {
        "falling": describe_family(summary_of(with_positions(FALLING), tmp_path)),
        "rising": describe_family(summary_of(with_positions(FALLING[::-1]), tmp_path)),
        "flat": describe_family(summary_of(with_positions(FLAT), tmp_path)),
    }
    phrases = {
        "falling": "larger models end deeper in the spectral tail, as the paper says",
        "rising": "larger models end less deep in the spectral tail, which contradicts the paper",
        "flat": "inconclusive, chance alone would too often give so clear an order (p > 0.05)",
    }
    for name, text in words.items():
        assert [phrase in text for phrase in phrases.values()] == [key == name for key in phrases]
    assert (
        "rank correlation with size is −1.00 (−1.00 to −1.00 within the errors, one-sided p = 0.0083)"
        in words["falling"]
    )
    assert (
        "rank correlation with size is 1.00 (1.00 to 1.00 within the errors, one-sided p = 0.0083)" in words["rising"]
    )


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
@pytest.mark.parametrize("direction", [1, -1])
def test_the_words_say_of_the_paper_what_the_claim_says(tmp_path, direction, seeds):
    """A page must not say two things of one claim."""
    clear = [replace(run, seed_spread=0.1) for run in with_positions(FALLING[::direction])]
    noisy = [replace(run, position_noise=8 * run.late_position) for run in (clear[0], clear[-1])]
    decided = Verdict.SUPPORTED if direction == 1 else Verdict.CONTRADICTED
    for runs, expected in ((clear, decided), ([noisy[0], *clear[1:-1], noisy[1]], Verdict.INCONCLUSIVE)):
        study = study_of(with_seeds(runs, seeds), tmp_path)
        text = describe_family(summarise(study).families[0])
        assert judge_order(study.families[0], "chi_pos_unbiased").verdict is expected
        assert ("the paper" in text) == (expected is decided)
        assert ("inconclusive" in text.split("Mini-batch")[0]) == (expected is not decided)
        assert ("and over seeds" in text) == (len(seeds) > 1)


FALLS = rank()
RISES = rank(rho=1.0, low=0.8, high=1.0, p_falling=1.0, p_rising=0.01)


@pytest.mark.parametrize(("order", "deep"), [(FALLS, "deeper"), (RISES, "less deep")])
def test_an_order_that_the_ends_do_not_show(tmp_path, order, deep):
    alike = summary_of(with_positions([3e-7, 5e-7, 3e-7, 2e-7, 3e-7]), tmp_path)
    text = describe_family(replace(alike, rank_chi_pos_unbiased=order))
    doubt = "but the 95% intervals of the smallest and the largest size do not show it: inconclusive."
    assert f"by rank larger models end {deep} in the spectral tail, {doubt}" in text
    noisy = with_positions(FALLING)
    noisy[4] = replace(noisy[4], position_noise=1e-6)
    text = describe_family(replace(summary_of(noisy, tmp_path), rank_chi_pos_unbiased=order))
    doubt = "but the late average at 910k parameters is not significantly positive"
    assert f"by rank larger models end {deep} in the spectral tail, {doubt}" in text
    assert "the paper" not in text


def test_the_words_of_the_mini_batch_flip_on_their_own(tmp_path):
    falling = [replace(run, batch_noise=1e-12) for run in with_positions(FALLING)]
    rising = [replace(run, batch_noise=n * 1e-6) for n, run in enumerate(with_positions(FALLING), start=2)]
    assert "(32 units), raised by gradient noise, has rank correlation −1.00" in describe_family(
        summary_of(falling, tmp_path)
    )
    text = describe_family(summary_of(rising, tmp_path))
    assert "has rank correlation 1.00 (one-sided p = 0.0083): it rises with size." in text
    assert "larger models end deeper" in text


def test_an_order_that_the_errors_leave_open(tmp_path):
    summary = summary_of(with_positions(FALLING), tmp_path)
    text = describe_family(replace(summary, rank_chi_pos_unbiased=rank(high=0.1)))
    assert "inconclusive, the errors of the values leave their order open" in text


def test_three_sizes_are_too_few_to_be_clear(tmp_path):
    text = describe_family(summary_of(with_positions(FALLING)[::2], tmp_path))
    assert "3 sizes are too few for any order to be clearer than chance" in text


def test_the_values_at_the_ends_are_those_of_the_summary(tmp_path):
    summary = summary_of(with_positions(FALLING), tmp_path)
    smallest = summary.runs[0].late.chi_pos_unbiased
    text = describe_family(summary)
    assert text.startswith("Text: verse, 5 sizes from 21k to 910k parameters. Along the frontier")
    shown = f"({smallest.value / 1e-6:.2f} ± {smallest.stderr / 1e-6:.2f})×10⁻⁶ at 21k and ("
    assert 1e-6 <= smallest.value < 1e-5
    assert shown in text


@pytest.mark.parametrize(
    ("low", "high", "phrase"),
    [
        (0.08, 0.12, "the train loss falls with compute C as C^−α, exponent α = 0.100"),
        (-0.02, 0.12, "no clear fall of the train loss with compute: exponent α = 0.100"),
        (-0.12, -0.08, "rises with compute, against every scaling law: exponent α = 0.100"),
    ],
)
def test_the_frontier_in_words(tmp_path, low, high, phrase):
    summary = summary_of(with_positions(FALLING), tmp_path)
    law = replace(summary.frontier, exponent=0.1, low=low, high=high)
    text = describe_family(replace(summary, frontier=law))
    assert phrase in text
    assert "95% interval over batch noise, not seeds:" in text
    assert "when any one size is left out" in text
    seeds = describe_family(replace(summary, frontier=replace(law, covers_seeds=True)))
    assert "95% interval over runs and batches:" in seeds


def test_no_frontier_has_its_reason_in_words(tmp_path):
    summary = summary_of(with_positions(FALLING)[:1], tmp_path)
    assert summary.frontier == frontier([as_run_data(with_positions(FALLING)[0])])
    text = describe_family(summary)
    assert "one size of 21k parameters" in text
    assert "No loss-compute frontier is fitted: 1 sizes get below the unigram entropy" in text
    assert "Spectral position cannot be compared over sizes: 1 runs have a value and an error, 3 are needed." in text


def test_unfinished_runs_are_named(tmp_path):
    runs = with_positions(FALLING)
    runs[4] = replace(runs[4], done=120)
    text = describe_family(summary_of(runs, tmp_path, not_started=["text-9"]))
    assert "Not finished: text-4 (120 of 300 steps), text-9 (not begun)." in text
    nothing = summary_of([], tmp_path, not_started=["text-9"])
    assert describe_family(nothing).startswith("Text: verse, no run has begun. Not finished: text-9 (not begun).")


def test_held_out_loss_in_words(tmp_path):
    runs = with_positions(FALLING)
    fine = describe_family(summary_of(runs, tmp_path))
    assert "below the unigram entropy." in fine
    assert "too little trained" not in fine
    assert "Over-fitting" not in fine
    above = describe_family(summary_of([replace(run, entropy=3.5) for run in runs], tmp_path))
    assert "above to" in above
    assert "Not 10% below it, so too little trained to be judged: 21k, 56.3k" in above
    study = study_of(runs, tmp_path)
    run = study.families[0].runs[4]
    heldout = run.losses.heldout_loss.copy()
    heldout[-1] = 4.0
    overfitted = replace(run, losses=replace(run.losses, heldout_loss=heldout))
    family = replace(study.families[0], runs=(*study.families[0].runs[:4], overfitted))
    text = describe(summarise(replace(study, families=(family,))))
    assert "Over-fitting, held-out over train loss by more than 10%: 910k (4.00 against " in text


def test_one_paragraph_a_family(tmp_path):
    study = study_of(with_positions(FALLING), tmp_path)
    two = replace(study, families=(study.families[0], replace(study.families[0], label="Images: digits")))
    paragraphs = describe(summarise(two)).split("\n\n")
    assert [p.split(",")[0] for p in paragraphs] == ["Text: verse", "Images: digits"]


def test_a_run_without_noise_correction_is_not_an_end(tmp_path):
    run = SyntheticRun(name="x", parameters=1_000, steps=300, done=10)
    text = describe_family(summary_of([run, *with_positions(FALLING)], tmp_path))
    assert "at 21k and" in text
