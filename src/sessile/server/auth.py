"""Who sends a request: bearer tokens, signed tokens, or a dependency of the application's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from ..errors import InvalidInputError, missing_dependency
from ..storage.ids import check_id
from .problems import unauthenticated

SHORTEST_TOKEN = 16
"""Characters that a static token has at least."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes:
        user_id: the user, or None: nobody in particular, where the server asks nobody for a name.
        administrator: whether the sessions of all users are shown.
    """

    user_id: str | None
    administrator: bool = False


Auth = Callable[..., Any]
"""A dependency of FastAPI's that returns a `Caller`, a user's id, or None for nobody."""


def caller_of(found: Any) -> Caller:
    """What an `Auth` has returned, as a caller; raises the problem of a request without a user."""
    if isinstance(found, Caller) and (found.user_id is not None or found.administrator):
        return found
    if isinstance(found, str) and found:
        return Caller(check_id(found, "user_id"))
    raise unauthenticated()


def bearer_of(request: Request) -> str:
    """The token of the header `Authorization: Bearer …`; raises the problem of a request without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthenticated()
    return token.strip()


class Tokens:
    """Static bearer tokens: `Tokens({"a long random text": "ada", "another": Caller("root", administrator=True)})`.

    Only their hashes are kept, and compared.

    Raises:
        InvalidInputError: a token has fewer than 16 characters.
    """

    def __init__(self, tokens: Mapping[str, Caller | str]) -> None:
        if any(len(token) < SHORTEST_TOKEN for token in tokens):
            raise InvalidInputError(f"A token has fewer than {SHORTEST_TOKEN} characters.")
        self._callers = {_digest(token): Caller(who) if isinstance(who, str) else who for token, who in tokens.items()}

    async def __call__(self, request: Request) -> Caller:
        """Whose token the request has."""
        found = self._callers.get(_digest(bearer_of(request)))
        if found is None:
            raise unauthenticated("The token is not known here.")
        return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class Jwt:
    """Signed tokens (JWT): `Jwt(key, algorithms=["RS256"], audience="sessile")`. Needs the package PyJWT.

    A token needs an expiry (`exp`), this audience, and a subject (`sub`), who is the user.

    Args:
        key: the key that signatures are checked with: a secret, or a public key as PEM.
        algorithms: those that are accepted, never what the token says.
        audience: what `aud` must be.
        issuer: what `iss` must be, if it is given.
        administrator: a claim that makes an administrator where it is `true`.
        leeway: seconds by which clocks may differ.

    Raises:
        InvalidInputError: no algorithm is named, or `none`, or shared secrets beside public keys.
        MissingDependencyError: PyJWT is not installed.
    """

    def __init__(
        self,
        key: str | bytes,
        *,
        algorithms: Collection[str],
        audience: str,
        issuer: str | None = None,
        administrator: str = "administrator",
        leeway: float = 10.0,
    ) -> None:
        try:
            import jwt
        except ImportError:
            raise missing_dependency("pyjwt", "server", "Jwt") from None
        shared = {name for name in algorithms if name.startswith("HS")}
        if not algorithms or isinstance(algorithms, str) or "none" in {name.lower() for name in algorithms}:
            raise InvalidInputError('Name the algorithms that are accepted: algorithms=["RS256"].')
        if shared and len(shared) < len(set(algorithms)):
            raise InvalidInputError("A key is either a shared secret (HS…) or a public one, not both.")
        self._jwt, self._key, self._algorithms = jwt, key, list(algorithms)
        self._audience, self._issuer, self._leeway = audience, issuer, leeway
        self._administrator = administrator

    async def __call__(self, request: Request) -> Caller:
        """Whom the request's token names."""
        try:
            claims = self._jwt.decode(
                bearer_of(request),
                self._key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": ["exp", "aud", "sub"]},
            )
        except self._jwt.PyJWTError:
            raise unauthenticated("The token is not valid, or not any more.") from None
        subject = claims["sub"]
        if not isinstance(subject, str) or not subject:
            raise unauthenticated("The token names no user.")
        return Caller(check_id(subject, "user_id"), claims.get(self._administrator) is True)


async def everybody(request: Request) -> Caller:
    """Where no authentication is set up, the one who uses this machine."""
    return Caller(None, administrator=True)
