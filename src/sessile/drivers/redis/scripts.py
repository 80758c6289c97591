"""The Lua scripts, each in its own file beside this module."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files


class Script:
    """A script, which servers know by the SHA-1 of its text once they have seen it."""

    def __init__(self, name: str) -> None:
        self.text = files(__package__ or "").joinpath(f"{name}.lua").read_bytes()
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest().encode()


APPEND = Script("append")
COPY = Script("copy")
DELETE = Script("delete")
DISCARD = Script("discard")
ENTRIES = Script("entries")
LOAD = Script("load")
MEND = Script("mend")
PAGE = Script("page")
PUT_RECORD = Script("put_record")
READ = Script("read")
REPLACE = Script("replace")
SETUP = Script("setup")
