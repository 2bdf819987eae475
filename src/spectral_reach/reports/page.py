"""The page as one file: skeleton, style sheet, plotly and our script; nothing in it may reach for the network.

The content security policy forbids every connection: a browser would refuse whatever tried, and say so in its console.
What the scripts need is in the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from spectral_reach.reports.chart import Chart
from spectral_reach.reports.markup import Markup, data_block, element, joined

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)

_NO_SCRIPT = (
    "Scripts are off, so the interactive charts are not drawn and tables do not sort. Everything else is here: claims, "
    "tables, settings, and the figures as images where they have been drawn."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A section with its heading, found by ``key`` in the page's address."""

    key: str
    title: str
    content: Markup


def page(title: str, head: Markup, parts: Sequence[Part], charts: Sequence[Chart], footer: Markup) -> str:
    """The whole file.

    Raises:
        ModuleNotFoundError: plotly is not installed; its script comes from there.
    """
    body = joined(
        element("a", "Skip to the claims" if parts else "Skip", href="#content", class_="skip"),
        element("header", element("div", element("h1", title), head, class_="inner")),
        _navigation(parts),
        element(
            "main",
            element("noscript", element("p", _NO_SCRIPT, class_="notice")),
            (element("section", element("h2", part.title), part.content, id=part.key) for part in parts),
            id="content",
        ),
        element("footer", footer),
        data_block("chart-data", [chart.data() for chart in charts]),
        _script(_plotly()) if charts else None,
        _script(_own("page.js")),
    )
    document = element("html", _head(title), element("body", body), lang="en")
    return f"<!DOCTYPE html>\n{document}\n"


def _head(title: str) -> Markup:
    return element(
        "head",
        element("meta", charset="utf-8"),
        # Before everything that it is about.
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        # Without it a browser would ask for a favicon.
        element("link", rel="icon", href="data:,"),
        element("style", Markup(_own("page.css"))),
        _script("document.documentElement.classList.add('js')"),
    )


def _navigation(parts: Sequence[Part]) -> Markup:
    links = (element("li", element("a", part.title, href=f"#{part.key}")) for part in parts)
    toggle = element("button", "Theme", type="button", id="theme", title="Light, dark, or what the system says")
    return element("nav", element("div", element("ul", links), toggle, class_="inner"), aria_label="Sections")


def _script(source: str) -> Markup:
    assert "</script" not in source.lower(), "the script would end the block that it is in"
    return element("script", Markup(source))


def _own(name: str) -> str:
    return files("spectral_reach.reports").joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
