"""What is installed along with Sessile: a bill of materials of a wheel, and the licences.

    python scripts/bill.py WHEEL            a bill for it, as CycloneDX 1.6 in JSON
    python scripts/bill.py --licences       docs/licences.md; needs requirements/dev.txt and demo.txt installed
    python scripts/bill.py --compare BILL   fails if this environment has anything that is not in the bill

Nothing is asked of a registry. Versions and hashes are those of requirements/; which packages there are, and their
licences, is what is installed here, and for what is not installed here, what docs/licences.md says.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

ROOT = Path(__file__).resolve().parent.parent
OURS = "sessile"
PAGE = ROOT / "docs" / "licences.md"
MODELS = ("openai", "anthropic", "google")
DATABASES = ("postgres", "mysql", "sqlalchemy", "redis", "dynamodb", "mongodb", "s3", "gcs", "yaml")
EXTRAS = (*MODELS, *DATABASES, "parquet", "encryption", "cli", "server", "ag-ui", "testing")
TOOLS = {"pip", "setuptools", "wheel"}
"""What an empty environment has already."""

_LOCKED = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")

HEAD = """\
# Licences

What is installed along with Sessile, by its extras, with the licence that each package states. Made by
`python scripts/bill.py --licences`; a test compares it with what is installed. Versions and hashes are in
[requirements](../requirements); packages of other platforms than Linux alone are not listed. Sessile itself is under
Apache-2.0; of others it contains what the dashboard's pages are built of, named in the last list.

| package | licence | for |
|---|---|---|
"""

BUNDLED = """
## In the dashboard

The pages of the dashboard are built ahead, and contain these. Their whole texts come along, as
`sessile/server/static/NOTICES.txt`, and a server shows them at `/NOTICES.txt`.

