"""Run the Python blocks of a page as one program: `python page.py PAGE.md`. They may await, as in a notebook."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from pathlib import Path


def main(page: str) -> None:
    namespace: dict[str, object] = {"__name__": "page"}
    with asyncio.Runner() as runner:
        for block in re.findall(r"^```python\n(.*?)^```", Path(page).read_text("utf-8"), re.MULTILINE | re.DOTALL):
            code = compile(block, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            result = eval(code, namespace)
            if inspect.isawaitable(result):
                runner.run(_awaited(result))


async def _awaited(result: object) -> None:
    await result  # type: ignore[misc]


if __name__ == "__main__":
    main(sys.argv[1])
