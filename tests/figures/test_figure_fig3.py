"""Figure 3 through the command: the study at toy size, every format, rows equal to the results, words that fit them."""

import csv
import json
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from spectral_reach.cli.app import app
from spectral_reach.figures.registry import figure
from spectral_reach.records.errors import ForeignFolderError
from spectral_reach.records.results import Results
from spectral_reach.studies import registry
from spectral_reach.studies.analysis.random_features import read_random_features
from spectral_reach.studies.analysis.random_features_report import describe, report, report_of
from spectral_reach.studies.study_folder import write_plan


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("fig3") / "toy"
    done = CliRunner().invoke(app, ["figure", "fig3", "--preset", "toy", "--out", str(out), "--workers", "1"])
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def rows(study):
    with (study / "figures" / "fig3.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def texts(study):
    root = ElementTree.parse(study / "figures" / "fig3.svg").getroot()
    return ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]


def values(rows, quantity, exponent):
    found = [row for row in rows if row["quantity"] == quantity and float(row["exponent"]) == exponent]
    return np.array([float(row["value"]) for row in found])


def part_of(study, tmp_path, results):
    """The same study with only some of its results."""
    write_plan(tmp_path, registry.find("random-features").plan({"preset": "toy"}))
    whole = Results(study)
    for name in results:
        result = whole.load(name)
        Results(tmp_path).save(result.task, result.values)
    return tmp_path


def test_the_command_writes_every_format(study):
    files = sorted((study / "figures").iterdir())
    assert [file.name for file in files] == ["fig3.csv", "fig3.pdf", "fig3.png", "fig3.svg"]
    assert files[2].read_bytes().startswith(b"\x89PNG")
    assert b"/Subtype /Type3" not in files[1].read_bytes()


def test_the_rows_are_the_results(study, rows):
    results = Results(study)
    for exponent in (1.0, 2.0, 3.0):
        of = results.load(f"exponent-{exponent:g}-seeds-00-02").values
        for quantity in ("chi_loss", "chi_net", "chi_pos"):
            (row,) = (r for r in rows if r["quantity"] == quantity and float(r["exponent"]) == exponent)
            assert float(row["value"]) == pytest.approx(of[quantity].mean(), rel=1e-12)
            stderr = of[quantity].std(ddof=1) / math.sqrt(3)
            assert float(row["stderr"]) == pytest.approx(stderr, rel=1e-6, abs=1e-15)
            predicted = of["predicted_chi_pos"].mean() if quantity == "chi_pos" else 1
            assert float(row["predicted"]) == pytest.approx(predicted, rel=1e-12)
            assert row["draws"] == "3"
        for quantity in ("p_network", "p_limit"):
            np.testing.assert_allclose(values(rows, quantity, exponent), of[quantity].mean(0), rtol=1e-12)
        covariance = values(rows, "covariance", exponent)
        assert covariance.sum() == pytest.approx(1)
        assert covariance[0] / covariance[9] == pytest.approx(10**exponent)


def test_the_words_are_those_of_the_study(study, texts):
    joined = " ".join(texts)
    assert describe(read_random_features(study)) in joined
    assert "eNTK, 400 features" in texts
    for phrase in ("arc-cosine kernel", "chi_loss", "chi_net", "chi_pos", "predicted", "exponent β of the covariance"):
        assert phrase in joined
    summary = json.loads((study / "summary.json").read_text(encoding="utf-8"))
    assert [each["exponent"] for each in summary["exponents"]] == [1, 2, 3]
    assert "chi_net" in (study / "summary.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_same_bytes_every_time(study, tmp_path):
    for file in figure("fig3").draw(study, tmp_path):
        assert file.read_bytes() == (study / "figures" / file.name).read_bytes()


def test_the_verdict_follows_the_numbers(study):
    """Three small draws are far from unity; told so, and told otherwise when they are not."""
    result = read_random_features(study)
    for each in result.exponents:
        assert each.excess.value == pytest.approx(each.chi_pos.value / each.predicted_chi_pos - 1, rel=1e-9)
        near_one = max(abs(each.chi_loss.value - 1), abs(each.chi_net.value - 1)) <= 0.02
        near_theory = abs(each.excess.value) <= each.chi_pos.stderr / each.predicted_chi_pos + 0.03
        assert each.holds == (near_one and near_theory)
    missed = [f"{each.exponent:g}" for each in result.exponents if not each.holds]
    assert missed
    assert f"Missed at exponent {', '.join(missed)}: chi_loss and chi_net within 2% of 1" in describe(result)
    (section,) = report_of(result).sections
    assert len(section.rows) == 3
    assert all(len(row) == len(section.columns) for row in section.rows)


def test_an_unfinished_study_is_drawn_as_far_as_it_is(study, tmp_path):
    folder = part_of(study, tmp_path, ["exponent-2-seeds-00-02"])
    files = figure("fig3").draw(folder, formats=["svg"])
    assert len(files) == 2
    assert describe(read_random_features(folder)).startswith("3 draws of 9 planned")


def test_a_study_without_results_is_reported_and_not_drawn(study, tmp_path):
    folder = part_of(study, tmp_path, [])
    assert report(folder).sections[0].text == "No draw has been measured yet."
    with pytest.raises(ValueError, match=r"no draw of .* has been measured: got nothing to draw; run the study first"):
        figure("fig3").draw(folder)


def test_one_draw_has_no_error_and_no_verdict(study, tmp_path):
    plan = registry.find("random-features").plan({"preset": "toy", "exponents": [2.0], "seeds": 1})
    write_plan(tmp_path, plan)
    (task,) = plan.tasks
    Results(tmp_path).save(task.as_dict(), task.settings.execute(tmp_path, lambda share: None))
    assert len(figure("fig3").draw(tmp_path, formats=["svg"])) == 2
    assert "more draws must tell: one has no standard error" in report(tmp_path).sections[0].text


def test_a_folder_of_another_study_is_refused(tmp_path):
    plan = registry.find("random-features").plan({"preset": "toy"})
    write_plan(tmp_path, plan)
    header = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    (tmp_path / "study.json").write_text(json.dumps({**header, "study": "scaling"}), encoding="utf-8")
    with pytest.raises(ForeignFolderError, match="holds the study 'scaling'; expected 'random-features'"):
        figure("fig3").draw(tmp_path)


def test_unknown_formats_are_refused(study):
    with pytest.raises(ValueError, match="got figure formats"):
        figure("fig3").draw(study, None, ["gif"])
