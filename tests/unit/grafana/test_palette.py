"""Colours that mean different things look different, to colour-blind readers too."""

from __future__ import annotations

import itertools

import pytest

from grafana.source import palette

# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
SIGHTS = {
    "usual": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
# In CIELAB, where 2.3 is a difference that can just be seen side by side: lines in a legend, and
# states that call for different things.
APART = 10.0
FAR_APART = 20.0

Triple = tuple[float, float, float]


def linear(color: str) -> list[float]:
    """From #RRGGBB to linear light."""
    parts = [byte / 255 for byte in bytes.fromhex(color.removeprefix("#"))]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]


def lab(color: str, sight: tuple[Triple, Triple, Triple]) -> Triple:
    """The colour in CIELAB as this sight has it."""
    r, g, b = (
        min(1.0, max(0.0, sum(k * c for k, c in zip(row, linear(color), strict=True))))
        for row in sight
    )

    def curve(t: float) -> float:
        return t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116

    x = curve((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047)
    y = curve(0.2126 * r + 0.7152 * g + 0.0722 * b)
    z = curve((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def distance(one: str, other: str, sight: str) -> float:
    """How different two colours look."""
    pair = zip(lab(one, SIGHTS[sight]), lab(other, SIGHTS[sight]), strict=True)
    return sum((p - q) ** 2 for p, q in pair) ** 0.5


@pytest.mark.parametrize("sight", SIGHTS)
def test_every_pair_can_be_told_apart(sight: str) -> None:
    """Of all colours in use."""
    for one, other in itertools.combinations(palette.EQUALS, 2):
        assert distance(one, other, sight) > APART, (one, other)


@pytest.mark.parametrize("sight", SIGHTS)
def test_well_and_ill_are_far_apart(sight: str) -> None:
    """Whoever glances knows which it is."""
    states = (palette.FINE, palette.LOOK, palette.ACT)
    for one, other in itertools.combinations(states, 2):
        assert distance(one, other, sight) > FAR_APART, (one, other)
