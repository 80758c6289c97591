"""Agents, teams and workflows over HTTP. Needs the extra `server`.

```python
from sessile.server import Tokens, create_app

app = create_app([support], storage=storage, auth=Tokens({"a long random token": "ada"}))
```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import missing_dependency

if TYPE_CHECKING:
    from .app import create_app, lifespan_of, stop_streams
    from .auth import Caller, Jwt, Tokens
    from .limits import Limits

__all__ = ["Caller", "Jwt", "Limits", "Tokens", "create_app", "lifespan_of", "stop_streams"]

_HOMES = {"Caller": "auth", "Jwt": "auth", "Limits": "limits", "Tokens": "auth"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import_module("fastapi")
    except ImportError:
        raise missing_dependency("fastapi", "server", "The server") from None
    return getattr(import_module(f".{_HOMES.get(name, 'app')}", __name__), name)
