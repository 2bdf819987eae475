"""The charts: valid for plotly in both schemes, with the numbers of the static figures, switched by their legends."""

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from typer.testing import CliRunner

import spectral_reach as sr
from analysis.synthetic_study import pixel_runs, text_runs, write_study
from spectral_reach.cli.app import app
from spectral_reach.figures import fig6_data, fig12_data, loss_reduction_data
from spectral_reach.figures.fig1_data import family_points
from spectral_reach.figures.folders import summarised_families
from spectral_reach.reports.chart import Axis, Chart, Panel, resolved
from spectral_reach.reports.charts import fig1, fig6, fig10, fig12, loss_reduction
from spectral_reach.reports.charts.registry import CHARTS, draw_charts
from spectral_reach.reports.charts.size_marks import size_axis
from spectral_reach.reports.charts.thinned import evenly_in_log
from spectral_reach.reports.charts.traces import BAND_ALPHA, FAINT_BAND_ALPHA, band, hover
from spectral_reach.reports.collected import find_studies, read_studies
from spectral_reach.reports.colours import BLUE, INK
from spectral_reach.studies.analysis.convergence import Convergence, Row
from spectral_reach.studies.analysis.spectra import Measured, SpectraResult


@pytest.fixture(scope="module")
def charts(studies: Path) -> list[Chart]:
    return drawn_of(studies)


def drawn_of(folder: Path) -> list[Chart]:
    """The charts of a folder of studies, none of which fails."""
    drawn = draw_charts({record.name: record for record in read_studies(find_studies(folder))})
    assert drawn.failed == {}
    return list(drawn.charts)


def traces_of(chart: Chart, **meta: str) -> list[dict[str, Any]]:
    traces = [trace for panel in chart.panels for trace in panel.figure()["data"]]
    return [trace for trace in traces if meta.items() <= trace["meta"].items()]


def test_the_charts_of_the_studies_that_are_there(charts: list[Chart]) -> None:
    assert {"fig1", "fig7", "fig8", "fig11"} <= {chart.key for chart in charts}
    assert not {"fig3", "fig4", "fig9"} & {chart.key for chart in charts}


def test_every_panel_is_a_figure_of_plotly_in_both_schemes(charts: list[Chart]) -> None:
    for chart in charts:
        for panel in chart.panels:
            for dark in (False, True):
                figure = resolved(panel.figure(), dark=dark)
                text = json.dumps(figure, allow_nan=False)
                assert "$#" not in text
                assert len(go.Figure(figure).data) == len(panel.traces) > 0


def test_every_curve_belongs_to_buttons_that_there_are(charts: list[Chart]) -> None:
    for chart in charts:
        keys = {legend.name: {item.key for item in legend.items} for legend in chart.legends}
        for trace in traces_of(chart):
            for name, key in trace["meta"].items():
                assert key in keys[name], (chart.key, trace["meta"])
        for legend in chart.legends:
            for item in legend.items:
                assert traces_of(chart, **{legend.name: item.key}), (chart.key, legend.name, item.key)


def test_figure_1_has_the_numbers_of_its_csv(charts: list[Chart], studies: Path) -> None:
    (chart,) = (chart for chart in charts if chart.key == "fig1")
    families = summarised_families([studies / "scaling-text", studies / "scaling-pixels"])
    for family in families:
        points = family_points(family.data, family.summary.frontier)
        for quantity in ("chi_pos_unbiased", "chi_pos"):
            for parameters in {point.parameters for point in points}:
                wanted = [p for p in points if (p.quantity, p.parameters) == (quantity, parameters)]
                traces = traces_of(chart, size=str(parameters), quantity=quantity)
                lines = [t for t in traces if "fill" not in t and "lines" in t["mode"]]
                drawn = {x: y for t in lines for x, y in zip(t["x"], t["y"], strict=True) if y is not None}
                low = {x for t in traces if t["mode"] == "markers" for x in t["x"]}
                for point in wanted:
                    x = float(f"{point.flops:.7g}")
                    assert x in low or drawn[x] == pytest.approx(point.value, rel=1e-6)


def test_a_point_tells_run_size_step_and_error(charts: list[Chart]) -> None:
    (chart,) = (chart for chart in charts if chart.key == "fig1")
    traces = traces_of(chart, size="21000", quantity="chi_pos_unbiased")
    texts = [text for trace in traces for text in trace.get("text", ())]
    pattern = r"text, 21k parameters<br>step.* FLOPs, [\d,]+ tokens<br>chi_pos_unbiased = .* ± .*<br>\d+ measurements"
    assert any(re.match(pattern, text) for text in texts), texts[:3]


