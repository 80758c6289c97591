"""The types of our columns on every database: text that is compared exactly, long JSON text, and binary values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import TEXT, VARBINARY, Dialect, LargeBinary, UnicodeText
from sqlalchemy.dialects import mssql, mysql, oracle, postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine

from ..sql.log import MAX_ID_BYTES


def _mysql(dialect: Dialect) -> TypeEngine[str]:
    """Neither server's `utf8mb4_bin` will do: it takes "a" and "a " for the same."""
    collation = "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
    return mysql.VARCHAR(MAX_ID_BYTES, charset="utf8mb4", collation=collation)


def _postgres(dialect: Dialect) -> TypeEngine[str]:
    return postgresql.TEXT(collation="C")


def _always_exact(dialect: Dialect) -> TypeEngine[str]:
    return TEXT()


_EXACT_TEXT: dict[str, Callable[[Dialect], TypeEngine[str]]] = {
    "cockroachdb": _always_exact,
    "mariadb": _mysql,
    "mysql": _mysql,
    "postgresql": _postgres,
    "sqlite": _always_exact,
}
"""Databases with text that is compared byte by byte, or code point by code point, to its very end.

Not SQL Server: under every one of its collations trailing spaces do not count. Not Oracle: how it orders text is a
setting of the connection.
"""


class ExactText(TypeDecorator[str]):
    """An id or a name: 1 to 255 bytes of UTF-8, where a difference of case, accents or trailing spaces counts.

    Ordered by code point. Where a database has no such text, its bytes are stored.
    """

    impl = VARBINARY
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The database's own type."""
        if dialect.name in _EXACT_TEXT:
            return dialect.type_descriptor(_EXACT_TEXT[dialect.name](dialect))
        return dialect.type_descriptor(
            oracle.RAW(MAX_ID_BYTES) if dialect.name == "oracle" else VARBINARY(MAX_ID_BYTES)
        )

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        """A value on its way to the database."""
        return value if value is None or dialect.name in _EXACT_TEXT else value.encode()

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """A value that the database has sent."""
        return value if value is None or dialect.name in _EXACT_TEXT else bytes(value).decode()


def json_text() -> TypeEngine[str]:
    """JSON text of any length, stored as it comes. It is never compared."""
    return (
        UnicodeText()
        .with_variant(mysql.LONGTEXT(charset="utf8mb4"), "mysql", "mariadb")
        .with_variant(mysql.LONGTEXT(), "singlestoredb")
        .with_variant(mssql.NVARCHAR(), "mssql")  # NVARCHAR(max)
    )


def binary() -> TypeEngine[bytes]:
    """Bytes of any length."""
    return (
        LargeBinary()
        .with_variant(mysql.LONGBLOB(), "mysql", "mariadb", "singlestoredb")
        .with_variant(mssql.VARBINARY("max"), "mssql")
    )
