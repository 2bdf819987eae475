"""The table of fits: every law of every family, numbers where the data carry them and the reason where not."""

import json
import math

from analysis.synthetic_study import pixel_runs, text_runs, with_seeds, write_study
from spectral_reach.studies.analysis.compute_law import compute_law
from spectral_reach.studies.analysis.fits_report import COLUMNS, EXPLANATION, fits, fits_section
from spectral_reach.studies.analysis.report import as_json, as_markdown
from spectral_reach.studies.analysis.scaling_report import report
from spectral_reach.studies.analysis.size_law import FinalLoss, size_law
from spectral_reach.studies.analysis.study_data import read_study

LAWS = 3  # L(C), and L(N) of two losses
FORMS = 2


def test_every_law_of_every_family_has_a_row_of_its_own_numbers(tmp_path):
    families = read_study(write_study(tmp_path, {"text": with_seeds(text_runs()), "pixels": pixel_runs()})).families
    found = fits(families)
    assert len(found) == 2 * LAWS * FORMS
    for family, block in zip(families, (found[:6], found[6:]), strict=True):
        by_compute, by_size = compute_law(family.runs), size_law(family.runs, FinalLoss.HELDOUT)
        expected = [
            by_compute.without_irreducible,
            by_compute.with_irreducible,
            by_size.without_irreducible,
            by_size.with_irreducible,
        ]
        # As text: NaN is not equal to itself.
        assert [repr(fit.fit.exponent) for fit in block[:4]] == [repr(each.exponent) for each in expected]
        assert {fit.family for fit in block} == {family.label}
    assert [fit.covers for fit in found[:1] + found[6:7]] == ["runs and batches", "batch noise, not seeds"]


def test_what_the_data_cannot_carry_has_its_reason_in_place_of_numbers(tmp_path):
    found = fits(read_study(write_study(tmp_path, {"pixels": pixel_runs()[:2]})).families)
    by_size = [fit for fit in found if "L(N)" in fit.law]
    assert all(fit.fit.reason for fit in by_size)
    for fit in by_size:
        cells = dict(zip(COLUMNS, fit.cells(), strict=True))
        assert cells["exponent"] == cells["irreducible loss"] == "–"
        assert cells["interval from"] == f"not fitted: {fit.fit.reason}"
        assert all(math.isnan(value) for value in fit.values()["exponent"])


def test_the_method_of_each_exponent_is_named():
    assert "Huber's loss" in EXPLANATION
    assert "frontier in Figure 1 and in the words on a family are by least squares" in EXPLANATION


def test_the_report_of_a_study_holds_them(tmp_path):
    made = report(write_study(tmp_path, {"text": text_runs()}))
    assert made.sections[-1] == fits_section(fits(read_study(tmp_path).families))
    assert "Power laws of the loss" in as_markdown(made)
    values = json.loads(json.dumps(as_json(made), allow_nan=False))
    assert next(fit["law"] for fit in values["fits"]) == "train loss along the frontier, L(C)"
    assert values["fits"][0]["exponent"][1] < values["fits"][0]["exponent"][0] < values["fits"][0]["exponent"][2]
