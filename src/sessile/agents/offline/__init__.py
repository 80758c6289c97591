"""A model that needs no network and no key: for demonstrations, examples and tests."""

from .model import OfflineModel

__all__ = ["OfflineModel"]
