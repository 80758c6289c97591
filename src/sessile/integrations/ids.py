"""The ids under which other frameworks' sessions are stored, so that one storage serves several of them.

The id of a session begins with the word of its framework and a colon. What follows are the framework's own ids, colons
between them; within each but the last, `%` and `:` are written `%25` and `%3A`. So no two can meet, and a person can
read and type them:

| framework | id | example |
|---|---|---|
| OpenAI Agents SDK | `openai:SESSION` | `openai:s1` |
| LangGraph, root graph | `langgraph:THREAD` | `langgraph:42` |
| LangGraph, subgraph | `langgraph-sub:THREAD:NAMESPACE` | `langgraph-sub:42:child:1f0` |
| LangGraph, an item of the store | `langgraph-store:NAMESPACE:…:KEY` | `langgraph-store:memories:ada:k1` |
| Google ADK | `adk:APP:USER:SESSION` | `adk:weather:ada:s1` |
| Google ADK, state of user and app | `adk-user:APP:USER`, `adk-app:APP` | |
| Google ADK, a file of a session | `adk-artifact:APP:USER:SESSION:FILE` | `adk-artifact:weather:ada:s1:report.csv` |
| Google ADK, a file of a user | `adk-user-artifact:APP:USER:FILE` | |
| Google ADK, what is remembered of a session | `adk-memory:APP:USER:SESSION` | |
| Agno, and with a table of its own | `agno:SESSION`, `agno-table:TABLE:SESSION` | `agno:s1` |
| Pydantic AI | `pydantic-ai:CONVERSATION` | `pydantic-ai:c1` |

An id that would be longer than 200 bytes, or contains what no id may, ends in `~` and a SHA-256 hash instead; and so
does one that looks like that itself.
"""

from __future__ import annotations

import hashlib
import re

LONGEST = 200
"""Bytes; a user's own ids (`Storage.for_user`) may have as many."""


_HASHED = re.compile("~[0-9a-f]{64}")
"""What stands in the place of ids that are none; nobody may take one of them by saying it."""


def stored_id(word: str, *parts: str) -> str:
    """The id of the session that a framework knows by these ids."""
    escaped = [part.replace("%", "%25").replace(":", "%3A") for part in parts[:-1]]
    text = ":".join([word, *escaped, parts[-1]])
    if is_usable(text) and not (len(parts) == 1 and _HASHED.fullmatch(parts[0])):
        return text
    return f"{word}:~{digest(*parts)}"


def is_usable(text: str, longest: int = LONGEST) -> bool:
    """Whether a text may be an id, or a name beside a session, of so many bytes at most."""
    try:
        return bool(text) and "\0" not in text and len(text.encode()) <= longest
    except UnicodeEncodeError:
        return False


def digest(*parts: str) -> str:
    """A hash of several texts: 64 hexadecimal digits."""
    sizes = (f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256("".join(sizes).encode(errors="surrogatepass")).hexdigest()


def short(text: str) -> str:
    """The text where it may be an id, else one made of its hash: for names that lists filter by."""
    return text if is_usable(text) and not _HASHED.fullmatch(text) else f"~{digest(text)}"
