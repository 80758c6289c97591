"""The image of the page about containers, built and run without a daemon: a part of `make torture`.

It needs root, buildah and debootstrap. No registry of images is asked: what the page's image is made from is Debian
with its own Python, which is made here once and kept under that name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from tests.campaigns import TORTURE
from tests.servers.building import alone, kept
from tests.servers.debian import Package, mirror
from tests.servers.process import private_port
from tests.test_deployments import DOCS, answers, started, until
from tests.transcripts import shown

ROOT = DOCS.parent
MISSING = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]

pytestmark = [
    pytest.mark.no_cover,
    pytest.mark.skipif(not TORTURE, reason="SESSILE_TORTURE=1 builds the image"),
    pytest.mark.skipif(bool(MISSING) or os.getuid() != 0, reason=f"needs root, and {MISSING or 'nothing else'}"),
]

DEBOOTSTRAP = Package("debootstrap", (), "usr/sbin/debootstrap", "no variable")
URL = "sqlite:///data/sessions.db"
TOKEN = "a-long-random-token-0123456789"


class Builder:
    """buildah, with images of its own: nothing of the machine's is read or changed."""

    def __init__(self, folder: Path) -> None:
        self._start = [
            "buildah",
            "--root",
            str(folder / "images"),
            "--runroot",
            str(folder / "run"),
            "--storage-driver=vfs",
        ]

    def command(self, *words: str) -> list[str]:
        return [*self._start, *words]

    def __call__(self, *words: str) -> str:
        done = subprocess.run(self.command(*words), capture_output=True, text=True)
        assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()


def inside(container: str, *words: str, volume: str | None = None) -> tuple[str, ...]:
    """What lets a container run words, as its user."""
    volumes = () if volume is None else (f"--volume={volume}",)
    return ("run", "--isolation=chroot", f"--env=SESSILE_STORAGE={URL}", *volumes, container, "--", *words)


def debian() -> Path:
    """The files of a Debian with Python and pip, as an archive; made once."""
    archive = kept() / "image-trixie.tar"
    with alone("image-trixie"):
        if not archive.exists():
            root = kept() / f"image-trixie.{os.getpid()}"
            packages = "ca-certificates,python3-pip,python3-venv"
            try:
                subprocess.run(
                    ["debootstrap", "--variant=minbase", f"--include={packages}", "trixie", root, mirror(DEBOOTSTRAP)],
                    check=True,
                )
                for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
                    shutil.rmtree(root / folder)
                for mark in root.glob(
                    "usr/lib/python3*/EXTERNALLY-MANAGED"
                ):  # in an image made for it, pip may install
                    mark.unlink()
                (root / "usr/bin/python").symlink_to("python3")
                subprocess.run(["tar", "-C", root, "-cf", f"{archive}.new", "."], check=True)
                Path(f"{archive}.new").replace(archive)
            finally:
                shutil.rmtree(root, ignore_errors=True)
    return archive


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """A builder that has the image which the page begins with."""
    folder = kept() / f"images-{os.getpid()}"  # not in memory, where other temporary folders may be
    builder = Builder(folder)
    try:
        base = builder("from", "scratch")
        builder("add", "--quiet", base, str(debian()), "/")
        settings = tmp_path_factory.mktemp("pip") / "pip.conf"
        settings.write_text("[global]\nfind-links = /wheels\ncert = /etc/ssl/certs/ca-certificates.crt\n", "utf-8")
        builder("add", "--quiet", base, str(settings), "/etc/pip.conf")
        builder("add", "--quiet", base, "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt")
        builder("commit", "--quiet", base, "docker.io/library/python:3.13-slim")
        yield builder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def image(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page's image, with this version of Sessile."""
    folder = tmp_path_factory.mktemp("image")
    wheels = folder / "wheels"
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    blocks = list(shown(DOCS / "containers.md"))
    (folder / "Containerfile").write_text(next(one.text for one in blocks if one.language == "dockerfile"), "utf-8")
    (folder / "shop.py").write_text(next(one.text for one in blocks if one.title == "shop.py"), "utf-8")
    how = ("--isolation=chroot", "--pull=never", f"--volume={wheels}:/wheels:ro", "--tag=shop")
    builder("build", *how, f"--file={folder / 'Containerfile'}", str(folder))
    return "shop"


def test_the_image_serves_as_a_user_of_its_own(builder: Builder, image: str, tmp_path: Path) -> None:
    container = builder("from", "--pull=never", image)
    page = (DOCS / "containers.md").read_text("utf-8")
    serve = json.loads(re.findall(r"^CMD (\[.*\])$", page, re.MULTILINE)[0])
    config = json.loads(builder("inspect", "--type=image", image))["OCIv1"]["config"]
    assert (config["User"], config["WorkingDir"], config["Cmd"]) == ("app", "/home/app", serve)
    assert builder(*inside(container, "id", "-un")) == "app"

    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({TOKEN: "ada"}), "utf-8")
    port = private_port()
    instead = {"0.0.0.0": "127.0.0.1", "8000": str(port)}
    words = [instead.get(word, word) for word in serve]
    command = inside(container, *words, volume=f"{tokens}:/run/secrets/tokens.json:ro")
    with started(builder.command(*command), tmp_path) as serving:
        until(lambda: answers(port, "/ready"), tmp_path)
        asked = {"input": "My name is Ada.", "session_id": "s1"}
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx.post(f"http://127.0.0.1:{port}/agents/support/runs", json=asked, headers=headers, timeout=60)
        assert answer.json()["status"] == "completed", answer.text
        os.killpg(serving.pid, signal.SIGTERM)
        serving.wait(60)
    [session] = json.loads(builder(*inside(container, "sessile", "sessions", "--json")))
    assert session["user_id"] == "ada"
    assert "user: My name is Ada." in builder(*inside(container, "sessile", "show", session["session_id"]))
