"""Write the page of benchmark results, and its plot, from what the benchmarks wrote.

    python tools/bench/page.py FOLDER [--page docs/benchmark-results.md]

`FOLDER` holds ``networks.json`` and others, and ``parts.txt``, in which
tools/bench/all.sh writes what it ran: name, exit status and seconds. What is missing is
said on the page.
"""

from __future__ import annotations

import argparse
import html
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import spread

PAGE = Path(__file__).parents[2] / "docs" / "benchmark-results.md"
TITLES = {
    "arena": "ours",
    "blocks": "ours with blocks",
    "eager": "PyTorch eager",
    "compile": "torch.compile",
    "jax": "JAX (jit)",
}
OTHERS = ("eager", "compile", "jax")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A benchmark that was run: its name, exit status and wall time."""

    name: str
    status: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of one contestant over that of another in the same round."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


def ratio(row: Row, one: str, other: str, clock: str) -> Ratio | None:
    """Return median and quartiles over the rounds, or None where one did not run."""
    ran = row["contestants"]
    if one not in ran or other not in ran:
        return None
    pairs = zip(ran[one][clock]["values"], ran[other][clock]["values"], strict=True)
    found = spread([a / b for a, b in pairs])
    return Ratio(found["median"], *found["quartiles"])


# -- Markdown


def make_page(results: dict[str, Any], parts: Sequence[Part], plot: str) -> str:
    """Return the page.

    Parameters
    ----------
    results : dict
        What each benchmark wrote, by its name; those that wrote nothing are missing.
    parts : sequence of Part
        In the order in which they ran.
    plot : str
        The path of the plot from the page.
    """
    lines = ["# Benchmark results", "", *_introduction(results, parts)]
    if "networks" in results:
        lines += _networks(results["networks"], plot)
    if "step_time" in results:
        lines += ["## Small and large perceptrons", ""]
        lines += _compared(results["step_time"], "arena", "eager")
    if "portable" in results:
        lines += ["## Portable arithmetic beside the fast one", ""]
        lines += _compared(results["portable"], "portable", "fast")
    if "startup" in results:
        lines += ["## Until something is there", "", *_startup(results["startup"])]
    return "\n".join(lines).rstrip() + "\n"


def _introduction(results: dict[str, Any], parts: Sequence[Part]) -> list[str]:
    lines = [
        "Written by `tools/bench/all.sh`, which runs all of this again;",
        "[benchmarks.md](benchmarks.md) says how it is measured. All contestants of a",
        "row ran by turns in one run. Shown are medians over the rounds with quartiles",
        "in brackets; a ratio is taken within each round.",
        "",
    ]
    for part in parts:
        if part.status:
            why = "took too long" if part.status == 124 else "failed"
            lines += [
                f"**`{part.name}` {why} (exit status {part.status}): its rows are not "
                "complete.**",
                "",
            ]
    first = next(iter(results.values()), None)
    if first is None:
        return lines
    machine = first["machine"]
    told = {
        "date": first["began"][:10],
        "processor": machine["processor"],
        "cores": machine["cores"],
        "vector units": ", ".join(machine["flags"]) or "not known",
        "memory": f"{machine['memory_bytes'] / 2**30:.1f} GiB",
        "system": machine["system"],
        "load average before": f"{machine['load'][0]:.2f}",
        **{name: version or "–" for name, version in first["versions"].items()},
    }
    if parts:
        minutes = sum(part.seconds for part in parts) / 60
        told["time in all"] = f"{minutes:.1f} min"
    return [*lines, *_table(["machine", ""], [[k, str(v)] for k, v in told.items()])]


def _networks(content: Row, plot: str) -> list[str]:
    rows = content["rows"]
    lines = [
        "## Whole networks",
        "",
        f"![Wall time of a step over that of PyTorch eager]({plot})",
        "",
        "Wall time of a step over that of others, and CPU time over that of eager:",
        "",
    ]
    heads = ["network", "threads", *(f"ours / {TITLES[name]}" for name in OTHERS)]
    heads += ["with blocks / PyTorch eager", "CPU, ours / PyTorch eager"]
    body = []
    for row in rows:
        found = [ratio(row, "arena", other, "wall_us") for other in OTHERS]
        found.append(ratio(row, "blocks", "eager", "wall_us"))
        found.append(ratio(row, "arena", "eager", "cpu_us"))
        cells = ["–" if one is None else str(one) for one in found]
        body.append([row["case"], str(row["threads"]), *cells])
    lines += _table(heads, body)
    for name, why in content["options"].get("left_out", {}).items():
        lines += [f"{plain(TITLES[name])} is left out: {plain(why)}.", ""]
    for row in rows:
        for name, why in row["failed"].items():
            said = f"{TITLES.get(name, name)} could not run {row['case']}: {why}"
            lines += [f"**{plain(said)}**", ""]
    lines += ["Milliseconds of a step, and the most bytes that it takes:", ""]
    body = [
        [row["case"], str(row["threads"]), TITLES.get(name, name), *_times(one)]
        for row in rows
        for name, one in row["contestants"].items()
    ]
    heads = ["network", "threads", "", "wall, ms", "CPU, ms", "MB", "rounds"]
    return [*lines, *_table(heads, body)]


def _times(one: Row) -> list[str]:
    n_bytes = one["bytes"]
    size = "–" if n_bytes is None else f"{n_bytes / 1e6:.1f}"
    return [
        _milliseconds(one["wall_us"]),
        _milliseconds(one["cpu_us"]),
        size,
        str(one["rounds"]),
    ]


def _milliseconds(found: Row) -> str:
    middle, low, high = (
        _digits(us / 1e3) for us in (found["median"], *found["quartiles"])
    )
    return f"{middle} ({low}–{high})"


def _digits(value: float) -> str:
    """Return a number with three digits that count, as far as decimals go."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _compared(content: Row, one: str, other: str) -> list[str]:
    """Return a table of two contestants: their wall times, and both ratios."""
    body = []
    for row in content["rows"]:
        walls, cpus = (ratio(row, one, other, clock) for clock in ("wall_us", "cpu_us"))
        if walls is None:
            continue
        times = (_milliseconds(row["contestants"][n]["wall_us"]) for n in (one, other))
        ratios = [str(walls), str(cpus)]
        body.append([row["case"], str(row["threads"]), *times, *ratios])
    ours, theirs = TITLES.get(one, one), TITLES.get(other, other)
    heads = ["network", "threads", f"{ours}, ms", f"{theirs}, ms"]
    heads += [f"wall, {ours} / {theirs}", f"CPU, {ours} / {theirs}"]
    return _table(heads, body)


