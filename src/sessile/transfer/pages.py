"""Transcripts of sessions for people: Markdown, and HTML that is one file and runs nothing."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Literal, Unpack

from ..records import Run, Session
from ..storage import Storage
from ..storage.checks import check_choice
from ..terminal import clean
from ..transcripts import Line, head_lines, moment, transcript, usage_text
from .filters import SessionChoice
from .told import Exported, Redaction, runs_told, sessions_told
from .writing import written

PageForm = Literal["markdown", "html"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem;
       color-scheme: light dark; }
h2 { border-top: 1px solid; padding-top: 1rem; }
dl { margin: 0; } dt { font-weight: 600; margin-top: .75rem; }
dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.in { margin-left: 1.5rem; }
"""

_ACTIVE = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&])")
"""What may mean something to Markdown."""


def export_transcripts(
    storage: Storage,
    to: str | os.PathLike[str] | BinaryIO,
    *,
    form: PageForm = "markdown",
    whole: bool = False,
    redact: Redaction | None = None,
    session_ids: Sequence[str] | None = None,
    **choice: Unpack[SessionChoice],
) -> Exported:
    """Write what was said, session by session: the current branches, with tools, members, steps and ratings.

    Nothing in a stored text becomes active, neither Markdown nor HTML; media are named. The HTML is one file without
    any script, and asks for nothing from elsewhere.

    Args:
        storage: where the sessions are.
        to: a path, which has the file when it is whole; or a stream of bytes.
        form: `markdown` or `html`.
        whole: with all that tools were given and have returned; else that is clipped.
        redact: is given each text, and returns what is written.
        session_ids: only these sessions.
        **choice: which sessions; see `SessionChoice`.

    Raises:
        InvalidInputError: an argument is wrong.
        SessionNotFoundError: one of `session_ids` is not there.
        StorageError: the database failed; a file that was to be written is not there.
    """
    check_choice(form, "form", ("markdown", "html"))
    page = _Html(redact) if form == "html" else _Markdown(redact)
    done = Exported()
    with written(to) as stream:

        def write(texts: Iterator[str]) -> None:
            for text in texts:
                stream.write(text.encode(errors="backslashreplace"))

        write(page.begin())
        for session in sessions_told(storage, session_ids, choice, done):
            write(page.session(session))
            for run in runs_told(storage, session, done):
                write(page.run(run, whole))
                done.rows += 1
        write(page.end())
    return done


class _Markdown:
    """Every text stands as it is: what could mean something is escaped."""

    def __init__(self, redact: Redaction | None) -> None:
        self._redact: Callable[[str], str] = redact or (lambda text: text)

    def begin(self) -> Iterator[str]:
        yield from ()

    def session(self, session: Session) -> Iterator[str]:
        yield f"# {self._line(session.name or session.session_id)}\n\n"
        for name, value in _facts(session):
            yield f"- {name}: {self._line(value)}\n"
        yield "\n"

    def run(self, run: Run, whole: bool) -> Iterator[str]:
        yield f"## {_heading(run)}\n\n"
        for line in transcript(run, whole=whole):
            yield from self._said(line)

    def end(self) -> Iterator[str]:
        yield from ()

    def _said(self, line: Line) -> Iterator[str]:
        quoted = "> " * (line.depth - 1)
        text = _ACTIVE.sub(r"\\\1", clean(self._redact(line.text)).replace("\t", "    "))
        body = "".join(f"{quoted}{part.strip()}  \n" for part in text.split("\n"))
        yield f"{quoted}**{self._line(line.who)}**  \n{body}{quoted}\n" if line.who else f"{body}{quoted}\n"

    def _line(self, text: str) -> str:
        return _ACTIVE.sub(r"\\\1", " ".join(clean(self._redact(text)).split()))


class _Html:
    """One page, whose texts are nothing but text."""

    def __init__(self, redact: Redaction | None) -> None:
        self._redact: Callable[[str], str] = redact or (lambda text: text)

    def begin(self) -> Iterator[str]:
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Sessions</title>\n'
        yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        yield '<meta name="viewport" content="width=device-width"><meta name="referrer" content="no-referrer">\n'
        yield f"<style>{_STYLE}</style></head><body>\n"

    def session(self, session: Session) -> Iterator[str]:
        yield f"<h1><bdi>{self._text(session.name or session.session_id)}</bdi></h1>\n<dl>\n"
        for name, value in _facts(session):
            yield f"<dt>{name}</dt><dd>{self._text(value)}</dd>\n"
        yield "</dl>\n"

    def run(self, run: Run, whole: bool) -> Iterator[str]:
        yield f"<h2>{html.escape(_heading(run))}</h2>\n<dl>\n"
        for line in transcript(run, whole=whole):
            inner = ' class="in"' if line.depth > 1 else ""
            who = self._text(line.who) if line.who else "&nbsp;"
            yield f"<dt{inner}>{who}</dt><dd{inner}>{self._text(line.text)}</dd>\n"
        yield "</dl>\n"

    def end(self) -> Iterator[str]:
        yield "</body></html>\n"

    def _text(self, text: str) -> str:
        return html.escape(clean(self._redact(text)))


def _facts(session: Session) -> Iterator[tuple[str, str]]:
    yield "session", session.session_id
    yield from ((name, value) for name, value in head_lines(session) if name not in ("state", "revision"))
    yield "created", f"{moment(session.created_at)} UTC"


def _heading(run: Run) -> str:
    usage = f", {usage_text(run.usage)}" if run.usage.requests else ""
    return f"Run {run.number}, {run.status}, {moment(run.started_at)} UTC{usage}"
