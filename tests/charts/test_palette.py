"""The colours: those of the design, readable, and one for each expert."""

from __future__ import annotations

import re

import pytest

from moe_sim.charts.palette import PALETTES, Theme

THEMES: tuple[Theme, ...] = ("light", "dark")
DESIGN = {
    "light": {
        "background": "#ffffff", "ink": "#1c1e21", "muted": "#5f6670", "hairline": "#e4e4df", "grid": "#ecece7",
        "accent": "#0f6e63", "danger": "#b4380b", "danger_ground": "#fdf1ea",
    },
    "dark": {
        "background": "#14171a", "ink": "#eceef0", "muted": "#a2abb5", "hairline": "#2c3238", "grid": "#262c32",
        "accent": "#4cc2b0", "danger": "#ff9b6b", "danger_ground": "#2d1c14",
    },
}  # fmt: skip
EXPERTS = {
    "light": "332288 CC6677 44AA99 DDCC77 88CCEE AA4499 117733 882255",
    "dark": "8f83d8 e08a99 5cc4b2 e6d88a 9ad7f5 cf7bc0 4fae70 c5688f",
}


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio by WCAG 2, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_of_black_and_white_is_twenty_one() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", THEMES)
def test_the_colours_are_those_of_the_design(theme: Theme) -> None:
    palette = PALETTES[theme]
    assert {name: getattr(palette, name) for name in DESIGN[theme]} == DESIGN[theme]
    assert list(palette.experts[:8]) == ["#" + colour.lower() for colour in EXPERTS[theme].split()]


@pytest.mark.parametrize("theme", THEMES)
def test_words_are_readable_on_their_grounds(theme: Theme) -> None:
    # 4.5 is what WCAG 2 AA asks of text.
    palette = PALETTES[theme]
    for colour in (palette.ink, palette.muted, palette.accent, palette.danger):
        assert contrast(colour, palette.background) >= 4.5
    assert contrast(palette.danger, palette.danger_ground) >= 4.5
    assert contrast(palette.ink, palette.danger_ground) >= 4.5
    assert contrast(palette.accent, palette.accent_ground) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
def test_lines_and_the_ends_of_a_scale_can_be_told_from_the_ground(theme: Theme) -> None:
    # 3 is what WCAG 2 AA asks of graphics. A scale begins at the panel's ground and ends in the accent.
    palette = PALETTES[theme]
    for colour in (palette.ink, palette.muted, palette.accent, palette.danger, palette.scale[1]):
        assert contrast(colour, palette.background) >= 3
    assert palette.scale[1] == palette.accent
    assert contrast(*palette.scale) >= 3


def test_both_themes_have_the_same_expert_in_the_same_place() -> None:
    light, dark = (PALETTES[theme].experts for theme in THEMES)
    assert len(light) == len(dark) == 10


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("num_experts", [2, 8, 10, 11, 64])
def test_every_expert_has_a_colour_and_no_two_share_one(theme: Theme, num_experts: int) -> None:
    colours = PALETTES[theme].expert_colours(num_experts)
    assert len(colours) == len(set(colours)) == num_experts
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)


@pytest.mark.parametrize("theme", THEMES)
def test_an_expert_keeps_its_colour_whatever_the_number_of_experts(theme: Theme) -> None:
    palette = PALETTES[theme]
    assert palette.expert_colours(64)[:8] == palette.expert_colours(8) == list(palette.experts[:8])
