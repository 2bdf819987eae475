"""Figure 12 and the loss-reduction figure through the command, at toy size: every format, rows equal to the spectra."""

import csv
import itertools
import json
import math
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import spectral_reach as sr
from spectral_reach.cli.app import app
from spectral_reach.figures.registry import figure
from spectral_reach.records.errors import ForeignFolderError
from spectral_reach.records.results import Results
from spectral_reach.spectra.arrays import from_arrays
from spectral_reach.studies import registry
from spectral_reach.studies.analysis import loss_reduction_report, spectra_report
from spectral_reach.studies.analysis.spectra import read_spectra
from spectral_reach.studies.config import SettingTypeError
from spectral_reach.studies.cost import expected_cost
from spectral_reach.studies.data.batches import measurement_batch
from spectral_reach.studies.study_folder import run_path, write_plan
from spectral_reach.studies.tasks.snapshot_spectrum import SnapshotSpectrum, most_frequent
from spectral_reach.studies.training.snapshot import load_snapshot
from spectral_reach.studies.worker import execute

STUDIES = {"fig12": "spectra", "loss-reduction": "loss-reduction"}


def drawn(name: str, out: Path) -> Path:
    """The command does the tasks and draws. Its runs are done before, here: a process for each is a lot of imports, and
    tests/cli and tests/studies start such processes."""
    for run in write_plan(out, registry.find(STUDIES[name]).plan({"preset": "toy"})):
        assert execute(run)
    done = CliRunner().invoke(app, ["figure", name, "--preset", "toy", "--out", str(out), "--workers", "1"])
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: drawn(name, tmp_path_factory.mktemp(name) / "toy") for name in STUDIES}


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "figures" / f"{name}.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def texts_of(folder: Path, name: str) -> list[str]:
    root = ElementTree.parse(folder / "figures" / f"{name}.svg").getroot()
    return ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_command_writes_every_format_and_the_same_bytes_again(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    files = sorted((folders[name] / "figures").iterdir())
    assert [file.name for file in files] == [f"{name}.{kind}" for kind in ("csv", "pdf", "png", "svg")]
    assert files[2].read_bytes().startswith(b"\x89PNG")
    for file in figure(name).draw(folders[name], tmp_path):
        assert file.read_bytes() == (folders[name] / "figures" / file.name).read_bytes()


@pytest.mark.slow
def test_figure_12_shows_the_spectra_that_were_taken(folders: dict[str, Path]) -> None:
    rows = rows_of(folders["fig12"], "fig12")
    result = read_spectra(folders["fig12"], "spectra")
    (parameters,) = result.sizes
    assert result.steps_of(parameters) == (0, 12)
    for step in (0, 12):
        spectra = [each.spectrum for each in result.at(parameters, step)]
        assert len(spectra) == 2
        p = {float(row["k"]): row for row in rows if row["quantity"] == "p" and row["step"] == str(step)}
        stacked = np.stack([each.p for each in spectra])
        for k in (1, 2, 40):
            assert float(p[k]["value"]) == pytest.approx(stacked[:, k - 1].mean(), rel=1e-9)
            assert float(p[k]["stderr"]) == pytest.approx(stacked[:, k - 1].std(ddof=1) / math.sqrt(2), rel=1e-6)
        gamma2 = {float(row["k"]): row for row in rows if row["quantity"] == "gamma2" and row["step"] == str(step)}
        assert float(gamma2[1]["value"]) == pytest.approx(np.mean([each.gamma2[0] for each in spectra]), rel=1e-9)
        assert all(each.p.sum() == pytest.approx(1) for each in spectra)
    joined = " ".join(texts_of(folders["fig12"], "fig12"))
    assert spectra_report.describe(result) in joined
    assert "at initialisation" in joined
    assert "after 12 steps" in joined


@pytest.mark.slow
def test_a_spectrum_of_a_task_is_that_of_the_snapshot(folders: dict[str, Path]) -> None:
    """By hand: the weights, the sequence and its most frequent next tokens."""
    folder = folders["fig12"]
    results = Results(folder)
    name = results.names()[-1]
    result = results.load(name)
    settings = result.task["settings"]
    model, config = load_snapshot(run_path(folder, settings["run"]), settings["step"])
    inputs, labels = measurement_batch(config.data.load(), settings["batch"], seed=settings["seed"], units=1)
    classes = most_frequent(labels, settings["classes"])
    expected = sr.spectrum(model, (inputs, labels), method="explicit", classes=classes)
    found = from_arrays(result.values)
    np.testing.assert_allclose(found.p, expected.p, atol=1e-6)
    whole = sr.decompose(model, (inputs, labels), estimator="exact")
    assert found.loss == pytest.approx(whole.loss, rel=1e-5)
    assert 0 < found.share_of_loss_gradient < 1


@pytest.mark.slow
def test_the_loss_reduction_figure_shows_what_is_certain(folders: dict[str, Path]) -> None:
    folder = folders["loss-reduction"]
    rows = rows_of(folder, "loss-reduction")
    result = read_spectra(folder, "loss-reduction")
    assert len(result.sizes) == 2
    for measured in result.measured:
        spectrum = measured.spectrum
        of = [r for r in rows if (int(r["parameters"]), int(r["step"])) == (measured.parameters, measured.step)]
        (median,) = (r for r in of if r["quantity"] == "quantile" and float(r["x"]) == 0.5)
        assert float(median["value"]) == pytest.approx(spectrum.position_quantile(0.5))
        assert float(median["low"]) <= float(median["value"]) <= float(median["high"] or math.inf)
        (position,) = (r for r in of if r["quantity"] == "chi_pos")
        assert float(position["value"]) == pytest.approx(spectrum.chi_pos)
    largest = [r for r in rows if int(r["parameters"]) == result.sizes[-1]]
    for step in (0, 4, 12):
        shares = [float(r["value"]) for r in largest if r["quantity"] == "cumulative" and r["step"] == str(step)]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1)
    above = [float(r["value"]) for r in largest if r["quantity"] == "modes_above"]
    assert above == sorted(above, reverse=True)
    lows = [float(r["low"]) for r in largest if r["quantity"] == "narrowing" and r["low"]]
    assert all(b >= a * (1 - 1e-9) for a, b in itertools.pairwise(lows))
    joined = " ".join(texts_of(folder, "loss-reduction"))
    assert loss_reduction_report.describe(result) in joined
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert len(summary["snapshots"]) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_what_is_unfinished_is_drawn_as_far_as_it_is(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(folders[name], part)
    results = sorted((part / "results").iterdir())
    for file in results[1:]:
        file.unlink()
    assert len(figure(name).draw(part, formats=["svg"])) == 2
    assert "so far" in registry.find(STUDIES[name]).report(part).sections[0].text
    results[0].unlink()
    assert registry.find(STUDIES[name]).report(part).sections[0].text == "No spectrum has been taken yet."
    with pytest.raises(ValueError, match=r"no spectrum of .* has been taken: got nothing to draw"):
        figure(name).draw(part)


@pytest.mark.slow
def test_folders_of_other_studies_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ForeignFolderError, match="holds the study 'loss-reduction'; expected 'spectra'"):
        figure("fig12").draw(folders["loss-reduction"])
    with pytest.raises(ForeignFolderError, match="holds the study 'spectra'; expected 'loss-reduction'"):
        figure("loss-reduction").draw(folders["fig12"])


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES.values())
def test_presets_are_planned_and_quick_ones_take_minutes(study: str, tmp_path: Path) -> None:
    entry = registry.find(study)
    assert set(entry.presets) == {"toy", "quick", "laptop", "paper"}
    for preset in ("toy", "quick"):
        plan = entry.plan({"preset": preset})
        assert len({task.name for task in plan.tasks}) == len(plan.tasks)
        write_plan(tmp_path / preset, plan)
    assert expected_cost(entry.plan({"preset": "quick"}), workers=2).minutes < 10


