"""SQL out of files: named statements with the names of the tables put in, in the parameter style of a client.

A file `queries.sql` is a row of statements, each below a line `-- name: …`. Parameters are written `:name`; `{table}`
stands for the name of a table, and other `{words}` for what the driver puts there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

Style = Literal["named", "pyformat"]
"""How a client wants parameters: `:name` (sqlite3), or `%(name)s` (psycopg, PyMySQL)."""

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]\w*)")


def folder_of(database: str) -> Path | Traversable:
    """The folder of a database's statements and migrations."""
    folder = Path(__file__).with_name(database)
    if folder.is_dir():
        return folder
    from importlib.resources import files  # of a package in an archive; to import it takes longer than to read it all

    return files("sessile.drivers.sql").joinpath(database)


def read_file(database: str, name: str) -> str:
    """The text of a file in a database's folder."""
    return folder_of(database).joinpath(name).read_text(encoding="utf-8")


def put_in(sql: str, words: Mapping[str, str]) -> str:
    """The text with its `{words}` replaced."""
    for word, text in words.items():
        sql = sql.replace(f"{{{word}}}", text)
    return sql


def in_style(sql: str, style: Style) -> str:
    """A statement whose parameters are written `:name`, as a client wants it."""
    return sql if style == "named" else _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))


def split(script: str) -> list[str]:
    """The statements of a script, without comments. A `;` ends a statement, wherever it stands."""
    code = "\n".join(line.partition("--")[0].rstrip() for line in script.splitlines())
    return [statement.strip() for statement in code.split(";") if statement.strip()]


def load_statements(database: str, words: Mapping[str, str], style: Style) -> dict[str, str]:
    """The named statements of a database's `queries.sql`."""
    _, *parts = _NAME.split(read_file(database, "queries.sql"))
    texts = dict(zip(parts[::2], parts[1::2], strict=True))
    return {name: in_style(put_in(split(text)[0], words), style) for name, text in texts.items()}
