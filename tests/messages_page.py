"""The pages about every message: `python -m tests.messages_page` writes them anew.

Headings, classes and what to do are the code's. What has happened is written by hand, between them, and kept; a message
that is new gets no such words, and a test asks for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sessile import errors

from .messages import ANSWER, FILLED, LOG, SAID, Message, messages

DOCS = Path(__file__).resolve().parent.parent / "docs"

PASSED_ON = "passes on what another message says, or what comes from outside"
EXCEPTIONS = {
    FILLED: PASSED_ON,
    f"{FILLED}: {FILLED}": PASSED_ON,
    f"Warning: {FILLED}": PASSED_ON,
    f"{FILLED} {FILLED}.": "the parts have headings: what is refused, and why",
    f"{FILLED} {FILLED}: {FILLED}.": "the parts have headings: what is refused, and why",
    "There is nothing to write.": "is caught where it is raised: an update that changes nothing",
    "A driver that declares suspends=False has awaited something.": "only the author of a driver can cause it",
    f"The driver {FILLED} cannot push changes.": "only a driver that says that it can is asked",
    "A storage needs a driver.": "only the author of a storage class can cause it",
}
"""Messages without a heading, and why."""


class Page(NamedTuple):
    """One of the pages."""

    name: str
    title: str
    first: str
    rooms: dict[str, tuple[str, ...]]
    """Its sections, and the beginnings of the paths of the modules that each is about."""
    last: str


PAGES = (
    Page(
        "messages-agents",
        "Messages of agents, teams and workflows",
        "What an agent, a team, a workflow or a stream says when it cannot do what you ask.",
        {
            "Agents and sessions": ("agents/", "live/"),
            "Workflows and steps": ("workflows/",),
        },
        "[messages of the storage](messages-storage.md), [troubleshooting](troubleshooting.md).",
    ),
    Page(
        "messages-storage",
        "Messages of the storage",
        "What a storage says about arguments, sessions and runs, whatever the database is.",
        {
            "Ids, arguments and URLs": (
                "storage/ids", "storage/checks", "storage/given", "storage/filters", "storage/urls", "storage/registry",
                "storage/formats", "storage/rating", "storage/settings", "storage/nearness", "money", "redaction",
                "errors",
            ),
            "Users, states, memories and files": (
                "storage/users", "storage/scopes", "storage/states", "storage/memories", "storage/files",
                "storage/media", "storage/granting", "storage/deciding",
            ),
            "Retention and erasing": ("retention/", "storage/absence", "storage/erasing", "storage/rewriting"),
            "Sessions and runs": ("storage/", "usage"),
        },
        "[messages of the databases](messages-databases.md), [troubleshooting](troubleshooting.md).",
    ),
    Page(
        "messages-databases",
        "Messages of the databases",
        "What the driver of your database says. What stands after a colon at the end is the database's own text.",
        {
            "Several databases": ("drivers/sql/", "drivers/memory"),
            "SQLite": ("drivers/sqlite.py", "drivers/sql/sqlite"),
            "PostgreSQL": ("drivers/postgres/",),
            "MySQL and MariaDB": ("drivers/mysql/",),
            "SQLAlchemy": ("drivers/sqlalchemy/",),
            "Redis and Valkey": ("drivers/redis/",),
            "DynamoDB": ("drivers/dynamodb/",),
            "MongoDB": ("drivers/mongodb/",),
            "Object stores": ("drivers/objects/",),
            "Files": ("drivers/files/",),
        },
        "[messages around the storage](messages-around.md), [troubleshooting](troubleshooting.md).",
    ),
    Page(
        "messages-around",
        "Messages around the storage",
        "What the packages beside the core say: moving, importing, encryption, search, evaluation, other frameworks.",
        {
            "Copies, archives and backups": ("transfer/",),
            "Imports": ("transfer/importing/",),
            "Encryption": ("encryption/",),
            "Search and usage": ("insight/", "tokens"),
            "Evaluation": ("evaluation/", "testing/"),
            "Other frameworks": ("integrations/",),
        },
        "[messages of the command and the server](messages-server.md), [troubleshooting](troubleshooting.md).",
    ),
    Page(
        "messages-server",
        "Messages of the command and the server",
        "What `sessile` writes to the terminal, what the server answers, and what stands in the log.",
        {"The command": ("cli/",), "The server": ("server/",), "Warnings in the log": ()},
        "[troubleshooting](troubleshooting.md), [command line](cli.md), [server](server.md).",
    ),
)  # fmt: skip

SEVERAL = "Several databases"

REFUSED = ("InvalidInputError", "InvalidIdError", ANSWER, SAID)
"""Kinds whose message is the whole story: it names the argument or option, and what that may be."""


class Entry(NamedTuple):
    """What a page has of one message."""

    text: str
    places: tuple[Message, ...]

    @property
    def kinds(self) -> list[str]:
        return sorted({one.kind for one in self.places if one.kind not in (LOG, SAID, ANSWER)})

    @property
    def needs_words(self) -> bool:
        """Whether what happened must be told: not where an argument is refused, and the message says which."""
        return any(one.kind not in REFUSED for one in self.places)


def entries() -> dict[tuple[str, str], list[Entry]]:
    """For each page and section the messages, in the order of the alphabet."""
    found: dict[str, list[Message]] = {}
    for one in messages():
        found.setdefault(one.text, []).append(one)
    sorted_in: dict[tuple[str, str], list[Entry]] = {(page.name, room): [] for page in PAGES for room in page.rooms}
    for text in sorted(found, key=_order):
        if text not in EXCEPTIONS:
            sorted_in[_room(found[text])].append(Entry(text, tuple(found[text])))
    return sorted_in


def _order(text: str) -> tuple[str, str]:
    """By the first word that is not filled in."""
    return re.sub(r"^\W+", "", text.replace(FILLED, "")).casefold(), text


def _room(said: list[Message]) -> tuple[str, str]:
    if all(one.kind == LOG for one in said):
        return PAGES[-1].name, "Warnings in the log"
    order = [page.name for page in PAGES]
    rooms = sorted(dict.fromkeys(_room_of(one.path) for one in said), key=lambda room: order.index(room[0]))
    page, first = rooms[0]
    together = page == "messages-databases" and len({room for name, room in rooms if name == page}) > 1
    return page, SEVERAL if together else first


def _room_of(path: str) -> tuple[str, str]:
    """The page and the section about a module: that which names most of its path."""
    rooms = [
        (len(one), page.name, room)
        for page in PAGES
        for room, of in page.rooms.items()
        for one in of
        if path.startswith(one)
    ]
    if not rooms:
        raise LookupError(f"No section of a page is about {path}: name it in tests/messages_page.py.")
    return max(rooms)[1:]


# ---------------------------------------------------------------- a page


def written(page: Page) -> str:
    """The page, with the words that are there already."""
    path = DOCS / f"{page.name}.md"
    told = words_of(path.read_text("utf-8")) if path.exists() else {}
    parts = [f"# {page.title}", page.first, _INTRO]
    for (name, room), said in entries().items():
        if name == page.name and said:
            parts.append(f"## {room}")
            parts += [part for one in said for part in _entry(one, told.get(one.text, ""))]
    return "\n\n".join([*parts, f"Next: {page.last}"]) + "\n"


_INTRO = (
    "Each heading is a message to the letter, with `…` for what is filled in. Below it stand the class of the error, "
    "what has happened, and what to do. Search this page for a part of your message that is no name and no number."
)


def _entry(entry: Entry, told: str) -> Iterator[str]:
    yield f"### {heading(entry.text)}"
    classes = ", ".join(f"`{one}`" for one in entry.kinds)
    if said := told or ("" if entry.needs_words else _untold(entry)):
        yield f"{classes}: {said}" if classes else said
    if does := _to_do(entry):
        yield does


REFUSALS = {
    ANSWER: "The request was refused; nothing was written.",
    SAID: "The command has done nothing.",
}
UNTOLD = "The argument was refused; nothing was written."
"""What is said of messages that are the whole story."""


def _untold(entry: Entry) -> str:
    return REFUSALS.get(entry.places[0].kind, UNTOLD)


def _to_do(entry: Entry) -> str:
    """What the code says to do, for each class of error where they differ."""
    hints: dict[str, set[tuple[str, str]]] = {}
    for one in entry.places:
        hint = one.hint if one.hint is not None else _default_hint(one.kind)
        if hint and hint.strip(f" {FILLED}") and hint != errors.InvalidInputError.default_hint:
            hints.setdefault(hint, set()).add((one.kind, _room_of(one.path)[1]))
    if len(hints) == 1:
        return f"**Do:** {plain(next(iter(hints)))}"
    rooms = {room for of in hints.values() for _, room in of}
    lines = sorted(f"- {_whose(of, len(rooms) > 1)}: {plain(hint)}" for hint, of in hints.items())
    return "**Do:**\n\n" + "\n".join(lines) if hints else ""


def _whose(of: set[tuple[str, str]], with_rooms: bool) -> str:
    """The classes of errors that say something, and of which databases they are."""
    kinds = ", ".join(f"`{kind}`" for kind in sorted({kind for kind, _ in of if kind not in (LOG, SAID, ANSWER)}))
    rooms = ", ".join(sorted({room for _, room in of} - {SEVERAL}))
    return f"{kinds} ({rooms})" if with_rooms and rooms else kinds or "else"


def _default_hint(kind: str) -> str:
    return getattr(getattr(errors, kind, None), "default_hint", "")


def heading(text: str) -> str:
    """A message as a heading; what Markdown would take for its own is marked."""
    return re.sub(r"(?<!\w)([*_<\[])|([*<])", lambda found: f"\\{found[0]}", text)


def plain(text: str) -> str:
    """A hint as prose."""
    return re.sub(r"(?<!`)([*<])", r"\\\1", text)


HEADING = re.compile(r"^### (.+)$", re.MULTILINE)


def headings_of(text: str) -> list[str]:
    """The messages that a page has headings for."""
    return [re.sub(r"\\(.)", r"\1", found) for found in HEADING.findall(text)]


def words_of(text: str) -> dict[str, str]:
    """What a page tells of each message, without what the code says of it."""
    told: dict[str, str] = {}
    for part in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        title, _, body = re.split(r"^## |^Next: ", part, flags=re.MULTILINE)[0].partition("\n")
        said = body.partition("**Do:**")[0].strip()
        words = re.sub(r"^(`\w+`(, )?)+: ", "", said)
        told[re.sub(r"\\(.)", r"\1", title)] = "" if words in (UNTOLD, *REFUSALS.values()) else words
    return told


def main() -> None:
    """Write all pages."""
    for page in PAGES:
        (DOCS / f"{page.name}.md").write_text(written(page), "utf-8")


if __name__ == "__main__":
    main()
