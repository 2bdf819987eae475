"""Colours that come in two, for a light page and a dark one: the figures' two ramps, and a few fixed ones.

In data and style sheets a colour is a ``Colour``; the page's script and style sheet take the half that fits. The light
half of a ramp is that of the static figures. Its dark half has the same hue, lifted until it stands out from a dark
ground, with the order of lightness kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from spectral_reach.figures.style import ComputeColours, SizeColours

DARK_GROUND = "#15181c"
LIGHT_GROUND = "#ffffff"

# OKLab lightness of the darkest and lightest colour of a ramp on a dark ground.
_LOWEST, _HIGHEST = 0.66, 0.88
_RAMP_LOWEST, _RAMP_HIGHEST = 0.27, 0.84  # what the figures' ramps span
_MOST_CHROMA = 0.13


@dataclass(frozen=True, slots=True)
class Colour:
    """``#rrggbb`` on a light page and on a dark one."""

    light: str
    dark: str

    @property
    def token(self) -> str:
        """What stands for it in the data of a chart."""
        return f"${self.light}|{self.dark}"

    def faded(self, alpha: float) -> Colour:
        """The same, translucent."""
        end = f"{round(255 * alpha):02x}"
        return Colour(self.light + end, self.dark + end)

    @property
    def style(self) -> str:
        """Custom properties from which the style sheet takes its half."""
        return f"--light:{self.light};--dark:{self.dark}"


INK = Colour("#222222", "#e8e6e3")
FAINT = Colour("#6b6b6b", "#9aa0a6")
# Okabe and Ito's colours, safe for colour-blind readers, for what is not a size.
BLUE = Colour("#0072b2", "#56b4e9")
ORANGE = Colour("#b36b00", "#e69f00")
PINK = Colour("#b0528a", "#e08fbc")
GREEN = Colour("#00795a", "#2fc299")


class SizeRamp:
    """The colour of each model size on the ramp that the static figures use."""

    _of_figures: type[SizeColours] = SizeColours

    def __init__(self, values: Iterable[float]) -> None:
        known = sorted(set(values))
        self._colours = self._of_figures(known) if known else None

    def __call__(self, value: float) -> Colour:
        """Small values light, large ones dark; on a dark page lifted."""
        assert self._colours is not None, "a ramp of no values has no colours"
        red, green, blue, _ = self._colours(value)
        return Colour(_hex((red, green, blue)), _hex(_lifted((red, green, blue))))


class ComputeRamp(SizeRamp):
    """The colour of each compute on the ramp that the static figures use for what is no size."""

    _of_figures = ComputeColours


def evenly(n: int) -> tuple[Colour, ...]:
    """``n`` colours evenly along the ramp of compute, for what has an order and is no size."""
    ramp = ComputeRamp(2**i for i in range(n))
    return tuple(ramp(2**i) for i in range(n))


def _lifted(rgb: tuple[float, float, float]) -> tuple[float, float, float]:
    lightness, a, b = _oklab(rgb)
    share = min(1.0, max(0.0, (lightness - _RAMP_LOWEST) / (_RAMP_HIGHEST - _RAMP_LOWEST)))
    chroma = math.hypot(a, b)
    scale = min(1.0, _MOST_CHROMA / chroma) if chroma else 1.0
    return _rgb((_LOWEST + share * (_HIGHEST - _LOWEST), scale * a, scale * b))


def _hex(rgb: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * min(1.0, max(0.0, channel))):02x}" for channel in rgb)


# The matrices of Ottosson's OKLab (2020), in which equal distances look equal.


def _oklab(rgb: tuple[float, float, float]) -> tuple[float, float, float]:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb)
    long = math.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue)
    middle = math.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue)
    short = math.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


def _rgb(lab: tuple[float, float, float]) -> tuple[float, float, float]:
    lightness, a, b = lab
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )
    red, green, blue = (12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055 for c in linear)
    return red, green, blue
