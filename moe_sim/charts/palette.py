"""The colours of all charts and pages, light and dark."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal

Theme = Literal["light", "dark"]


@dataclass(frozen=True)
class Palette:
    """One theme. `experts` is Paul Tol's muted set of ten, which colour-blind readers can tell apart."""

    background: str
    ink: str
    muted: str
    hairline: str
    grid: str
    accent: str
    accent_ground: str
    danger: str
    danger_ground: str
    progress: str
    progress_ground: str
    scale: tuple[str, str]
    """The two ends of a sequential colour scale, lowest value first."""
    experts: tuple[str, ...]
    runs: tuple[str, str, str, str]
    """The runs of a comparison; their lines also differ in dashes."""

    def expert_colours(self, num_experts: int) -> list[str]:
        """A colour for each expert. After ten the hues repeat, lighter or darker, so do not rely on colour alone."""
        shift = (0.0, 0.3, -0.3, 0.55, -0.5, 0.15, -0.15)
        return [
            _lighten(self.experts[i % len(self.experts)], shift[i // len(self.experts)]) for i in range(num_experts)
        ]


PALETTES: dict[Theme, Palette] = {
    "light": Palette(
        background="#ffffff", ink="#1c1e21", muted="#5f6670", hairline="#e4e4df", grid="#ecece7",
        accent="#0f6e63", accent_ground="#eaf3f1", danger="#b4380b", danger_ground="#fdf1ea",
        progress="#3049b0", progress_ground="#eef1fd",
        scale=("#f7f7f5", "#0f6e63"),
        experts=("#332288", "#cc6677", "#44aa99", "#ddcc77", "#88ccee", "#aa4499", "#117733", "#882255", "#999933",
                 "#661100"),
        runs=("#1c1e21", "#0f6e63", "#b4380b", "#3b5bdb"),
    ),
    "dark": Palette(
        background="#14171a", ink="#eceef0", muted="#a2abb5", hairline="#2c3238", grid="#262c32",
        accent="#4cc2b0", accent_ground="#152422", danger="#ff9b6b", danger_ground="#2d1c14",
        progress="#9fb2ff", progress_ground="#191f36",
        scale=("#1b1f23", "#4cc2b0"),
        experts=("#8f83d8", "#e08a99", "#5cc4b2", "#e6d88a", "#9ad7f5", "#cf7bc0", "#4fae70", "#c5688f", "#c2c25e",
                 "#c27a5f"),
        runs=("#eceef0", "#4cc2b0", "#ff9b6b", "#91a7ff"),
    ),
}  # fmt: skip


def _lighten(colour: str, amount: float) -> str:
    """Mix in that fraction of white or, if negative, of black."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    lightness += amount * (1 - lightness if amount > 0 else lightness)
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, lightness, saturation))
