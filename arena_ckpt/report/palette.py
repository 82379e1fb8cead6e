"""Colours of the kinds of tensors, the same in every picture.

Eight hues after Okabe and Ito, moved in lightness and chroma until any two differ by at
least 0.1 in OKLab, for people who see all colours and for those with deuteranopia,
protanopia or tritanopia (as simulated by Machado et al.); a test says so.

References
----------
M. Okabe, K. Ito, "Color Universal Design", 2008. G. Machado, M. Oliveira, L. Fernandes,
"A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009.
"""

from __future__ import annotations

from dataclasses import dataclass

from arena_ckpt.planning.tensors import TensorKind

Colour = tuple[int, int, int]


def parse_colour(text: str) -> Colour:
    """Return red, green and blue of a colour such as ``"#3b6ea8"``."""
    return (int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16))


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours as ``#rrggbb`` for kinds, free memory, text and background."""

    kinds: dict[TensorKind, str]
    page: str
    free: str
    ink: str
    pale_ink: str
    rule: str
    bound: str


LIGHT = Theme(
    kinds={
        TensorKind.WEIGHT: "#1d4f97",
        TensorKind.GRADIENT: "#c9432a",
        TensorKind.OPTIMIZER_STATE: "#7cc3ef",
        TensorKind.ACTIVATION: "#11857a",
        TensorKind.RECOMPUTED: "#b9d488",
        TensorKind.DERIVATIVE: "#e0912f",
        TensorKind.WORKSPACE: "#7d2652",
        TensorKind.DATA: "#9b9ea6",
    },
    page="#ffffff",
    free="#f3f2ee",
    ink="#22262e",
    pale_ink="#6c727c",
    rule="#d9d8d2",
    bound="#a8283a",
)
DARK = Theme(
    kinds={
        TensorKind.WEIGHT: "#4058b8",
        TensorKind.GRADIENT: "#dd4b2b",
        TensorKind.OPTIMIZER_STATE: "#84d0f6",
        TensorKind.ACTIVATION: "#159176",
        TensorKind.RECOMPUTED: "#d2eaa6",
        TensorKind.DERIVATIVE: "#f79b3c",
        TensorKind.WORKSPACE: "#932c63",
        TensorKind.DATA: "#a0a6ad",
    },
    page="#16181d",
    free="#22252c",
    ink="#e8e8e4",
    pale_ink="#9a9fa8",
    rule="#363a43",
    bound="#f08090",
)
THEMES = {"light": LIGHT, "dark": DARK}
