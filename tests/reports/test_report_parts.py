"""The small parts of the page: markup, colours and their contrast, paths, amounts, tables."""

import json
import math
import re
from importlib.resources import files

import pytest

from spectral_reach.reports.amounts import compute, counted, duration, memory, moment
from spectral_reach.reports.colours import (
    BLUE,
    DARK_GROUND,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PINK,
    ComputeRamp,
    SizeRamp,
    evenly,
)
from spectral_reach.reports.markup import Markup, data_block, element, joined
from spectral_reach.reports.private_paths import without_paths
from spectral_reach.reports.tables import number, table, text

AA, GRAPHICS = 4.5, 3.0  # WCAG 2.2, 1.4.3 and 1.4.11


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def style_colours() -> dict[str, tuple[str, str]]:
    css = files("spectral_reach.reports").joinpath("page.css").read_text(encoding="utf-8")
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    return {name: (light, dark) for name, light, dark in found}


@pytest.mark.parametrize(
    "name", ["ink", "faint", "link", "supported", "contradicted", "inconclusive"], ids=lambda name: name
)
def test_text_stands_out_in_both_schemes(name: str) -> None:
    colours = style_colours()
    for scheme in (0, 1):
        for ground in ("ground", "raised"):
            assert contrast(colours[name][scheme], colours[ground][scheme]) >= AA, (name, scheme, ground)


@pytest.mark.parametrize("ramp", [SizeRamp, ComputeRamp])
def test_a_ramp_stands_out_from_a_dark_page_in_order(ramp: type[SizeRamp]) -> None:
    sizes = [2 * 10**3 * 3**i for i in range(9)]
    dark = [ramp(sizes)(parameters).dark for parameters in sizes]
    assert all(contrast(colour, DARK_GROUND) >= AA for colour in dark)
    assert sorted(dark, key=luminance, reverse=True) == dark
    assert style_colours()["ground"][1] == DARK_GROUND


@pytest.mark.parametrize("colour", [INK, FAINT, BLUE, ORANGE, PINK, GREEN])
def test_other_colours_of_charts_stand_out(colour) -> None:
    assert contrast(colour.light, "#ffffff") >= GRAPHICS
    assert contrast(colour.dark, DARK_GROUND) >= GRAPHICS


def test_the_ramps_are_those_of_the_figures() -> None:
    from matplotlib.colors import to_hex

    from spectral_reach.figures.style import ComputeColours, SizeColours

    sizes = [21_000, 207_000, 910_000]
    for ramp, colours in ((SizeRamp, SizeColours), (ComputeRamp, ComputeColours)):
        assert [ramp(sizes)(p).light for p in sizes] == [to_hex(colours(sizes)(p)) for p in sizes]


def test_what_is_no_size_has_no_colour_of_sizes() -> None:
    assert [colour.light for colour in evenly(2)] == [ComputeRamp([1, 2])(1).light, ComputeRamp([1, 2])(2).light]
    sizes = SizeRamp(2**i for i in range(5))
    assert not set(evenly(5)) & {sizes(2**i) for i in range(5)}


def test_markup_escapes_text_and_attributes() -> None:
    made = element("a", "<b> & c", Markup("<i>x</i>"), None, class_='"quoted"', data_key="k", hidden=True, title=None)
    assert str(made) == '<a class="&quot;quoted&quot;" data-key="k" hidden>&lt;b&gt; &amp; c<i>x</i></a>'
    assert str(joined(["a", "<"], element("br"))) == "a&lt;<br>"


def test_data_cannot_leave_their_block() -> None:
    value = {"</script><!--": ["\u2028", 1.5, None]}
    block = str(data_block("id", value))
    inside = block.removeprefix('<script type="application/json" id="id">').removesuffix("</script>")
    assert "<" not in inside
    assert json.loads(inside) == value
    with pytest.raises(ValueError, match="JSON compliant"):
        data_block("id", math.nan)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/home/me/my stories/part 1.jsonl", "…/part 1.jsonl"),
        ("/data/cifar5m/", "…/cifar5m"),
        ("~/corpora/verse", "…/verse"),
        (r"C:\Users\me\verse.txt", "…/verse.txt"),
        ("file:///srv/verse.txt", "…/verse.txt"),
        ("text:/srv/corpora/verse.txt, 3 files", "text:…/verse.txt, 3 files"),
        ("SimpleStories/SimpleStories", "SimpleStories/SimpleStories"),
        ("tokens/s and 1/2", "tokens/s and 1/2"),
        ("base × reference / width", "base × reference / width"),
        (3, 3),
        (None, None),
    ],
)
def test_paths_are_cut_down_to_their_last_part(given: object, kept: object) -> None:
    assert without_paths(given) == kept
    assert without_paths({"a": [given, {"b": given}]}) == {"a": [kept, {"b": kept}]}


def test_amounts() -> None:
    assert [duration(s) for s in (3.21, 42.4, 200, 7500, 273_600)] == [
        "3.2 s",
        "42 s",
        "3 min 20 s",
        "2 h 05 min",
        "3 d 4 h",
    ]
    assert [duration(s) for s in (59.9, 3599.9, math.nan)] == ["1 min 00 s", "1 h 00 min", "–"]
    assert [memory(b) for b in (500, 612e6, 1.234e9, math.nan)] == ["500 B", "612 MB", "1.23 GB", "–"]
    assert [compute(f) for f in (1.234e14, 0, math.nan)] == ["1.23×10¹⁴ FLOPs", "0 FLOPs", "–"]
    assert moment(0) == "1970-01-01 00:00 UTC"
    assert [counted(n, "run") for n in (1, 1200)] == ["1 run", "1,200 runs"]


def test_a_table_scrolls_in_its_box_and_sorts_by_number() -> None:
    made = str(
        table(
            "A & B",
            ("name", "time"),
            [[text("x"), number("2 h", 7200.0)], [text("y"), number("–", None)]],
            sortable=True,
        )
    )
    assert made.startswith(
        '<div class="scroll" tabindex="0" role="region" aria-label="A &amp; B"><table class="sortable">'
    )
    assert '<th scope="row">x</th><td class="number" data-order="7200.0">2 h</td>' in made
    assert 'data-order="nan"' in made
    assert made.count('<button type="button" class="sort">') == 2
