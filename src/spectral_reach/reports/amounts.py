"""Durations, memory, compute and moments in words."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from spectral_reach.studies.analysis.numbers import power_of_ten

UNKNOWN = "–"

_MEMORY = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 05 min``, ``3 d 4 h``."""
    if math.isnan(seconds):
        return UNKNOWN
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def memory(size: float) -> str:
    """Bytes in decimal units: ``612 MB``, ``1.23 GB``."""
    if math.isnan(size):
        return UNKNOWN
    for unit, name in _MEMORY:
        if size >= 0.9995 * unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} B"


def compute(flops: float) -> str:
    """``1.23×10¹⁴ FLOPs``."""
    if math.isnan(flops):
        return UNKNOWN
    if flops <= 0:
        return "0 FLOPs"
    exponent = math.floor(math.log10(flops))
    return f"{flops / 10**exponent:.2f}×{power_of_ten(exponent)} FLOPs"


def moment(seconds: float) -> str:
    """Seconds since 1970 as ``2026-11-26 11:17 UTC``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def rate(value: float) -> str:
    """A learning rate: ``0.003``, ``4e-05``."""
    return f"{value:.3g}"


def counted(n: int, one: str, many: str | None = None) -> str:
    """``1 run``, ``3 runs``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
