"""Figure 1: every format, text as text, data equal to the study's rows, the same bytes every time."""

import csv
import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.synthetic_study import pixel_runs, text_runs, write_study
from spectral_reach.figures.registry import figure
from spectral_reach.records.errors import ForeignFolderError, RecordError
from spectral_reach.studies.analysis.summary import summarise
from spectral_reach.studies.analysis.words import describe_family

RUNS = {"text": text_runs(late_units=64), "pixels": pixel_runs()}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"), RUNS)


@pytest.fixture(scope="module")
def files(study):
    return {file.suffix: file for file in figure("fig1").draw(study)}


@pytest.fixture(scope="module")
def rows(files):
    with files[".csv"].open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def texts(files):
    root = ElementTree.parse(files[".svg"]).getroot()
    return ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]


def values(rows, **wanted):
    found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return [{key: float(row[key]) if row[key] else math.nan for key in ("flops", "value", "stderr")} for row in found]


def belongs(row, run):
    """Every size has one run here."""
    return row["parameters"] == str(run.parameters)


def test_every_format_is_written_beside_the_study(study, files):
    assert {suffix: file.parent for suffix, file in files.items()} == dict.fromkeys(
        (".png", ".pdf", ".svg", ".csv"), study / "figures"
    )
    assert {file.stem for file in files.values()} == {"fig1"}
    assert files[".png"].read_bytes().startswith(b"\x89PNG")
    assert files[".pdf"].read_bytes().startswith(b"%PDF")
    assert sorted(entry.name for entry in (study / "figures").iterdir()) == [
        f"fig1.{e}" for e in ("csv", "pdf", "png", "svg")
    ]


def test_text_is_text_in_vector_formats(files, texts):
    joined = " ".join(texts)
    for phrase in (
        "Text: Python standard library",
        "Images: hand-written digits",
        "compute (FLOPs)",
        "train loss (nats)",
    ):
        assert phrase in texts
    for phrase in (
        "spectral position",
        "chi_pos_unbiased",
        "chi_pos of the mini-batch",
        "unigram entropy",
        "910k",
        "6.2k",
    ):
        assert phrase in joined
    pdf = files[".pdf"].read_bytes()
    assert b"/Subtype /Type3" not in pdf
    assert b"/CIDFontType2" in pdf  # TrueType (42): selectable text


def test_the_words_of_the_summary_stand_under_the_figure(study, texts):
    joined = " ".join(texts)
    for family in summarise(study).families:
        assert describe_family(family) in joined


def test_the_losses_in_the_csv_are_those_of_the_study(rows):
    for family, runs in RUNS.items():
        for run in runs:
            losses = np.array([row["train_loss"] for row in run.loss_rows() if row["train_loss"] is not None])
            of_run = [row for row in rows if belongs(row, run) and row["quantity"] == "train_loss"]
            assert {row["family"] for row in of_run} == {family}
            assert {row["parameters"] for row in of_run} == {str(run.parameters)}
            covered = []
            for row in of_run:
                steps = range(int(row["first_step"]), int(row["last_step"]) + 1)
                covered.extend(steps)
                assert int(row["n"]) == len(steps)
                assert float(row["value"]) == pytest.approx(losses[steps].mean(), rel=1e-14)
                assert float(row["flops"]) == pytest.approx(
                    math.exp(np.log([run.flops(s) for s in steps]).mean()), rel=1e-12
                )
            assert covered == list(range(1, run.steps))


def test_the_positions_in_the_csv_are_those_of_the_study(rows):
    for run in RUNS["text"]:
        measured = {row["step"]: row for row in run.measurement_rows()}
        found = {
            quantity: [row for row in rows if belongs(row, run) and row["quantity"] == quantity]
            for quantity in ("chi_pos", "chi_pos_unbiased")
        }
        count = 0
        for mini, unbiased in zip(found["chi_pos"], found["chi_pos_unbiased"], strict=True):
            inside = [r for s, r in measured.items() if int(mini["first_step"]) <= s <= int(mini["last_step"])]
            count += len(inside)
            scale = np.mean([row["chi_loss"] * row["chi_net"] for row in inside])
            assert int(mini["n"]) == len(inside)
            assert {str(row["n_units"]) for row in inside} == {mini["n_units"]}
            assert float(mini["value"]) == pytest.approx(np.mean([row["chi_pos"] for row in inside]), rel=1e-12)
            expected = np.mean([row["delta_loss_unbiased"] for row in inside]) / scale
            assert float(unbiased["value"]) == pytest.approx(expected, rel=1e-12)
            assert float(unbiased["stderr"]) > 0
        assert count == len(measured)


def test_the_frontier_in_the_csv_is_that_of_the_summary(study, rows):
    for family in summarise(study).families:
        points = values(rows, family=family.key, quantity="frontier")
        assert len(points) > 5
        assert [p["value"] for p in points] == [p.loss for p in family.frontier.points]
        fit = values(rows, family=family.key, quantity="frontier_fit")
        slope = np.polyfit(np.log([p["flops"] for p in fit]), np.log([p["value"] for p in fit]), 1)[0]
        assert slope == pytest.approx(-family.frontier.exponent, rel=1e-9)


@pytest.mark.slow
def test_drawing_again_gives_the_same_bytes(study, files, tmp_path):
    again = {file.suffix: file for file in figure("fig1").draw(study, tmp_path / "new" / "folder")}
    assert again.keys() == files.keys()
    for suffix, file in files.items():
        assert again[suffix].read_bytes() == file.read_bytes(), suffix