def test_values_below_the_axis_are_triangles_and_gaps(tmp_path: Path) -> None:
    runs = text_runs(late_position=1e-9, position_noise=3e-7)[:1]
    drawn = fig1.chart([write_study(tmp_path, {"text": runs})])
    traces = traces_of(drawn, quantity="chi_pos_unbiased")
    triangles = [t for t in traces if t.get("marker", {}).get("symbol") == "triangle-down-open"]
    assert triangles
    low = 10 ** drawn.panels[1].figure()["layout"]["yaxis"]["range"][0]
    assert all(y == pytest.approx(1.04 * low) for trace in triangles for y in trace["y"])
    assert any("(−" in text for trace in triangles for text in trace["text"])
    (line,) = (t for t in traces if t["mode"] == "lines+markers")
    assert line["y"].count(None) == sum(len(trace["y"]) for trace in triangles)


def test_both_scaling_studies_come_before_the_demo(tmp_path: Path) -> None:
    for name, runs in (("scaling", text_runs(done=20)), ("scaling-pixels", pixel_runs(done=20))):
        write_study(tmp_path / name, {"text" if name == "scaling" else "pixels": runs[:1]}, study=name)
    records = {record.name: record for record in read_studies(find_studies(tmp_path))}
    (entry,) = (entry for entry in CHARTS if entry.name == "fig1")
    assert [folder.name for folder in entry.folders(records)] == ["scaling-pixels"]