"""

NOTICES = ROOT / "src" / OURS / "server" / "static" / "NOTICES.txt"


@dataclass
class Package:
    """A package that is installed along.

    Attributes:
        extras: for which extras; "" is the core.
        needs: the names of what it needs itself.
    """

    name: str
    version: str
    licence: str
    extras: set[str] = field(default_factory=set)
    needs: set[str] = field(default_factory=set)
    hashes: list[str] = field(default_factory=list)

    @property
    def reference(self) -> str:
        """Its package URL (github.com/package-url/purl-spec)."""
        return f"pkg:pypi/{self.name}@{self.version}"


def normal(name: str) -> str:
    """A name as indexes compare it (packaging.python.org, name normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of all that is locked, by name."""
    found: dict[str, tuple[str, list[str]]] = {}
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        name = ""
        for line in path.read_text("utf-8").splitlines():
            if start := _LOCKED.match(line):
                name = normal(start[1])
                found[name] = (start[2], [])
            if mark := _HASH.search(line):
                found[name][1].append(mark[1])
    return found


def packages() -> dict[str, Package]:
    """All packages that are installed along with Sessile and are installed here."""
    versions = locked()
    found: dict[str, Package] = {}
    for extra in ("", *EXTRAS):
        for name in needs(distribution(OURS), {extra}):
            _add(name, extra, versions, found, set())
    return found


def _add(
    wanted: str, extra: str, versions: dict[str, Any], found: dict[str, Package], seen: set[tuple[str, frozenset[str]]]
) -> None:
    name, _, options = wanted.partition("[")
    extras = frozenset(options.rstrip("]").split(",")) if options else frozenset[str]()
    if (name, extras) in seen:
        return
    seen.add((name, extras))
    try:
        there = distribution(name)
    except PackageNotFoundError:
        return
    if name not in versions:
        raise SystemExit(f"{name} is installed along, but is not locked in requirements/: make lock")
    package = found.setdefault(name, Package(name, there.version, licence(there), hashes=versions[name][1]))
    package.extras.add(extra)
    for below in needs(there, {"", *extras}):
        package.needs.add(below.partition("[")[0])
        _add(below, extra, versions, found, seen)


def needs(there: Distribution, extras: set[str]) -> Iterator[str]:
    """What a package needs on this platform with these extras ("": without any), as `name` or `name[extra,…]`."""
    from packaging.requirements import Requirement

    for text in there.requires or ():
        wanted = Requirement(text)
        if wanted.marker is None:
            applies = "" in extras
        else:
            chosen = {extra for extra in extras if wanted.marker.evaluate({"extra": extra})}
            applies = bool(chosen) and ("" in extras or not wanted.marker.evaluate({"extra": ""}))
        if applies:
            name = normal(wanted.name)
            yield f"{name}[{','.join(sorted(wanted.extras))}]" if wanted.extras else name


def licence(there: Distribution) -> str:
    """What a package states: an SPDX expression if it does, else in its own words."""
    stated = there.metadata.get("License-Expression") or ""
    marks = [text.rpartition(" :: ")[2] for text in there.metadata.get_all("Classifier") or () if "License ::" in text]
    text = (there.metadata.get("License") or "").strip().partition("\n")[0]
    said = stated or (text if len(text) < 60 and "Dual" not in text else "") or ", ".join(marks)
    return said.replace("|", "/") or "not stated"


def bill(wheel: Path) -> dict[str, Any]:
    """The bill of materials of a wheel (cyclonedx.org/docs/1.6/json). The same wheel always has the same one."""
    found = complete()
    version = wheel.name.split("-")[1]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    ours = f"pkg:pypi/{OURS}@{version}"
    core = sorted(name for name in found if "" in found[name].extras)
    direct = {text.partition("[")[0] for extra in ("", *EXTRAS) for text in needs(distribution(OURS), {extra})}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": ours,
                "name": OURS,
                "version": version,
                "purl": ours,
                "hashes": [{"alg": "SHA-256", "content": digest}],
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": [_component(found[name], name in core) for name in sorted(found)],
        "dependencies": [
            {"ref": ours, "dependsOn": [found[name].reference for name in sorted(direct & found.keys())]},
            *(
                {
                    "ref": package.reference,
                    "dependsOn": [found[name].reference for name in sorted(package.needs & found.keys())],
                }
                for _, package in sorted(found.items())
            ),
        ],
    }


def _component(package: Package, required: bool) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": package.reference,
        "name": package.name,
        "version": package.version,
        "purl": package.reference,
        "scope": "required" if required else "optional",
        "licenses": [{"license": {"name": package.licence}}],
        # Of each file that is offered of this version: which one is taken, the platform decides.
        "externalReferences": [
            {
                "type": "distribution",
                "url": package.reference,
                "hashes": [{"alg": "SHA-256", "content": content} for content in package.hashes],
            }
        ],
        "properties": [{"name": "sessile:extra", "value": extra or "core"} for extra in sorted(package.extras)],
    }


def licences() -> str:
    """The page of licences."""
    rows = [
        f"| {package.name} | {package.licence} | {'everything' if '' in package.extras else _named(package.extras)} |\n"
        for _, package in sorted(packages().items())
    ]
    return HEAD + "".join(rows) + BUNDLED + "".join(f"* {title}\n" for title in bundled())


def bundled() -> list[str]:
    """What the dashboard contains of others, each with its version and its licence."""
    lines = NOTICES.read_text("utf-8").splitlines()
    return [title for title, below in itertools.pairwise(lines) if title and below == "-" * len(title)]


def listed() -> dict[str, tuple[str, set[str]]]:
    """What the page of licences says: licence and extras by name ("" is the core)."""
    rows = re.findall(r"^\| (\S+) \| (.+?) \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {
        name: (said, set(re.findall(r"`([\w-]+)`", where)) or {""}) for name, said, where in rows if name != "package"
    }


def complete() -> dict[str, Package]:
    """All packages, also those that are not installed here."""
    found, versions = packages(), locked()
    for name, (said, extras) in listed().items():
        if name not in found:
            found[name] = Package(name, versions[name][0], said, extras, hashes=versions[name][1])
    return found


def _named(extras: set[str]) -> str:
    return ", ".join(f"`{extra}`" for extra in EXTRAS if extra in extras)


def compare(path: Path) -> list[str]:
    """What this environment has, and the bill has not."""
    components = json.loads(path.read_text("utf-8"))["components"]
    known = {(component["name"], component["version"]) for component in components}
    here = {(normal(there.metadata["Name"]), there.version) for there in distributions()}
    return [f"{name} {version}" for name, version in sorted(here - known) if name not in {OURS, *TOOLS}]


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--licences"]:
            sys.stdout.write(licences())
        case ["--compare", path]:
            if extra := compare(Path(path)):
                raise SystemExit(f"Not in the bill of materials: {', '.join(extra)}")
        case [wheel]:
            print(json.dumps(bill(Path(wheel)), indent=1))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
