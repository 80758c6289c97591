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
from ..later import names_of

if TYPE_CHECKING:
    from .app import create_app, lifespan_of, stop_streams
    from .auth import Caller, Jwt, Tokens
    from .limits import Limits

__all__ = ["Caller", "Jwt", "Limits", "Tokens", "create_app", "lifespan_of", "stop_streams"]

_HOMES = {"Caller": "auth", "Jwt": "auth", "Limits": "limits", "Tokens": "auth"}
_find, __dir__ = names_of(__name__, {**dict.fromkeys(__all__, "app"), **_HOMES})


def __getattr__(name: str) -> Any:
    if name in __all__:
        try:
            import_module("fastapi")
        except ImportError:
            raise missing_dependency("fastapi", "server", "The server") from None
    return _find(name)