def test_nothing_of_the_callers_settings_is_used_or_changed(study, files, tmp_path):
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": True, "xtick.direction": "in"}):
        file, _ = figure("fig1").draw(study, tmp_path, ["svg"])
        assert matplotlib.rcParams["font.size"] == 30
    assert file.read_bytes() == files[".svg"].read_bytes()
    assert dict(matplotlib.rcParams) == before


def drawn(study, out, monkeypatch) -> Figure:
    """The figure object of a study; it is not written as an image."""
    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (kept.append(self), path.write_bytes(b"")))
    figure("fig1").draw(study, out, ["png"])
    return kept[0]


def test_one_family_one_column(tmp_path, monkeypatch):
    study = write_study(tmp_path / "study", {"text": RUNS["text"], "pixels": []}, not_started={"pixels": ["pixels-1"]})
    one = drawn(study, tmp_path, monkeypatch)
    assert len(one.axes) == 2
    assert_fits(one)
    assert not any("Images" in text.get_text() for text in one.texts)


def test_nothing_sticks_out_of_the_page_and_panels_do_not_touch(study, tmp_path, monkeypatch):
    assert_fits(drawn(study, tmp_path, monkeypatch))


def assert_fits(page):
    width, height = page.get_size_inches() * page.dpi
    extents = {id(artist): artist.get_window_extent() for artist in (*page.texts, *page.legends, *page.axes)}
    for box in extents.values():
        assert 0 <= box.x0 <= box.x1 <= width
        assert 0 <= box.y0 <= box.y1 <= height
    for legend in page.legends:
        for axes in page.axes:
            assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_unfinished_runs_are_drawn_as_far_as_they_are(tmp_path, monkeypatch):
    runs = [
        *RUNS["text"][:4],
        replace(RUNS["text"][4], done=40),
    ]
    fresh = replace(RUNS["text"][0], name="fresh", parameters=3_000_000, done=0)
    page = drawn(write_study(tmp_path / "study", {"text": [*runs, fresh]}), tmp_path, monkeypatch)
    labels = [text.get_text() for legend in page.legends for text in legend.get_texts()]
    assert "910k*" in labels
    assert "412k" in labels
    upper = next(axes for axes in page.axes if axes.get_ylabel() == "train loss (nats)")
    ends = [max(line.get_xdata()) for line in upper.lines if len(line.get_xdata()) > 2]
    assert max(ends) <= max(RUNS["text"][3].flops(300), RUNS["text"][4].flops(40))


def test_windows_below_zero_are_marked_and_leave_a_gap(tmp_path, monkeypatch):
    noisy = [replace(run, position_noise=2e-6) for run in RUNS["text"]]
    study = write_study(tmp_path / "study", {"text": noisy})
    page = drawn(study, tmp_path, monkeypatch)
    lower = next(axes for axes in page.axes if axes.get_ylabel() == "spectral position")
    with (tmp_path / "fig1.csv").open(encoding="utf-8", newline="") as handle:
        unbiased = [row for row in csv.DictReader(handle) if row["quantity"] == "chi_pos_unbiased"]
    floor = lower.get_ylim()[0]
    below = sorted(float(row["flops"]) for row in unbiased if float(row["value"]) <= floor)
    assert any(float(row["value"]) <= 0 for row in unbiased)
    marked = [x for line in lower.lines if line.get_marker() == "v" for x in line.get_xdata()]
    assert sorted(marked) == below
    solid = [line for line in lower.lines if line.get_marker() == "o"]
    assert sum(np.isnan(line.get_ydata()).sum() for line in solid) == len(below)
    assert "≤ 0 or off the axis" in [t.get_text() for g in page.legends for t in g.get_texts()]


def test_the_mini_batch_line_breaks_where_the_number_of_units_changes(study, tmp_path, monkeypatch):
    page = drawn(study, tmp_path, monkeypatch)
    dotted = [
        sum(line.is_dashed() for line in axes.lines) for axes in page.axes if axes.get_xlabel() == "compute (FLOPs)"
    ]
    assert dotted == [2 * 5, 4]
    labels = [text.get_text() for legend in page.legends for text in legend.get_texts()]
    assert "chi_pos of the mini-batch; breaks where its size changes" in labels


@pytest.mark.parametrize(("formats", "got"), [(["png", "jpg"], "['png', 'jpg']"), ([], "[]")])
def test_unknown_formats_are_refused_before_any_work(tmp_path, formats, got):
    with pytest.raises(
        ValueError, match=re.escape(f"got figure formats {got}, expected some of ['png', 'pdf', 'svg']")
    ):
        figure("fig1").draw(tmp_path / "nowhere", tmp_path, formats)


def test_a_study_without_a_row_has_nothing_to_draw(tmp_path):
    empty = write_study(tmp_path, {"text": [replace(RUNS["text"][0], done=0)]}, not_started={"text": ["text-9"]})
    with pytest.raises(ValueError, match="has recorded a loss: got nothing to draw; run the study first"):
        figure("fig1").draw(empty)


def test_a_foreign_folder_is_refused(tmp_path):
    with pytest.raises(ForeignFolderError, match="is no study folder"):
        figure("fig1").draw(tmp_path)


def test_an_output_that_cannot_be_written(study, tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(RecordError, match="cannot be written"):
        figure("fig1").draw(study, tmp_path / "file" / "inside", ["svg"])


def test_the_registry_names_what_it_has():
    with pytest.raises(ValueError, match="got figure 'fig99', expected one of coordinate-check, fig1"):
        figure("fig99")
