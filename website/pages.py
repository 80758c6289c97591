"""The pages as the generator wants them: links within the site, files with their names, pictures of diagrams."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from .contents import HERE
from .pictures import picture_of

FENCE = re.compile(r"^```(?P<language>[\w-]+)(?: +(?P<title>\S.*))?$")
LINK = re.compile(r"(?P<before>!?\[(?:[^\]\[]|\[[^\]]*\])*\]\()(?P<target>[^)\s]+)(?P<after>\))")
PICTURE = re.compile(
    r'<picture><source [^>]*srcset="(?P<dark>[^"]+)"><img alt="(?P<alt>[^"]*)" src="(?P<light>[^"]+)"></picture>'
)
"""A picture that is another one in the dark, as READMEs have it."""
COMMENT = re.compile(r"^<!-- *no-run:.*?--> *\n+", re.MULTILINE)


def for_site(text: str, source: str) -> str:
    """A page for the site; `source` is its path in the repository, from which its links lead."""
    page = Path(source).stem
    text = PICTURE.sub(r"![\g<alt>](\g<light>#only-light)\n![\g<alt>](\g<dark>#only-dark)", COMMENT.sub("", text))
    return _outside_of_code(text, page, lambda part: LINK.sub(lambda one: _link(one, source), part))


def _outside_of_code(text: str, page: str, change: Callable[[str], str]) -> str:
    """Change what is no code; files get their names as titles, diagrams become pictures."""
    done: list[str] = []
    prose: list[str] = []
    code: list[str] = []
    inside, diagrams = "", 0
    for line in text.splitlines():
        fence = FENCE.match(line)
        if inside:
            code.append(line)
            if line == "```":
                diagrams += inside == "```mermaid"
                done.append(_diagram(page, diagrams, code) if inside == "```mermaid" else _block(inside, code))
                inside, code = "", []
        elif fence:
            done.append(change("\n".join(prose)))
            prose, inside = [], line
        else:
            prose.append(line)
    done.append(change("\n".join(prose)))
    return "\n".join(done) + "\n"


def _diagram(page: str, number: int, lines: list[str]) -> str:
    light = picture_of(page, number, "\n".join(lines[:-1]))
    if light is None:
        return "\n".join(["```mermaid", *lines])
    both = (light, "light"), (light.replace("-light", "-dark"), "dark")
    return "\n".join(f"![Diagram]({picture}#only-{mode})" for picture, mode in both)


def _block(opening: str, lines: list[str]) -> str:
    fence = FENCE.match(opening)
    assert fence is not None
    language, title = fence["language"], fence["title"]
    body = "\n".join(lines)
    if language == "output":
        return f'```text title="Output"\n{body}'
    return f'```{language} title="{title}"\n{body}' if title else f"{opening}\n{body}"


def _link(found: re.Match[str], source: str) -> str:
    target = found["target"]
    if "://" in target or target.startswith(("#", "mailto:")):
        return found[0]
    path, mark, anchor = target.partition("#")
    place = _place(posixpath.normpath(posixpath.join(posixpath.dirname(source), path)))
    return f"{found['before']}{place}{mark}{anchor}{found['after']}"


def _place(path: str) -> str:
    """Where something of the repository is on the site, seen from a page in its root."""
    inside = path.removeprefix("docs/")
    stem = inside.removesuffix(".md")
    if stem in HERE and "/" not in path:
        return f"{HERE[stem]}.md"
    if path == "examples":
        return "examples.md"
    if path.startswith("examples/"):
        return f"examples.md#{Path(path).stem.replace('_', '-')}"
    return "license.txt" if path == "LICENSE" else inside


def title_of(text: str) -> str:
    """A page's first heading."""
    found = re.search(r"^# +(.+)$", text, re.MULTILINE)
    assert found, text[:80]
    return found[1].replace("`", "")


def summary_of(text: str) -> str:
    """The first sentence below a page's heading, without marks and links."""
    body = re.sub(r"^```.*?^```$", "", text.partition("# ")[2].partition("\n")[2], flags=re.MULTILINE | re.DOTALL)
    for part in re.split(r"\n\s*\n", body):
        if part.strip() and re.match(r"\s*(?:[|#!`<>]|[-*] |\d+\. )", part) is None:
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", part.replace("**", ""))
            return re.split(r"(?<=[.!?:])\s", re.sub(r"\s+", " ", plain).strip())[0].rstrip(":")
    return ""
