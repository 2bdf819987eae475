"""summary.json and summary.md: complete, strict JSON, and the same bytes every time."""

import json
import math
from dataclasses import replace

import pytest

from analysis.synthetic_study import pixel_runs, text_runs, write_study
from spectral_reach.records.errors import RecordError
from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.numbers import interval, signed, size, small, with_error
from spectral_reach.studies.analysis.report import as_json, as_markdown, write_report
from spectral_reach.studies.analysis.scaling_report import COLUMNS, report_of, table
from spectral_reach.studies.analysis.summary import summarise
from spectral_reach.studies.analysis.words import describe_family


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = text_runs(steps=100)
    runs[1] = replace(runs[1], done=60)
    families = {"text": runs, "pixels": pixel_runs(steps=100)}
    return write_study(tmp_path_factory.mktemp("study"), families, not_started={"text": ["text-9"]})


def test_the_table_holds_the_numbers_of_the_summary(folder):
    summary = summarise(folder)
    text, pixels = summary.families
    assert [len(row) for row in table(text)] == [len(COLUMNS)] * 5
    first, second = table(text)[:2]
    late = text.runs[0].late
    assert first == (
        "21k",
        "21,000",
        "14,699",
        with_error(late.train_loss),
        f"{late.heldout_loss:.3f}",
        "5.200",
        small(late.chi_pos),
        small(late.chi_pos_unbiased),
    )
    assert second[0] == "56.3k (60 of 100 steps)"
    assert second[3:5] == ("–", "–")
    assert second[6:] == ("–", "–")
    assert [row[0] for row in table(pixels)] == ["6.2k", "24k", "142k", "784k"]


def test_markdown_has_a_table_and_the_words_of_each_family(folder):
    summary = summarise(folder)
    text = as_markdown(report_of(summary))
    assert text.startswith("# Study scaling, preset synthetic\n\n## Text: Python standard library\n\n| size |")
    for family in summary.families:
        assert describe_family(family) in text
        for row in table(family):
            assert f"| {' | '.join(row)} |" in text


def test_json_is_strict_and_undefined_is_null_with_a_reason(folder):
    summary = summarise(folder)
    values = json.loads(json.dumps(as_json(report_of(summary)), allow_nan=False))
    text = values["families"][0]
    assert text["not_started"] == ["text-9"]
    assert text["runs"][0]["late"]["chi_pos"]["value"] == summary.families[0].runs[0].late.chi_pos.value
    unfinished = text["runs"][1]["late"]
    assert unfinished["chi_pos_unbiased"] == {
        "value": None,
        "stderr": None,
        "n": 0,
        "reason": "unfinished: 60 of 100 steps",
    }
    assert unfinished["heldout_loss"] is None
    assert text["frontier"]["exponent"] == summary.families[0].frontier.exponent
    assert text["verdict_chi_pos_unbiased"] in ("supported", "contradicted", "inconclusive")
    assert text["text"] == describe_family(summary.families[0])


def test_two_summaries_of_one_folder_have_equal_bytes(folder, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(report_of(summarise(folder)), tmp_path / name)
    for file in ("summary.json", "summary.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_files_are_named_and_replaced_whole(folder, tmp_path):
    (tmp_path / "summary.md").write_text("old", encoding="utf-8")
    files = write_report(report_of(summarise(folder)), tmp_path)
    assert files == (tmp_path / "summary.json", tmp_path / "summary.md")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["summary.json", "summary.md"]
    assert json.loads(files[0].read_text("utf-8"))["study"] == "scaling"


def test_a_folder_that_cannot_be_written(folder, tmp_path):
    with pytest.raises(RecordError, match=r"summary\.json"):
        write_report(report_of(summarise(folder)), tmp_path / "absent")


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        (984, "984"),
        (999, "999"),
        (1000, "1k"),
        (20_940, "20.9k"),
        (999_499, "999k"),
        (999_600, "1M"),
        (1_234_567, "1.23M"),
        (7_000_000_000, "7B"),
    ],
)
def test_sizes(parameters, text):
    assert size(parameters) == text


@pytest.mark.parametrize(
    ("value", "stderr", "n", "as_small", "as_error"),
    [
        (1.234e-6, 8.7e-8, 5, "(1.23 ± 0.09)×10⁻⁶", "0.00000123 ± 0.00000009"),
        (-2e-8, 4e-7, 5, "(−0.20 ± 4.00)×10⁻⁷", "−0.0000000 ± 0.0000004"),
        (2.3121, 0.0043, 9, "(2.31 ± 0.00)×10⁰", "2.312 ± 0.004"),
        (2.3121, 0.0143, 9, "(2.31 ± 0.01)×10⁰", "2.312 ± 0.014"),
        (2.5, math.nan, 1, "2.50×10⁰", "2.5"),
        (math.nan, math.nan, 0, "–", "–"),
        (0.0, 0.0, 3, "0", "0"),
    ],
)
def test_values_with_errors(value, stderr, n, as_small, as_error):
    estimate = Estimate(value=value, stderr=stderr, n=n, reason="few" if n < 2 else None)
    assert small(estimate) == as_small
    assert with_error(estimate) == as_error


def test_intervals_show_the_digits_that_differ():
    assert interval(0.0812, 0.0849) == "0.0812 to 0.0849"
    assert interval(0.1, 0.9) == "0.10 to 0.90"
    assert interval(-1.0, -1.0) == "−1.00 to −1.00"
    assert signed(-0.4) == "−0.40"
