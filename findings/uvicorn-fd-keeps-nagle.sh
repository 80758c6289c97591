#!/usr/bin/env bash
# uvicorn 0.54.0: a server that is handed its TCP socket (`fd=`) leaves Nagle's algorithm on for every connection.
#
# The same application is served twice over the loopback: once by host and port, once with `fd=` of a listening TCP
# socket, as process managers and socket activation hand one over. Each answer says whether its connection has
# TCP_NODELAY. Expected: it has, both times, as asyncio sets it on TCP connections. Seen: with `fd=` it has not: uvicorn
# takes every descriptor for a Unix socket (AF_UNIX), so that asyncio does not know the connections for TCP. An answer
# whose head and body are two writes then waits for the client's delayed acknowledgement: about 40 ms on Linux.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet uvicorn==0.54.0 h11==0.16.0
venv/bin/python -W ignore - <<'PY'
import asyncio
import gc
import http.client
import socket
import sys
import threading
import time
from importlib.metadata import version

import uvicorn


def no_delay():
    """TCP_NODELAY of the connections of this process that are served at the moment."""
    kinds = {"_SelectorSocketTransport"}
    served = [one for one in gc.get_objects() if type(one).__name__ in kinds and not one.is_closing()]
    return [one.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in served]


async def application(scope, receive, send):
    if scope["type"] == "http":
        body = f"{no_delay()}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


def asked(at, **options):
    config = uvicorn.Config(application, loop="asyncio", http="h11", lifespan="off", log_level="critical", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    connection = http.client.HTTPConnection("127.0.0.1", at)
    connection.request("GET", "/")
    said = connection.getresponse().read().decode()
    connection.close()
    server.should_exit = True
    thread.join()
    return said


with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
by_port = asked(port, host="127.0.0.1", port=port)
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen()
by_fd = asked(listening.getsockname()[1], fd=listening.fileno())
print("uvicorn", version("uvicorn"))
print("by host and port: TCP_NODELAY of the connection", by_port)
print("by fd=:           TCP_NODELAY of the connection", by_fd)
sys.exit(0 if (by_port, by_fd) == ("[1]", "[0]") else "This has changed.")
PY