def _startup(content: Row) -> list[str]:
    body = []
    for row in content["rows"]:
        low, high = row["s"]["quartiles"]
        seconds = f"{row['s']['median']:.2f} ({low:.2f}–{high:.2f})"
        body.append([row["what"], seconds, row["of"]])
    return _table(["", "s", "of"], body)


def _table(heads: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(plain(cell) for cell in cells)} |"

    return [line(heads), "|" + "---|" * len(heads), *map(line, body), ""]


def plain(text: str) -> str:
    """Return text that Markdown shows as it is, on one line and in one cell."""
    text = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", text)


# -- the plot

COLORS = {
    "arena": "#2f7ed8",
    "blocks": "#86b6ec",
    "compile": "#e08a1e",
    "jax": "#4fa35a",
}
"""Contestants that have a bar, over a line for eager."""

BAR, GAP, TOP, LEFT, PANEL = 12, 14, 64, 150, 330
"""Heights and widths in pixels."""

MOST = 2.5
"""Largest ratio with a bar of its full length."""

STYLE = """
text { font: 12px sans-serif; fill: #1f2328 }
.back { fill: #ffffff } .line { stroke: #8c959f } .spread { stroke: #1f2328 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .back { fill: #0d1117 } .spread { stroke: #e6edf3 }
}
"""


