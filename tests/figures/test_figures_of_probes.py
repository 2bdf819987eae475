"""Figures 4 and 5 from studies of linear probes: whole, half finished, of two data sets, and without any probe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from analysis.synthetic_study import SyntheticRun, text_runs, with_seeds, write_study
from figures.pages import (
    assert_fits,
    assert_rows_hold_what_is_drawn,
    page_of,
    rows_of,
    values_of,
    words_of,
)
from spectral_reach.figures.registry import figure
from spectral_reach.records.errors import ForeignFolderError
from spectral_reach.reports.charts import fig4, fig5

NAMES = ("fig4", "fig5")
SIZES = (21_000, 56_300, 207_000)


def runs_of(kind: str, late_positions: tuple[float, ...], **changes: object) -> list[SyntheticRun]:
    runs = [
        replace(run, name=f"{kind}-{i}", late_position=position, position_noise=0.02 * position, steps=150, **changes)
        for i, (run, position) in enumerate(zip(text_runs()[:3], late_positions, strict=True))
    ]
    return with_seeds(runs, (0, 1))


FULL = runs_of("full", (1e-6, 1e-6, 1e-6), chi_net_growth=9.0)
PRETRAINED = [
    replace(run, trained="readout", backbone=full.name)
    for run, full in zip(runs_of("pretrained", (1e-6, 1e-6, 1e-6)), FULL, strict=True)
]
RANDOM = [replace(run, trained="readout") for run in runs_of("random", (2e-6, 4e-6, 8e-6))]
FAMILIES = {"full": FULL, "pretrained": PRETRAINED, "random": RANDOM}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("probes"), FAMILIES, study="probes")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_and_its_rows(name: str, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(name, study, tmp_path, monkeypatch)
    assert_fits(page)
    assert_rows_hold_what_is_drawn(page, rows_of(name, tmp_path))
    assert "Linear probes" in words_of(page)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_same_study_gives_the_same_bytes(name: str, study: Path, tmp_path: Path) -> None:
    once, again = (figure(name).draw(study, tmp_path / each, ["svg"]) for each in ("once", "again"))
    assert [file.name for file in once] == [f"{name}.svg", f"{name}.csv"]
    assert [file.read_bytes() for file in once] == [file.read_bytes() for file in again]


def test_the_ratio_is_random_over_pretrained(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of("fig4", study, tmp_path, monkeypatch)
    rows = rows_of("fig4", tmp_path)
    ratios = [row for row in rows if row["quantity"] == "ratio_chi_pos_unbiased"]
    assert [int(row["parameters"]) for row in ratios] == list(SIZES)
    random = values_of(rows, quantity="random_chi_pos_unbiased")
    pretrained = values_of(rows, quantity="pretrained_chi_pos_unbiased")
    for row, expected, above, below in zip(ratios, (2, 4, 8), random, pretrained, strict=True):
        assert float(row["value"]) == pytest.approx(above / below)
        assert float(row["value"]) == pytest.approx(expected, rel=0.1)
        assert float(row["low"]) < float(row["value"]) < float(row["high"])
    assert "(0 of 3 intervals hold 1)" in words_of(page)


def test_chi_net_grows_in_full_training(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of("fig5", study, tmp_path, monkeypatch)
    rows = rows_of("fig5", tmp_path)
    assert {row["family"] for row in rows} == {"full", "random"}
    for family, growth in (("full", 9.0), ("random", 1.0)):
        for parameters in SIZES:
            over_first = values_of(rows, family=family, parameters=parameters, quantity="chi_net_over_first")
            chi_net = values_of(rows, family=family, parameters=parameters, quantity="chi_net")
            assert [x / chi_net[0] for x in chi_net] == pytest.approx([x / over_first[0] for x in over_first])
            assert over_first[-1] == pytest.approx(growth, rel=0.5)
    assert "full training multiplies chi_net by" in words_of(page)


def test_one_size_and_one_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write_study(tmp_path / "s", {key: runs[:1] for key, runs in FAMILIES.items()}, study="probes")
    for name in NAMES:
        page = page_of(name, study, tmp_path, monkeypatch)
        assert_fits(page)
        assert_rows_hold_what_is_drawn(page, rows_of(name, tmp_path))


def test_two_data_sets_are_two_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doubled = {**FAMILIES}
    for key, runs in FAMILIES.items():
        doubled[f"{key}-pixels"] = [replace(run, name=f"pixels-{run.name}") for run in runs]
    study = write_study(tmp_path / "s", {key: runs[:2] for key, runs in doubled.items()}, study="probes")
    for name in NAMES:
        page = page_of(name, study, tmp_path, monkeypatch)
        assert len(page.axes) == 4
        assert "Linear probes: pixels" in words_of(page)
        assert_fits(page)


def test_probes_that_are_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = {"full": FULL[:2], "pretrained": [replace(PRETRAINED[0], done=30)], "random": RANDOM[:1]}
    study = write_study(tmp_path / "half", half, study="probes", not_started={"random": ["random-9"]})
    page = page_of("fig4", study, tmp_path, monkeypatch)
    assert "cannot be compared: no size has finished runs of both" in words_of(page)
    assert {row["quantity"] for row in rows_of("fig4", tmp_path)} == {"random_chi_pos", "random_chi_pos_unbiased"}
    assert_fits(page)
    early = {"full": FULL[:1], "random": [replace(RANDOM[0], done=20)]}
    begun = write_study(tmp_path / "early", early, study="probes", not_started={"pretrained": ["pretrained-0"]})
    with pytest.raises(ValueError, match=r"no linear probe of .* is finished: got nothing to average; run it further"):
        figure("fig4").draw(begun)
    assert_fits(page_of("fig5", begun, tmp_path, monkeypatch))


def test_probes_that_have_not_begun(tmp_path: Path) -> None:
    waiting = {"pretrained": ["pretrained-0"], "random": ["random-0"]}
    families: dict[str, list[SyntheticRun]] = {"full": FULL[:1], "pretrained": [], "random": []}
    study = write_study(tmp_path / "s", families, study="probes", not_started=waiting)
    with pytest.raises(ValueError, match=r"no linear probe of .* is finished: got nothing to average; run it further"):
        figure("fig4").draw(study)
    with pytest.raises(ValueError, match=r"no linear probe of .* has begun: got nothing to compare; run it further"):
        figure("fig5").draw(study)
    assert [module.chart([study]) for module in (fig4, fig5)] == [None, None]


def test_a_data_set_without_finished_probes_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = replace(RANDOM[0], name="pixels-random-0", done=20)
    study = write_study(tmp_path / "s", {"random": RANDOM[:1], "random-pixels": [begun]}, study="probes")
    page = page_of("fig4", study, tmp_path, monkeypatch)
    notes = [[text.get_text() for text in axes.texts] for axes in page.axes]
    assert notes[2:] == [["no probe is finished"], ["no size has finished runs of both"]]
    assert_fits(page)


@pytest.mark.parametrize("name", NAMES)
def test_studies_without_probes_are_refused(name: str, tmp_path: Path, study: Path) -> None:
    without = write_study(tmp_path / "s", {"text": FULL[:1]})
    with pytest.raises(ForeignFolderError, match="in which everything is trained; expected linear probes"):
        figure(name).draw(without)
    second = write_study(tmp_path / "t", {"text": FULL[:1], "other": FULL[2:3]})
    with pytest.raises(ValueError, match=r"got two families of one kind \(full\), 'full' and 'text'"):
        figure(name).draw([study, second])
