"""YAML: a head, and a log that is a stream of documents in block style.

Read and written by `py-yaml12` (github.com/posit-dev/py-yaml12), which knows YAML 1.2 and no types but those of JSON:
a tag makes no object of Python's, and `no`, `2026-01-01` and `0o7` in quotes stay the texts that they are.
"""

from __future__ import annotations

import re
from typing import Any, cast

from ...errors import missing_dependency
from ...storage.driver import HeadRow
from ...storage.encoding import encode
from .formats import Fields, Format, FormatError
from .yaml_aliases import line_of_alias

try:
    import yaml12
except ImportError as error:
    raise missing_dependency("py-yaml12", "yaml", "YamlStorage") from error

_TRIED = ("0.2.0",)
"""The versions of py-yaml12 of which a test has found that they bring back all that is plain (`_PLAIN`)."""

_PLAIN = re.compile(
    r"""(?:
        [{}\[\],]++
        | "[A-Za-z_$][\w.$-]{0,63}":
        | "(?:[ !#-\[\]-~]++|\\[n"\\])*+"(?!:)
        | true | false | null
        | -?\d{1,18}(?![\d.eE])
        | \d{1,12}\.\d{1,6}(?![\deE])
    )*+""",
    re.ASCII | re.VERBOSE,
)
"""JSON text with nothing in it that YAML could take for something else: ASCII that is written as it is, short keys, and
numbers that every program writes alike."""

_PLACE = re.compile(r"at byte \d+ line (\d+) column (\d+)$")


class YamlFormat(Format):
    """Documents end with a line `...`, so that one which was not written to its end can be told from one that was."""

    name = "yaml"
    head_file = "head.yaml"
    log_file = "log.yaml"
    end = b"\n...\n"
    head_end = b"\n..."
    key_mark = b"\nkey: "
    prefix = re.compile(rb"---\nseq: (\d{1,19})\nrun: (\d{1,19})\ntop: (\d{1,19})\n")

    def dump(self, fields: Fields) -> bytes:
        return f"---\n{yaml12.format_yaml(fields, width=None)}\n...\n".encode()

    def dump_head(self, fields: Fields) -> bytes:
        return f"{yaml12.format_yaml(fields, width=None)}\n...\n".encode()

    def decode_head(self, text: bytes) -> HeadRow:
        """The beginning of a head can be read as a head too: only its end tells."""
        if not text.rstrip().endswith(self.head_end):
            raise FormatError("the last line is not '...'", text.count(b"\n"))
        return super().decode_head(text)

    def parse(self, text: bytes) -> Any:
        try:
            decoded = text.decode("utf-8-sig")
            alias = line_of_alias(decoded)
            if alias:
                raise FormatError("anchors and aliases (& and * before a value) are not allowed", alias)
            documents = cast(list[Any], yaml12.parse_yaml(decoded, multi=True))
        except FormatError:
            raise
        except (ValueError, RecursionError) as error:
            reason, *place = _PLACE.split(str(error))
            column, line = (f" (column {place[1]})", int(place[0])) if place else ("", 0)
            raise FormatError(f"{reason.strip()}{column}", line) from error
        if len(documents) != 1:
            raise FormatError(f"there are {len(documents)} documents where one should be", 1)
        return documents[0]

    def keeps(self, value: Any, text: str) -> bool:
        """What was written is read again: numbers of over 64 bits, for example, would come back as others.

        Not what is plain, which most is: to read it takes three times as long as to write it.
        """
        if yaml12.__version__ in _TRIED and "..." not in text and _PLAIN.fullmatch(text):
            return encode(value) == text
        try:
            written = yaml12.format_yaml(value, width=None)
            return encode(yaml12.parse_yaml(written)) == text and "\n...\n" not in written
        except (ValueError, TypeError, OverflowError, RecursionError):
            return False
