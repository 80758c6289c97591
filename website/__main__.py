"""`python -m website`: build the site into dist/site, where the sites of earlier versions may lie beside it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .build import ROOT, SiteError, build


def main() -> int:
    """Build it, and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m website", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "site", help="where the versions' folders lie")
    given = parser.parse_args()
    try:
        place = build(given.out)
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{place}\nLook at it: python -m http.server --directory {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
