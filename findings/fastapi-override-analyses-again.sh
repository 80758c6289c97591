#!/usr/bin/env bash
# FastAPI 0.165.0: one dependency override makes it analyse every dependency of every route anew at each request.
#
# A route has two dependencies. The signature of each is analysed when the route is made. Then one override is set, for
# a function that no route uses. Expected: requests cost what they did, since nothing of this route is overridden. Seen:
# each request analyses both dependencies again. Overrides are not only for tests: applications use them to put
# authentication into a router that they mount.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet fastapi==0.165.0
venv/bin/python -W ignore - <<'PY'
import sys
from importlib.metadata import version

import fastapi.dependencies.utils as utils
from fastapi import Depends, FastAPI

analysed = []
plain = utils.get_dependant


def counting(*args, **kwargs):
    analysed.append(kwargs.get("call"))
    return plain(*args, **kwargs)


utils.get_dependant = counting
app = FastAPI()


async def one():
    return 1


async def two():
    return 2


async def unused():
    return 3


@app.get("/")
async def answer(first: int = Depends(one), second: int = Depends(two)):
    return first + second


async def request():
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await app({"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/",
               "raw_path": b"/", "root_path": "", "scheme": "http", "query_string": b"", "headers": []}, receive, send)
    assert sent[-1]["body"] == b"3", sent


def count():
    import asyncio

    analysed.clear()
    asyncio.run(request())
    return len(analysed)


count()
before = count()
app.dependency_overrides[unused] = one
after = count()
print("fastapi", version("fastapi"))
print("dependencies that one request analyses, without an override:", before)
print("dependencies that one request analyses, with one for a function that no route uses:", after)
sys.exit(0 if (before, after) == (0, 2) else "This has changed.")
PY
