"""Several agents that share a session and its state. No other room knows members."""

from .team import Team

__all__ = ["Team"]
