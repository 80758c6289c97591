"""Vectors of texts, and which of them are near to a question. Who embeds texts is the caller's affair."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import mul
from typing import Any, Protocol, TypeVar, runtime_checkable

from ..errors import InvalidInputError
from .forking import Lock

KeyT = TypeVar("KeyT", bound=Hashable)

TOGETHER = 100
"""How many texts are embedded with one call."""

MOST_KEPT = 20_000
"""How many vectors a `Near` keeps."""


@runtime_checkable
class PydanticEmbedder(Protocol):
    """Pydantic AI's `Embedder`, as far as it is used."""

    model: Any

    def embed_documents_sync(self, documents: Sequence[str]) -> Any:
        """The vectors of texts that are searched."""
        ...

    def embed_query_sync(self, query: str) -> Any:
        """The vector of what is searched for."""
        ...


Embed = Callable[[list[str]], Iterable[Sequence[float]]] | PydanticEmbedder
"""Makes vectors of texts: a function from texts to vectors, one for each, or Pydantic AI's `Embedder`."""


class Vectors:
    """Makes vectors of texts, and has the name of who does; `around` is entered around each call of the caller's."""

    def __init__(self, embed: Embed, around: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._embed, self._around = embed, around
        given: Any = embed
        if isinstance(embed, PydanticEmbedder):
            model = given.model
            name = model if isinstance(model, str) else f"{model.system}:{model.model_name}"
        elif callable(given):
            name = f"{getattr(given, '__module__', '')}.{getattr(given, '__qualname__', type(given).__qualname__)}"
        else:
            raise InvalidInputError(f"embed must be a function or an Embedder of Pydantic AI; it is {given!r}.")
        self.name = str(name)

    def of_texts(self, texts: Sequence[str]) -> list[array[float]]:
        """The vectors of texts that are searched."""
        with self._around():
            if isinstance(self._embed, PydanticEmbedder):
                made = self._embed.embed_documents_sync(list(texts)).embeddings
            else:
                made = self._embed(list(texts))
            vectors = [_unit(one) for one in made]
        if len(vectors) != len(texts):
            raise InvalidInputError(f"embed made {len(vectors)} vectors of {len(texts)} texts.")
        return vectors

    def of_question(self, text: str) -> array[float]:
        """The vector of what is searched for."""
        if isinstance(self._embed, PydanticEmbedder):
            with self._around():
                return _unit(self._embed.embed_query_sync(text).embeddings[0])
        return self.of_texts([text])[0]


def _unit(vector: Iterable[float]) -> array[float]:
    """A vector of length one in the same direction, as 32-bit numbers."""
    made = [float(one) for one in vector]
    length = math.sqrt(math.fsum(one * one for one in made)) or 1.0
    return array("f", [one / length for one in made])


def nearness(wanted: array[float], vectors: Mapping[KeyT, array[float]]) -> dict[KeyT, float]:
    """How near each vector is: 1 is the same meaning, 0 none in common. Vectors of another length are left out."""
    same = {one: vector for one, vector in vectors.items() if len(vector) == len(wanted)}
    try:
        import numpy as np
    except ImportError:
        products = [sum(map(mul, wanted, vector)) for vector in same.values()]
    else:
        rows = np.frombuffer(b"".join(vector.tobytes() for vector in same.values()), dtype=np.float32)
        products = (rows.reshape(-1, len(wanted)) @ np.frombuffer(wanted, dtype=np.float32)).tolist()
    return {one: round(float(product), 5) for one, product in zip(same, products, strict=True)}


class Near:
    """Ranks texts by how near they are to a question, and keeps their vectors, by hashes, in this process.

    Every method blocks for as long as the caller's function takes.
    """

    def __init__(self, embed: Embed) -> None:
        self._vectors = Vectors(embed)
        self._known: dict[bytes, array[float]] = {}
        self._lock = Lock()

    def ranked(self, texts: Sequence[str], question: str) -> list[int]:
        """The places of all texts, the nearest first; equals in their order."""
        if not texts:
            return []
        keys = [hashlib.sha256(one.encode("utf-8", "surrogatepass")).digest() for one in texts]
        with self._lock:
            known = {key: self._known[key] for key in keys if key in self._known}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        names = list(new)
        for start in range(0, len(names), TOGETHER):
            some = names[start : start + TOGETHER]
            known.update(zip(some, self._vectors.of_texts([new[one] for one in some]), strict=True))
        with self._lock:
            if len(self._known) + len(new) > MOST_KEPT:
                self._known.clear()
            self._known.update({key: known[key] for key in new})
        near = nearness(self._vectors.of_question(question), known)
        return sorted(range(len(texts)), key=lambda place: -near.get(keys[place], -2.0))
