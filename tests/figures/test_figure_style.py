"""The visual language: one ramp for sizes, legible on white; round numbers on axes; lines that fit."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from spectral_reach.figures import caption
from spectral_reach.figures.style import (
    ComputeColours,
    SizeColours,
    log_axis,
    log_compute_axis,
    log_loss_axis,
    log_plain_axis,
    log_size_axis,
    style,
)


def luminance(colour):
    """Relative luminance of sRGB (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_sizes_run_from_light_to_dark_evenly_in_their_logarithm():
    sizes = [1_000, 10_000, 100_000, 1_000_000]
    colours = SizeColours(sizes)
    light = [luminance(colours(size)) for size in sizes]
    assert light == sorted(light, reverse=True)
    # The lightest still stands out from white by 1.6:1 in thick lines, the darkest by more than 7:1.
    assert 1.05 / (light[0] + 0.05) > 1.6
    assert 1.05 / (light[-1] + 0.05) > 7
    assert colours(31_623) == pytest.approx(SizeColours([10_000, 31_623, 100_000])(31_623), abs=0.15)


def test_a_single_size_is_dark():
    assert luminance(SizeColours([5_000])(5_000)) < 0.1


@pytest.mark.parametrize(("low", "high"), [(2.3, 6.4), (0.9, 3.0), (1.0, 1.2), (3.1, 3.35), (0.02, 0.4), (1.5, 11.0)])
def test_losses_get_three_to_six_round_ticks(low, high):
    with style():
        axes = Figure().add_subplot()
        log_loss_axis(axes, low, high)
        ticks = axes.get_yticks()
        labels = [label.get_text() for label in axes.get_yticklabels()]
    assert 3 <= len(ticks) <= 6
    assert all(low <= tick <= high for tick in ticks)
    assert all(len(label) <= 4 for label in labels)


def test_compute_is_labelled_in_powers_of_ten():
    with style():
        axes = Figure().add_subplot()
        log_compute_axis(axes, labelled=True)
        axes.set_xlim(1e8, 1e12)
        labels = [label.get_text() for label in axes.get_xticklabels()]
    assert r"$\mathdefault{10^{12}}$" in labels
    assert axes.get_xlabel() == "compute (FLOPs)"


@pytest.mark.parametrize(("low", "labelled"), [(1e-6, True), (1e-9, False)])
def test_two_and_five_are_labelled_only_where_decades_are_few(low, labelled):
    with style():
        axes = Figure().add_subplot()
        log_axis(axes, low, 2.5e-5)
        labels = [label.get_text() for label in axes.get_yticklabels(minor=True)]
    assert (r"$2\times 10^{-5}$" in labels) is labelled
    assert not any("3" in label for label in labels)


def test_one_power_of_ten_alone_tells_no_scale():
    with style():
        axes = Figure().add_subplot()
        log_axis(axes, 1.5e-7, 6.5e-6)
        labels = [label.get_text() for label in axes.get_yticklabels(minor=True)]
    assert r"$2\times 10^{-7}$" in labels


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.8, 1.3, ["0.8", "0.9", "1", "1.1", "1.2", "1.3"]),
        (0.55, 1.82, ["0.6", "0.8", "1", "1.2", "1.5"]),  # evenly spaced there are but 1 and 1.5
        (0.8, 2.8, ["1", "1.5", "2", "2.5"]),
        (0.7, 6.5, ["1", "2", "5"]),
        (0.004, 3.0, ["0.01", "0.1", "1"]),
        (900, 18_000, ["1,000", "2,000", "5,000", "10,000"]),
        (2e6, 5e6, [r"$2\times 10^{6}$", r"$3\times 10^{6}$", r"$4\times 10^{6}$", r"$5\times 10^{6}$"]),
    ],
)
@pytest.mark.parametrize("horizontal", [False, True])
def test_plain_numbers_on_logarithmic_axes(low, high, shown, horizontal):
    with style():
        axes = Figure().add_subplot()
        log_plain_axis(axes, low, high, horizontal=horizontal)
        axis = axes.xaxis if horizontal else axes.yaxis
        ticks = [t for t in axis.get_majorticklocs() if low <= t <= high]
        labels = [axis.get_major_formatter()(tick, 0) for tick in ticks]
    assert labels == shown


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [((21_000, 910_000), ["20k", "50k", "100k", "200k", "500k", "1M"]), ((1e3, 2e6), ["1k", "10k", "100k", "1M"])],
)
def test_sizes_are_labelled_as_sizes(sizes, shown):
    with style():
        axes = Figure().add_subplot()
        log_size_axis(axes, sizes)
        low, high = axes.get_xlim()
        labels = [axes.xaxis.get_major_formatter()(t, 0) for t in axes.get_xticks() if low <= t <= high]
    assert labels == shown
    assert axes.get_xlabel() == "parameters"
    assert low < sizes[0] < sizes[1] < high


def test_compute_has_a_ramp_of_its_own():
    budgets, sizes = ComputeColours([1e9, 1e10, 1e11]), SizeColours([1e9, 1e10, 1e11])
    light = [luminance(budgets(flops)) for flops in (1e9, 1e10, 1e11)]
    assert light == sorted(light, reverse=True)
    assert 1.05 / (light[0] + 0.05) > 1.6
    assert all(budgets(flops) != sizes(flops) for flops in (1e9, 1e10, 1e11))


def test_lines_are_as_wide_as_allowed_and_no_wider():
    text = "The quick brown fox = 1.00 ± 0.25 jumps over the lazy dog. " * 5
    lines = caption.wrap(text, 2.0)
    assert " ".join(lines) == text.strip()
    figure = Figure(figsize=(4, 4))
    widths = [figure.text(0, 0, line, fontsize=6.8).get_window_extent().width / figure.dpi for line in lines]
    assert max(widths) < 2.0 * 1.03  # hinting at 100 dots per inch
    assert np.mean(widths[:-1]) > 1.6
    assert not any(line.endswith(("±", "=")) or line.startswith(("±", "=")) for line in lines)


def test_a_word_longer_than_a_line_is_kept_whole():
    assert caption.wrap("a incomprehensibilities b", 0.3) == ["a", "incomprehensibilities", "b"]


def test_looking_at_the_registry_loads_neither_matplotlib_nor_torch():
    heavy = "{'matplotlib', 'torch', 'numpy'}"
    code = f"import sys; import spectral_reach.figures.registry; print(*{heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
