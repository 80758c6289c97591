"""What a run was given, as far as it holds when the run is resumed.

What has a JSON form is stored with the run's start, and holds. What has none (types, objects, functions) is only named:
whoever resumes the run must pass it again, because without it something else would come of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic_ai import UsageLimits

from ..errors import CorruptDataError, InvalidInputError, InvalidStateError, SessionNotFoundError
from ..records import JsonObject, Run
from ..storage.encoding import check_json
from ..storage.storage import Storage
from ..storage.turns import TurnSpec
from ..storage.vocabulary import Given

SILENT = ("event_stream_handler", "metadata")
"""Options that change nothing of what comes of a run."""

_limits = TypeAdapter(UsageLimits)


def remembered(options: Mapping[str, Any]) -> JsonObject | None:
    """What is stored of a run's options; None if it was given none that matter."""
    kept: JsonObject = {}
    asked: list[str] = []
    for name, value in options.items():
        if name in SILENT or value is None or (name == "output_type" and value is str):
            continue
        if isinstance(value, UsageLimits):
            kept[name] = _limits.dump_python(value, mode="json", exclude_defaults=True)
        elif _is_json(value):
            kept[name] = value
        else:
            asked.append(name)
    return Given(kept=kept or None, asked=sorted(asked) or None).json if kept or asked else None


def _is_json(value: Any) -> bool:
    try:
        check_json(value, "An option")
    except InvalidStateError:
        return False
    return True


def holding(run: Run, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a run is resumed with: those that are given now, and those that it was given when it began.

    Raises `InvalidInputError` if one is missing that could not be stored.
    """
    given = Given.of(run.given or {})
    missing = [name for name in given.asked or () if name not in options]
    if missing:
        raise InvalidInputError(
            f"Run {run.number} was given {', '.join(missing)} when it began, which cannot be stored.",
            hint="Pass the same to resume (or None, to go on without); nothing was written.",
        )
    kept = given.kept or {}
    if "usage_limits" in kept:
        kept = {**kept, "usage_limits": _limits.validate_python(kept["usage_limits"])}
    without = {name for name in given.asked or () if options[name] is None}
    return {name: value for name, value in {**kept, **options}.items() if name not in without}


async def media_of(storage: Storage, spec: TurnSpec, digest: str) -> bytes:
    """What the input of a stored run of this session refers to."""
    try:
        return await storage.amedia(spec.session_id, digest, user_id=spec.user_id)
    except (SessionNotFoundError, CorruptDataError) as error:
        hint = "Pass the media themselves, or storage.media(…) of the session that has them."
        raise InvalidInputError(f"Session {spec.session_id!r} has no media {digest}.", hint=hint) from error
