"""Stored runs in the form of OpenTelemetry's conventions for generative AI, for tools that read those."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import BinaryIO, Unpack

from ..errors import CorruptDataError, UnknownFormatError
from ..records import JsonObject, Run, Session
from ..storage import Storage
from ..storage.encoding import encode
from ..transfer import Exported, Redaction, SessionChoice
from ..transfer.told import redacted, runs_told, sessions_told, with_children
from ..transfer.writing import written
from .messages import run_attributes

MESSAGES = ("gen_ai.input.messages", "gen_ai.output.messages")


def export_otel(
    storage: Storage,
    to: str | os.PathLike[str] | BinaryIO,
    *,
    redact: Redaction | None = None,
    session_ids: Sequence[str] | None = None,
    **choice: Unpack[SessionChoice],
) -> Exported:
    """Write runs as JSON Lines, one on each line: those of the current branches, with the runs below them.

    A line is `{"name": "invoke_agent …", "start_time": …, "end_time": …, "attributes": {…}}`, with the attributes of
    the conventions; `gen_ai.input.messages` and `gen_ai.output.messages` are lists, as events have them. Media are not
    in it.

    Args:
        storage: where the sessions are.
        to: a path, which has the file when it is whole (compressed if it ends in `.gz`); or a stream of bytes.
        redact: is given each text of the messages, and returns what is written.
        session_ids: only these sessions.
        **choice: which sessions; see `SessionChoice`.

    Raises:
        InvalidInputError: an argument is wrong.
        SessionNotFoundError: one of `session_ids` is not there.
        StorageError: the database failed; a file that was to be written is not there.
    """
    done = Exported()
    with written(to) as stream:
        for session in sessions_told(storage, session_ids, choice, done):
            for top in runs_told(storage, session, done):
                for run in with_children(top):
                    try:
                        line = _line(session, run, redact)
                    except (UnknownFormatError, CorruptDataError) as error:
                        done.skipped[f"{session.session_id} {run.number}"] = error
                        continue
                    stream.write(f"{encode(line)}\n".encode())
                    done.rows += 1
    return done


def _line(session: Session, run: Run, redact: Redaction | None) -> JsonObject:
    attributes = run_attributes(session.session_id, run)
    for name in MESSAGES:
        attributes[name] = redacted(json.loads(attributes[name]), redact)
    ended = run.ended_at
    return {
        "name": f"invoke_agent {run.agent}" if run.agent else "invoke_agent",
        "start_time": run.started_at.isoformat(),
        "end_time": None if ended is None else ended.isoformat(),
        "attributes": attributes,
    }