def make_plot(rows: Sequence[Row]) -> str:
    """Return an SVG of wall times over eager's: a panel by the number of threads.

    A bar ends at the median over the rounds, and a line goes from one quartile to the
    other.
    """
    cases = list(dict.fromkeys(row["case"] for row in rows))
    all_threads = sorted({row["threads"] for row in rows})
    shown = {
        (row["case"], row["threads"], name): found
        for row in rows
        for name in COLORS
        if (found := ratio(row, name, "eager", "wall_us"))
    }
    names = [name for name in COLORS if any(key[2] == name for key in shown)]
    group = BAR * max(1, len(names)) + GAP
    width, height = LEFT + PANEL * len(all_threads) + 20, TOP + group * len(cases) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">',
        "<title>Wall time of a step over that of PyTorch eager</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="back" width="{width}" height="{height}"/>',
    ]
    for number, name in enumerate(names):
        x = LEFT + number * 140
        parts.append(
            f'<rect x="{x}" y="10" width="12" height="12" fill="{COLORS[name]}"/>'
        )
        parts.append(_text(x + 17, 20, TITLES[name]))
    bottom = height - 30
    for number, case in enumerate(cases):
        middle = TOP + number * group + (group - GAP) / 2 + 4
        parts.append(_text(LEFT - 8, middle, case, "end"))
    for panel, threads in enumerate(all_threads):
        left = LEFT + panel * PANEL
        many = "thread" if threads == 1 else "threads"
        parts.append(_text(left, 46, f"wall time over that of eager, {threads} {many}"))
        for tick in (0, 0.5, 1, 1.5, 2, 2.5):
            x = left + _pixels(tick)
            dashes = "" if tick == 1 else ' stroke-dasharray="1 4"'
            parts.append(
                f'<path class="line" d="M{x:.1f} {TOP - 6}V{bottom}"{dashes}/>'
            )
            parts.append(_text(x, bottom + 16, f"{tick:g}", "middle"))
        for row, case in enumerate(cases):
            for place, name in enumerate(names):
                if found := shown.get((case, threads, name)):
                    y = TOP + row * group + place * BAR
                    parts += _bar(left, y, found, COLORS[name])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(left: float, y: float, found: Ratio, color: str) -> list[str]:
    low, high = _pixels(found.low), _pixels(found.high)
    middle = y + BAR / 2 - 0.5
    end = max(_pixels(found.median), high)
    return [
        f'<rect x="{left}" y="{y}" width="{_pixels(found.median):.1f}" '
        f'height="{BAR - 2}" fill="{color}"/>',
        f'<path class="spread" d="M{left + low:.1f} {middle}H{left + high:.1f}"/>',
        _text(left + end + 4, y + 9, f"{found.median:.2f}"),
    ]


def _pixels(value: float) -> float:
    return min(value, MOST) / MOST * (PANEL - 50)


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{html.escape(words)}</text>"
    )


# -- files


def read_folder(folder: Path) -> tuple[dict[str, Any], list[Part]]:
    """Return what the benchmarks wrote by name, and the parts that ran."""
    file = folder / "parts.txt"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    rows = (line.split() for line in lines)
    parts = [Part(name, int(status), int(s)) for name, status, s in rows]
    results = {
        name: json.loads(path.read_text("utf-8"))
        for name in ("networks", "step_time", "portable", "startup")
        if (path := folder / f"{name}.json").exists()
    }
    return results, parts


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    results, parts = read_folder(options.folder)
    plot = options.page.with_suffix(".svg")
    options.page.write_text(make_page(results, parts, plot.name), "utf-8")
    rows = results.get("networks", {"rows": []})["rows"]
    plot.write_text(make_plot(rows), "utf-8")
    print(f"written: {options.page} and {plot.name}")


if __name__ == "__main__":
    main()
