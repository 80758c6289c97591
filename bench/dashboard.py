"""What the dashboard costs in a browser: very many sessions, and a very long one.

A server (`sessile dashboard`) and Chromium in processes of their own, on the same machine. The page itself tells the
time: from the beginning of a navigation to the frame in which rows or a run stand, from frame to frame while one
scrolls, and from a key to the frame in which what is searched for stands.
"""

from __future__ import annotations

import gzip
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sessile import SqliteStorage
from sessile.insight import Index
from sessile.storage.core import Core
from sessile.storage.extending import operate
from sessile.storage.ids import new_incarnation
from sessile.storage.snapshots import Draft
from sessile.storage.vocabulary import MessageAdded, RunEnded, RunStarted, SessionCreated

from .many import fill
from .measure import ms
from .tables import Table, verdict

RUNS = 10_000
PAINT, FRAME, MEMORY, SEARCH, BUNDLE = 1.0, 0.033, 150, 0.100, 350_000
"""Seconds, seconds, MB, seconds, bytes."""

LOADS = 7
PATIENCE = 600_000
"""Milliseconds that a page may take on a busy machine before it is given up."""

SPEED, SECONDS = 3_000, 8
"""Pixels a second, and for how long is scrolled."""

WORDS = ("refund", "delivery", "question", "zebra")

WATCH = """wanted => {
    window.__first = null;
    const look = () => {
        if (document.querySelector(wanted) === null) return requestAnimationFrame(look);
        requestAnimationFrame(() => setTimeout(() => { window.__first = performance.now(); }));
    };
    requestAnimationFrame(look);
}"""
"""When what is wanted was painted: the task after the frame that has it."""

FRAMES = """() => {
    window.__frames = [];
    let before = performance.now();
    const next = now => {
        window.__frames.push(now - before);
        before = now;
        window.__frame = requestAnimationFrame(next);
    };
    window.__frame = requestAnimationFrame(next);
}"""

KEYS = """() => {
    window.__found = null;
    addEventListener('keydown', () => {
        const pressed = performance.now();
        const look = () => {
            if (document.querySelector('.hit mark') === null) return requestAnimationFrame(look);
            requestAnimationFrame(() => setTimeout(() => { window.__found = performance.now() - pressed; }));
        };
        requestAnimationFrame(look);
    }, { once: true, capture: true });
}"""

ANSWER = """The parcel of order **{number}** left our house on Monday and is with the carrier now.

- It is in Lyon, and comes *tomorrow*.
- If nobody is at home, it goes to the shop at the corner.

| step | when | where |
|---|---|---|
| packed | 08:10 | Lille |
| handed over | 11:45 | Lille |

```python
track("{number}").status
```

{text}
"""


