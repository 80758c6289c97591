"""Artifacts of Google ADK in any storage of Sessile's: each file is a small session of its own, each version a run.

The bytes of a version are media of that session: under the hash of their content, so that versions which are alike are
stored once, and gone when the file is deleted.
"""

# pyright: basic, reportMissingImports=false
# (The framework is not where this is checked: it conflicts with others.)

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import SessionNotFoundError as MissingError
from ..errors import missing_dependency
from ..storage.extending import (
    Core,
    Draft,
    Entry,
    Session,
    Snapshot,
    Storage,
    all_entries,
    aoperate,
    commit,
    find_in,
    keep_media,
    look,
    run_added,
    started_session,
    state_changed,
    with_media,
)
from .adk_events import owner
from .ids import is_usable, short, stored_id
from .lines import Lines
from .stored import passing_over, reads_stored

try:
    from google.adk.artifacts import artifact_util
    from google.adk.artifacts.base_artifact_service import ArtifactVersion, BaseArtifactService, ensure_part
    from google.adk.errors.input_validation_error import InputValidationError
    from google.genai import types
except ImportError as error:
    raise missing_dependency("google-adk", "google-adk", "An artifact service of Google ADK", error) from error

KIND, FORMAT = "google-adk-artifact", "google-adk-artifact"
USERS = "user:"
"""What names of files begin with that are in all sessions of their user."""

MOST_FOLLOWED = 5
"""How many references to other artifacts are followed, as in ADK's own services."""

TAKEN_BACK = types.Part(inline_data=types.Blob(mime_type="application/octet-stream", data=b""))
"""What ADK saves as a version where it goes back to before the first one: as if there were none."""


@dataclass(frozen=True)
class Place:
    """Where a file is; `session_id` is None for those that are in all sessions of a user."""

    app_name: str
    user_id: str
    session_id: str | None
    filename: str

    @property
    def stored(self) -> str:
        """The id of its session."""
        if self.session_id is None:
            return stored_id("adk-user-artifact", self.app_name, self.user_id, self.filename)
        return stored_id("adk-artifact", self.app_name, self.user_id, self.session_id, self.filename)

    @property
    def group(self) -> str:
        """What lists are asked for: files of one session, or of all sessions of a user, together."""
        return short(self.app_name if self.session_id is None else f"{self.app_name}:{self.session_id}")


