"""Draws the pictures of the documentation into docs/pictures, light and dark: `make pictures`.

Diagrams are drawn of the text in the pages; the terminal shows what the README's commands print; the chart shows the
figures of docs/benchmarks.md; the dashboard is the demonstration's. Nothing here is drawn by hand.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from math import log10
from pathlib import Path

from .pictures import FOLDER, mark_of

ROOT = Path(__file__).resolve().parent.parent
MERMAID = Path(__file__).parent / "node_modules" / "mermaid" / "dist" / "mermaid.min.js"
CHROMIUM = "/usr/bin/chromium"

COLOURS = {
    "light": {"back": "#ffffff", "text": "#1f2328", "weak": "#656d76", "line": "#d0d7de", "strong": "#0969da"},
    "dark": {"back": "#0d1117", "text": "#e6edf3", "weak": "#8d96a0", "line": "#30363d", "strong": "#4493f8"},
}
MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,monospace"


def main() -> int:
    """Draw all of them, and remove those that no page shows any more."""
    FOLDER.mkdir(exist_ok=True)
    kept = {*diagrams(), *terminal(), *chart(), *dashboard()}
    for path in FOLDER.iterdir():
        if path.name not in kept and not path.name.startswith("growth-"):  # which `python -m bench --pictures` draws
            path.unlink()
    for name in sorted(kept):
        print(f"{(FOLDER / name).stat().st_size:8,} {name}")
    return 0


# ---------------------------------------------------------------- diagrams


def texts() -> Iterator[tuple[str, str]]:
    """The name and the text of every diagram in the pages."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        found = re.findall(r"^```mermaid\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        for number, text in enumerate(found, 1):
            yield f"{path.stem}-{number}", text


def diagrams() -> Iterator[str]:
    """Each diagram as Mermaid draws it, in a browser without a network."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.add_script_tag(path=MERMAID)
        for name, text in texts():
            for mode, theme in (("light", "neutral"), ("dark", "dark")):
                settings = {"startOnLoad": False, "theme": theme, "htmlLabels": False, "fontFamily": "sans-serif"}
                svg = page.evaluate(
                    "async ([text, settings]) => { mermaid.initialize(settings);"
                    " return (await mermaid.render('drawn', text)).svg }",
                    [text, settings],
                )
                yield _write(f"{name}-{mode}.svg", f"{svg}{mark_of(text)}")
        browser.close()


# ---------------------------------------------------------------- the terminal


def terminal() -> Iterator[str]:
    """What the README's first program and its commands print."""
    from tests.transcripts import run, shown, typed

    lines: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for block in shown(ROOT / "README.md"):
            if block.title == "chat.py":
                (folder / block.title).write_text(block.text, "utf-8")
            elif block.language == "console":
                for one in typed(block.text):
                    lines.append(("strong", f"$ {one.command}"))
                    said = run(one, folder).rstrip().splitlines()
                    lines += [("text", line) for line in said if "offline model" not in line.lower()]
    for mode, colour in COLOURS.items():
        rows = "".join(
            f'<text x="16" y="{28 + 18 * at}" fill="{colour[kind]}" xml:space="preserve">{escape(line)}</text>'
            for at, (kind, line) in enumerate(lines)
        )
        width = 32 + round(7.9 * max(len(line) for _, line in lines))
        height = 28 + 18 * len(lines)
        yield _write(
            f"terminal-{mode}.svg",
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" font-size="13" '
            f'font-family="{MONO}"><rect width="100%" height="100%" rx="6" fill="{colour["back"]}" '
            f'stroke="{colour["line"]}"/>{rows}</svg>',
        )


# ---------------------------------------------------------------- cost over the length of a session

LENGTHS = (10, 100, 1_000, 10_000)
SHOWN = {
    "Sessile, sync": "Sessile",
    "agno, default": "Agno",
    "openai-agents, default †": "OpenAI Agents SDK",
    "google-adk, default": "Google ADK",
    "langgraph, default": "LangGraph",
}


def figures() -> dict[str, list[float]]:
    """Milliseconds of a turn by the runs before it, from the table of docs/benchmarks.md."""
    found: dict[str, list[float]] = {}
    text = (ROOT / "docs" / "benchmarks.md").read_text("utf-8").partition("**Other libraries**")[2]
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in SHOWN and SHOWN[cells[0]] not in found:
            found[SHOWN[cells[0]]] = [float(cell.split()[0].replace(",", "")) for cell in cells[1:5]]
    assert found.keys() == set(SHOWN.values()), found
    return found


def chart() -> Iterator[str]:
    """Both axes in powers of ten."""
    across, down = 420, 260

    def at(runs: int, ms: float) -> tuple[float, float]:
        return round(70 + across * (log10(runs) - 1) / 3, 1), round(20 + down * (3.5 - log10(ms)) / 3.8, 1)

    for mode, colour in COLOURS.items():
        parts: list[str] = []
        for ms in (1, 10, 100, 1_000):
            y = at(10, ms)[1]
            parts.append(f'<path d="M70 {y}h{across}" stroke="{colour["line"]}"/>')
            parts.append(f'<text x="64" y="{y + 4}" text-anchor="end" fill="{colour["weak"]}">{ms:,g} ms</text>')
        for runs in LENGTHS:
            x = at(runs, 1)[0]
            parts.append(
                f'<text x="{x}" y="{down + 40}" text-anchor="middle" fill="{colour["weak"]}">{runs:,} runs</text>'
            )
        for name, values in figures().items():
            ours = name == "Sessile"
            points = " ".join(f"{x},{y}" for x, y in map(at, LENGTHS, values))
            stroke = colour["strong"] if ours else colour["weak"]
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{stroke}" stroke-width="{3 if ours else 1.5}"/>'
            )
            x, y = at(LENGTHS[-1], values[-1])
            weight = ' font-weight="bold"' if ours else ""
            parts.append(f'<text x="{x + 8}" y="{y + 4}" fill="{stroke}"{weight}>{name}</text>')
        yield _write(
            f"cost-{mode}.svg",
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 650 {down + 56}" width="650" font-size="12" '
            f'font-family="sans-serif"><rect width="100%" height="100%" fill="{colour["back"]}"/>'
            f"{''.join(parts)}</svg>",
        )


# ---------------------------------------------------------------- the dashboard


SEEN = (
    ("sessions", "#/", 1120, 640),
    ("session", "#/session/refund-4711?run=2", 1120, 640),
    ("monitor", "#/monitor?by=agent", 1290, 740),
)
"""Views of the demonstration, and how large they are drawn."""


def dashboard() -> Iterator[str]:
    """The dashboard over the demonstration's sessions: the list, a session in which a refund failed, the monitor."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        command = [str(Path(sys.executable).parent / "sessile"), "demo", "--dashboard", "--port", "0"]
        serving = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            address = _address(serving)
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            for mode in ("light", "dark"):
                for name, place, width, height in SEEN:
                    context = browser.new_context(
                        viewport={"width": width, "height": height},
                        color_scheme=mode,
                        reduced_motion="reduce",
                        locale="en-GB",
                    )
                    page = context.new_page()
                    page.goto(f"{address.rstrip('/')}/{place}")
                    page.wait_for_timeout(8_000)  # it asks for what it shows bit by bit
                    page.screenshot(path=FOLDER / f"dashboard-{name}-{mode}.png")
                    context.close()
                    yield f"dashboard-{name}-{mode}.png"
            browser.close()
        finally:
            serving.terminate()
            serving.wait()


def _address(serving: subprocess.Popen[str]) -> str:
    assert serving.stdout is not None
    for line in serving.stdout:
        if found := re.search(r"https?://(?:127\.0\.0\.1|localhost)\S*", line):
            return found[0]
    raise RuntimeError("The dashboard has not started.")


def _write(name: str, svg: str) -> str:
    (FOLDER / name).write_text(f"{svg.strip()}\n", "utf-8")
    return name


if __name__ == "__main__":
    sys.exit(main())
