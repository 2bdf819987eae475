"""Every page of the documentation can be followed: its blocks of Python run one after the other, as written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "```python" in page.read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_page_is_in_the_navigation() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text("utf-8")
    assert [page for page in DOCS.rglob("*.md") if str(page.relative_to(DOCS)) not in navigation] == []


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=DOCS.parent, timeout=300, env=environment)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    reference = (tmp_path / "site" / "reference" / "index.html").read_text("utf-8")
    for name in ("decompose", "Tracker", "SpectralCallback", "early_warnings", "JsonLines"):
        assert f"{name}</" in reference or f">{name}" in reference, name
    theory = (tmp_path / "site" / "theory" / "index.html").read_text("utf-8")
    assert theory.count("<math ") == len(re.findall(r'class="arithmatex"', theory)) > 200
    assert re.findall(r"\\[a-zA-Z|_(\[]+", re.sub(r"<code>.*?</code>", "", theory)) == []  # no TeX is left over
    assert "https://cdn" not in theory
