"""Master keys: what the keys of sessions are encrypted with, and where they come from."""

from __future__ import annotations

import base64
import binascii
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import InvalidInputError, SealedError, SessileError, StorageUnavailableError

KEY_BYTES = 32
NONCE_BYTES = 12

DEFAULT = "default"
"""The name of a master key that was given without one."""


def new_key() -> str:
    """A new master key: 32 random bytes in base64, one line of text."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


class MasterKeys(ABC):
    """Encrypts and decrypts the keys of sessions. Subclass it for a key service of your own.

    Attributes:
        blocks: whether it waits for a network: then it is called beside the event loop.
    """

    blocks: bool = False

    @abstractmethod
    def wrap(self, key: bytes, context: str) -> tuple[str, bytes]:
        """Encrypt a session's key with the current master key: the master key's name, and what comes of it.

        The context says whose key it is, and is bound to the result. Raises `StorageUnavailableError` if the service
        does not answer.
        """

    @abstractmethod
    def unwrap(self, master: str, wrapped: bytes, context: str) -> bytes:
        """The inverse of `wrap`.

        Raises `SealedError` if there is no such master key or it is not the right one, and `StorageUnavailableError` if
        the service does not answer.
        """

    @abstractmethod
    def current(self) -> str:
        """The name of the master key that `wrap` takes."""


Given = str | bytes | Mapping[str, str | bytes]
"""One master key, or several by name, the current one first."""


class LocalKeys(MasterKeys):
    """Master keys that this process has: AES-256-GCM.

    Args:
        given: a key (32 bytes, or those in base64), or several by name, the current one first; or a function without
            arguments that returns them, for example from a secret manager. It is called at first use, and again when
            data name a key that it did not return before.

    Raises:
        InvalidInputError: a key does not have 32 bytes.
    """

    def __init__(self, given: Given | Callable[[], Given]) -> None:
        self._source = given if callable(given) else None
        self._keys: dict[str, AESGCM] = {} if callable(given) else _checked(given)

    def wrap(self, key: bytes, context: str) -> tuple[str, bytes]:
        """See `MasterKeys.wrap`."""
        name, nonce = self.current(), os.urandom(NONCE_BYTES)
        return name, nonce + self._keys[name].encrypt(nonce, key, context.encode())

    def unwrap(self, master: str, wrapped: bytes, context: str) -> bytes:
        """See `MasterKeys.unwrap`."""
        if master not in self._keys:
            self._read()
        if master not in self._keys:
            raise SealedError(f"The master key {master!r} is missing.", hint="Give it beside the current one.")
        try:
            return self._keys[master].decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context.encode())
        except InvalidTag:
            raise SealedError(f"The master key {master!r} is not the one that this was encrypted with.") from None

    def current(self) -> str:
        """See `MasterKeys.current`."""
        if not self._keys:
            self._read()
        return next(iter(self._keys))

    def _read(self) -> None:
        if self._source is None:
            return
        try:
            self._keys = _checked(self._source())
        except SessileError:
            raise
        except Exception as error:
            raise StorageUnavailableError(f"The master keys could not be read: {type(error).__name__}.") from error


def _checked(given: Any) -> dict[str, AESGCM]:
    named = cast("Mapping[Any, Any]", given) if isinstance(given, Mapping) else {DEFAULT: given}
    if not named:
        raise InvalidInputError("There is no master key.", hint="Make one: sessile.encryption.new_key().")
    return {_checked_name(name): AESGCM(_key_of(key)) for name, key in named.items()}


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name or len(name) > 200:
        raise InvalidInputError("A master key's name is a text of 1 to 200 characters.")
    return name


def _key_of(given: Any) -> bytes:
    """The 32 bytes of a key. Errors do not repeat it."""
    key = given
    if isinstance(given, str):
        try:
            key = base64.b64decode(given.strip().translate(str.maketrans("-_", "+/")), validate=True)
        except (ValueError, binascii.Error):
            key = b""
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise InvalidInputError(
            "A master key has 32 random bytes, given as such or in base64.",
            hint="Make one: sessile.encryption.new_key(). A password is no key.",
        )
    return key


def parsed(text: str) -> dict[str, str]:
    """The keys of a text: one on each line, `name:base64`, the current one first; a single one needs no name.

    Empty lines, and those that begin with `#`, are passed over. Commas part keys as ends of lines do.
    """
    lines = [line.strip() for line in text.replace(",", "\n").splitlines()]
    keys: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, colon, key = line.rpartition(":")
            keys[name.strip() if colon else DEFAULT] = key.strip()
    return keys


def _from_environment(variable: str) -> Given:
    text = os.environ.get(variable, "")
    if not text.strip():
        raise InvalidInputError(f"The environment variable {variable} has no master key.")
    return parsed(text)


def _from_file(path: str) -> Given:
    try:
        return parsed(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"The file of master keys cannot be read: {type(error).__name__}.") from error


def masters_of(keys: Any) -> MasterKeys:
    """The master keys that `EncryptedStorage` is given, in whatever form."""
    if isinstance(keys, MasterKeys):
        return keys
    if isinstance(keys, str) and keys.startswith("env:"):
        return LocalKeys(lambda: _from_environment(keys.removeprefix("env:")))
    if isinstance(keys, str) and keys.startswith("file:"):
        return LocalKeys(lambda: _from_file(keys.removeprefix("file:")))
    return LocalKeys(keys)


# ---------------------------------------------------------------- key services


class AwsKms(MasterKeys):
    """A key of AWS's Key Management Service, which never leaves it.

    Each session costs one request when it is made, and one for each process that reads it.

    Args:
        client: of boto3, `boto3.client("kms")`.
        key_id: the id, ARN or alias of the key.
    """

    blocks = True

    def __init__(self, client: Any, key_id: str) -> None:
        self._client, self._key_id = client, key_id

    def wrap(self, key: bytes, context: str) -> tuple[str, bytes]:
        """See `MasterKeys.wrap`."""
        given = {"KeyId": self._key_id, "Plaintext": key, "EncryptionContext": {"sessile": context}}
        return self._key_id, bytes(_asked(lambda: self._client.encrypt(**given)["CiphertextBlob"]))

    def unwrap(self, master: str, wrapped: bytes, context: str) -> bytes:
        """See `MasterKeys.unwrap`. The ciphertext names its key itself, so that this reads what other keys wrapped."""
        given = {"CiphertextBlob": wrapped, "EncryptionContext": {"sessile": context}}
        return bytes(_asked(lambda: self._client.decrypt(**given)["Plaintext"]))

    def current(self) -> str:
        """See `MasterKeys.current`."""
        return self._key_id


class GcpKms(MasterKeys):
    """A key of Google Cloud's Key Management Service, which never leaves it. Costs requests as `AwsKms` does.

    Args:
        client: `google.cloud.kms.KeyManagementServiceClient()`.
        name: the key's full name, `projects/…/locations/…/keyRings/…/cryptoKeys/…`.
    """

    blocks = True

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name

    def wrap(self, key: bytes, context: str) -> tuple[str, bytes]:
        """See `MasterKeys.wrap`."""
        request = {"name": self._name, "plaintext": key, "additional_authenticated_data": context.encode()}
        return self._name, bytes(_asked(lambda: self._client.encrypt(request=request).ciphertext))

    def unwrap(self, master: str, wrapped: bytes, context: str) -> bytes:
        """See `MasterKeys.unwrap`."""
        request = {"name": master, "ciphertext": wrapped, "additional_authenticated_data": context.encode()}
        return bytes(_asked(lambda: self._client.decrypt(request=request).plaintext))

    def current(self) -> str:
        """See `MasterKeys.current`."""
        return self._name


REFUSED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "DisabledException",
        "IncorrectKeyException",
        "InvalidArgument",
        "InvalidCiphertextException",
        "KMSInvalidStateException",
        "NotFound",
        "NotFoundException",
        "PermissionDenied",
    }
)
"""The names of a service's answers that say no; all others may be another one in a moment."""


def _asked(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        given: Any = getattr(error, "response", None)
        code: Any = given.get("Error", {}).get("Code") if isinstance(given, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        name = code if isinstance(code, str) else type(error).__name__
        if name in REFUSED:
            raise SealedError(f"The key service refuses to use the master key: {name}.") from error
        raise StorageUnavailableError(f"The key service does not answer: {name}.") from error
