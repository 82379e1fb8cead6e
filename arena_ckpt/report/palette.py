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
    """Colours as ``#rrggbb`` for kinds, free memory, text and background.

    Attributes
    ----------
    kinds : dict from TensorKind to str
    page, free, ink, pale_ink, rule, bound : str
        Background, free memory, text, pale text, grid lines and the live lower bound.
    hatch : str
        Lines over recomputed activations, with a contrast of at least 3 to these.
    memories : tuple of str
        Free memory of each RAM, from below, where there are several; the first is
        `free`, and they begin again after the last.
    """

    kinds: dict[TensorKind, str]
    page: str
    free: str
    ink: str
    pale_ink: str
    rule: str
    bound: str
    hatch: str
    memories: tuple[str, ...]


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
    hatch="#5c6f35",
    memories=("#f3f2ee", "#e3ebf4", "#f6e9da", "#ebe7f3"),
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
    hatch="#5f7239",
    memories=("#22252c", "#1c2e3d", "#372c20", "#2e2639"),
)
THEMES = {"light": LIGHT, "dark": DARK}
