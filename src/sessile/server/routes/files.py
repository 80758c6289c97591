"""Files of a session: listed, read, written, deleted. A name stands in the query: in a path `..` would be lost."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from ...errors import InvalidInputError, SessionFileNotFoundError
from ...jsons import record_json
from ...storage import files
from ...storage.storage import aoperate
from ..models import FileOut
from .common import LARGEST, PROBLEMS, Body, Known, Seen, Session, answer
from .contents import content_answer

router = APIRouter(route_class=Known, responses=PROBLEMS, tags=["look"])

Name = Annotated[str, Query(description="The name of the file.", min_length=1)]
Version = Annotated[int | None, Query(description="Which version. Default: the newest.", ge=1, le=LARGEST)]


class FileIn(Body):
    """A file that is to be written: its text, or its bytes."""

    name: str = Field(min_length=1, description="A name, and no path.")
    text: str | None = Field(default=None, description="The content, as text.")
    data: str | None = Field(default=None, description="The content, as base64.")
    media_type: str | None = Field(default=None, description="Default: what the end of the name says.")
    if_version: int | None = Field(default=None, ge=0, le=LARGEST, description="Only if this is the newest; 0: none.")


@router.get("/sessions/{session_id}/files", response_model=list[FileOut], summary="The files of a session")
async def list_files(
    view: Seen,
    session_id: Session,
    name: Annotated[str | None, Query(description="All versions of this file, oldest first.", min_length=1)] = None,
) -> Response:
    """The newest version of each, by name."""
    mine = view.storage.files(session_id, user_id=view.reads)
    found = await mine.aall() if name is None else await mine.aversions(name)
    return answer([record_json(one) for one in found])


@router.get(
    "/sessions/{session_id}/files/content",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The content."}},
    summary="The content of a file",
)
async def get_file(view: Seen, session_id: Session, name: Name, version: Version = None) -> Response:
    """To be saved, unless it is an image that a browser can show without harm."""
    one, content = await aoperate(view.storage, files.read, session_id, view.reads, name, version)
    return content_answer(content, one.digest, one.name, cached=False)


@router.post(
    "/sessions/{session_id}/files", status_code=201, response_model=FileOut, summary="Write a file of a session"
)
async def write_file(view: Seen, session_id: Session, body: FileIn) -> Response:
    """Its first version, or the next one; what is the newest version already is not written again."""
    content = _content(body)
    made = await view.storage.files(session_id, user_id=view.reads).awrite(
        body.name, content, media_type=body.media_type, if_version=body.if_version
    )
    return answer(record_json(made), 201)


def _content(body: FileIn) -> bytes | str:
    if (body.text is None) == (body.data is None):
        raise InvalidInputError("A file has text, or data.")
    if body.text is not None:
        return body.text
    try:
        return base64.b64decode(body.data or "", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInputError("data is not base64.") from None


@router.delete("/sessions/{session_id}/files/content", status_code=204, summary="Delete a file of a session")
async def delete_file(view: Seen, session_id: Session, name: Name, version: Version = None) -> Response:
    """For good: all of its versions, or one."""
    if not await view.storage.files(session_id, user_id=view.reads).adelete(name, version):
        raise SessionFileNotFoundError(f"Session {session_id!r} has no file {name!r}.")
    return Response(status_code=204)
