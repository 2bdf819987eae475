"""Figures 1, 7, 8, 9, 10 and 11 from two studies with seeds: what is drawn is in the rows, whatever is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.synthetic_study import SyntheticRun, as_run_data, pixel_runs, text_runs, with_seeds, write_study
from figures.pages import (
    MARKS_OF_THE_AXIS,
    assert_fits,
    assert_rows_hold_what_is_drawn,
    keys_of,
    page_of,
    rows_of,
    values_of,
    words_of,
)
from spectral_reach.figures import fig10, fig10_data, fig11_data
from spectral_reach.figures.curves import BAND_ALPHA, FAINT_BAND_ALPHA, draw_band, key_band
from spectral_reach.figures.fig11_data import QUANTITIES, changes, curves_of, names
from spectral_reach.figures.points import Point
from spectral_reach.figures.registry import figure
from spectral_reach.records.errors import ForeignFolderError
from spectral_reach.studies.analysis.isocompute import IsoCompute, isocompute
from spectral_reach.studies.analysis.rank import RankCorrelation
from spectral_reach.studies.analysis.size_average import size_averages
from spectral_reach.studies.analysis.size_windows import measurement_windows
from spectral_reach.studies.analysis.study_data import FamilyData, read_study

NAMES = ("fig1", "fig7", "fig8", "fig9", "fig10", "fig11")
_SIZES = (21_000, 30_000, 42_000)
_RUNS = text_runs(steps=200, heldout_units=32, chi_net_growth=4.0)[:3]
TEXT = with_seeds([replace(run, parameters=size) for run, size in zip(_RUNS, _SIZES, strict=True)], (0, 1))
PIXELS = [replace(run, steps=80) for run in pixel_runs(heldout_units=32)[:2]]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("studies")
    text = write_study(home / "scaling-text", {"text": TEXT}, study="scaling-text")
    return text, write_study(home / "scaling-pixels", {"pixels": PIXELS}, study="scaling-pixels")


@pytest.mark.parametrize("name", NAMES)
def test_two_studies_side_by_side(
    name: str, studies: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = page_of(name, studies, tmp_path, monkeypatch)
    rows = rows_of(name, tmp_path)
    assert_fits(page)
    assert_rows_hold_what_is_drawn(page, rows)
    assert {row["family"] for row in rows} == ({"text"} if name == "fig10" else {"text", "pixels"})
    assert "Text: Python standard library" in words_of(page)
    assert "Images: hand-written digits" in words_of(page)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_same_study_gives_the_same_bytes(name: str, studies: tuple[Path, Path], tmp_path: Path) -> None:
    once = figure(name).draw(studies[0], tmp_path / "once", ["svg"])
    again = figure(name).draw([str(studies[0])], str(tmp_path / "again"), ["svg"])
    assert [file.name for file in once] == [f"{name}.svg", f"{name}.csv"]
    assert [file.read_bytes() for file in once] == [file.read_bytes() for file in again]


def test_several_folders_are_drawn_beside_the_first(studies: tuple[Path, Path]) -> None:
    files = figure("fig10").draw(studies, formats=["png"])
    assert {file.parent for file in files} == {studies[0].parent / "figures"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("noise", [1e-9, 3e-6])
def test_the_key_has_triangles_where_the_page_has(
    name: str, noise: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path / "s", {"text": [replace(run, position_noise=noise) for run in TEXT]})
    page = page_of(name, study, tmp_path, monkeypatch)
    is_drawn = any(line.get_marker() in MARKS_OF_THE_AXIS for axes in page.axes for line in axes.lines)
    assert ("≤ 0 or off the axis" in keys_of(page)) is is_drawn
    assert is_drawn is (noise > 1e-6)


def test_a_band_is_faint_where_the_error_exceeds_the_value() -> None:
    values = (4.0, 4.0, 1.0, 4.0, math.nan, 4.0, 4.0)
    curve = [
        Point(family="text", parameters=1, quantity="q", flops=10.0**i, value=value, stderr=2.0)
        for i, value in enumerate(values)
    ]
    axes = Figure().add_subplot()
    draw_band(axes, curve, 0.5, (0.0, 0.0, 0.0))
    spans = [
        (float(x.min()), float(x.max())) for x in (band.get_paths()[0].vertices[:, 0] for band in axes.collections)
    ]
    assert spans == [(1, 10), (10, 1e3), (1e5, 1e6)]
    assert [band.get_alpha() for band in axes.collections] == [BAND_ALPHA, FAINT_BAND_ALPHA, BAND_ALPHA]
    assert str(key_band(curve).get_label()).endswith("; faint where it exceeds the value")
    assert str(key_band(curve[:2]).get_label()) == "± 1 standard error"


@pytest.mark.parametrize("name", NAMES)
def test_one_run_that_has_just_begun(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = replace(TEXT[0], done=9)
    study = write_study(tmp_path / "study", {"text": [begun], "pixels": []}, not_started={"text": ["text-8"]})
    page = page_of(name, study, tmp_path, monkeypatch)
    assert_fits(page)
    if name != "fig10":
        assert "21k*" in keys_of(page)
        assert rows_of(name, tmp_path)


@pytest.mark.parametrize("name", ["fig1", "fig8"])
def test_the_first_step_alone_has_no_place_on_an_axis_of_compute(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path / "study", {"text": [replace(TEXT[0], done=1)]})
    assert_fits(page_of(name, study, tmp_path, monkeypatch))
    assert rows_of(name, tmp_path) == []


@pytest.mark.parametrize("name", NAMES)
def test_what_has_not_begun_is_not_drawn(name: str, tmp_path: Path) -> None:
    empty = write_study(tmp_path / "study", {"text": [replace(TEXT[0], done=0)]}, not_started={"text": ["text-9"]})
    with pytest.raises(ValueError, match="has recorded a loss: got nothing to draw; run the study first"):
        figure(name).draw(empty)
    with pytest.raises(ForeignFolderError, match="is no study folder"):
        figure(name).draw(tmp_path)


def test_families_of_one_name_are_refused(studies: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="more than one family called text: expected families of different names"):
        figure("fig7").draw([studies[0], studies[0]])


def test_curves_are_means_over_seeds_with_their_error(
    studies: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = page_of("fig7", studies[0], tmp_path / "one", monkeypatch)
    assert "± 1 standard error, over 2 seeds" in keys_of(page)
    page = page_of("fig7", studies, tmp_path, monkeypatch)
    assert "± 1 standard error, over seeds where there are several" in keys_of(page)
    rows = rows_of("fig7", tmp_path)
    seeds = [{row["step"]: row for row in run.measurement_rows()} for run in TEXT[:2]]
    for quantity in ("chi_loss", "chi_net", "chi_pos", "delta_loss"):
        found = [r for r in rows if r["family"] == "text" and r["parameters"] == "21000" and r["quantity"] == quantity]
        assert len(found) > 8
        for row in found:
            steps = [s for s in seeds[0] if int(row["first_step"]) <= s <= int(row["last_step"])]
            means = [np.mean([seed[s][quantity] for s in steps]) for seed in seeds]
            own = [np.std([seed[s][quantity] for s in steps], ddof=1) / math.sqrt(len(steps)) for seed in seeds]
            assert float(row["value"]) == pytest.approx(np.mean(means), rel=1e-12)
            spread = abs(means[0] - means[1]) / 2
            assert float(row["stderr"]) == pytest.approx(max(spread, math.hypot(*own) / 2), rel=1e-9)
            assert row["runs"] == "2"
            assert int(row["n"]) == 2 * len(steps)


def test_the_product_of_the_components_is_the_fall_of_the_loss(
    studies: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = page_of("fig7", studies, tmp_path, monkeypatch)
    rows = rows_of("fig7", tmp_path)
    for row in (r for r in rows if r["quantity"] == "delta_loss"):
        at = {k: row[k] for k in ("family", "parameters", "first_step")}
        factors = [values_of(rows, quantity=name, **at)[0] for name in ("chi_loss", "chi_net", "chi_pos")]
        assert float(row["value"]) == pytest.approx(math.prod(factors), rel=0.05)  # their noise is independent
    growth = values_of(rows, family="text", parameters=42_000, quantity="chi_net")
    assert f"chi_net {growth[-1] / growth[0]:.2g}" in words_of(page)


def test_held_out_is_compared_with_training(
    studies: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path / "s", {"text": [replace(run, heldout_ratio=1.6) for run in TEXT]})
    page = page_of("fig8", study, tmp_path, monkeypatch)
    rows = rows_of("fig8", tmp_path)
    ratios = values_of(rows, quantity="ratio_chi_pos")
    assert ratios == pytest.approx([1.6] * 3, rel=0.05)
    assert values_of(rows, quantity="ratio_loss") == pytest.approx([1.02] * 3, rel=0.02)
    family = read_study(study).family("text")
    train, test = size_averages(family.runs), size_averages(family.runs, heldout=True)
    expected = [b.chi_pos_unbiased.value / a.chi_pos_unbiased.value for a, b in zip(train, test, strict=True)]
    assert values_of(rows, quantity="ratio_chi_pos_unbiased") == pytest.approx(expected)
    assert "mini-batch chi_pos 1.6" in words_of(page)
    assert "(0 of 3 intervals hold 1)" in words_of(page)


def test_mini_batches_of_other_sizes_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write_study(tmp_path / "s", {"text": [replace(run, heldout_units=8) for run in TEXT]})
    page_of("fig8", study, tmp_path, monkeypatch)
    quantities = {row["quantity"] for row in rows_of("fig8", tmp_path)}
    assert "ratio_chi_pos_unbiased" in quantities
    assert "ratio_chi_pos" not in quantities


def test_without_held_out_measurements_there_is_no_figure_8(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", {"text": [replace(TEXT[0], heldout_units=0)]})
    with pytest.raises(ValueError, match="has measured spectral position on held-out data: got nothing to compare"):
        figure("fig8").draw(study)


def vits(parametrisation: str, late_position: float) -> list[SyntheticRun]:
    model = {"name": "vit", "width": 64, "parametrisation": parametrisation}
    return [
        replace(run, name=f"{run.name}-{parametrisation}", late_position=late_position, overrides={"model": model})
        for run in PIXELS
    ]


def test_both_parametrisations_share_their_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [
        write_study(tmp_path / "vit", {"vit": vits("standard", 1e-5)}, study="vit"),
        write_study(tmp_path / "vit-mup", {"vit-mup": vits("mup", 2e-6)}, study="vit-mup"),
    ]
    page = page_of("fig9", folders, tmp_path, monkeypatch)
    assert_fits(page)
    texts = words_of(page)
    assert "ViTs in standard parametrisation" in texts
    assert "ViTs in muP" in texts
    left, right = page.axes[:3], page.axes[3:]
    assert [axes.get_ylim() for axes in left] == [axes.get_ylim() for axes in right]
    late = values_of(rows_of("fig9", tmp_path), family="vit-mup", quantity="late_chi_pos_unbiased")
    assert late == pytest.approx([2e-6] * 2, rel=0.5)


def test_isocompute_curves_are_those_of_the_analysis(
    studies: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = page_of("fig10", studies, tmp_path, monkeypatch)
    rows = rows_of("fig10", tmp_path)
    found = isocompute(read_study(studies[0]).family("text").runs)
    assert len(found.curves) >= 2
    for curve in found.curves:
        for quantity in ("heldout_loss", "chi_pos", "chi_pos_unbiased"):
            assert values_of(rows, flops=curve.flops, quantity=quantity) == [
                getattr(point, quantity).value for point in curve.points
            ]
            minima = [
                row for row in rows if row["flops"] == str(curve.flops) and row["quantity"].endswith(f"of_{quantity}")
            ]
            assert [float(row["value"]) for row in minima] == [getattr(curve, quantity).value]
    stars = [line for axes in page.axes for line in axes.lines if line.get_marker() == "*"]
    assert len(stars) == 3 * len(found.curves)
    assert "There are no curves" in words_of(page)  # of pixels
    empty = [axes for axes in page.axes if any("fewer than three sizes" in text.get_text() for text in axes.texts)]
    assert len(empty) == 3


def test_the_words_of_figure_10_say_at_which_budgets_position_is_compared() -> None:
    found = isocompute([as_run_data(run) for run in TEXT])
    assert fig10.describe(found).startswith("Whether position follows the loss is unknown: at all ")
    rank = RankCorrelation(
        rho=0.5, low=0.5, high=1.0, p_rising=0.04, p_falling=0.9, p_two_sided=0.08, exact=True, n=3, sizes=3
    )
    telling = replace(found, telling=1, follows_chi_pos=rank, follows_chi_pos_unbiased=rank)
    assert f"over sizes at 1 of {len(found.curves)} budgets, those with a minimum of the loss" in fig10.describe(
        telling
    )
    assert "chi_pos_unbiased 0.50 (0.50 to 1.00), p = 0.04; chi_pos of mini-batches of 32 units" in (
        fig10.describe(telling)
    )


def test_a_panel_of_points_alone_says_so(
    studies: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_size(family: str, found: IsoCompute) -> tuple[Point, ...]:
        points = fig10_data.family_points(family, found)
        return tuple(p for p in points if p.quantity != "chi_pos" or p.parameters == _SIZES[0])

    monkeypatch.setattr(fig10, "family_points", one_size)
    page = page_of("fig10", studies[0], tmp_path, monkeypatch)
    *full, alone = page.axes
    assert [text.get_text() for text in alone.texts] == ["no two sizes have it at one compute"]
    assert not alone.lines
    assert len(alone.get_yticks()) == 0
    assert not any(axes.texts for axes in full)


def test_figure_11_shows_each_quantity_in_its_own_panel(
    studies: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = page_of("fig11", studies[0], tmp_path, monkeypatch)
    rows = rows_of("fig11", tmp_path)
    assert [axes.get_ylabel() for axes in page.axes[:3]] == [f"{name} / peak" for name in QUANTITIES]
    for axes, name in zip(page.axes, QUANTITIES, strict=False):
        unbiased, mini_batch = curves_of(name)
        lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
        dotted = [float(y) for line in lines if line.is_dashed() for y in line.get_ydata()]
        assert dotted == values_of(rows, quantity=mini_batch)
        assert sum(not line.is_dashed() for line in lines) == len(
            {r["parameters"] for r in rows if r["quantity"] == unbiased}
        )


def test_figure_11_normalises_to_the_early_peak(
    studies: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = page_of("fig11", studies, tmp_path, monkeypatch)
    rows = rows_of("fig11", tmp_path)
    for parameters in (21_000, 42_000):
        at = {"family": "text", "parameters": parameters}
        position = values_of(rows, quantity="chi_pos_unbiased_over_peak", **at)
        assert max(position[: len(position) // 2]) == 1.0
        net = values_of(rows, quantity="chi_net_over_peak_of_chi_pos_unbiased", **at)
        product = values_of(rows, quantity="chi_net_chi_pos_unbiased_over_peak", **at)
        assert product == pytest.approx([a * b for a, b in zip(net, position, strict=True)], rel=0.1)
    slopes = " ".join(text.get_text() for axes in page.axes for text in axes.texts)
    assert "chi_pos_unbiased: slope 0." in slopes
    assert "Share of chi_pos in the changes after warm-up" in words_of(page)


def test_changes_are_of_windows_in_which_position_and_product_are_positive() -> None:
    """Both are averages, of different kinds: over seeds one may come out negative where the other does not."""
    product, _, position = names("chi_pos_unbiased")
    rows = {10: (1.0, 1.0), 20: (0.5, 0.4), 40: (0.1, -0.1), 80: (-0.1, 0.1), 160: (0.2, 0.3)}
    points = [
        Point(family="text", parameters=21_000, quantity=quantity, first_step=step, value=value)
        for step, values in rows.items()
        for quantity, value in zip((position, product), values, strict=True)
    ]
    (change,) = changes(points, "chi_pos_unbiased")
    assert (change.position, change.product) == ((1.0, 0.5, 0.2), (1.0, 0.4, 0.3))
    assert math.isfinite(change.slope)


def test_a_peak_has_a_positive_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else everything over the peak would have its sign turned."""
    windows = list(measurement_windows([as_run_data(TEXT[0])]))
    early = max(windows[:8], key=lambda window: window.estimates["chi_pos_unbiased"].value)
    turned = replace(early.estimates["chi_net_chi_pos_unbiased"], value=-1e-4)
    windows[windows.index(early)] = replace(early, estimates={**early.estimates, "chi_net_chi_pos_unbiased": turned})
    monkeypatch.setattr(fig11_data, "measurement_windows", lambda runs: windows)
    family = FamilyData(key="text", label="", is_sweep=False, runs=(as_run_data(TEXT[0]),), not_started=())
    points = fig11_data.family_points(family)
    at = {p.first_step: p.value for p in points if p.quantity == "chi_net_chi_pos_unbiased_over_peak"}
    assert at[early.first_step] < 0
    assert at[windows[-1].first_step] > 0


def test_a_position_that_is_nowhere_positive_has_no_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat: Sequence[SyntheticRun] = [Negative(**{**vars(TEXT[0]), "name": "flat"})]
    study = write_study(tmp_path / "s", {"text": flat})
    for name in NAMES:
        assert_fits(page_of(name, study, tmp_path / name, monkeypatch))
    quantities = {row["quantity"] for row in rows_of("fig11", tmp_path / "fig11")}
    assert "chi_pos_over_peak" in quantities
    assert "chi_pos_unbiased_over_peak" not in quantities


class Negative(SyntheticRun):
    """A run whose unbiased position is below 0 in every measurement."""

    def measurement(self, step: int, rng: np.random.Generator, *, units: int, ratio: float = 1.0) -> dict[str, object]:
        row = super().measurement(step, rng, units=units, ratio=ratio)
        return {**row, "delta_loss_unbiased": -abs(row["delta_loss_unbiased"]) - 1e-6}