class SessileArtifactService(BaseArtifactService):
    """Files with their versions: `Runner(…, artifact_service=SessileArtifactService(storage))`.

    A save is one commit, and the number of a version is given once, however many write. Content over the storage's
    `inline_media_bytes` is media, and may have `max_media_bytes`.

    Args:
        storage: where files are kept. The caller closes it. Each belongs to the user whose it is in ADK.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._lines = Lines()

    async def save_artifact(
        self,
        *,
        app_name: str,
        user_id: str,
        filename: str,
        artifact: types.Part | dict[str, Any],
        session_id: str | None = None,
        custom_metadata: dict[str, Any] | None = None,
    ) -> int:
        """Store a version of a file; returns its number, of which the first is 0."""
        place = _place(app_name, user_id, filename, session_id)
        part = ensure_part(artifact)
        said = {"mime_type": _mime_type(part, place, session_id), "metadata": custom_metadata or {}, **_said(part)}
        async with self._lines.at(place.stored):
            return await aoperate(self.storage, _save, place, said)

    async def load_artifact(
        self, *, app_name: str, user_id: str, filename: str, session_id: str | None = None, version: int | None = None
    ) -> types.Part | None:
        """A version of a file, or the newest one; None if it is not there. References are followed."""
        place = _place(app_name, user_id, filename, session_id)
        for left in range(MOST_FOLLOWED, -1, -1):
            part = await aoperate(self.storage, _load, place, version)
            if part is None or part == TAKEN_BACK:
                return None
            if not artifact_util.is_artifact_ref(part):
                return part
            target = artifact_util.resolve_artifact_reference(
                file_uri=str(part.file_data.file_uri),  # type: ignore[union-attr] (a reference has one)
                app_name=app_name,
                user_id=user_id,
                session_id=session_id,
                remaining_depth=left,
            )
            session_id, version = target.session_id, target.version
            place = _place(app_name, user_id, target.filename, session_id)
        return None

    async def list_artifact_keys(self, *, app_name: str, user_id: str, session_id: str | None = None) -> list[str]:
        """The names of the files of a session and of those that are in all sessions of the user, sorted."""
        found = await self._names(_place(app_name, user_id, USERS, None))
        if session_id is not None:
            found += await self._names(_place(app_name, user_id, "", session_id))
        return sorted(found)

    async def delete_artifact(
        self, *, app_name: str, user_id: str, filename: str, session_id: str | None = None
    ) -> None:
        """Delete a file with all its versions; what they have said is gone."""
        await self.storage.adelete(_place(app_name, user_id, filename, session_id).stored, user_id=owner(user_id))

    async def list_versions(
        self, *, app_name: str, user_id: str, filename: str, session_id: str | None = None
    ) -> list[int]:
        """The numbers of the versions of a file."""
        place = _place(app_name, user_id, filename, session_id)
        return [one.version for one in await aoperate(self.storage, _versions, place)]

    async def list_artifact_versions(
        self, *, app_name: str, user_id: str, filename: str, session_id: str | None = None
    ) -> list[ArtifactVersion]:
        """The versions of a file with what is known about them. Reads its log, and no content that is media."""
        return await aoperate(self.storage, _versions, _place(app_name, user_id, filename, session_id))

    async def get_artifact_version(
        self, *, app_name: str, user_id: str, filename: str, session_id: str | None = None, version: int | None = None
    ) -> ArtifactVersion | None:
        """What is known about one version, or the newest; None if it is not there."""
        place = _place(app_name, user_id, filename, session_id)
        found = await aoperate(self.storage, _version, place, version)
        return None if found is None else _described(place, found[1])

    async def _names(self, place: Place) -> list[str]:
        """The names of the files that are beside a place."""
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = await self.storage.asessions(
                kind=KIND,
                agent=place.group,
                user_id=owner(place.user_id),
                cursor=cursor,
                limit=100,
                with_state=True,
            )
            for one in page:
                with passing_over(one.session_id):
                    at = _place_of(one)
                    if _count(one) and at == Place(place.app_name, place.user_id, place.session_id, at.filename):
                        found.append(at.filename)
            cursor = page.next_cursor
            if cursor is None:
                return found


# ---------------------------------------------------------------- operations


async def _save(core: Core, place: Place, said: dict[str, Any]) -> int:
    """Append a version; its number. The session is made first, since the content lies beside its log."""
    user = owner(place.user_id)
    name = place.filename if is_usable(place.filename) else None
    given = {"kind": KIND, "agent": place.group, "name": name, "metadata": asdict(place)}

    async def begin(snapshot: Snapshot) -> Draft:
        _, first = started_session(core, snapshot, place.stored, user_id=user, **given)
        return Draft(first or [Entry("adk.artifact")])

    known = await look(core, place.stored, user_id=user)
    head = known.head
    if head is None:
        head = (await commit(core, place.stored, begin, known=known, user_id=user)).head
        known = Snapshot(head, [], known.now)
    kept_in, kept = head.incarnation, await keep_media(core, head, said)

    async def change(snapshot: Snapshot) -> Draft:
        nonlocal kept_in, kept
        head = snapshot.head
        if head is None:
            raise MissingError(f"The artifact {place.filename!r} was deleted while it was written.")
        if head.incarnation != kept_in:
            kept_in, kept = head.incarnation, await keep_media(core, head, said)
        version = _count(head)
        told = {**kept, "version": version}
        run, entries = run_added(head, f"version:{version}", messages=[told], format=FORMAT)
        return Draft([*entries, *state_changed(head, {"versions": version + 1})], run, key=_key(version))

    after = (await commit(core, place.stored, change, known=known, user_id=user)).head
    await keep_media(core, after, said)  # again only what has gone: who erases at this moment saw nobody name it
    return _count(after) - 1


async def _load(core: Core, place: Place, version: int | None) -> types.Part | None:
    found = await _version(core, place, version)
    if found is None:
        return None
    return _part(await with_media(core, found[0], found[1].data))


async def _version(core: Core, place: Place, version: int | None) -> tuple[Session, Entry] | None:
    """The message of a version, or of the newest; two round trips."""
    head = (await look(core, place.stored, user_id=owner(place.user_id))).head
    if head is None or (version is not None and not 0 <= version < _count(head)) or not _count(head):
        return None
    number = _count(head) - 1 if version is None else version
    entries = await find_in(core, head, _key(number), limit=1)
    found = [one for one in entries if one.format == FORMAT and one.kind == "message"]
    return (head, found[0]) if found else None


async def _versions(core: Core, place: Place) -> list[ArtifactVersion]:
    head = (await look(core, place.stored, user_id=owner(place.user_id))).head
    entries = [] if head is None else await all_entries(core, head)
    return [_described(place, one) for one in entries if one.format == FORMAT and one.kind == "message"]


# ---------------------------------------------------------------- helpers


def _key(version: int) -> str:
    return f"adk:version:{version}"


def _place(app_name: str, user_id: str, filename: str, session_id: str | None) -> Place:
    """Where a file is; `InputValidationError` for names that ADK allows in no service."""
    artifact_util.validate_path_segment(app_name, "app_name")
    artifact_util.validate_path_segment(user_id, "user_id")
    if filename.startswith(USERS):
        return Place(app_name, user_id, None, filename)
    if session_id is None:
        raise InputValidationError("Session ID must be provided for session-scoped artifacts.")
    artifact_util.validate_path_segment(session_id, "session_id")
    return Place(app_name, user_id, session_id, filename)


def _mime_type(part: types.Part, place: Place, session_id: str | None) -> str | None:
    """What a part is; `InputValidationError` if it is none that a file may be, or names another user's."""
    if part.inline_data is not None:
        return part.inline_data.mime_type
    if part.text is not None:
        return "text/plain"
    if part.file_data is None:
        raise InputValidationError("Not supported artifact type.")
    if not artifact_util.is_artifact_ref(part):
        return part.file_data.mime_type
    parsed = artifact_util.parse_artifact_uri(str(part.file_data.file_uri))
    if not parsed:
        raise InputValidationError(f"Invalid artifact reference URI: {part.file_data.file_uri}")
    artifact_util.validate_artifact_reference_scope(
        app_name=place.app_name, user_id=place.user_id, session_id=session_id, parsed_uri=parsed
    )
    return None


