"""The line before a study starts: how many of its runs are executed at a time, and on what."""

from pathlib import Path

import pytest

from spectral_reach.cli.running import look_ahead
from spectral_reach.studies.engines import resources
from spectral_reach.studies.engines.options import EngineOptions

STUDY = "scaling"


@pytest.mark.parametrize(
    ("options", "device", "ends"),
    [
        (EngineOptions(), "auto", " on CPU cores, 3 at a time; less on 3 CUDA devices, as here"),
        (EngineOptions(workers=5), "cuda", " on CPU cores, 5 at a time; less on 3 CUDA devices, as here"),
        (EngineOptions(workers=5), "cpu", " min, 5 at a time"),
        (EngineOptions(engine="ray"), "auto", " one at a time; on Ray as many at a time as there is room for"),
    ],
)
def test_devices_are_told(
    options: EngineOptions,
    device: str,
    ends: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(resources, "cuda_devices", lambda: ("0", "1", "2"))
    families = {"text": None, "pixels": {"widths": [16], "training": {"device": device}}}
    look_ahead({STUDY: {"preset": "toy", "families": families}}, tmp_path, options)
    assert capsys.readouterr().out.rstrip().endswith(ends)
