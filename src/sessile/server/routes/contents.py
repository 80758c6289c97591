"""Contents of media and files as responses: to be saved, unless a browser can show them without harm."""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.responses import Response

IMAGES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
"""How the images begin that a browser may show in the page; whatever else is only ever saved."""

LONGEST = 100
"""How many characters of a name a browser is told."""


def content_answer(content: bytes, digest: str, name: str, *, cached: bool = True) -> Response:
    """A content under a name; what it is its own bytes tell, and nobody else.

    `cached`: what the address names never changes.
    """
    kind = next((kind for begin, kind in IMAGES if content.startswith(begin)), None)
    if kind is None and content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "image/webp"
    disposition = "inline" if kind else "attachment"
    last = name.rpartition("/")[2].lstrip(".")[-LONGEST:] or "file"
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", last)
    more = "" if plain == last else f"; filename*=UTF-8''{quote(last, safe='')}"
    headers = {
        "Content-Disposition": f'{disposition}; filename="{plain}"{more}',
        "ETag": f'"{digest}"',
        **({"Cache-Control": "private, max-age=31536000, immutable"} if cached else {}),
    }
    return Response(content, 200, headers, kind or "application/octet-stream")
