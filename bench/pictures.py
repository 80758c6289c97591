"""How cost grows with the length of a session, one picture for each database: `python -m bench turn files --pictures`.

The figures of each picture lie beside it as JSON, so that `python -m bench.pictures` draws all of them again without
measuring. Needs matplotlib, which nothing else here does: `pip install matplotlib`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

from .turn import Medians

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
PREFIX = "growth-"
INCHES, DOTS = (6.5, 3.2), 120
COLOURS = ("#0969da", "#bc4c00")
"""Of the first and the second face of Sessile, and of what is written by hand for the same face."""

Lines = dict[str, dict[str, float]]
"""By name: milliseconds by the runs in the session."""


def keep(name: str, title: str, medians: Medians) -> Path:
    """Write down what was measured on a database, and draw it; returns the picture."""
    now = time.strftime("%Y-%m-%d", time.gmtime())
    figures = {"title": title, "date": now, "load": round(os.getloadavg()[0], 1), "lines": lines_of(medians)}
    path = FOLDER / f"{PREFIX}{name}.json"
    path.write_text(f"{json.dumps(figures, indent=1)}\n", "utf-8")
    return draw(path)


def lines_of(medians: Medians) -> Lines:
    """The lines of a picture; a floor that several faces share is one line."""
    lines: Lines = {}
    for face, sizes in medians.items():
        face = face.removeprefix("sessile: ")
        lines[f"Sessile, {face}"] = {f"{size}": round(ours * 1000, 4) for size, (ours, _) in sizes.items()}
        floor = {f"{size}": round(theirs * 1000, 4) for size, (_, theirs) in sizes.items()}
        if floor not in lines.values():
            lines[f"by hand, {face}"] = floor
    by_hand = [name for name in lines if name.startswith("by hand")]
    if len(by_hand) == 1:
        lines["by hand"] = lines.pop(by_hand[0])
    return lines


def draw(path: Path) -> Path:
    """Draw the figures of a file beside it: runs in powers of ten, and milliseconds from zero, so that flat is flat."""
    figures: dict[str, Any] = json.loads(path.read_text("utf-8"))
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("agg")
    plot: Any = import_module("matplotlib.pyplot")
    figure, axes = plot.subplots(figsize=INCHES, dpi=DOTS, layout="constrained")
    lines: Mapping[str, Mapping[str, float]] = figures["lines"]
    faces = [name.partition(", ")[2] for name in lines if name.startswith("Sessile")]
    for name, values in lines.items():
        ours, face = name.startswith("Sessile"), name.partition(", ")[2]
        axes.plot(
            [int(size) for size in values],
            list(values.values()),
            label=name,
            color=COLOURS[faces.index(face)] if face else "#656d76",
            linewidth=2.2 if ours else 1.2,
            linestyle="-" if ours else "--",
            marker="o",
            markersize=4 if ours else 3,
        )
    sizes = sorted({int(size) for values in lines.values() for size in values})
    axes.set(xscale="log", xlabel="runs in the session", ylabel="ms of a turn (median)")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(0, 1.15 * max(max(values.values()) for values in lines.values()))
    axes.set_title(f"{figures['title']}: load 3 runs, append one", fontsize=10, loc="left")
    axes.grid(axis="y", color="#d0d7de", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    target = path.with_suffix(".png")
    target.write_bytes(small(figure))
    plot.close(figure)
    return target


def small(figure: Any) -> bytes:
    """The picture with 64 colours, which takes a third of the bytes."""
    drawn, made = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    picture: Any = import_module("PIL.Image").open(drawn)
    picture.convert("RGB").quantize(64).save(made, format="png", optimize=True)
    return made.getvalue()


def main() -> None:
    """Draw every picture again."""
    for path in sorted(FOLDER.glob(f"{PREFIX}*.json")):
        print(draw(path))


if __name__ == "__main__":
    main()
