"""Which runs a request means: the filters of the index, as query parameters that several routes have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, cast

from fastapi import Depends, Query
from pydantic import AwareDatetime

from ...insight import RunFilters
from ...records import JsonObject, Status

Text = Annotated[str | None, Query(min_length=1)]
Number = Annotated[float | None, Query(allow_inf_nan=False)]
Seconds = Annotated[float | None, Query(ge=0, le=10**9, allow_inf_nan=False)]
Dollars = Annotated[Decimal | None, Query(ge=0, le=10**6, allow_inf_nan=False, max_digits=15)]
Statuses = Annotated[list[Status] | None, Query()]

Metadata = Annotated[
    list[str] | None,
    Query(
        max_length=20,
        description="`KEY=VALUE`, all of which must match; values are JSON, else text. `KEY` alone: it is there.",
    ),
]


def given_of(**given: Any) -> dict[str, Any]:
    """What is given of these."""
    return {name: value for name, value in given.items() if value is not None}


def metadata_of(given: Sequence[str] | None) -> JsonObject:
    """What is asked of the metadata, as filters take it."""
    wanted: JsonObject = {}
    keys: list[str] = []
    for one in given or ():
        key, sign, text = one.partition("=")
        if not sign:
            keys.append(key)
            continue
        try:
            wanted[key] = json.loads(text)
        except ValueError:
            wanted[key] = text
    return {"metadata": wanted, "metadata_keys": keys} if given else {}


async def by_runs(
    model: Text = None,
    tool: Text = None,
    error: Text = None,
    failed: Annotated[bool | None, Query(description="Whether there is any error.")] = None,
    label: Text = None,
    source: Annotated[str | None, Query(min_length=1, description="Whose ratings are meant.")] = None,
    min_score: Number = None,
    max_score: Number = None,
    rated: Annotated[bool | None, Query(description="Whether anybody has rated it.")] = None,
    min_duration: Seconds = None,
    max_duration: Seconds = None,
    min_cost: Dollars = None,
    max_cost: Dollars = None,
) -> RunFilters:
    """The filters that only the index answers."""
    given = given_of(
        model=model,
        tool=tool,
        error=error if error is not None else failed,
        label=label,
        source=source,
        min_score=min_score,
        max_score=max_score,
        rated=rated,
        min_duration=min_duration,
        max_duration=max_duration,
        min_cost=min_cost,
        max_cost=max_cost,
    )
    return cast(RunFilters, given)


ByRuns = Annotated[RunFilters, Depends(by_runs)]


async def run_filters(
    inner: ByRuns,
    session_id: Text = None,
    kind: Text = None,
    agent: Text = None,
    status: Statuses = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    on_branch: bool | None = None,
    metadata: Metadata = None,
    members: Annotated[
        bool | None, Query(description="Whether runs of members, and others below a run, count.")
    ] = None,
) -> RunFilters:
    """All filters of runs."""
    given = given_of(
        session_id=session_id,
        kind=kind,
        agent=agent,
        status=status or None,
        since=since,
        until=until,
        on_branch=on_branch,
        members=members,
    )
    return cast(RunFilters, {**given, **metadata_of(metadata), **inner})


Filtered = Annotated[RunFilters, Depends(run_filters)]
