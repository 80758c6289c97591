"""Files of the session at hand: a toolset by which an agent lists, reads and writes them."""

from __future__ import annotations

from typing import Any

from pydantic_ai import BinaryContent, Tool
from pydantic_ai.toolsets import FunctionToolset

from ..errors import InvalidInputError, SessionFileNotFoundError, SessionNotFoundError, TooLargeError
from ..live.session import current_session
from ..storage import files
from ..storage.files import SessionFile, Writer
from ..storage.storage import aoperate

MOST_READ = 20_000
"""How many characters of a file a model is given at once."""

MOST_LISTED = 200
"""How many files a model is told of at once."""

SHOWN = ("image/", "audio/", "application/pdf")
"""How the media types begin that are given to a model as they are."""


def session_files(*, write: bool = True) -> FunctionToolset[Any]:
    """A toolset for the files of the session at hand: `list_files`, `read_file`, and `write_file`.

    ```python
    agent = Agent("openai:gpt-5-mini", storage=storage, toolsets=[session_files()])
    ```

    A file is there for everybody as soon as it is written, whatever becomes of the run. No tool takes a session or a
    user, and none deletes. Members of a team work on the files of the team's session.

    Args:
        write: whether the agent may write files.
    """
    functions: list[Any] = [list_files, read_file, *([write_file] if write else [])]
    tools = [Tool(one, metadata={"idempotent": True}) for one in functions]  # what is written twice is one version
    return FunctionToolset(tools, id="sessile_files")


async def list_files() -> str:
    """List the files of this conversation, with their newest versions."""
    top = current_session().top
    try:
        found = await aoperate(top.storage, files.all_of, top.session_id, top.user_id)
    except SessionNotFoundError:  # it is made when its first run ends
        found = []
    lines = [_line(one) for one in found[:MOST_LISTED]]
    more = [f"({len(found) - MOST_LISTED} more.)"] if len(found) > MOST_LISTED else []
    return "\n".join([*lines, *more]) or "There are no files."


def _line(one: SessionFile) -> str:
    return f"{one.name} (version {one.version}, {one.media_type}, {one.size:,} bytes)"


async def read_file(name: str, version: int | None = None, start: int = 0) -> Any:
    """Read a file of this conversation.

    Args:
        name: its name, as list_files has it.
        version: which version; the newest, if none is given.
        start: the character to begin with, to read on in a long text.
    """
    top = current_session().top
    try:
        one, content = await aoperate(top.storage, files.read, top.session_id, top.user_id, name, version)
    except (SessionFileNotFoundError, SessionNotFoundError, InvalidInputError):
        return "There is no such file. Look at list_files."
    if one.media_type.startswith(SHOWN):
        return BinaryContent(content, media_type=one.media_type)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return f"{_line(one)} is no text, and cannot be shown."
    start = max(0, start)
    part = text[start : start + MOST_READ]
    left = len(text) - start - len(part)
    return f"{part}\n\n({left:,} more characters: read on with start={start + len(part)}.)" if left > 0 else part


async def write_file(name: str, content: str) -> str:
    """Write a text file of this conversation: a new one, or the next version of one that is there.

    Args:
        name: what it is called, for example report.md.
        content: all of its text.
    """
    session = current_session()
    top = session.top
    writer = Writer(session.run_id, session.agent)
    try:
        given = files.new_file(name, content)
        made = await aoperate(top.storage, files.write, top.session_id, top.user_id, given, writer)
    except (InvalidInputError, TooLargeError) as error:
        return f"Not written: {error.message}"
    except SessionNotFoundError:  # with durability="exit" a session is made when its first run ends
        return "Not written: this conversation keeps files from its second turn on."
    return f"Written: {_line(made)}."
