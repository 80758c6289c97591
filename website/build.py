"""Builds the site: one folder for each version, and a list of the versions that are there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import sessile

from .commands import command_page, option_page
from .contents import HERE, SECTIONS, SUMMARY, pages
from .pages import for_site, summary_of, title_of
from .reference import GROUPS, error_page, page

ROOT = Path(__file__).resolve().parent.parent

MADE: dict[str, Callable[[], str]] = {
    **{name: (lambda name=name: page(name)) for name in GROUPS},
    "reference/errors": error_page,
    "reference/commands": command_page,
    "reference/options": option_page,
}
"""Pages that are made of the code."""


class SiteError(Exception):
    """The site cannot be built; the text says what is wrong."""


def build(out: Path, version: str = sessile.__version__) -> Path:
    """Build this version's site into a folder of `out`, and list all versions there; returns its folder.

    Raises `SiteError` if a page is in no section, or if a link within the site leads nowhere.
    """
    work = out / ".work"
    shutil.rmtree(work, ignore_errors=True)
    texts = gather()
    for name, text in texts.items():
        path = work / "docs" / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    for picture in [
        *(ROOT / "docs").glob("*.png"),
        *(ROOT / "docs").glob("pictures/*.svg"),
        *(ROOT / "docs").glob("pictures/*.png"),
    ]:
        target = work / "docs" / picture.relative_to(ROOT / "docs")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, target)
    shutil.copy(ROOT / "LICENSE", work / "docs" / "license.txt")
    (work / "zensical.toml").write_text(settings(texts), "utf-8")
    command = [str(Path(sys.executable).parent / "zensical"), "build", "--strict"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    if done.returncode:
        said = re.sub(r"\x1b\[[\d;]*m", "", f"{done.stdout}{done.stderr}")
        raise SiteError(f"The generator has refused the pages:\n{said}")
    place = out / version
    shutil.rmtree(place, ignore_errors=True)
    shutil.move(work / "site", place)
    beside(place, texts)
    shutil.rmtree(work)
    list_versions(out)
    return place


def gather() -> dict[str, str]:
    """The text of every page of the site, by its name there."""
    texts = {inside: for_site((ROOT / f"{name}.md").read_text("utf-8"), f"{name}.md") for name, inside in HERE.items()}
    for path in sorted((ROOT / "docs").glob("*.md")):
        texts[path.stem] = for_site(path.read_text("utf-8"), f"docs/{path.name}")
    texts["examples"] = example_page()
    texts.update({name: make() for name, make in MADE.items()})
    if missing := texts.keys() ^ set(pages()):
        raise SiteError(f"In website/contents.py and in docs/, not in both: {', '.join(sorted(missing))}.")
    return texts


def example_page() -> str:
    """The programs of examples/, with what they say of themselves."""
    parts = ["# Examples", "Programs to run and to change; each runs as it stands, without a key."]
    for path in sorted((ROOT / "examples").glob("*.py")):
        code = path.read_text("utf-8").strip()
        parts += [f"## {path.stem.replace('_', ' ')}", f'```python title="examples/{path.name}"\n{code}\n```']
    return "\n\n".join(parts) + "\n"


def settings(texts: dict[str, str]) -> str:
    """What the generator is told, as TOML."""
    sections: list[str] = []
    for title, names in SECTIONS:
        entries = ", ".join(f"{{{json.dumps(title_of(texts[name]))} = {json.dumps(f'{name}.md')}}}" for name in names)
        sections.append(f"  {{{json.dumps(title)} = [{entries}]}}")
    template = (Path(__file__).parent / "zensical.toml").read_text("utf-8")
    return template.replace("nav = []", "nav = [\n" + ",\n".join(sections) + "\n]")


def beside(place: Path, texts: dict[str, str]) -> None:
    """What programs read: llms.txt, all pages in one file, and each page as it was written."""
    (place / "llms.txt").write_text(llms(texts), "utf-8")
    (place / "llms-full.txt").write_text("\n\n".join(texts[name] for name in pages()), "utf-8")
    for name, text in texts.items():
        (place / f"{name}.md").write_text(text, "utf-8")


def llms(texts: dict[str, str]) -> str:
    """The contents for language models (llmstxt.org): sections, and each page with its first sentence."""
    parts = [f"# Sessile {sessile.__version__}", f"> {SUMMARY}"]
    for title, names in SECTIONS:
        lines = [f"- [{title_of(texts[name])}]({name}.md): {summary_of(texts[name])}" for name in names]
        parts.append(f"## {title}\n\n" + "\n".join(line.removesuffix(": ") for line in lines))
    return "\n\n".join(parts) + "\n"


def list_versions(out: Path) -> None:
    """Tell the site which versions are there, newest first, and lead whoever opens the folder to the newest."""
    found = sorted((one.parent.name for one in out.glob("*/llms.txt")), key=_order, reverse=True)
    listed = [{"version": one, "title": one, "aliases": ["latest"] if one == found[0] else []} for one in found]
    (out / "versions.json").write_text(json.dumps(listed, indent=2), "utf-8")
    (out / "index.html").write_text(
        f'<!doctype html><title>Sessile</title><meta http-equiv="refresh" content="0; url={found[0]}/">'
        f'<a href="{found[0]}/">Sessile {found[0]}</a>\n',
        "utf-8",
    )


def _order(version: str) -> tuple[tuple[int, ...], bool, str]:
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, numbers[0].split("."))) if numbers else (), "dev" not in version, version