@pytest.mark.parametrize(
    ("study", "settings", "message"),
    [
        ("spectra", {"preset": "other"}, "Unknown preset 'other'"),
        ("spectra", {"preset": "toy", "other": 1}, "other"),
        ("spectra", {"preset": "toy", "classes": 17}, "no more than the tokens of a sequence"),
        ("spectra", {"preset": "toy", "classes": 0}, "at least 1"),
        ("spectra", {"preset": "toy", "seed": -1}, "at least 0"),
        ("loss-reduction", {"preset": "other"}, "Unknown preset 'other'"),
        ("loss-reduction", {"preset": "toy", "snapshots": [0, 4]}, "the last step, 12, among them"),
        ("loss-reduction", {"preset": "toy", "lanczos_steps": 1}, "at least 2"),
        ("loss-reduction", {"preset": "toy", "density_vectors": 1}, "at least 2"),
        ("loss-reduction", {"preset": "toy", "widths": []}, "at least one width"),
    ],
)
def test_bad_settings_are_named(study: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        registry.find(study).plan(settings)


def test_settings_of_a_wrong_type_are_named() -> None:
    with pytest.raises(SettingTypeError, match="expected a int"):
        registry.find("spectra").plan({"preset": "toy", "classes": "six"})


def test_the_most_frequent_tokens_are_chosen() -> None:
    labels = torch.tensor([[3, 3, 1, 9], [1, 3, 7, 9]])
    assert most_frequent(labels, 1) == [3]
    assert most_frequent(labels, 2) == [1, 3]
    assert most_frequent(labels, 4) == [1, 3, 7, 9]
    with pytest.raises(ValueError, match="4 different next tokens, and the 5 most frequent were asked for"):
        most_frequent(labels, 5)


def test_explicit_spectra_need_classes() -> None:
    settings = {"run": "a", "step": 0, "sequences": 1, "batch": 0, "steps": 1, "tolerance": 0.0, "density_vectors": 0}
    settings |= {"probes": 1, "seed": 0, "tokens": 16, "parameters": 100}
    with pytest.raises(ValueError, match="at least 1 for an explicit spectrum"):
        SnapshotSpectrum(method="explicit", classes=0, **settings)
    with pytest.raises(ValueError, match="explicit or lanczos"):
        SnapshotSpectrum(method="other", classes=2, **settings)
