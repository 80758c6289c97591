"""nginx for the tests: as the documentation says that it is set up, in front of servers of ours."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from .process import Server, ServerMissingError, find_program

PAGE = Path(__file__).parents[2] / "docs" / "server.md"

GET = "nginx is not on this machine. Debian, Ubuntu: apt-get install nginx-light; macOS: brew install nginx."

CONFIG = """\
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 2048; }}
http {{
access_log off;
{paths}
{site}
}}
"""


def site_of_page(port: int, upstreams: Sequence[int]) -> str:
    """The configuration that the page shows, on these ports and without a certificate."""
    shown = re.search(r"```nginx\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert shown is not None
    servers = " ".join(f"server 127.0.0.1:{one};" for one in upstreams)
    text, ports = re.subn(r"upstream sessile \{[^}]*\}", f"upstream sessile {{ {servers} }}", shown[1])
    text, places = re.subn(r"listen 443 ssl;", f"listen 127.0.0.1:{port};", text)
    assert (ports, places) == (1, 1)
    return text


class Nginx(Server):
    """nginx in front of servers on these ports of this machine."""

    name: ClassVar[str] = "nginx"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, upstreams: Sequence[int]) -> None:
        found = find_program(["nginx"])
        if found is None:
            raise ServerMissingError(GET)
        self._program, self._upstreams = found, upstreams
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "\n".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        site = site_of_page(self.port, self._upstreams)
        (self.folder / "nginx.conf").write_text(CONFIG.format(folder=self.folder, paths=paths, site=site))

    def command(self) -> list[str]:
        return [str(self._program), "-p", str(self.folder), "-e", "stderr", "-c", str(self.folder / "nginx.conf")]

    def ping(self) -> str | None:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError as error:
            return str(error)
        return None
