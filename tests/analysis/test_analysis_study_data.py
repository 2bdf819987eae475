"""Reading study folders: what is in them, and clear errors for what is not one."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from analysis.synthetic_study import SyntheticRun, write_study
from spectral_reach.records.errors import ForeignFolderError, RecordError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.analysis.study_data import read_study

SMALL = SyntheticRun(name="small", parameters=2000, steps=40)
LARGE = SyntheticRun(name="large", parameters=9000, steps=40)


def test_everything_that_was_written_is_read(tmp_path):
    data = read_study(write_study(tmp_path / "study", {"text": [LARGE, SMALL], "other": []}))
    assert (data.study, data.preset) == ("scaling", "synthetic")
    text, other = data.families
    assert (text.key, text.label) == ("text", "Text: Python standard library")
    assert (other.key, other.runs) == ("other", ())
    assert [run.name for run in text.runs] == ["small", "large"]  # by parameters
    run = text.runs[0]
    assert (run.parameters, run.parameters_without_embeddings, run.unigram_entropy) == (2000, 1400, 5.2)
    assert (run.steps, run.warmup_steps, run.steps_done, run.is_finished) == (40, 10, 40, True)
    assert run.facts["data_hash"] == "0123abcd"
    for table, rows in ((run.measurements, SMALL.measurement_rows()), (run.losses, SMALL.loss_rows())):
        assert len(table) == len(rows)
        for name in table.__slots__:
            expected = np.array([math.nan if row[name] is None else row[name] for row in rows], dtype=float)
            np.testing.assert_array_equal(getattr(table, name).astype(float), expected, err_msg=name)


def test_what_was_read_cannot_be_changed(tmp_path):
    run = read_study(write_study(tmp_path, {"text": [SMALL]})).families[0].runs[0]
    with pytest.raises(ValueError, match="read-only"):
        run.losses.train_loss[0] = 0


def test_runs_that_have_not_begun_or_not_finished(tmp_path):
    part = replace(LARGE, done=17)
    write_study(tmp_path, {"text": [SMALL, part]}, not_started={"text": ["later", "killed"]})
    (tmp_path / "runs" / "killed").mkdir()
    (tmp_path / "runs" / "killed" / ".lock").touch()
    RunFolder.create(tmp_path / "runs" / "later", replace(SMALL, name="later").config())
    family = read_study(tmp_path).families[0]
    assert family.not_started == ("killed",)
    assert [(run.name, run.steps_done, run.is_finished) for run in family.runs] == [
        ("later", 0, False),
        ("small", 40, True),
        ("large", 17, False),
    ]
    assert len(family.runs[0].losses) == len(family.runs[0].measurements) == 0


def test_a_folder_that_is_no_study(tmp_path):
    with pytest.raises(
        ForeignFolderError, match=r"is no study folder: its study\.json cannot be read.*spectral-reach demo"
    ):
        read_study(tmp_path)
    (tmp_path / "study.json").write_text("{", encoding="utf-8")
    with pytest.raises(ForeignFolderError, match="is no study folder"):
        read_study(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ([1], "got 'list', expected ('spectral-reach study', 1)"),
        ({"format": "other", "version": 1}, "got ('other', 1), expected"),
        ({"format": "spectral-reach study", "version": 7}, "got ('spectral-reach study', 7), expected"),
        ({"format": "spectral-reach study", "version": 1}, "lacks 'families': got None, expected a value of type dict"),
        (
            {"format": "spectral-reach study", "version": 1, "families": {"text": {"label": "Text", "runs": "a"}}},
            "lacks 'runs': got 'a', expected a value of type list",
        ),
    ],
)
def test_a_study_file_of_another_kind(tmp_path, header, message):
    (tmp_path / "study.json").write_text(json.dumps(header), encoding="utf-8")
    with pytest.raises(ForeignFolderError, match=re.escape(message)):
        read_study(tmp_path)


def test_a_foreign_run_folder_is_named(tmp_path):
    write_study(tmp_path, {"text": [SMALL]}, not_started={"text": ["alien"]})
    (tmp_path / "runs" / "alien").mkdir()
    (tmp_path / "runs" / "alien" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ForeignFolderError, match="alien"):
        read_study(tmp_path)


def test_a_run_without_its_facts_is_refused(tmp_path):
    write_study(tmp_path, {"text": [replace(SMALL, overrides={"facts": {"parameters": "many"}})]})
    with pytest.raises(ForeignFolderError, match="lacks 'parameters': got 'many', expected a value of type int"):
        read_study(tmp_path)


def test_a_table_without_its_columns_is_refused(tmp_path):
    write_study(tmp_path, {"text": [replace(SMALL, done=0)]})
    record = RunFolder.open(tmp_path / "runs" / "small")
    record.losses.append({"step": 0, "flops": 0})
    with pytest.raises(ForeignFolderError, match=r"lacks the columns \['tokens', 'train_loss', 'heldout_loss'\]"):
        read_study(tmp_path)


def test_a_damaged_table_is_refused(tmp_path):
    write_study(tmp_path, {"text": [SMALL]})
    (tmp_path / "runs" / "small" / "losses.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(RecordError, match=r"losses\.parquet"):
        read_study(tmp_path)