def _said(part: types.Part) -> dict[str, Any]:
    """A part as JSON, its bytes in the form that the storage keeps apart."""
    said = part.model_dump(mode="json", exclude_none=True, exclude={"inline_data": {"data"}})
    if part.inline_data is None or part.inline_data.data is None:
        return {"part": said}
    data = base64.b64encode(part.inline_data.data).decode()
    return {"part": said, "content": {"kind": "binary", "media_type": part.inline_data.mime_type or "", "data": data}}


@reads_stored
def _part(said: dict[str, Any]) -> types.Part:
    """A stored part; its content is bytes by now."""
    part = dict(said["part"])
    if "content" in said:
        data = said["content"]["data"]
        if not isinstance(data, bytes):
            raise TypeError("a content is bytes")
        part["inline_data"] = {**part["inline_data"], "data": data}
    return types.Part.model_validate(part)


@reads_stored
def _described(place: Place, entry: Entry) -> ArtifactVersion:
    said = entry.data
    uri = artifact_util.get_artifact_uri(
        place.app_name, place.user_id, place.filename, int(said["version"]), place.session_id
    )
    return ArtifactVersion(
        version=said["version"],
        canonical_uri=uri,
        custom_metadata=said["metadata"],
        create_time=entry.time_us / 1e6,
        mime_type=said["mime_type"],
    )


@reads_stored
def _count(head: Session) -> int:
    """How many versions a file has."""
    return int(head.state.get("versions") or 0)


@reads_stored
def _place_of(head: Session) -> Place:
    """Where a file of a list is, as its metadata says; that must be what its id is made of."""
    told = head.metadata
    place = Place(told["app_name"], told["user_id"], told["session_id"], told["filename"])
    if place.stored != head.session_id or owner(place.user_id) != head.user_id:
        raise ValueError("its id is made of other names")
    return place
