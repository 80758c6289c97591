"""Object stores for the tests: two emulators that can be had from Go's module proxy.

gofakes3 speaks S3's protocol, fake-gcs-server that of Google Cloud Storage. Both keep the conditions of writes, and
take any credentials.
"""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from .golang import built
from .process import Server

BUCKET = "sessile"


class ObjectServer(Server):
    """An emulator. `url` is a bucket that is there from the start."""

    variable: ClassVar[str]
    scheme: ClassVar[str]
    settings: ClassVar[str]

    def __init__(self) -> None:
        self.program = self.build()
        super().__init__()

    @classmethod
    def build(cls) -> Path:
        """Its program."""
        return built(Path(__file__).parent / cls.name, cls.variable)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return self.at(BUCKET)

    def at(self, path: str) -> str:
        """The URL of a bucket, perhaps with a prefix."""
        return f"{self.scheme}://{path}?endpoint={self.endpoint}&{self.settings}"

    def prepare(self) -> None:
        shutil.copy(self.program, self.folder / "program")  # its user may not be able to read our cache

    def command(self) -> list[str]:
        return [str(self.folder / "program"), f"127.0.0.1:{self.port}", str(self.folder / "data"), BUCKET]

    def ping(self) -> str | None:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/{BUCKET}?list-type=2", timeout=1):
                return None
        except (OSError, urllib.error.HTTPError) as error:
            return str(error)

    def make_bucket(self, name: str) -> None:
        """Make a bucket."""
        self._request("PUT", f"/{name}")

    def remove_bucket(self, name: str) -> None:
        """Remove a bucket with all that is in it, which no real service would do; it may be gone already."""
        with suppress(urllib.error.HTTPError):
            self._request("DELETE", f"/{name}")

    def _request(self, method: str, path: str) -> None:
        with urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}{path}", b"", method=method)):
            pass


class GoFakeS3(ObjectServer):
    """gofakes3, with its data in a file: what it has acknowledged survives when it is killed."""

    name: ClassVar[str] = "gofakes3"
    variable: ClassVar[str] = "TEST_S3_URL"
    scheme: ClassVar[str] = "s3"
    settings: ClassVar[str] = "region=us-east-1&access_key_id=test&secret_access_key=test"


class FakeGcs(ObjectServer):
    """fake-gcs-server, with its data in memory, behind the few requests of the XML API that obstore sends."""

    name: ClassVar[str] = "fakegcs"
    variable: ClassVar[str] = "TEST_GCS_URL"
    scheme: ClassVar[str] = "gs"
    settings: ClassVar[str] = "bearer_token=test"
