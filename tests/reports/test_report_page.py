"""The page as text: complete in itself, safe, honest about what is unfinished; the command that writes it."""

import json
import math
import os
import re
import shutil
import time
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis.synthetic_study import pixel_runs, text_runs, write_study
from reports.conftest import HOSTILE, SECRET, change_header, write_studies
from spectral_reach.cli.app import app
from spectral_reach.records.errors import ForeignFolderError, RecordError
from spectral_reach.reports import fits_section, report
from spectral_reach.reports.charts import fig1
from spectral_reach.reports.collected import find_studies, read_studies
from spectral_reach.reports.page import POLICY
from spectral_reach.reports.report import build, html
from spectral_reach.reports.static_figures import MOST_BYTES, static_figures
from spectral_reach.studies.analysis.claims import evaluate
from spectral_reach.studies.analysis.fits_report import Fit, fits
from spectral_reach.studies.analysis.study_data import FamilyData
from spectral_reach.studies.tasks.execute import run_tasks
from spectral_reach.studies.tasks.usage import read_task_seconds
from studies.small_tasks import square


class Reader(HTMLParser):
    """Tags with their attributes, and the texts of the page outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._silent = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent and data.strip():
            self.texts.append(data.strip())


def page_at(folder: Path, now: float) -> str:
    """The page that is made at that moment."""
    paths = find_studies(folder)
    return html(folder, paths, evaluate(paths), now=now)


@pytest.fixture(scope="module")
def reader(page_text: str) -> Reader:
    return Reader(page_text)


def test_the_page_is_one_file_beside_the_studies(page_file: Path, studies: Path) -> None:
    assert page_file == studies / "report.html"
    assert sorted(path.name for path in studies.iterdir()) == [
        "claims.json",
        "claims.md",
        "report.html",
        "scaling-pixels",
        "scaling-text",
        "some-tasks",
    ]
    assert page_file.stat().st_size < 12_000_000


def test_nothing_in_it_points_outside(reader: Reader) -> None:
    for tag, attributes in reader.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    policies = [a["content"] for tag, a in reader.tags if tag == "meta" and a.get("http-equiv")]
    assert policies == [POLICY]
    assert "default-src 'none'" in POLICY
    assert "http" not in POLICY


def test_plotly_is_in_it_once(page_text: str) -> None:
    assert page_text.count("* plotly.js v") == 1


def test_a_hostile_label_is_text(page_text: str, reader: Reader) -> None:
    assert HOSTILE not in page_text
    assert all("onerror" not in attributes for _, attributes in reader.tags)
    assert HOSTILE in reader.texts


def test_no_path_of_a_machine_is_in_it(page_text: str, studies: Path) -> None:
    assert SECRET not in page_text
    assert "/home/somebody" not in page_text
    assert "…/stories.jsonl" in page_text
    assert str(studies) not in page_text
    assert str(Path.home()) not in page_text.split("* plotly.js v")[0]


def test_the_head_counts(reader: Reader) -> None:
    joined = " | ".join(reader.texts)
    # Text: 2 of 3 runs and 2 of the sweep; images: 3 of 4.
    assert "runs | 7 of 9 finished" in joined
    assert "tasks | 2 of 3 finished" in joined
    assert "studies | 0 of 3 finished" in joined
    # 8 runs have a record of 42.5 s, one task of a minute.
    assert "time of all runs and tasks (1 task not timed) | 6 min 40 s" in joined
    assert "some-tasks | synthetic | – | 2 of 3 finished | – | 1 min 00 s | – | –" in joined
    assert "peak memory of a run | 500 MB" in joined
    assert "presets quick, synthetic" in joined


def test_every_run_has_its_row(reader: Reader) -> None:
    joined = " | ".join(reader.texts)
    assert f"text-0 | scaling-text | {HOSTILE} | 21k | 0 | 0.004 | ∝ 1 / width | 300 | " in joined
    assert f"text-1 | scaling-text | {HOSTILE} | 56.3k | 1 | 0.004 | sweep of 2 | 300 | " in joined
    assert "120 of 300" in joined
    assert "pixels-9 | scaling-pixels | Images: hand-written digits | – | – | – | – | not begun" in joined
    assert re.search(r"42 s \| [\d.]+×10\S+ FLOPs \| 500 MB \| cpu", joined)
    assert "Learning-rate sweeps: 2 runs" in joined
    assert joined.index("Learning-rate sweeps") < joined.index("text-2-rate0")


def test_tasks_tell_how_old_their_results_are(studies: Path) -> None:
    file = studies / "some-tasks" / "results" / "first.json"
    done = time.time() - 7200
    os.utime(file, (done, done))
    texts = " | ".join(Reader(page_at(studies / "some-tasks", done + 7200)).texts)
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"
    assert re.search(rf"first \| some-tasks \| {moment} \| 1 min 00 s \| 2 h 00 min", texts)
    assert re.search(rf"third \| some-tasks \| {moment} \| – \| ", texts)
    assert "second | some-tasks | not done | – | –" in texts


def test_the_time_of_tasks_is_kept_beside_their_results(tmp_path: Path) -> None:
    write_study(tmp_path, {}, study="squares")
    change_header(tmp_path, tasks=["square-1", "square-2"])
    for task in (square(1), square(2)):
        run_tasks(tmp_path, [task], threads=1)
    (study,) = read_studies({"squares": tmp_path})
    seconds = read_task_seconds(tmp_path)
    assert [(task.name, task.seconds) for task in study.tasks] == list(seconds.items())
    assert all(0 <= each < 60 for each in seconds.values())
    run_tasks(tmp_path, [square(1)], threads=1)
    assert read_task_seconds(tmp_path) == seconds
    (tmp_path / "usage.json").write_text('{"square-1": ', encoding="utf-8")
    (study,) = read_studies({"squares": tmp_path})
    assert (study.tasks_finished, study.tasks_untimed) == (2, 2)


def test_claims_stand_with_number_and_verdict(reader: Reader) -> None:
    joined = " | ".join(reader.texts)
    assert "claims of the paper are put to these runs" in joined
    for verdict in ("supported", "contradicted", "inconclusive", "not run"):
        assert f"{verdict} | : " in joined
    assert "Larger models end at a lower spectral position, on text and on images." in joined
    assert "Where chi_pos and chi_pos_unbiased differ" in joined
    assert "fixed in the code, the same for every study, and were last revised after trial runs" in joined
    assert "before the runs" not in joined


def test_the_environment_is_told(reader: Reader) -> None:
    joined = " | ".join(reader.texts)
    assert "cpu | 1 | 3.11.7 | 2.14.1 | 16" in joined
    for name in ("processor", "operating system", "transformers", "numpy", "plotly"):
        assert name in reader.texts


def test_static_figures_are_put_in_for_print(tmp_path: Path) -> None:
    study = write_study(tmp_path / "scaling", {"pixels": pixel_runs()[:1]})
    (study / "figures").mkdir()
    (study / "figures" / "fig1.png").write_bytes(b"\x89PNG of figure 1")
    (study / "figures" / "fig99.png").write_bytes(b"\x89PNG of another")
    text = build(study, tmp_path / "out" / "page.html").page.read_text(encoding="utf-8")
    assert "data:image/png;base64,iVBORyBvZiBmaWd1cmUgMQ==" in text
    assert "fig1 as a static figure" in text
    assert text.index("Static figures without an interactive version") < text.index("fig99 as a static figure")


def test_images_beyond_the_room_are_named(tmp_path: Path) -> None:
    study = write_study(tmp_path, {}, study="scaling-text")
    for name, size in (("a", MOST_BYTES - 10), ("b", 20), ("c", 10)):
        (tmp_path / "figures").mkdir(exist_ok=True)
        (tmp_path / "figures" / f"{name}.png").write_bytes(b"x" * size)
    found = static_figures(tmp_path, {"scaling-text": study})
    assert (list(found.images), found.outdated, found.too_large) == (["a", "c"], (), ("b",))
    assert "Static figures left out: beyond 5 MB of images: b." in Reader(page_at(study, 0.0)).texts


def test_images_older_than_the_results_of_their_studies_are_named_instead(tmp_path: Path) -> None:
    text = write_study(tmp_path / "text", {"text": text_runs(done=5)[:1]}, study="scaling-text")
    vit = write_study(tmp_path / "vit", {"vit": pixel_runs(done=5)[:1]}, study="vit")
    for figure, home in (("fig1", tmp_path), ("fig9", tmp_path), ("fig99", tmp_path), ("fig7", text), ("fig9", vit)):
        (home / "figures").mkdir(exist_ok=True)
        (home / "figures" / f"{figure}.png").write_bytes(b"\x89PNG")
    now = time.time()
    for study, written in ((text, now + 60), (vit, now - 60)):
        for table in study.glob("runs/*/*.parquet"):
            os.utime(table, (written, written))
    found = static_figures(tmp_path, {"scaling-text": text, "vit": vit})
    assert list(found.images) == ["fig9"]
    assert found.outdated == ("fig1", "fig99", "fig7")
    words = (
        "Static figures left out: older than the newest result of their studies, to be drawn again: fig1, fig99, fig7."
    )
    assert words in Reader(page_at(tmp_path, now)).texts


def test_a_study_of_probes_that_has_only_begun_full_training(tmp_path: Path) -> None:
    waiting = {"pretrained": ["pretrained-0"], "random": ["random-0"]}
    families = {"full": text_runs(steps=60)[:1], "pretrained": [], "random": []}
    write_study(tmp_path / "probes", families, study="probes", not_started=waiting)
    texts = Reader(build(tmp_path).page.read_text(encoding="utf-8")).texts
    assert "There is nothing to draw yet." in texts
    assert not [text for text in texts if "is not drawn" in text]


def test_a_chart_that_fails_is_named_and_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def chart(folders: list[Path]) -> None:
        raise ZeroDivisionError(f"in {folders[0]}")

    monkeypatch.setattr(fig1, "chart", chart)
    study = write_study(tmp_path / "study", {"pixels": pixel_runs(done=60)[:1]})
    text = build(study).page.read_text(encoding="utf-8")
    texts = Reader(text).texts
    assert "The chart fig1 is not drawn: ZeroDivisionError: in …/study" in texts
    assert str(tmp_path) not in text
    assert any("(Figure 7)" in each for each in texts)
    (record,) = caplog.records
    assert "fig1 is not drawn: ZeroDivisionError" in record.getMessage()
    assert record.exc_info is not None


def test_fits_that_fail_are_named_and_cost_no_other(
    studies: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def some(families: Sequence[FamilyData]) -> tuple[Fit, ...]:
        if families and families[0].key == "text":
            raise ZeroDivisionError(f"in {studies}")
        return fits(families)

    monkeypatch.setattr(fits_section, "fits", some)
    section = str(fits_section.fits_section(read_studies(find_studies(studies))))
    assert f"The fits of scaling-text are not made: ZeroDivisionError: in …/{studies.name}" in section
    assert "Images: hand-written digits" in section
    assert "scaling-text</th>" not in section
    (record,) = caplog.records
    assert "the fits of scaling-text are not made: ZeroDivisionError" in record.getMessage()
    assert record.exc_info is not None


def test_fits_are_sorted_by_their_numbers(studies: Path) -> None:
    records = read_studies(find_studies(studies))
    rows = re.findall("<tr>.*?</tr>", str(fits_section.fits_section(records)))[1:]
    cells = [re.findall(r'<td class="number" data-order="([^"]+)">([^<]*)', row) for row in rows]
    assert [len(row) for row in cells] == [4] * len(rows)
    found = [fit for record in records for fit in fits(record.data.families)]
    orders = [float(row[0][0]) for row in cells]
    assert orders == pytest.approx([fit.fit.exponent.value for fit in found], nan_ok=True)
    assert any(math.isfinite(order) for order in orders)
    assert all(math.isnan(order) == (row[0][1] == "–") for order, row in zip(orders, cells, strict=True))


def test_a_study_that_has_not_begun(tmp_path: Path) -> None:
    study = write_study(tmp_path, {"text": []}, not_started={"text": ["text-0"]})
    text = build(study).page.read_text(encoding="utf-8")
    texts = " | ".join(Reader(text).texts)
    assert "There is nothing to draw yet." in texts
    assert "not begun" in texts
    assert "time of all runs and tasks | –" in texts
    assert "* plotly.js v" not in text


def test_one_run_that_has_made_a_step(tmp_path: Path) -> None:
    study = write_study(tmp_path, {"text": [text_runs(done=1)[0]]})
    assert "1 of 300" in build(study).page.read_text(encoding="utf-8")


def test_the_file_is_written_where_it_is_wanted_and_whole(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", {"pixels": pixel_runs(done=5)[:1]})
    out = tmp_path / "elsewhere" / "page.html"
    assert build(study, out).page == out
    assert not (study / "report.html").exists()
    assert {path.name for path in out.parent.iterdir()} == {"page.html", "claims.md", "claims.json"}
    with pytest.raises(RecordError, match=r"cannot be written.*name another file with --out"):
        build(study, study / "study.json" / "page.html")


def test_a_folder_without_studies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ForeignFolderError, match=r"is no study folder and holds none; expected a folder with"):
        build(tmp_path)


def test_two_folders_of_one_study_are_refused(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_study(tmp_path / name, {})
    with pytest.raises(ForeignFolderError, match=r"two folders of the study 'scaling', one and other; expected one of"):
        build(tmp_path)


def test_a_damaged_table_is_told(tmp_path: Path) -> None:
    write_studies(tmp_path)
    shutil.rmtree(tmp_path / "scaling-pixels" / "runs" / "pixels-0")
    change_header(tmp_path / "scaling-pixels", version=99)
    with pytest.raises(ForeignFolderError, match="version"):
        build(tmp_path)


def test_the_command_writes_and_names_the_page(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", {"pixels": pixel_runs(done=5)[:1]})
    done = CliRunner().invoke(app, ["report", str(study), "--out", str(tmp_path / "page.html")])
    files = [tmp_path / name for name in ("page.html", "claims.md", "claims.json")]
    assert (done.exit_code, done.output.split()) == (0, [str(file) for file in files])
    assert all(file.is_file() for file in files)


def test_the_command_opens_the_page_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    write_study(tmp_path, {})
    assert CliRunner().invoke(app, ["report", str(tmp_path), "--open"]).exit_code == 0
    assert opened == [(tmp_path / "report.html").as_uri()]


def test_without_plotly_the_command_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["report", str(write_study(tmp_path, {}))])
    assert done.exit_code == 1
    assert 'plotly is not installed. It comes with: pip install "spectral-reach[report]"' in done.output


def test_a_folder_that_is_none_is_an_error_of_folders(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(tmp_path / "nothing")])
    assert done.exit_code == 3
    assert "holds none" in done.output


def test_settings_are_json_again(reader: Reader) -> None:
    (settings,) = (text for text in reader.texts if text.startswith("{") and "inverse_width" in text)
    assert json.loads(settings)["families"]["text"]["data"]["path"] == "…/stories.jsonl"
