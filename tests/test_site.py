"""The site: it is built whole, everything public has its text there, and what a reader looks for is found."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from website import reference
from website.build import build, list_versions
from website.contents import pages
from website.pages import for_site, summary_of

import sessile

ROOT = Path(__file__).resolve().parent.parent

HEADING = re.compile(r'<h(?P<level>[23]) id="[^"]*">(?P<title>.*?)</h', re.DOTALL)
LOADED = re.compile(r'<(?:script|img|link|iframe|source)\b[^>]*?(?:src|srcset|href)="(?P<place>[^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("site"))


@pytest.mark.no_cover
def test_every_page_is_there_and_loads_nothing_from_elsewhere(site: Path) -> None:
    assert site.name == sessile.__version__
    for name in pages():
        html = (site / ("index.html" if name == "index" else f"{name}/index.html")).read_text("utf-8")
        assert 'class="mermaid"' not in html, f"{name} has a diagram without a picture: make pictures"
        loaded = [one["place"] for one in LOADED.finditer(html) if 'rel="canonical"' not in one[0]]
        assert [place for place in loaded if "://" in place] == [], name
        for place in loaded:
            file = (site / name / place.partition("#")[0]) if name != "index" else site / place.partition("#")[0]
            assert file.exists() or place in (".", ".."), f"{name} shows {place}, which is not there"


@pytest.mark.no_cover
def test_everything_public_has_its_text_in_the_rendered_reference(site: Path) -> None:
    shown: set[str] = set()
    for name in reference.GROUPS:
        html = (site / name / "index.html").read_text("utf-8").partition("<article")[2].partition("</article")[0]
        parts = HEADING.split(html)[1:]
        for title, body in zip(parts[1::3], parts[2::3], strict=True):
            plain = unescape(re.sub(r"<[^>]+>", "", title)).strip().removesuffix("¶").strip()
            shown.add(plain)
            said = re.sub(r"<[^>]+>", "", " ".join(re.findall(r"<p>(.*?)</p>", body, re.DOTALL)[-8:]))
            assert re.search(r"\w+ \w+", said), f"{plain} stands in {name} without a text"
    assert reference.exported() - shown == set()
    for cls in ("Storage", "Agent", "Team", "Workflow", "AgentSession"):
        members = inspect.getmembers(getattr(sessile, cls), lambda one: callable(one) or isinstance(one, property))
        public = {one for one, _ in members if not one.startswith("_")}
        twins = {one for one in public if one.startswith("a") and one[1:] in public}
        assert {f"{cls}.{one}" for one in public - twins} - shown == set()


WORDS = {
    "permissions": "postgres", "connection pool": "production", "test": "testing", "backup": "backup",
    "upgrade": "upgrading", "locked": "troubleshooting", "lambda": "serverless",
}  # fmt: skip
"""What newcomers look for, and the page that answers."""


@pytest.mark.no_cover
@pytest.mark.parametrize("word", WORDS)
def test_what_a_reader_looks_for_is_found(site: Path, word: str) -> None:
    entries = json.loads((site / "search.json").read_text("utf-8"))["items"]
    found = [one["location"] for one in entries if word in f"{one['title']} {one['text']}".lower()]
    assert any(place.startswith(f"{WORDS[word]}/") for place in found), found


@pytest.mark.no_cover
def test_programs_read_the_site_too(site: Path) -> None:
    text = (site / "llms.txt").read_text("utf-8")
    assert text.startswith("# Sessile ")
    places = re.findall(r"^- \[.+\]\((.+)\): \S", text, re.MULTILINE)
    assert len(places) == len(pages())
    assert [place for place in places if not (site / place).exists()] == []
    whole = (site / "llms-full.txt").read_text("utf-8")
    assert all((site / place).read_text("utf-8") in whole for place in places)


@pytest.mark.no_cover
def test_versions_lie_beside_each_other(site: Path, tmp_path: Path) -> None:
    for version in ("0.9.0", "0.10.0", "0.10.0.dev1"):
        (tmp_path / version).mkdir()
        shutil.copy(site / "llms.txt", tmp_path / version)
    list_versions(tmp_path)
    listed = json.loads((tmp_path / "versions.json").read_text("utf-8"))
    assert [one["version"] for one in listed] == ["0.10.0", "0.10.0.dev1", "0.9.0"]
    assert listed[0]["aliases"] == ["latest"]
    assert 'href="0.10.0/"' in (tmp_path / "index.html").read_text("utf-8")


PAGE = """\
# A page

<!-- no-run: it needs a server -->
```python app.py
x = "[not](a-link.md)"
```

The first sentence has [a link](docs/agents.md#state) and `code`. The second one has none.

```output
1
```

See [the log](CHANGELOG.md), [all](examples), [one](examples/few_shot.py), [it](https://example.com/a.md).
"""


def test_a_page_is_made_for_the_site() -> None:
    made = for_site(PAGE, "README.md")
    assert '```python title="app.py"\nx = "[not](a-link.md)"' in made
    assert "[a link](agents.md#state)" in made
    assert '```text title="Output"' in made
    assert "no-run" not in made
    assert (
        "[the log](changelog.md), [all](examples.md), [one](examples.md#few-shot), [it](https://example.com/a.md)"
        in made
    )
    assert summary_of(made) == "The first sentence has a link and `code`."
    assert "[up](changelog.md)" in for_site("[up](../CHANGELOG.md)", "docs/upgrading.md")
