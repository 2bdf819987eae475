"""The page in headless Chromium: it draws, keeps silent, asks for nothing, and can be read at 400 and 1,400 pixels."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.synthetic_study import pixel_runs, write_study
from reports.browser import Browser, Page
from spectral_reach.reports.report import build

pytestmark = pytest.mark.slow

DRAWN = "document.documentElement.dataset.drawn === 'yes'"
LOOKS = [(width, dark) for width in (400, 1400) for dark in (False, True)]


@pytest.fixture(scope="module")
def page(chromium: Browser, page_file: Path) -> Page:
    opened = chromium.open(page_file)
    opened.wait_for(DRAWN)
    return opened


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(write_study(tmp_path_factory.mktemp("small"), {"pixels": pixel_runs(done=30)[:1]})).page


def settle(page: Page) -> None:
    """Until a change of width or scheme has been answered."""
    page.value("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 200)))")
    page.wait_for(DRAWN)


def visible(page: Page, chart: str = "fig1") -> int:
    """Curves that a chart shows."""
    return int(
        page.value(
            f"[...document.querySelectorAll('#chart-{chart} .plot')]"
            ".flatMap((plot) => plot.data).filter((trace) => trace.visible).length"
        )
    )


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_it_draws_and_fits(page: Page, width: int, dark: bool, tmp_path: Path) -> None:
    page.show(width=width, dark=dark)
    settle(page)
    plots = page.value("document.querySelectorAll('.plot').length")
    assert page.value("document.querySelectorAll('.plot svg.main-svg .scatterlayer .trace').length") > 2 * plots > 0
    assert page.value("document.querySelectorAll('.plot .failed').length") == 0
    assert page.value("document.scrollingElement.scrollWidth") <= width
    # No plot is wider than its place, no text of the page smaller than what can be read.
    assert page.value(
        "[...document.querySelectorAll('.plot')].every((plot) =>"
        " plot.querySelector('svg').getBoundingClientRect().width <= plot.clientWidth + 1)"
    )
    sizes = page.value(
        "[...document.querySelectorAll('main *')].filter((each) => each.textContent.trim() && !each.closest('svg'))"
        ".map((each) => parseFloat(getComputedStyle(each).fontSize))"
    )
    assert min(sizes) >= 12
    ground = page.value("getComputedStyle(document.body).backgroundColor")
    paper = page.value("document.querySelector('.plot .bg, .plot .main-svg').style.background || ''")
    assert ground == ("rgb(21, 24, 28)" if dark else "rgb(255, 255, 255)")
    assert paper in ("", ground)
    assert page.screenshot(tmp_path / "page.png").stat().st_size > 50_000


def test_it_says_nothing_and_asks_for_nothing(page: Page, page_file: Path) -> None:
    assert page.complaints == []
    assert [request for request in page.requests if not request.startswith("data:")] == [page_file.resolve().as_uri()]
    assert page.value("performance.getEntriesByType('resource').filter((e) => !e.name.startsWith('data:')).length") == 0


def test_the_policy_refuses_what_would_reach_out(chromium: Browser, small_file: Path) -> None:
    page = chromium.open(small_file)
    refused = page.value("fetch('https://example.org').then(() => 'reached', (error) => error.message)")
    assert "Failed to fetch" in refused
    assert any("Content Security Policy" in complaint for complaint in page.complaints)


def test_a_hostile_label_does_not_run(page: Page) -> None:
    assert page.value("typeof window.hacked") == "undefined"
    assert page.value("document.querySelectorAll('main img:not(.static)').length") == 0


def test_buttons_show_and_hide(page: Page) -> None:
    page.show(width=1400)
    before = visible(page)
    click = "document.querySelector('#chart-fig1 [data-legend={}] {}').click()"
    page.value(click.format("size", ".none"))
    none = visible(page)
    # What belongs to no size, the frontier, stays.
    assert none < before / 4
    page.value(click.format("size", ".all"))
    assert visible(page) == before
    page.value(click.format("quantity", "[data-key=chi_pos]"))
    shown = page.value(
        "[...document.querySelectorAll('#chart-fig1 .plot')].flatMap((plot) => plot.data)"
        ".filter((trace) => trace.visible).map((trace) => trace.meta.quantity || '')"
    )
    assert "chi_pos" not in shown
    assert "chi_pos_unbiased" in shown
    page.value(click.format("quantity", "[data-key=chi_pos]"))
    assert visible(page) == before


def test_buttons_answer_the_keyboard(page: Page) -> None:
    before = visible(page)
    page.value("document.querySelector('#chart-fig1 .legend .item').focus()")
    page.press(" ", 32)
    assert page.value("document.activeElement.getAttribute('aria-pressed')") == "false"
    assert visible(page) < before
    page.press("Enter", 13)
    assert visible(page) == before


def test_a_point_tells_its_numbers(page: Page) -> None:
    page.show(width=1400)
    settle(page)
    plot = "document.querySelectorAll('#chart-fig1 .plot')[2]"
    page.value(f"{plot}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    place = page.value(
        f"(() => {{ const box = {plot}.querySelector('.point').getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    page.point_at(place[0] - 3, place[1])
    page.point_at(*place)
    page.wait_for(f"{plot}.querySelector('.hoverlayer text') !== null")
    assert "parameters" in page.value(f"{plot}.querySelector('.hoverlayer').textContent")
    assert "chi_pos" in page.value(f"{plot}.querySelector('.hoverlayer').textContent")


def test_tables_sort_by_number_and_by_text(page: Page) -> None:
    column = (
        "(() => { const table = document.querySelector('table.runs');"
        " const heads = [...table.tHead.rows[0].cells]; const at = heads.findIndex((h) => h.textContent === '%s');"
        " heads[at].querySelector('button').click();"
        " return [...table.tBodies[0].rows].map((row) => row.cells[at].textContent); })()"
    )
    assert page.value(column % "parameters") == ["6.2k", "21k", "24k", "56.3k", "142k", "207k", "–"]
    assert page.value(column % "parameters") == ["207k", "142k", "56.3k", "24k", "21k", "6.2k", "–"]
    names = page.value(column % "run")
    assert names == sorted(names)
    assert page.value("document.querySelectorAll('table.runs th[aria-sort]').length") == 1


def test_the_scheme_can_be_chosen(page: Page) -> None:
    page.show(width=1400, dark=False)
    settle(page)
    grounds = []
    for _ in range(3):
        page.value("document.getElementById('theme').click()")
        page.wait_for(DRAWN)
        grounds.append(page.value("getComputedStyle(document.body).backgroundColor"))
    light, dark = "rgb(255, 255, 255)", "rgb(21, 24, 28)"
    assert grounds == [light, dark, light]
    assert page.value("document.getElementById('theme').getAttribute('aria-label')") == "Theme: system"


def test_without_scripts_it_can_still_be_read(chromium: Browser, small_file: Path) -> None:
    page = chromium.open(small_file, scripts=False)
    seen = "document.querySelector('{}').getClientRects().length > 0"
    names = (".notice", ".claims", ".legends", ".panels", "#theme")
    boxes = {name: page.value(seen.format(name)) for name in names}
    assert boxes == {".notice": True, ".claims": True, ".legends": False, ".panels": False, "#theme": False}
