"""The claims table: every claim has a row, rows, files, cells, where measures differ, what is not run."""

import json
import math
from dataclasses import replace

import pytest

from analysis.claims_world import family, of_text
from analysis.synthetic_study import write_study
from spectral_reach.records.errors import ForeignFolderError, RecordError
from spectral_reach.reports.claims_section import claims_section
from spectral_reach.studies.analysis.claims import ClaimsTable, Finding, Verdict, evaluate, write_claims
from spectral_reach.studies.analysis.claims.registry import CLAIMS
from spectral_reach.studies.analysis.claims.table import COLUMNS
from spectral_reach.studies.analysis.numbers import with_interval


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> ClaimsTable:
    """Mini-batch position is all gradient noise, the same for all sizes; the population's falls with size."""
    return of_text(tmp_path_factory.mktemp("noisy"), family(batch_noise=2e-5))


def test_without_any_study_every_claim_is_not_run():
    table = evaluate({})
    assert [each.key for each in table.claims] == list(dict.fromkeys(each.claim for each in table.findings))
    assert table.claims == CLAIMS
    assert len({each.key for each in CLAIMS}) == len(CLAIMS) == 13
    assert table.counts == {**dict.fromkeys(Verdict, 0), Verdict.NOT_RUN: len(table.findings)}
    assert table.differences == ()
    for finding in table.findings:
        claim = next(each for each in CLAIMS if each.key == finding.claim)
        assert finding.study in claim.studies
        assert finding.study in finding.reason
        assert math.isnan(finding.estimate)
        assert (finding.measure, finding.estimate_in_words, finding.n_in_words) == ("", "–", "–")
    assert table.in_words() == f"Findings: 0 supported, 0 contradicted, 0 inconclusive, {len(table.findings)} not run."


def test_where_the_measures_differ_is_said_in_a_sentence_each(noisy):
    found = {(f.claim, f.measure): f for f in noisy.findings}
    mini, unbiased = (found["larger-models-end-lower", name] for name in ("chi_pos", "chi_pos_unbiased"))
    assert (mini.verdict, unbiased.verdict) == (Verdict.INCONCLUSIVE, Verdict.SUPPORTED)
    (sentence,) = [each for each in noisy.differences if each.startswith("Larger models end")]
    assert sentence == (
        "Larger models end at a lower spectral position, on text and on images (Text: Python standard library; late "
        "position at the largest over the smallest size; besides, Spearman correlation of size with it over runs, "
        f"one-sided p by permuting sizes): inconclusive for chi_pos, {mini.estimate_in_words}, but supported for "
        f"chi_pos_unbiased, {unbiased.estimate_in_words}."
    )
    same = replace(noisy, findings=tuple(f for f in noisy.findings if f.claim == "train-and-test-agree"))
    assert same.differences == ()
    assert same.in_words().endswith("chi_pos and chi_pos_unbiased lead to the same verdicts.")
    assert noisy.in_words().endswith(" ".join(noisy.differences))


def test_one_measure_alone_compares_nothing(noisy):
    """Of another claim, or of other runs, the other measure does not count."""
    mini = tuple(f for f in noisy.findings if f.claim == "train-and-test-agree" and f.measure == "chi_pos")
    unbiased = tuple(f for f in noisy.findings if f.claim == "train-and-test-agree" and f.measure == "chi_pos_unbiased")
    elsewhere = tuple(replace(finding, family="images") for finding in unbiased)
    for findings, compared in ((mini, False), (mini + elsewhere, False), (mini + unbiased, True)):
        table = replace(noisy, findings=findings)
        assert table.are_compared == compared
        assert ("lead to the same verdicts" in table.in_words()) == compared
        assert ("both lead to the same verdicts" in str(claims_section(table))) == compared


def test_rows_of_numbers(noisy):
    rows = noisy.as_rows()
    assert len(rows) == len(noisy.findings)
    assert all(set(row) == {"statement", *Finding.__dataclass_fields__} for row in rows)
    for row, finding in zip(rows, noisy.findings, strict=True):
        assert row["verdict"] == finding.verdict
        assert row["estimate"] == finding.estimate or math.isnan(finding.estimate)
        assert row["statement"] == noisy.statement(finding)


def test_files_to_read_and_for_programs(noisy, tmp_path):
    files = write_claims(noisy, tmp_path)
    assert files == (tmp_path / "claims.md", tmp_path / "claims.json")
    text = files[0].read_text(encoding="utf-8")
    assert text.startswith("# Claims of the paper\n\n| claim | data |")
    assert text.count("\n| ") == len(noisy.findings) + 2
    assert noisy.in_words() in text
    values = json.loads(files[1].read_text(encoding="utf-8"))
    assert values["counts"]["not run"] == noisy.counts[Verdict.NOT_RUN] > 0
    assert values["findings"][-1]["estimate"] is None
    assert values["differences"] == list(noisy.differences)
    (tmp_path / "a file").touch()
    with pytest.raises(RecordError, match="cannot be written"):
        write_claims(noisy, tmp_path / "a file")


def test_cells_of_the_table(noisy):
    section = noisy.section()
    assert section.columns == COLUMNS
    assert all(len(row) == len(COLUMNS) for row in section.rows)
    first = noisy.findings[0]
    assert section.rows[0] == (
        "Loss falls as a power law of compute.",
        "Text: Python standard library",
        "loss",
        first.statistic,
        with_interval(first.estimate, first.low, first.high),
        f"{first.n} windows of compute",
        "supported",
        first.reason,
    )


def test_the_same_folders_give_the_same_table(tmp_path):
    folder = write_study(tmp_path / "text", {"text": family(seeds=(0,))}, study="scaling-text")
    first, second = (evaluate({"scaling-text": folder}).as_rows() for _ in range(2))
    assert repr(first) == repr(second)


def test_the_demo_study_has_both_families_and_the_large_ones_come_first(tmp_path):
    demo = write_study(tmp_path / "scaling", {"text": family(seeds=(0,)), "pixels": family("pixels", seeds=(0,))})
    large = write_study(tmp_path / "text", {"text": family()}, study="scaling-text")
    table = evaluate({"scaling": demo, "scaling-text": large})
    rows = {(f.study, f.family): f.n for f in table.findings if f.claim == "spectral-position-falls"}
    assert rows == {("scaling-text", "Text: Python standard library"): 8, ("scaling", "Images: hand-written digits"): 4}


def test_a_folder_of_another_study_is_refused(tmp_path):
    folder = write_study(tmp_path / "text", {"text": []}, study="scaling-text")
    with pytest.raises(ForeignFolderError, match=r"holds the study 'scaling-text'; expected 'vit': give each folder"):
        evaluate({"vit": folder})
    with pytest.raises(ForeignFolderError, match="is no study folder"):
        evaluate({"probes": tmp_path})


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.361, 0.312, 0.418), "0.36 (0.31 to 0.42)"),
        ((0.0040, 0.0035, 0.0046), "0.0040 (0.0035 to 0.0046)"),
        ((251.3, 180.2, 340.9), "251 (180 to 341)"),
        ((0.99987, 0.99984, 0.99991), "0.9999 (0.9998 to 0.9999)"),
        ((-0.02, -0.11, 0.07), "−0.02 (−0.11 to 0.07)"),
        ((1.0, 1.0, 1.0), "1.00 (1.00 to 1.00)"),
        ((-0.5, math.nan, math.nan), "−0.5"),
        ((math.nan,) * 3, "–"),
    ],
)
def test_an_estimate_with_its_interval_in_words(numbers, text):
    assert with_interval(*numbers) == text