async def _long(core: Core, session_id: str, runs: int) -> None:
    await core.prepare(core.deadline())
    created = SessionCreated(
        session_id=session_id, kind="agent", agent="support", user_id="ada", incarnation=new_incarnation()
    )
    drafts = [Draft([created.entry()])]
    for number in range(1, runs + 1):
        common = (f"{session_id}-{number}", number, None, "support")
        question = f"Where is order {number}? I have waited for it since last week."
        text = " ".join(f"Word {number * 7 + place} of what else is to be said." for place in range(number % 40))
        answer = ANSWER.format(number=number, text=text)
        call = {"part_kind": "tool-call", "tool_name": "track", "args": {"order": number}, "tool_call_id": f"c{number}"}
        found = {"order": number, "status": "on its way", "places": ["Lille", "Lyon"] * 12}
        given = {"part_kind": "tool-return", "tool_name": "track", "content": found, "tool_call_id": f"c{number}"}
        usage = {"input_tokens": 900, "output_tokens": 300, "cost": "0.0021"}
        response = {"kind": "response", "model_name": "m1", "usage": usage}
        said: list[dict[str, Any]] = [
            {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": question}]},
            {**response, "parts": [{"part_kind": "thinking", "content": "I look it up first. " * 8}, call]},
            {"kind": "request", "parts": [given]},
            {**response, "parts": [{"part_kind": "text", "content": answer}]},
        ]
        counts = {"requests": 2, "input_tokens": 1800, "output_tokens": 600, "cost": 4_200_000, "unpriced": 0}
        entries = [
            RunStarted(input=question).entry(*common),
            *(MessageAdded(one).entry(*common, format="pydantic-ai/2") for one in said),
            RunEnded(status="completed", output=answer, usage=counts).entry(*common),
        ]
        drafts.append(Draft(entries, number))
    await core.append_batch(None, session_id, drafts, core.deadline())


def long_session(storage: SqliteStorage, runs: int, session_id: str = "long") -> None:
    """A session of very many runs: a question, a thought, a call with its result, and an answer in Markdown."""
    operate(storage, _long, session_id, runs)


@contextmanager
def served(path: Path) -> Iterator[str]:
    """`sessile dashboard` over a file, in a process of its own; yields its address."""
    command = [sys.executable, "-m", "sessile", "dashboard", f"sqlite:///{path}", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        line = next(line for line in server.stdout if "http://" in line)
        yield re.findall(r"http://\S+", line)[0]
    finally:
        server.terminate()
        server.wait()


@contextmanager
def chromium(*more: str) -> Iterator[Any]:
    """Debian's Chromium, without a screen; `more` are arguments of its own."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu", *more])
        yield browser
        browser.close()


def opened(browser: Any, address: str, wanted: str) -> tuple[Any, float]:
    """A page in a browser that has nothing of it kept, and the seconds until `wanted` stood there."""
    context = browser.new_context(viewport={"width": 1360, "height": 860}, locale="en-GB")
    page = context.new_page()
    page.add_init_script(f"({WATCH})({wanted!r})")
    page.goto(address, wait_until="commit", timeout=PATIENCE)
    page.wait_for_function("() => window.__first !== null", timeout=PATIENCE)
    return page, page.evaluate("() => window.__first") / 1000


def loads(browser: Any, address: str, wanted: str) -> list[float]:
    """Seconds until `wanted` stood there, of some loads."""
    found: list[float] = []
    for _ in range(LOADS):
        page, took = opened(browser, address, wanted)
        found.append(took)
        page.context.close()
    return found


def scrolled(page: Any, box: str, pixels: int) -> list[float]:
    """Seconds from frame to frame while one scrolls, as by a wheel, down or (negative) up."""
    place = page.locator(box).bounding_box()
    page.mouse.move(place["x"] + 200, place["y"] + 300)
    session = page.context.new_cdp_session(page)
    page.evaluate(FRAMES)
    session.send(
        "Input.synthesizeScrollGesture",
        {"x": place["x"] + 200, "y": place["y"] + 300, "yDistance": -pixels, "speed": SPEED, "preventFling": True},
    )
    frames = page.evaluate("() => { cancelAnimationFrame(window.__frame); return window.__frames; }")
    return [one / 1000 for one in frames]


def memory(browser: Any, page: Any) -> tuple[float, float]:
    """MB: of the page's script objects after a collection, and what its process has for itself alone."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"] / 2**20
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    own = [_private(one["id"]) for one in processes if one["type"] == "renderer"]
    return heap, max(own, default=0.0)


def _private(process: int) -> float:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text("utf-8")
    except OSError:
        return 0.0
    return sum(int(size) for size in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE)) / 1024


def searched(page: Any, word: str) -> float:
    """Seconds from the last key of a word, the others typed before, until hits stand there."""
    box = page.get_by_role("searchbox")
    box.fill("")
    page.wait_for_function("() => document.querySelector('.hits, .empty') === null")
    box.press_sequentially(word[:-1], delay=110)
    page.wait_for_timeout(500)
    if page.locator(".hit mark").count():
        return 0.0  # what stood there before would be taken for an answer
    page.evaluate(KEYS)
    page.keyboard.press(word[-1])
    page.wait_for_function("() => window.__found !== null", timeout=PATIENCE)
    return page.evaluate("() => window.__found") / 1000


def part_of(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run(data: Path, sessions: int) -> Table:
    """Measure all of it on one file."""
    path = data / "dashboard.db"
    started = time.perf_counter()
    with SqliteStorage(path, timeout=3600) as storage, Index(storage) as index:
        fill(storage, index, sessions, whole=True)
        long_session(storage, RUNS)
        index.update()
    filled = time.perf_counter() - started
    time.sleep(
        max(0.0, 95 - filled)
    )  # what has changed within the last minute and a half is looked at by every question
    table = Table(
        f"The dashboard in a browser: {sessions:,} sessions, one of {RUNS:,} runs (SQLite)",
        ("what", "median", "most or 95 %", "limit", ""),
    )
    with served(path) as address, chromium() as browser:
        for one in measured(browser, address):
            table.rows.append(one)
    table.rows.append(_bundle())
    table.notes.append(f"frames: while scrolling {SPEED:,} pixels a second; the 95th of a hundred")
    table.notes.append("memory: of the page's objects, and what its process has for itself alone, after scrolling")
    table.notes.append(f"the file has {path.stat().st_size / 2**20:,.0f} MB; it was filled in {filled:,.0f} s")
    return table


def measured(browser: Any, address: str) -> Iterator[Sequence[str]]:
    """Rows of the table."""
    places = {
        "the list": ("", "[role=row] a.title", ".list-box", 1),
        "the long session, at its end": ("#/session/long", f"#run-{RUNS} .run-body .item", ".timeline", -1),
        "the long session, at run 7,778": ("#/session/long?run=7778", "#run-7778 .run-body .item", ".timeline", 1),
    }
    for name, (place, wanted, box, way) in places.items():
        times = loads(browser, f"{address}{place}", wanted)
        yield _row(f"{name}: first useful paint (ms)", times, max(times), PAINT)
        page, _ = opened(browser, f"{address}{place}", wanted)
        page.wait_for_timeout(1_500)
        frames = scrolled(page, box, way * SPEED * SECONDS)
        yield _row(f"{name}: frames (ms)", frames, part_of(frames, 0.95), FRAME)
        heap, own = memory(browser, page)
        yield (f"{name}: memory (MB)", f"{heap:.1f}", f"{own:.1f}", str(MEMORY), verdict(own, MEMORY))
        page.context.close()
    page, _ = opened(browser, address, "[role=row] a.title")
    for word in WORDS:
        times = [took for _ in range(5) if (took := searched(page, word))]
        if times:
            yield _row(f"search as one types: {word} (ms)", times, max(times), SEARCH)
    page.context.close()


def _row(name: str, times: Sequence[float], worst: float, limit: float) -> Sequence[str]:
    return (name, ms(statistics.median(times)), ms(worst), ms(limit), verdict(worst, limit))


def _bundle() -> Sequence[str]:
    """What the first view loads, compressed."""
    static = Path(__file__).parent.parent / "src/sessile/server/static"
    names = re.findall(r'(?:src|href)="\./(assets/[^"]+)"', (static / "index.html").read_text("utf-8"))
    fonts = [path.relative_to(static).as_posix() for path in (static / "assets").glob("*.woff2")]
    size = sum(len(gzip.compress((static / name).read_bytes())) for name in {*names, *fonts})
    return ("the first view, compressed (kB)", "", f"{size / 1000:.0f}", f"{BUNDLE // 1000}", verdict(size, BUNDLE))
