"""What failed in a whole run of the tests, once more and by itself: `python -m tests.again`, for CI.

Tests with real servers, killed processes and cut connections may fail where a machine stands still for seconds. Such a
failure is shown where it happens, and named again here; it ends the build if the test fails a second time, when nothing
else runs. Many failures at once are no accident: none of them runs again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

MOST = 12
"""Failures that may be accidents."""

FAILED = Path(__file__).parents[1] / ".pytest_cache" / "v" / "cache" / "lastfailed"


def main() -> int:
    names: list[str] = sorted(json.loads(FAILED.read_text("utf-8"))) if FAILED.exists() else []
    if not 0 < len(names) <= MOST:
        print(f"{len(names)} tests failed: nothing runs again.")
        return 1
    # With what was measured before: the whole must be covered as far as pyproject.toml asks for.
    options = ["--last-failed", "--last-failed-no-failures=none", "--cov", "--cov-append", "-n", "0"]
    code = subprocess.run([sys.executable, "-m", "pytest", *options], check=False).returncode
    print("Failed at first:", *names, sep="\n  ")
    print("All of them passed when they ran by themselves." if code == 0 else "It did not pass by itself, either.")
    return code


if __name__ == "__main__":
    sys.exit(main())