def test_probes_and_transformers(tmp_path: Path) -> None:
    full = text_runs(steps=120)[:2]
    families = {"full": full}
    for kind, factor in (("pretrained", 3.0), ("random", 12.0)):
        families[kind] = [
            replace(
                run,
                name=f"{kind}-{run.name}",
                trained="readout",
                backbone=run.name if kind == "pretrained" else None,
                late_position=factor * run.late_position,
            )
            for run in full
        ]
    write_study(tmp_path / "probes", families, study="probes")
    write_study(tmp_path / "vit", {"vit": pixel_runs(steps=120)[:2]}, study="vit")
    charts = drawn_of(tmp_path)
    assert [chart.key for chart in charts] == ["fig4", "fig5", "fig9"]
    test_every_panel_is_a_figure_of_plotly_in_both_schemes(charts)
    test_every_curve_belongs_to_buttons_that_there_are(charts)
    ratios = [t for t in traces_of(charts[0], quantity="chi_pos_unbiased") if t["marker"].get("symbol") == "diamond"]
    assert [y for trace in ratios for y in trace["y"]] == pytest.approx([4, 4], rel=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fig3", "coordinate-check"])
def test_what_is_drawn_stands_in_the_csv_of_the_static_figure(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["figure", name, "--preset", "toy", "--out", str(tmp_path), "--workers", "1"])
    assert done.exit_code == 0, done.output
    charts = drawn_of(tmp_path)
    (chart,) = (chart for chart in charts if chart.key == name)
    with (tmp_path / "figures" / f"{name}.csv").open(encoding="utf-8", newline="") as handle:
        cells = {cell for row in csv.DictReader(handle) for cell in row.values() if cell}
    check_drawn(chart, [float(cell) for cell in cells if re.fullmatch(r"[-+.\de]+", cell)])


def test_spectra_and_loss_reduction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From spectra of a small network, without a study."""
    torch.manual_seed(0)
    model, batch = torch.nn.Linear(6, 4), (torch.randn(12, 6), torch.randint(4, (12,)))
    for module, way in ((fig12, {"method": "explicit"}), (loss_reduction, {"steps": 8, "density_vectors": 2})):
        measured = [
            Measured(
                run="run",
                parameters=parameters,
                step=step,
                flops=0.0,
                batch=0,
                spectrum=sr.spectrum(model, batch, seed=step, **way),
            )
            for parameters in (28, 56)
            for step in (0, 9)
        ]
        settings = {"sequences": 1, "lanczos_steps": 8}
        result = SpectraResult(study="any", preset="toy", settings=settings, measured=tuple(measured), planned=4)
        monkeypatch.setattr(module, "read_spectra", lambda folder, study, result=result: result)
        data = fig12_data if module is fig12 else loss_reduction_data
        numbers = [getattr(p, n) for p in data.points_of(result) for n in ("value", "low", "high") if hasattr(p, n)]
        check_drawn(module.chart([tmp_path]), numbers)


def test_convergence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From draws that are made up."""
    rng = np.random.default_rng(0)

    def row(way: str, units: int, step: int, spread: float, longest: int) -> Row:
        draws = 3e5 * (1 + spread * rng.standard_normal(400))
        return Row(
            run="run",
            parameters=1000,
            step=step,
            way=way,
            units=units,
            draws=draws,
            seconds=0.2,
            longest=longest,
        )

    ways = (row("batch", 0, 50, 0.08, 20), row("per_unit", 0, 50, 0.01, 8), row("per_unit", 2, 50, 0.04, 8))
    settings = {"sequences": 4, "context": 16, "averaged": 20, "repetitions": 20}
    result = Convergence(
        preset="toy",
        settings=settings,
        main=ways[0],
        ways=ways,
        along=(row("batch", 0, 0, 0.1, 1), ways[0]),
        done=4,
        tasks=4,
    )
    monkeypatch.setattr(fig6, "read_convergence", lambda folder: result)
    check_drawn(fig6.chart([tmp_path]), [point.value for point in fig6_data.points_of(result)])


def check_drawn(chart: Chart | None, numbers: list[float]) -> None:
    """A valid chart, every value of which is among the ``numbers``."""
    assert chart is not None
    test_every_panel_is_a_figure_of_plotly_in_both_schemes([chart])
    test_every_curve_belongs_to_buttons_that_there_are([chart])
    drawn = [y for trace in traces_of(chart) if "text" in trace for y in trace["y"] if y is not None]
    assert len(drawn) > 10
    for y in drawn:
        assert np.isclose(numbers, y, rtol=1e-6, atol=0).any(), y


def test_isocompute_curves_have_their_minima_marked(tmp_path: Path) -> None:
    drawn = fig10.chart([write_study(tmp_path, {"text": text_runs()[2:5]})])
    assert drawn is not None
    test_every_panel_is_a_figure_of_plotly_in_both_schemes([drawn])
    test_every_curve_belongs_to_buttons_that_there_are([drawn])
    stars = [t for t in traces_of(drawn) if t.get("marker", {}).get("symbol", "").startswith("star")]
    assert len(stars) == 3 * len(drawn.legends[0].items)
    assert all("parameters" in text for trace in stars for text in trace["text"])
    (words,) = drawn.words
    assert "Whether position follows the loss is unknown: at all 2 budgets the held-out loss is lowest at the" in words
    assert fig10.chart([write_study(tmp_path / "two", {"text": text_runs()[:2]})]) is None


def test_what_is_no_number_is_null() -> None:
    panel = Panel(title="", x=Axis(title="x"), y=Axis(title="y"), traces=({"x": [1.0, 2.0], "y": [math.nan, 1 / 3]},))
    assert panel.figure()["data"] == [{"x": [1.0, 2.0], "y": [None, 0.3333333]}]


def test_axes() -> None:
    assert Axis(title="x", span=(1e-6, 1e-3)).layout([])["range"] == pytest.approx([-6, -3])
    assert Axis(title="x").layout([1e9, 1e12])["dtick"] == 1
    assert Axis(title="x").layout([1.0, 20.0])["dtick"] == "D2"
    assert "dtick" not in Axis(title="x").layout([1.0, 2.0])
    assert "dtick" not in Axis(title="x", log=False).layout([1.0, 2000.0])
    ticks = size_axis([20_000, 900_000]).layout([])
    assert ticks["ticktext"] == ["20k", "50k", "100k", "200k", "500k", "1M"]
    assert ticks["tickvals"][0] == 20_000


def test_bands_come_in_the_stretches_that_are_known() -> None:
    low, high = [0.2, 1.0, math.nan, 2.0, 2.0, 0.1], [2.0, 2.0, math.nan, 3.0, 3.0, 0.4]
    bands = band([1, 2, 3, 4, 5, 6], low, high, colour=INK, meta={}, floor=0.5)
    assert [trace["x"] for trace in bands] == [[1, 2, 2, 1], [4, 5, 5, 4]]
    assert bands[0]["y"] == [2.0, 2.0, 1.0, 0.5]


def test_bands_that_reach_down_to_zero_are_faint() -> None:
    sure, faint = band([1, 2, 3], [1.0, 1.0, -1.0], [2.0, 2.0, 2.0], colour=INK, meta={}, floor=0.5)
    assert (sure["x"], faint["x"]) == ([1, 2, 2, 1], [2, 3, 3, 2])
    assert (sure["fillcolor"], faint["fillcolor"]) == (INK.faded(BAND_ALPHA).token, INK.faded(FAINT_BAND_ALPHA).token)
    (plain,) = band([1, 2, 3], [1.0, 1.0, -1.0], [2.0, 2.0, 2.0], colour=INK, meta={}, floor=None)
    assert plain["fillcolor"] == sure["fillcolor"]


def test_thinning_keeps_both_ends() -> None:
    whole = list(range(1, 5001))
    few = evenly_in_log(whole, 100)
    assert few[0] == 1
    assert few[-1] == 5000
    assert len(few) <= 100
    assert np.diff(few)[-1] > 100 > np.diff(few)[0]
    assert evenly_in_log([3, 4], 100) == [3, 4]


def test_hover_texts_are_escaped() -> None:
    assert hover("a <b>", "", "c") == "a &lt;b&gt;<br>c"


def test_colours_come_in_two() -> None:
    assert BLUE.token == "$#0072b2|#56b4e9"
    assert BLUE.faded(0.5).token == "$#0072b280|#56b4e980"
    assert resolved({"a": [BLUE.token], "b": "$x"}, dark=True) == {"a": ["#56b4e9"], "b": "$x"}
