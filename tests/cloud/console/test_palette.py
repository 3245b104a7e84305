"""Colours of the console keep the contrast of WCAG 2.2: text 4.5 (1.4.3), lines and symbols 3 (1.4.11), in both themes."""

from __future__ import annotations

import re

import pytest

from tieline_cloud.console.pages import _STATIC

TEXT = ("--ink", "--mute", "--warn", "--alarm")
GRAPHICS = ("--n0", "--n1", "--n2", "--warn", "--alarm", "--vlo", "--vhi", "--accent", "--past", "--focus")


def tokens() -> dict[str, tuple[str, str]]:
    text = (_STATIC / "console.css").read_text(encoding="utf-8")
    pairs = re.findall(r"(--[a-z0-9]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", text)
    return {name: (light, dark) for name, light, dark in pairs}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_black_on_white_has_the_contrast_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("names", "least"), [(TEXT, 4.5), (GRAPHICS, 3.0)], ids=["text", "graphics"])
def test_every_colour_stands_out_from_its_panel(names: tuple[str, ...], least: float, theme: int) -> None:
    palette = tokens()
    panel = palette["--panel"][theme]
    faint = {name: round(contrast(palette[name][theme], panel), 2) for name in names}
    assert {name: ratio for name, ratio in faint.items() if ratio < least} == {}
